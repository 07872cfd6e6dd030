"""The helper that bounds what a power cut may take: it flushes the file system at most once a second.

A process of its own, so that neither a submit nor a slot ever waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from nbtasks import processes
from nbtasks.engines import local
from nbtasks.queue.directory import Queue
from nbtasks.queue.recovery import mark_flushed

_EVERY = 1.0  # seconds


class Flusher:
    """The helper of one supervisor."""

    def __init__(self, root: str, worker: str) -> None:
        self._root, self._name = root, f"f{worker}"
        self._pid = 0
        self._begun = -_EVERY

    def keep(self) -> None:
        """Start it, unless it lives or was started just now."""
        if self._pid and os.waitpid(self._pid, os.WNOHANG)[0]:
            self._pid = 0
        if not self._pid and time.monotonic() - self._begun >= _EVERY:
            self._begun, supervisor = time.monotonic(), os.getpid()
            self._pid = local.fork_slot(lambda: flush_forever(self._root, self._name, supervisor), self._name)

    def stop(self) -> None:
        """End it; what it has not flushed is for the next one."""
        if self._pid:  # not collected yet, so the number is its own
            os.kill(self._pid, signal.SIGTERM)


def flush_forever(root: str, name: str, supervisor: int) -> int:
    """Flush whenever somebody has said that something was written, until the supervisor is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    queue = Queue.open(root)
    bell = queue.bell("flush", name)
    parent = processes.open_pidfd(supervisor)
    last = 0.0
    dirty = rung = True  # what was submitted before a worker lived is flushed by nobody else
    while os.getppid() == supervisor:
        if dirty:
            time.sleep(max(0.0, last + _EVERY - time.monotonic()))
            bell.drain()
            moment = time.time()
            with contextlib.suppress(OSError):  # a full or read-only disk: what is there stays there
                queue.disk.flush_all(queue.root)
                mark_flushed(queue, moment)
            last = time.monotonic()
        # Who writes rings twice a second at most: what came just behind a ring is flushed a second later.
        pause = _EVERY if rung else (None if parent is not None else 10.0)
        bell.wait(pause, *([parent] if parent is not None else []))
        dirty, rung = rung, bool(bell.drain())
        dirty = dirty or rung
    bell.close()
    return 0
