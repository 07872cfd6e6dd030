"""Processes that play their part until they are killed, and what must hold of a queue afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence

from nbtasks import config
from nbtasks.queue import lookup
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from nbtasks.worker.supervisor import run_worker
from tests.worker.tools import lines, pause, until


class Role:
    """A forked process in a session of its own; what it says goes into a file."""

    def __init__(self, main: Callable[[], object], log: str, environ: dict[str, str] | None = None) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self.log = log
        self.code: int | None = None
        _roles.append(self)
        self.pid = os.fork()
        if self.pid == 0:
            self._play(main, environ or {})

    def _play(self, main: Callable[[], object], environ: dict[str, str]) -> None:
        code = 1
        try:
            os.setsid()
            fd = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.environ.update(environ)
            config.reset()
            Queue._opened.clear()  # with the disk of the environment
            main()
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(code)

    def is_over(self) -> bool:
        """Whether it has ended; then `code` says how."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def send(self, number: int) -> None:
        """A signal, if it lives."""
        if not self.is_over():
            os.kill(self.pid, number)

    def end(self, timeout: float = 30.0) -> int:
        """Wait until it ends; its exit code."""
        until(self.is_over, timeout, f"the end of {self.log}: {self.said()}")
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """kill -9, of it alone."""
        self.send(signal.SIGKILL)
        self.end()

    def said(self) -> str:
        """What it wrote, unless it came to a bad end without a word."""
        with contextlib.suppress(FileNotFoundError), open(self.log) as file:
            return file.read()
        return ""


_roles: list[Role] = []


def kill_roles() -> None:
    """End whoever still plays, after a test."""
    while _roles:
        _roles.pop().kill()


def worker(
    queue: Queue, log: str, slots: int = 2, environ: dict[str, str] | None = None, lanes: list[str] | None = None
) -> Role:  # fmt: skip
    """A worker, forked from here: it is there at once."""
    return Role(lambda: run_worker(queue.root, slots=slots, lanes=lanes), log, environ)


def all_ended(queue: Queue) -> bool:
    """Whether every task that was submitted has ended."""
    # A ticket that is put back moves against the look, which may miss it then; not again and again.
    return all(next(lookup.live_tickets(queue), None) is None for _ in range(3))


def settle(queue: Queue, log: str, lanes: list[str], timeout: float = 30.0) -> None:
    """Let a clean worker run until all has ended."""
    clean = worker(queue, log, lanes=lanes)
    begun = time.monotonic()
    try:
        while not all_ended(queue):
            waited = time.monotonic() - begun
            assert waited < timeout, f"still there: {_left(queue)}\n{clean.said()[-5000:]}"
            time.sleep(pause(waited))
    finally:
        clean.kill()


def _left(queue: Queue) -> str:
    left = [os.path.relpath(place.path, queue.root) for place in lookup.live_tickets(queue)]
    return f"{left[:50]} … {len(left)}"


def assert_sound(
    queue: Queue, acknowledged: list[str], at_most_once: set[str], ran: list[str], asked_again: Sequence[str] = ()
) -> Counter[str]:  # fmt: skip
    """Nothing lost, nothing twice that must not be, nothing damaged; how many tasks have which status.

    `asked_again` has the id of every task that was retried by hand, once for each time.
    """
    findings = check(queue)
    # A submitter that was killed before it made the ticket leaves a call; nobody was told that there is a task.
    unborn = {finding.subject for finding in findings if finding.kind == "no ticket"}
    assert [finding for finding in findings if finding.subject not in unborn] == []
    assert not unborn & {*acknowledged, *ran}
    ended = {place.ticket.id: place for place in lookup.ended_tickets(queue)}
    lost = [id for id in acknowledged if id not in ended]
    assert not lost, f"acknowledged and not there: {lost}"
    times, may = Counter(ran), Counter(asked_again)
    twice = {id: count for id, count in times.items() if count > 1 + may[id] and id in at_most_once}
    assert not twice, f"ran more than once: {twice}"
    unseen = [id for id, place in ended.items() if place.status == "succeeded" and not times[id]]
    assert not unseen, f"succeeded without having run: {unseen}"
    return Counter(str(place.status) for place in ended.values())


def acknowledged(path: str) -> list[str]:
    """The ids that submitters noted; a last line that was cut short does not count."""
    return [line for line in lines(path) if len(line) >= 26]
