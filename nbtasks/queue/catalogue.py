"""All tasks of a queue by the names of their tickets, kept in memory and looked over a little at a time.

For whoever shows many tasks again and again. No file of a task is read here: a ticket's folder is its status. What
changes often (what runs, what was just submitted, what is said to have ended) is listed at every look; the rest
takes turns, so that a look costs milliseconds whatever the size of the queue.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator

from nbtasks.errors import NbtasksError
from nbtasks.queue import lookup, records
from nbtasks.queue.lookup import Place
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import parse_ended, parse_ticket, parse_until
from nbtasks.status import ENDED, Status

MOST = 50_000  # ended tasks that are kept; older ones are not counted
WINDOW = 900.0  # seconds for which it is known when tasks ended
LATEST = 40  # of these it is known which

_RANK = {Status.WAITING: 0, Status.QUEUED: 1, Status.RUNNING: 2}  # on equal deliveries tickets move upwards only
_ENDED = 3
_PIECE = 500  # names between two looks at the clock
_REST = 2.0  # seconds at least between two beginnings of a round
_FEW = 500  # waiting tickets that are listed at every look
_OPEN = 0.05  # seconds of wall time for a slice: a busy kernel hands the interpreter over slowly


class Catalogue:
    """Where every task stands. `look` brings it up to date; `version` grows with every change."""

    def __init__(self, store: Store, most: int = MOST) -> None:
        self.store, self._most = store, most
        self.places: dict[str, Place] = {}
        self.counts = dict.fromkeys(Status, 0)
        self.version = 0
        self.whole = False  # every ticket was seen at least once
        self.cut = False  # there are more ended tasks than are kept
        self.minutes: dict[int, int] = {}  # how many ended in each of the last minutes (since 1970)
        self._latest: list[tuple[float, str]] = []  # a heap: when tasks ended, of the last ones
        self._round = 0
        self._seen: dict[str, int] = {}  # the round in which a ticket was last met
        self._walk: Iterator[None] | None = None
        self._began = float("-inf")
        self._newest: dict[str, str] = {}  # of each line and priority: the folder of the latest second

    def __len__(self) -> int:
        return len(self.places)

    def look(self, ended: Iterable[str] = (), seconds: float = 0.003) -> bool:
        """Look at what may have changed; `ended` are ids said to have ended. True: something has.

        `seconds` of processor time go into the round through everything.
        """
        before = self.version
        layout = self.store.layout
        for folder in {layout.ended_folder(id) for id in ended}:
            self._take_ended(folder)
        self._look_at_live()
        self._go_on(seconds)
        return self.version != before

    def look_at_all(self, seconds: float = 2.0) -> None:
        """A whole round now, but not for more than `seconds`."""
        limit = time.monotonic() + seconds
        self._began = float("-inf")
        self._go_on(seconds, seconds)
        while not self.whole and time.monotonic() < limit:
            self._go_on(seconds, seconds)

    def latest(self) -> list[str]:
        """The tasks that ended last, at most LATEST and only of the last WINDOW seconds; the last one first."""
        since = time.time() - WINDOW
        return list(dict.fromkeys(id for moment, id in sorted(self._latest, reverse=True) if moment > since))

    def lanes(self) -> set[str]:
        """The lanes in which something is queued."""
        return {line.partition("@")[0] for line in self.store.disk.list(self.store.layout.queued)}

    # Taking in.

    def see(self, place: Place) -> None:
        """Take note of a ticket. What was read earlier never takes the place of what is known later."""
        id = place.ticket.id
        self._seen[id] = self._round
        old = self.places.get(id)
        if old is not None:
            if old.path == place.path or _age(old) > _age(place):
                return
            self.counts[old.status] -= 1
        self.places[id] = place
        self.counts[place.status] += 1
        self.version += 1

    def _note_end(self, place: Place) -> None:
        moment = lookup.moved_at(place.path)
        if moment is None or moment < time.time() - WINDOW:
            return
        minute = int(moment // 60)
        self.minutes[minute] = self.minutes.get(minute, 0) + 1
        if len(self._latest) < LATEST:
            heapq.heappush(self._latest, (moment, place.ticket.id))
        else:
            heapq.heappushpop(self._latest, (moment, place.ticket.id))

    def forget(self, id: str) -> None:
        """The task was removed."""
        if place := self.places.pop(id, None):
            self.counts[place.status] -= 1
            self.version += 1
        self._seen.pop(id, None)

    # Listing.

    def _look_at_live(self) -> None:
        layout = self.store.layout
        for slot in self.store.disk.list(layout.running):
            self._take_running(slot)
        if self.counts[Status.WAITING] < _FEW:
            for _ in self._take_waiting():
                pass
        for line in self.store.disk.list(layout.queued):
            for priority in self.store.disk.list(f"{layout.queued}/{line}"):
                self._take_newest(f"{layout.queued}/{line}/{priority}")

    def _take_newest(self, root: str) -> None:
        """What came into one line since the last look: it stands in the latest seconds."""
        known = self._newest.get(root, "")
        for minute in reversed(self.store.names(root)):
            if minute < known[: len(minute)]:
                return
            for second in reversed(self.store.names(f"{root}/{minute}")):
                if f"{minute}/{second}" < known:
                    return
                self._newest[root] = max(self._newest.get(root, ""), f"{minute}/{second}")
                self._take_queued(f"{root}/{minute}/{second}")
                if not known:  # the first look: the round takes the rest
                    return

    def _take_running(self, slot: str) -> None:
        folder = self.store.layout.running_folder(slot)
        for name in self.store.disk.list(folder):
            if not self._is_known(name, f"{folder}/{name}") and (ticket := parse_ticket(name)):
                self.see(Place(Status.RUNNING, ticket, f"{folder}/{name}", slot))

    def _take_waiting(self) -> Iterator[None]:
        layout = self.store.layout
        for at, name in enumerate(self.store.disk.list(layout.parents)):
            if not self._is_known(name, f"{layout.parents}/{name}") and (ticket := parse_ticket(name)):
                self.see(Place(Status.WAITING, ticket, f"{layout.parents}/{name}"))
            if at % _PIECE == _PIECE - 1:
                yield
        for name in self.store.disk.list(layout.until):
            if parsed := parse_until(name):
                self.see(Place(Status.WAITING, parsed[1], f"{layout.until}/{name}"))
        yield

    def _take_queued(self, folder: str) -> None:
        for name in self.store.disk.list(folder):
            if not self._is_known(name, f"{folder}/{name}") and (ticket := parse_ticket(name)):
                self.see(Place(Status.QUEUED, ticket, f"{folder}/{name}"))

    def _take_ended(self, folder: str) -> None:
        recent: bool | None = None  # whether something came into this folder lately, so that looking closer is worth it
        for name in self.store.disk.list(folder):
            path = f"{folder}/{name}"
            if self._is_known(name, path) or not (parsed := parse_ended(name)):
                continue
            place = Place(parsed[1], parsed[0], path)
            self.see(place)
            if recent is None:
                recent = (lookup.moved_at(folder) or 0) > time.time() - WINDOW
            if recent and self.places[place.ticket.id] is place:
                self._note_end(place)

    def _is_known(self, name: str, path: str) -> bool:
        """Whether that very ticket was there before: parsing its name costs ten times as much."""
        id = name.partition(".")[0]
        old = self.places.get(id)
        if old is None or old.path != path:
            return False
        self._seen[id] = self._round
        return True

    # The round through everything.

    def _go_on(self, seconds: float, wall: float = _OPEN) -> None:
        if self._walk is None:
            if time.monotonic() - self._began < _REST:
                return
            self._began = time.monotonic()
            self._round += 1
            self._walk = self._all()
        limit, late = time.thread_time() + seconds, time.monotonic() + wall
        while time.thread_time() < limit and time.monotonic() < late:
            if next(self._walk, self) is self:
                self._walk, self.whole = None, True
                return

    def _all(self) -> Iterator[None]:
        layout, names = self.store.layout, self.store.names
        for slot in names(layout.running):
            self._take_running(slot)
            yield
        yield from self._take_waiting()
        for line in names(layout.queued):
            for priority in names(f"{layout.queued}/{line}"):
                for folder in self._seconds(f"{layout.queued}/{line}/{priority}"):
                    self._take_queued(folder)
                    yield
        yield from self._all_ended()
        yield from self._drop_unseen()

    def _all_ended(self) -> Iterator[None]:
        begin = int((time.time() - WINDOW) // 60)
        self.minutes = {minute: count for minute, count in self.minutes.items() if minute >= begin}
        for folder in self._seconds(self.store.layout.ended):
            self._take_ended(folder)
            if sum(self.counts[status] for status in ENDED) >= self._most:
                self.cut = True
                return
            yield

    def _seconds(self, root: str) -> Iterator[str]:
        """The folders of single seconds below `root`, newest first."""
        for minute in reversed(self.store.names(root)):
            for second in reversed(self.store.names(f"{root}/{minute}")):
                yield f"{root}/{minute}/{second}"

    def _drop_unseen(self) -> Iterator[None]:
        """Tasks that the round did not meet have moved against it, lie below the cut, or were removed."""
        now = self._round
        for at, id in enumerate([id for id, seen in self._seen.items() if seen != now]):
            place = self.places.get(id)
            if place is not None and not self.store.disk.exists(place.path):
                found = self._find(id)
                if found is None:
                    self.forget(id)
                else:
                    self.see(found)
            if at % 50 == 49:
                yield

    def _find(self, id: str) -> Place | None:
        try:
            return lookup.locate(self.store, records.read_spec(self.store, id))
        except (NbtasksError, OSError):
            return None


def _age(place: Place) -> tuple[int, int]:
    return place.ticket.delivery, _RANK.get(place.status, _ENDED)
