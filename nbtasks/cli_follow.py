"""``nbtasks logs -f``: a log as it grows, over retries, until the task has ended."""

from __future__ import annotations

import os
import secrets
from typing import BinaryIO

from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record

_LOOK = 0.2  # seconds between two looks: a file does not say that it has grown
_PIECE = 1 << 20


class _Tail:
    """One log file, read as far as it goes."""

    def __init__(self, path: str, offset: int) -> None:
        self.path, self.offset = path, offset

    def copy(self, out: BinaryIO) -> None:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                while piece := file.read(_PIECE):
                    out.write(piece)
                    self.offset += len(piece)
        except FileNotFoundError:  # silent so far: such a log is removed at the end
            return
        out.flush()


def follow(queue: Queue, id: str, out: BinaryIO, *, start: int = 0) -> Record:
    """Copy the task's log to `out` until it has ended; its record then.

    `start`: how many bytes of the present log were shown already. A retry's log follows the first one's.
    """
    tail: _Tail | None = None
    bell = queue.bell("watch", f"logs-{os.getpid()}-{secrets.token_hex(3)}")
    try:
        while True:
            record = queue.record(id)  # before reading: what was printed before the end is then read, too
            path = record.log_path
            if path is not None and (tail is None or tail.path != path):
                if tail is not None:
                    tail.copy(out)
                tail = _Tail(path, 0 if tail else start)
            if tail is not None:
                tail.copy(out)
            if record.status.ended:
                return record
            bell.drain()
            bell.wait(_LOOK)
    finally:
        bell.close()
