"""What a dashboard does to tasks: cancel and retry, of one at once, of thousands in slices."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from nbtasks.errors import NbtasksError
from nbtasks.jupyter.words import plural
from nbtasks.queue import lookup, records
from nbtasks.queue.catalogue import Catalogue
from nbtasks.queue.directory import Queue
from nbtasks.status import Status

_AT_ONCE = 50
_DONE = {"cancel": "cancelled", "retry": "put back to run again"}
RETRIABLE = frozenset({Status.FAILED, Status.CANCELLED})


class Work:
    """Cancels and retries that were asked for. Each is a change of files, which any thread may make."""

    def __init__(self, queue: Queue, catalogue: Catalogue) -> None:
        self._queue, self._catalogue = queue, catalogue
        self._todo: deque[str] = deque()
        self._verb = ""
        self._count = self._refused = self._all = 0
        self.said = ""  # what came of it, in words

    @property
    def is_busy(self) -> bool:
        """True while tasks are left to be worked on."""
        return bool(self._todo)

    def start(self, verb: str, ids: Iterable[str]) -> None:
        """``cancel`` or ``retry`` these: the first ones now, the rest by `go_on`."""
        if self._todo and verb != self._verb:
            self._todo.clear()
        if not self._todo:
            self._count = self._refused = self._all = 0
        self._verb = verb
        known = set(self._todo)
        added = [id for id in ids if id not in known]
        self._todo += added
        self._all += len(added)
        self._take(_AT_ONCE, 1.0)

    def go_on(self, seconds: float = 0.02) -> bool:
        """Some more of them, for `seconds`. True: something was done."""
        if not self._todo:
            return False
        self._take(len(self._todo), seconds)
        return True

    def _take(self, most: int, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while self._todo and most > 0 and time.monotonic() < limit:
            self._do(self._todo.popleft())
            most -= 1
        done = f"{plural(self._count, 'task')} {_DONE[self._verb]}"
        if self._todo:
            self.said = f"{self._count:,} of {plural(self._all, 'task')} {_DONE[self._verb]} …"
        elif self._refused:
            self.said = f"{done}; {plural(self._refused, 'other')} had moved on before"
        else:
            self.said = done

    def _do(self, id: str) -> None:
        try:
            if self._verb == "retry":
                self._queue.retry(id)
                did = True
            else:
                did = self._queue.cancel(id)
            place = lookup.locate(self._queue, records.read_spec(self._queue, id))
        except (NbtasksError, OSError):  # removed, or no longer what it was when it was selected
            self._refused += 1
            return
        self._count += did
        self._refused += not did
        if place is not None:
            self._catalogue.see(place)
