"""What a process writes to descriptors 1 and 2, and what it displays: into the files of the task that it runs.

The descriptors point into the log itself, so what was printed survives a crash, whoever printed it: Python, a
library in C, a child process. A slot keeps a spare log in its folder; a task begins by giving that file a second
name, its own, and if it printed nothing the name is taken away again. So a silent task makes no file at all.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
from typing import Any

import msgspec

from nbtasks import keyboard, logs
from nbtasks.bars import bars_here, install_hook
from nbtasks.config import settings
from nbtasks.durable import open_disk
from nbtasks.outputs import compact, outputs
from nbtasks.queue.layout import LOG
from nbtasks.streams import Streams

__all__ = ["Capture", "outputs"]

_KINDS = ("display", "update_display", "clear_output")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
_PROGRESS_INTERVAL = 0.1  # seconds; the bars themselves send five times a second at most
_NOTE_INTERVAL = 0.2  # seconds within which neighbouring writes to stderr are noted as one
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Capture:
    """The output of this process, from now on. One per process; it takes over descriptors 0, 1 and 2 for good."""

    def __init__(self, folder: str) -> None:
        """`folder` is the slot's own: the spare log is made there."""
        self._disk = open_disk()
        self._spare = f"{folder}/{LOG}"
        self._fd = self._new_spare()
        self._paths: tuple[str, str, str] | None = None
        self._borrowed = False  # the log is no link of the spare: this file system has none
        self._events = -1
        self._lock = threading.RLock()
        self._streams = self._make_streams()
        self._reset()
        self._take_over()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _make_streams(self) -> Streams:
        return Streams(self._wrote, self._note)

    def _take_over(self) -> None:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        if null != 0:
            os.close(null)
        self._point(self._fd)
        self._streams.install()
        keyboard.install()
        install_hook(self.emit)
        faulthandler.enable(2)  # a crash in C says into the log where in the user's code it was

    def _reset(self) -> None:
        self._noted: list[int] | None = None  # a range of stderr that is not in the events yet
        self._noted_at = 0.0
        self._limit = settings().log_limit
        self._until_check = self._limit
        self._trimmed = 0
        self._shown = 0  # bytes of displays
        self._is_over = False  # there are too many of them
        self._progress_at = 0.0
        self._progress: dict[str, Any] | None = None

    def _new_spare(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._spare)
        return os.open(self._spare, _APPEND, 0o600)

    def _point(self, fd: int) -> None:
        os.dup2(fd, 1)
        os.dup2(fd, 2)

    # ------------------------------------------------------------------ one task

    def begin(self, log: str, events: str, progress: str) -> None:
        """From now on all output belongs to these files of one task; they are made when there is something for them."""
        if os.fstat(self._fd).st_size:  # a thread that the last task left behind went on printing
            os.ftruncate(self._fd, 0)
        try:
            os.link(self._spare, log)
        except OSError:
            self._borrow(log)
        self._paths = (log, events, progress)
        self._point(self._fd)  # whatever the last task did to them
        self._hold()

    def _hold(self) -> None:
        """Be where Python prints, whatever the last task did."""
        if sys.stdout is not self._streams.out or sys.stderr is not self._streams.err or self._streams.out.closed:
            self._streams = self._make_streams()
            self._streams.install()

    def _borrow(self, log: str) -> None:
        """No links here, or the slot's folder is gone: the log is a file of its own."""
        fd = os.open(log, _APPEND, 0o600)
        os.close(self._fd)
        self._fd, self._borrowed = fd, True

    def end(self) -> dict[str, Any] | None:
        """The task is over: everything is in its files now. Returns the last progress, or None if there was none."""
        if self._paths is None:
            return None
        bars_here().finish()
        self._streams.flush()
        with self._lock:
            log, _, progress = self._paths
            if self._noted is not None:
                self._write_note()
            if self._progress is not None:
                self._write_progress(progress)
            state = self._progress
            self._paths = None
            if self._events >= 0:
                os.close(self._events)
                self._events = -1
            self._leave(log)
            if state is not None or self._until_check != self._limit or self._noted_at or self._shown:
                self._reset()
        return state

    def _leave(self, log: str) -> None:
        written = os.fstat(self._fd).st_size
        if not written:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(log)
        if written or self._borrowed:
            os.close(self._fd)
            os.makedirs(os.path.dirname(self._spare), 0o700, exist_ok=True)
            self._fd, self._borrowed = self._new_spare(), False
            self._point(self._fd)

    def close(self) -> None:
        """The process is about to end: remove the spare log. What is printed from now on goes nowhere."""
        self.end()
        with contextlib.suppress(OSError):
            os.unlink(self._spare)

    # ------------------------------------------------------------------ what is shown

    def emit(self, kind: str, data: dict[str, Any]) -> bool:
        """Take a display, an update, a clearing or progress, in order with what was printed. Always True: go on."""
        if self._paths is None:
            return True
        if kind == "progress":
            with self._lock:
                self._take_progress(data)
        elif kind in _KINDS:
            self._streams.flush()
            with self._lock:
                if self._noted is not None:
                    self._write_note()
                at = os.fstat(self._fd).st_size
                self._append({"at": at, "time": round(time.time(), 3), "kind": kind, **data})
        return True

    def _append(self, event: dict[str, Any]) -> None:
        if self._paths is None:
            return
        line = _encode(event) + b"\n"
        is_shown = event["kind"] in ("display", "update_display")
        self._is_over = self._is_over and event["kind"] != "clear_output"
        if is_shown and self._is_over:
            return
        # A full disk costs this display, not the task.
        with contextlib.suppress(OSError):
            if self._events < 0:
                self._events = os.open(self._paths[1], _APPEND, 0o600)
            if is_shown and self._shown + len(line) > self._limit // 2:
                self._write_anew(self._paths[1], event)
            else:
                self._shown += len(line)
                _write_all(self._events, line)

    def _write_anew(self, path: str, event: dict[str, Any]) -> None:
        """Write the displays without those that are gone by now: a plot that is drawn over and over is one plot."""
        with open(path, "rb") as file:
            old = [msgspec.json.decode(line, type=dict[str, Any]) for line in file]
        data = b"".join(_encode(one) + b"\n" for one in compact([*old, event]))
        self._disk.replace(path, data)
        os.close(self._events)
        self._events = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
        self._shown = len(data)
        if len(data) > self._limit // 4:  # nearly all of it counts: soon it would have to be written anew each time
            self._is_over = True
            _write_all(self._fd, _sentence(f"displays over {self._limit // 2:,} bytes: no more of them are kept"))

    def _take_progress(self, state: dict[str, Any]) -> None:
        self._progress = state
        now = time.monotonic()
        if self._paths is not None and now - self._progress_at >= _PROGRESS_INTERVAL:
            self._progress_at = now
            self._write_progress(self._paths[2])

    def _write_progress(self, path: str) -> None:
        with contextlib.suppress(OSError):
            self._disk.replace(path, _encode(self._progress))

    # ------------------------------------------------------------------ what is printed

    def _note(self, start: int, end: int) -> None:
        with self._lock:
            if self._paths is None or start < 0:  # below 0: the user's code has pointed descriptor 2 elsewhere
                return
            if self._noted is not None and self._noted[1] == start:
                self._noted[1] = end
            else:
                if self._noted is not None:
                    self._write_note()
                self._noted = [start, end]
            if time.monotonic() - self._noted_at >= _NOTE_INTERVAL:
                self._write_note()
        self._wrote(end - start)

    def _write_note(self) -> None:
        if self._noted is not None:
            start, end = self._noted
            self._noted, self._noted_at = None, time.monotonic()
            self._append({"at": start, "time": round(time.time(), 3), "kind": "stderr", "from": start, "to": end})

    def _wrote(self, count: int) -> None:
        self._until_check -= count
        if self._until_check <= 0:
            with self._lock:
                self._until_check = max(self._limit // 8, 1 << 16)
                self._trim()

    def _trim(self) -> None:
        try:
            kept_from = logs.trim(self._fd, self._limit, self._trimmed)
        except OSError:
            self._stop_writing()
            return
        if kept_from and not self._trimmed:
            _write_all(
                self._fd, _sentence(f"this log is over {self._limit:,} bytes: from here on its middle is left out")
            )
        self._trimmed = max(kept_from, self._trimmed)

    def _stop_writing(self) -> None:
        """A file system that cannot free a part of a file: the log ends here."""
        _write_all(
            self._fd, _sentence(f"this log is over {self._limit:,} bytes: what is printed from here on is not kept")
        )
        null = os.open(os.devnull, os.O_WRONLY)
        self._point(null)
        os.close(null)
        self._until_check = sys.maxsize

    def _forked(self) -> None:
        # A child prints into the same log, but its displays and its ranges of stderr are nobody's.
        self._lock = self._streams.lock = threading.RLock()
        self._paths = None


def _sentence(text: str) -> bytes:
    return f"\n[nbtasks: {text}]\n".encode()


def _write_all(fd: int, data: bytes) -> None:
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(fd, data) :]
