"""``nbtasks.lock``: a lock by name, for tasks, notebooks and scripts of one queue."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType

from nbtasks import hooks, processes, run
from nbtasks.errors import OptionError
from nbtasks.queue import holders, members, shortage
from nbtasks.queue.directory import Queue
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.holders import Holder
from nbtasks.queue.leases import Lease
from nbtasks.spec import seconds

_LOOK = 0.25  # seconds between looks that make good a lost ring, as when the holder was killed
_LONGEST = 100

_mine: dict[tuple[str, str], int] = {}  # queue and name of the locks that this process holds → the thread


class Lock:
    """What `lock` gives."""

    def __init__(self, name: str, timeout: float | str | None = None) -> None:
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST or not name.isprintable():
            raise OptionError(f"lock({name!r}) cannot be: give a name, one line of 1 to {_LONGEST} characters")
        self.name = name.strip()
        self.timeout = seconds("timeout", timeout)
        self._lease: Lease | None = None
        self._pid = 0

    def __repr__(self) -> str:
        return f"<lock {self.name!r}: {'held here' if self._lease else 'not held here'}>"

    def __enter__(self) -> Lock:
        queue: Queue = hooks.lock_queue(self.name) if hooks.lock_queue else Queue.open()
        key = (queue.root, self.name)
        if _mine.get(key) == threading.get_ident() and self._lives(queue):
            raise OptionError(
                f"lock({self.name!r}) is held here already: asking for it again within its own block would wait for ever. "
                "Take it once, around all of it"
            )
        lease = Lease(queue.layout.named_lock(self.name))
        if not lease.try_take():
            try:
                self._wait(queue, lease)
            except BaseException:  # an interrupt may come when it is taken already
                lease.release()
                raise
        holders.write(lease.path, self._holder(queue))
        self._lease, self._queue, self._pid = lease, queue, os.getpid()
        _mine[key] = threading.get_ident()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is None or self._pid != os.getpid():
            return  # a forked child leaves the block that its parent is in
        _mine.pop((self._queue.root, self.name), None)
        holders.write(lease.path, None)
        lease.release()
        self._queue.ring_token_waiters()

    def _lives(self, queue: Queue) -> bool:
        holder = holders.read(queue.layout.named_lock(self.name))
        return holder is not None and holder.process.pid == os.getpid()  # a forked child has none of its parent's

    def _wait(self, queue: Queue, lease: Lease) -> None:
        until = None if self.timeout is None else time.monotonic() + self.timeout
        with hooks.making_way(), _bells(queue) as bells, _told(queue, self.name):
            while not lease.try_take():
                left = _LOOK if until is None else min(_LOOK, until - time.monotonic())
                if left <= 0:
                    who = shortage.of_lock(queue, self.name)
                    raise TimeoutError(f"waited {self.timeout:g} s {who}")
                bells[0].wait(left, *(bell.fd for bell in bells[1:] if bell.fd >= 0))
                for bell in bells:
                    bell.drain()

    def _holder(self, queue: Queue) -> Holder:
        task, now, me = run.current(), time.time(), processes.identify()
        if task is None:
            program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
            name = "a notebook" if "ipykernel" in program else program
            return Holder(what=self.name, name=f"{name}, pid {os.getpid()}", since=now, process=me)
        return Holder(what=self.name, name=task.name, since=now, process=me, queue=queue.root, id=task.id)


def lock(name: str, timeout: float | str | None = None) -> Lock:
    """A lock by name, held in a ``with`` block by one at a time: a task, a notebook or a script of this queue.

    ::

        with nbtasks.lock("db"):
            ...

    It is free at the instant its holder ends, however that ends. Who waits longer than `timeout` (seconds, or text
    such as "10m"; None: no limit) gets TimeoutError, which says who holds it. A thread that holds it and asks for it
    again gets OptionError, for it would wait for itself.
    """
    return Lock(name, timeout)


@contextlib.contextmanager
def _bells(queue: Queue) -> Iterator[list[Bell]]:
    bells = queue.token_bells(members.new_name("l"))
    try:
        yield bells
    finally:
        for bell in bells:
            bell.close()


@contextlib.contextmanager
def _told(queue: Queue, name: str) -> Iterator[None]:
    """Let the card of the task, if this is one, say for whom it waits."""
    slot, task = hooks.slot_name(), run.current()
    if not slot:
        yield
        return
    id = task.id if task is not None else ""
    with contextlib.suppress(OSError):
        members.note_waits(queue, slot, id, name)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            members.note_waits(queue, slot, id, "")
