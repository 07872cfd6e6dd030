"""What needs tokens: its lines are looked for in the queue, and a ticket is claimed together with its tokens."""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from nbtasks.errors import NbtasksError
from nbtasks.needs import Needs, decode, of_fields
from nbtasks.queue import records, tokens
from nbtasks.queue.claims import Head, Line
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.tokens import NEVER, NOW, Taken
from nbtasks.queue.waking import Waking

_LARGEST = 65536
_STALE = 10.0  # seconds


class Waiting(NamedTuple):
    """The first ticket of a line, what it needs (None: of a newer version), and seconds until it may start."""

    head: Head
    needs: Needs | None
    wait: float

    @property
    def is_fresh(self) -> bool:
        """Whether it wants a process of its own."""
        return self.needs is not None and self.needs.fresh


class Needy:
    """The lines of some LANE@ENV whose tasks need tokens, as one slot or supervisor sees them."""

    def __init__(self, store: Waking, places: list[str], kinds: str = "cf") -> None:
        """`kinds`: those that want a process of their own ("c"), those that do not ("f"), or both."""
        self.store, self.kinds = store, kinds
        self._prefixes = tuple(f"{place}@x" for place in places)
        self._lines: dict[str, Line] = {}
        self._needs: dict[str, Needs] = {}
        self.waits = False  # whether the last look found one that may not start yet

    def find_ready(self) -> Waiting | None:
        """The best of those that may start now, or None."""
        self.waits = False
        for head in filter(self._is_ours, self._heads()):
            needs, wait = self._look(head)
            if wait == NOW:
                return Waiting(head, needs, wait)
            self.waits = True
        return None

    def all(self) -> list[Waiting]:
        """The first of every line, the best first."""
        return [Waiting(head, *self._look(head)) for head in self._heads() if self._is_ours(head)]

    def try_claim(self, slot: str, *, fresh: bool) -> Taken | None:
        """Take the best that may start now, with its tokens, for a slot that is `fresh` or not. None: none is to be had."""
        for head in self._heads():
            needs = self._needs_of(head)
            if needs is None or (needs.fresh and not fresh) or not self._is_ours(head):
                continue
            if taken := tokens.try_take(self.store, needs, lambda line=head.line: self._claim(line, slot)):  # type: ignore[misc]  # the default is there to bind it
                return taken
        return None

    def _is_ours(self, head: Head) -> bool:
        needs = self._needs_of(head)
        return needs is None or ("c" if needs.fresh else "f") in self.kinds

    def is_fresh(self, head: Head) -> bool:
        """Whether what was found last wants a process of its own."""
        known = self._needs.get(head.line.name.rpartition("@")[2])
        return known is not None and known.fresh

    def _claim(self, line: Line, slot: str) -> Ticket | None:
        target = self.store.layout.running_folder(slot)
        while head := line.peek():
            line.pop()
            if self.store.disk.move(f"{line.folder}/{head.ticket}", f"{target}/{head.ticket}"):
                return head.ticket
        return None

    def _heads(self) -> list[Head]:
        if self.store.disk.exists(self.store.layout.paused):
            return []
        there = [name for name in self.store.names(self.store.layout.queued) if name.startswith(self._prefixes)]
        self._lines = {name: self._lines.get(name) or Line(self.store, name) for name in there}
        return sorted(filter(None, map(self._head, self._lines.values())), key=lambda head: head[:2])

    def _head(self, line: Line) -> Head | None:
        while head := line.peek():
            if self.store.disk.exists(f"{line.folder}/{head.ticket}"):
                return head
            line.pop()  # a list may name what others took
        with contextlib.suppress(
            OSError
        ):  # there are as many lines as there were needs: an old one goes when it is empty
            if time.time() - os.stat(line.root).st_mtime > _STALE:
                self.store.disk.remove_folder(line.root)
        return None

    def _look(self, head: Head) -> tuple[Needs | None, float]:
        needs = self._needs_of(head)
        return needs, NEVER if needs is None else tokens.look(self.store, needs)

    def _needs_of(self, head: Head) -> Needs | None:
        """What a line needs; nothing when its first task cannot be read: whoever claims it ends it. None: it is not for us."""
        code = head.line.name.rpartition("@")[2]
        if code not in self._needs:
            needs = self._read(code)
            if needs is None:  # lost or damaged: the spec, which is signed, says the same
                try:
                    needs = of_fields(records.read_spec(self.store, head.ticket.id).needs, code)
                except NbtasksError:
                    return Needs()
                except OSError:
                    return None
            if needs is None:
                return None
            self._needs[code] = needs
        return self._needs[code]

    def _read(self, code: str) -> Needs | None:
        try:
            return decode(self.store.disk.read(self.store.layout.need(code), _LARGEST), code)
        except OSError:
            return None
