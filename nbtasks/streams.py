"""What takes the place of ``sys.stdout`` and ``sys.stderr`` in a slot: text that goes straight to descriptors 1 and 2.

Both descriptors are one open file, so the order of what is printed is the order in the log. stdout is handed over
line by line; stderr at once, after what stdout still held, and the range it took in the log is told to `noted`.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any


class OutFile(io.FileIO):
    """A descriptor for Python, 1 in a process: tells how much was written. It stays open when this is closed."""

    def __init__(self, streams: Streams, fd: int = 1) -> None:
        super().__init__(fd, "w", closefd=False)
        self._streams = streams

    def write(self, data: Any, /) -> int:
        """Write to the log; the number of bytes that went."""
        with self._streams.lock:
            count = super().write(data) or 0
        self._streams.wrote(count)
        return count


class ErrFile(io.FileIO):
    """A descriptor for Python, 2 in a process: tells where in the log the text went."""

    def __init__(self, streams: Streams, fd: int = 2) -> None:
        super().__init__(fd, "w", closefd=False)
        self._streams = streams

    def write(self, data: Any, /) -> int:
        """Write to the log, after what stdout held back; the number of bytes that went."""
        self._streams.flush_out()
        with self._streams.lock:
            count = super().write(data) or 0
            try:
                end = os.lseek(
                    self.fileno(), 0, os.SEEK_CUR
                )  # appending leaves the position behind what was just written
            except OSError:  # a descriptor that the user's code has pointed at a pipe
                return count
        self._streams.noted(end - count, end)
        return count


class Streams:
    """The two text streams, put in place by `install`."""

    def __init__(
        self, wrote: Callable[[int], None], noted: Callable[[int, int], None], out: int = 1, err: int = 2
    ) -> None:  # fmt: skip
        """`out` and `err` are the descriptors to write to."""
        self.wrote = wrote  # called with the number of bytes
        self.noted = noted  # called with the range of stderr in the log
        self.lock = threading.RLock()  # a write and the look where it went are one step
        buffer = io.BufferedWriter(OutFile(self, out))
        self.out = io.TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        # FileIO in the place of a buffer, as `python -u` has it: nothing is held back.
        file: Any = ErrFile(self, err)
        self.err = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", write_through=True)

    def install(self) -> None:
        """Become ``sys.stdout`` and ``sys.stderr``, also for those who go back to the original ones."""
        sys.stdout, sys.stderr = self.out, self.err
        setattr(sys, "__stdout__", self.out)  # noqa: B010 (its type says it is final)
        setattr(sys, "__stderr__", self.err)  # noqa: B010 (as above)

    def flush(self) -> None:
        """Hand over what is held back. Errors (a full disk, a closed stream) are not the task's result: dropped."""
        for stream in (self.out, self.err):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

    def flush_out(self) -> None:
        """Hand over what stdout holds back."""
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # RuntimeError: from within a signal handler
            self.out.flush()
