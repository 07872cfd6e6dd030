"""How much room a queue takes on the disk: added up a few files at a time, now and then."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from nbtasks.jupyter.words import size
from nbtasks.queue.directory import Queue

_EVERY = 120.0  # seconds between two beginnings
_WALL = 0.02
_MOST = 300_000  # files


class Size:
    """Bytes of a queue's files, as far as they were counted. Holes in logs take no room."""

    def __init__(self, queue: Queue) -> None:
        self._root = queue.root
        self._walk: Iterator[int] | None = None
        self._began = float("-inf")
        self._sum = self._files = 0
        self.bytes: int | None = None  # None while the first count goes on
        self._more = False

    @property
    def words(self) -> str:
        """In words; "" while nothing is known."""
        return "" if self.bytes is None else f"queue {'over ' * self._more}{size(self.bytes)}"

    def go_on(self, seconds: float = 0.001) -> bool:
        """Count on for `seconds` of processor time. True: there is a new sum."""
        if self._walk is None:
            if time.monotonic() - self._began < _EVERY:
                return False
            self._began, self._sum, self._files = time.monotonic(), 0, 0
            self._walk = _sizes(self._root)
        limit, late = time.thread_time() + seconds, time.monotonic() + _WALL
        while time.thread_time() < limit and time.monotonic() < late:
            found = next(self._walk, None)
            if found is None or self._files >= _MOST:
                before, self.bytes, self._walk = self.words, self._sum, None
                self._more = found is not None
                return before != self.words
            self._sum += found
            self._files += 1
        return False


def _sizes(root: str) -> Iterator[int]:
    todo = [root]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                else:
                    info = entry.stat(follow_symlinks=False)
                    yield getattr(info, "st_blocks", 0) * 512 or info.st_size
            except OSError:
                continue
        yield 0
