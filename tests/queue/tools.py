"""What the tests of the queue share: tasks put, claimed and ended by hand, and processes that do so too."""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from nbtasks import payload, processes
from nbtasks.outcome import Outcome
from nbtasks.queue import lookup, members
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import STARTED
from nbtasks.queue.members import Member
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status

ENV = "env"
LINE = f"default@{ENV}@f"
ADD = [payload.dump("function", sum), payload.dump("arguments", (([1, 2],), {}))]
VALUE = [payload.dump("value", 3)]


@contextmanager
def new_queue(root: str) -> Iterator[Queue]:
    """An empty queue, with somebody who seems to flush it: a submit without one flushes by itself, and takes long."""
    queue = Queue(root)
    flusher = queue.bell("flush", "f-test")
    try:
        yield queue
    finally:
        flusher.close()


def put(queue: Queue, name: str = "train", **fields: Any) -> Spec:
    """A task that adds one and two, just submitted."""
    spec = Spec(id=fields.pop("id", "") or queue.new_id(), name=name, env=ENV, **fields)
    queue.put(spec, ADD)
    return spec


def claim(queue: Queue, slot: str = "s-1", line: str = LINE) -> Ticket:
    """The next ticket, which must be there."""
    ticket = Claimer(queue, slot, [line]).try_claim()
    assert ticket is not None, "nothing to claim"
    return ticket


def outcome(ticket: Ticket, status: Status = Status.SUCCEEDED, **facts: Any) -> Outcome:
    """How a delivery ended just now."""
    now = time.time()
    return Outcome(
        id=ticket.id, delivery=ticket.delivery, status=status, started=now, ended=now, attempt=ticket.attempt, **facts
    )


def finish(
    queue: Queue, spec: Spec, ticket: Ticket, status: Status = Status.SUCCEEDED, slot: str = "s-1", **facts: Any
) -> bool:
    """Commit a delivery; a success has the value 3."""
    parts = VALUE if status is Status.SUCCEEDED else []
    return queue.finish(spec, ticket, slot, outcome(ticket, status, **facts), parts)


def end(queue: Queue, spec: Spec, status: Status = Status.SUCCEEDED) -> Ticket:
    """Claim the task, which must be the next one, and commit it."""
    ticket = claim(queue, line=lookup.line_of(spec))
    assert ticket.id == spec.id
    assert finish(queue, spec, ticket, status)
    return ticket


def started(queue: Queue, ticket: Ticket) -> None:
    """Leave the mark that user code began."""
    queue.disk.create(queue.layout.file(ticket.id, ticket.delivery, STARTED), [], flush=True)


def status(queue: Queue, spec: Spec) -> Status:
    return queue.record(spec.id).status


def places(queue: Queue) -> list[tuple[str, Status]]:
    """Ticket and status of every task, live ones first."""
    return [(str(p.ticket), p.status) for p in (*lookup.live_tickets(queue), *lookup.ended_tickets(queue))]


class Child:
    """A forked process that runs a function; what that returned or raised comes back by `result`."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._read)
            self._run(write, function, args)
        os.close(write)
        self._data: bytes | None = None

    def _run(self, write: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        code = 1
        try:
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(function(*args), pipe)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self) -> int:
        """The exit status, once it has ended."""
        if self._data is None:
            with os.fdopen(self._read, "rb") as pipe:
                self._data = pipe.read()
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def result(self) -> Any:
        """What the function returned; it must not have failed."""
        assert self.wait() == 0, f"the child failed ({self._code}); its traceback is above"
        assert self._data is not None
        return pickle.loads(self._data)

    def kill(self) -> None:
        """End it as a crash would."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._read)
        self._data, self._code = b"", -signal.SIGKILL


class Gate:
    """Holds children up: `pass_through` sleeps in them until the parent leaves its ``with``. `tell` and `hear` are for words."""

    def __init__(self) -> None:
        self._stay, self._open = os.pipe()
        self._hear, self._tell = os.pipe()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *error: object) -> None:
        os.write(self._open, b"x")  # stays in the pipe: it lets all pass
        for fd in (self._stay, self._open, self._hear, self._tell):
            os.close(fd)

    def pass_through(self) -> None:
        select.select([self._stay], [], [])

    def tell(self, word: object) -> None:
        os.write(self._tell, f"{word}\n".encode())

    def hear(self, count: int = 1) -> list[str]:
        """The next `count` words, of any children."""
        data = b""
        while data.count(b"\n") < count:
            data += os.read(self._hear, 4096)
        return data.decode().split()


def live_slot(queue: Queue, name: str, worker: str = "") -> str:
    """A slot that lives: this process."""
    member = Member(name=name, process=processes.identify(), started=time.time(), worker=worker)
    members.register(queue, member)
    return name


def dead_slot(queue: Queue, name: str, **facts: Any) -> str:
    """A slot whose process has ended; `facts` change its identity."""
    identity = msgspec.structs.replace(Child(processes.identify).result(), **facts)
    members.register(queue, Member(name=name, process=identity, started=time.time()))
    return name


def wait_until(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Ask again until `condition` gives something true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.002)
    return found
