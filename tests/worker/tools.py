"""What the tests of workers share: workers started by hand, cells, and waiting for what must come."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import nbtasks
from nbtasks import config, context, payload, processes, submitting
from nbtasks.cells import Cell
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.spec import Spec

T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """Ask again until `condition` gives something true, and give that; fail after `timeout` seconds.

    The longer it takes, the more seldom it is asked: else those who only wait would take much of the processor.
    """
    begun = time.monotonic()
    while not (found := condition()):
        waited = time.monotonic() - begun
        assert waited < timeout, f"it never came: {what or condition}"
        time.sleep(pause(waited))
    return found


def pause(waited: float) -> float:
    """Seconds until one looks again who has waited so long."""
    return min(0.01, 0.002 + waited / 50)


def lines(path: object) -> list[str]:
    """The lines of a file that tasks write; none when it is not there yet."""
    with contextlib.suppress(FileNotFoundError), open(str(path)) as file:
        return file.read().splitlines()
    return []


class Worker:
    """A worker started by hand, in a session of its own; its log is in a file."""

    def __init__(
        self, queue: Queue, *options: str, environ: dict[str, str] | None = None, log: str = ""
    ) -> None:  # fmt: skip
        self.queue = queue
        beside = os.path.dirname(queue.root)
        self.path = log or f"{beside}/worker-{len(os.listdir(beside))}.log"
        with open(self.path, "xb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "nbtasks", "worker", *options],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
                env=os.environ | {"NBTASKS_QUEUE": queue.root} | processes.mark_environment() | (environ or {}),
            )  # fmt: skip
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        """What it has said."""
        with open(self.path) as file:
            return file.read()

    def wait_for(self, pattern: str, timeout: float = 20.0) -> re.Match[str]:
        """Wait until its log has this."""
        return until(lambda: re.search(pattern, self.log), timeout, f"{pattern!r} in the log:\n{self.log}")

    def ready(self) -> Worker:
        """Wait until it serves the queue."""
        self.wait_for("engine processes")
        return self

    @property
    def member(self) -> Member:
        """Its entry in the queue."""
        return next(member for member in members.list_workers(self.queue) if member.process.pid == self.pid)

    def slots(self) -> list[Member]:
        """Its slots that live."""
        return [slot for slot in live_slots(self.queue) if slot.worker == self.member.name]

    def signal(self, number: int) -> None:
        """Send a signal to it alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, of it alone."""
        self.process.kill()
        self.process.wait()

    def end(self, timeout: float = 20.0) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End it, if it lives."""
        with contextlib.suppress(ProcessLookupError):
            if self.process.poll() is None:
                self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.5)
        if self.process.poll() is None:
            self.kill()


def live_slots(queue: Queue) -> list[Member]:
    """All slots of a queue that live."""
    return [slot for slot in members.list_slots(queue) if processes.is_alive(slot.process)]


def submit_cell(queue: Queue, source: str, **fields: Any) -> nbtasks.Task[Any]:
    """A cell, as the notebook submits it."""
    inputs = fields.pop("inputs", {})
    spec = Spec(
        id=queue.new_id(), name=fields.pop("name", "cell"), kind="cell", need=fields.pop("need", "c"), env=config.env_tag(),
        context=context.capture(queue.blobs), at_most_once=not fields.get("retries"), **fields,
    )  # fmt: skip
    return submitting.put(queue, spec, [payload.dump("cell", Cell(source, inputs))])


def is_gone(pid: int) -> bool:
    """Whether no live process has this number any more."""
    try:
        processes.identify(pid)
    except ProcessLookupError:
        return True
    return False


def kill(pid: int) -> None:
    """kill -9, and wait until it is dead."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid))
