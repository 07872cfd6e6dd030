"""What a thread prints and displays: into the files of the task that it runs, beside other threads with theirs.

Only what goes through ``sys.stdout`` and ``sys.stderr`` can be told apart by thread. What C code or a child process writes to
descriptors 1 and 2, and what a thread prints that the task itself has started, goes to the worker's log.
"""

from __future__ import annotations

import faulthandler
import io
import os
import sys
import threading
from typing import Any, TextIO

from nbtasks import keyboard
from nbtasks.bars import install_hook, part_thread
from nbtasks.capture import Capture
from nbtasks.streams import Streams

__all__ = ["Routed", "ThreadCapture", "route"]


class Routed(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of such a process: leads to the stream of the thread that asks."""

    def __init__(self, otherwise: TextIO) -> None:
        self.by_thread: dict[int, TextIO] = {}
        self._otherwise = otherwise

    def _mine(self) -> TextIO:
        return self.by_thread.get(threading.get_ident(), self._otherwise)

    def write(self, text: str, /) -> int:
        """Write to the log of this thread's task."""
        return self._mine().write(text)

    def flush(self) -> None:
        """Hand over what is held back."""
        self._mine().flush()

    def close(self) -> None:
        """Nothing: others print here, too."""

    def fileno(self) -> int:
        """The descriptor of the log of this thread's task: fit for a child process's output."""
        return self._mine().fileno()

    def isatty(self) -> bool:
        """False: it is a file."""
        return False

    def writable(self) -> bool:
        """True."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute in typeshed
        """As of the stream."""
        return self._mine().encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # as above
        """As of the stream."""
        return self._mine().errors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mine(), name)


_routes: list[Routed] = []  # of stdout and of stderr; the user's code may have put others into `sys` for a while


def route(log: int) -> None:
    """Let each thread of this process print by itself; what belongs to none of them goes to the descriptor `log`."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    if null > 2:
        os.close(null)
    out, err = Routed(sys.stdout), Routed(sys.stderr)
    _routes[:] = [out, err]
    sys.stdout, sys.stderr = out, err
    setattr(sys, "__stdout__", out)  # noqa: B010 (its type says it is final)
    setattr(sys, "__stderr__", err)  # noqa: B010 (as above)
    keyboard.install()
    faulthandler.enable(2)


class ThreadCapture(Capture):
    """The output of the thread that makes it, after `route`."""

    def _make_streams(self) -> Streams:
        self._out = os.dup(self._fd)
        return Streams(self._wrote, self._note, self._out, self._out)

    def _take_over(self) -> None:
        part_thread()
        install_hook(self.emit)
        self._hold()

    def _hold(self) -> None:
        if self._streams.out.closed or self._streams.err.closed:
            os.close(self._out)
            self._streams = self._make_streams()
        for route, mine in zip(_routes, (self._streams.out, self._streams.err), strict=True):
            route.by_thread[threading.get_ident()] = mine

    def _point(self, fd: int) -> None:
        os.dup2(fd, self._out, inheritable=False)

    def close(self) -> None:
        """The thread is about to end."""
        super().close()
        for route in _routes:
            route.by_thread.pop(threading.get_ident(), None)
        for fd in (self._out, self._fd):
            os.close(fd)
