"""Taking tickets: one rename each, from a listing that is kept while it is good."""

from __future__ import annotations

import contextlib
import os
import time
from typing import NamedTuple

from nbtasks.queue.store import Store
from nbtasks.queue.tickets import Ticket, parse_ticket

_STALE = 10.0  # seconds after which an empty folder is taken away


class Line:
    """The tickets of one LANE@ENV@NEED in running order.

    It lists one second's folder and goes on from that list. Whether a better priority has come is looked up
    before every claim, in a folder of at most ten names; modification times are never trusted.
    """

    def __init__(self, store: Store, line: str) -> None:
        self.store = store
        self.name = line
        self.root = f"{store.layout.queued}/{line}"
        self.folder = ""
        self._priority = ""
        self._names: list[str] = []  # the best last

    def peek(self) -> Head | None:
        """The next one to try, or None when nothing is queued. Another may have taken it meanwhile."""
        priorities = self.store.names(self.root)
        # An emptied folder of a better priority stays for a while: it is looked into, and our list kept.
        self._list([priority for priority in priorities if not self._names or priority < self._priority])
        while self._names:
            if ticket := parse_ticket(self._names[-1]):
                return Head(self._priority, ticket, self)
            self._names.pop()  # not a ticket: an unknown name is left alone
        return None

    def pop(self) -> None:
        """Drop the ticket that was peeked at: it was claimed, by us or by another."""
        if self._names:
            self._names.pop()

    def _list(self, priorities: list[str]) -> None:
        for priority in priorities:
            for minute in self._within(f"{self.root}/{priority}"):
                for second in self._within(f"{self.root}/{priority}/{minute}"):
                    folder = f"{self.root}/{priority}/{minute}/{second}"
                    names = self._within(folder)
                    if any(map(parse_ticket, names)):
                        self.folder, self._priority = folder, priority
                        self._names = names[::-1]
                        return

    def _within(self, folder: str) -> list[str]:
        names = self.store.names(folder)
        if not names:
            with contextlib.suppress(OSError):
                if time.time() - os.stat(folder).st_mtime > _STALE:
                    os.rmdir(folder)  # refuses when somebody has just put a ticket in
        return names


class Head(NamedTuple):
    """The ticket that a claim would try first; the least is the best."""

    priority: str
    ticket: Ticket
    line: Line


class Claimer:
    """Claims for one slot, from the lines that it serves."""

    def __init__(self, store: Store, slot: str, lines: list[str]) -> None:
        self.store = store
        self.target = store.layout.running_folder(slot)
        self.lines = [Line(store, line) for line in lines]

    def try_claim(self) -> Ticket | None:
        """Take the next ticket: its move into ``running/SLOT/`` is the claim. None when nothing is to be had."""
        if self._is_paused():
            return None
        move = self.store.disk.move
        while best := self._best():
            line, ticket = best.line, best.ticket
            line.pop()
            if move(f"{line.folder}/{ticket}", f"{self.target}/{ticket}"):
                return ticket
        return None

    def find_head(self) -> Head | None:
        """The ticket that a claim would take now, or None. It is there: a list may name what others took."""
        if self._is_paused():
            return None
        while best := self._best():
            if self.store.disk.exists(f"{best.line.folder}/{best.ticket}"):
                return best
            best.line.pop()
        return None

    def _is_paused(self) -> bool:
        return self.store.disk.exists(self.store.layout.paused)

    def _best(self) -> Head | None:
        if len(self.lines) == 1:
            return self.lines[0].peek()
        heads = [head for line in self.lines if (head := line.peek())]
        return min(heads, key=lambda head: head[:2], default=None)
