"""What the rows of a dashboard need beside the tickets: read once for each task, a few milliseconds at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from nbtasks import processes
from nbtasks.errors import NbtasksError
from nbtasks.jupyter.dashboard_filters import Filters, Order
from nbtasks.queue import lookup, members, records
from nbtasks.queue.catalogue import Catalogue
from nbtasks.queue.lookup import Place
from nbtasks.queue.records import Record
from nbtasks.spec import Spec
from nbtasks.status import LIVE, Status

_KEPT = 300  # records of ended tasks that are kept whole
_SUCCEEDED, _FAILED, _CANCELLED = Status.SUCCEEDED, Status.FAILED, Status.CANCELLED
_LAST = "\U0010ffff"  # behind every name
_WALL = 0.05
_ANEW = 5.0  # seconds after which running tasks are measured again


class Brief(NamedTuple):
    """What the filters ask of a task."""

    name: str
    lane: str
    notebook: str | None
    here: bool  # submitted by this kernel


class Facts:
    """What is known of the tasks of a catalogue, and the lists of their ids that filters and orders make of it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._store = catalogue.store
        self._me = (processes.host_name(), os.getpid())
        self._briefs: dict[str, Brief] = {}
        self._took: dict[str, tuple[str, float, int]] = {}  # id: path of the ticket, seconds, bytes of memory
        self._records: dict[str, Record] = {}
        self._version = 0
        self._measured = float("-inf")
        self._planned: tuple[int, bool] | None = None
        self._todo: list[str] = []
        self._asked: tuple[object, ...] = ()
        self._ids: list[str] = []
        self.missing = 0  # tasks that are still to be read for what was asked last

    def ids(self, filters: Filters, order: Order) -> list[str]:
        """The tasks that are wanted, in order, as far as is known by now (`missing`)."""
        asked = (filters, order, self.catalogue.version, self._version)
        if asked != self._asked:
            self._asked, self._ids = asked, self._sorted(self._filtered(filters), order)
        return self._ids

    def _filtered(self, filters: Filters) -> list[str]:
        wanted = filters.statuses  # a tuple: hashing a status costs more than comparing it with six
        places = self.catalogue.places
        found = [id for id, place in places.items() if place.status in wanted] if wanted else list(places)
        if filters.needs_specs:
            briefs = self._briefs
            found = [id for id in found if (brief := briefs.get(id)) is not None and _fits(brief, filters)]
        return found

    def _sorted(self, ids: list[str], order: Order) -> list[str]:
        ids.sort(reverse=order is not Order.OLDEST)
        if order is Order.LIVE:
            return self._live_first(ids)
        briefs = self._briefs
        keys: dict[Order, Callable[[str], object]] = {
            Order.NAME: lambda id: briefs[id].name.lower() if id in briefs else _LAST,
            Order.LONGEST: lambda id: -self._time_and_memory(id)[0],
            Order.MEMORY: lambda id: -self._time_and_memory(id)[1],
        }
        if order in keys:
            ids.sort(key=keys[order])  # type: ignore[arg-type]  # all keys of one order compare
        return ids

    def _live_first(self, ids: list[str]) -> list[str]:
        """What runs, then what waits in the order in which it will about run, then what has ended, newest first."""
        places = self.catalogue.places
        live: dict[Status, list[str]] = {status: [] for status in LIVE}
        ended = []
        for id in ids:
            status = places[id].status
            if status is _SUCCEEDED or status is _FAILED or status is _CANCELLED:
                ended.append(id)
            else:
                live[status].append(id)
        queued, waiting = reversed(live[Status.QUEUED]), reversed(live[Status.WAITING])
        return [*live[Status.RUNNING], *queued, *waiting, *ended]

    def _time_and_memory(self, id: str) -> tuple[float, int]:
        known = self._took.get(id)
        return (known[1], known[2]) if known is not None else (-1.0, -1)

    # Reading.

    def read(self, filters: Filters, order: Order, seconds: float = 0.005) -> bool:
        """Read on what these need, for `seconds` of processor time. True: something new is known."""
        if not (filters.needs_specs or order.needs_specs or order.needs_outcomes):
            self.missing = 0
            return False
        self._plan(order.needs_outcomes)
        limit, late = time.thread_time() + seconds, time.monotonic() + _WALL
        done = 0
        while self._todo and time.thread_time() < limit and time.monotonic() < late:
            if (place := self.catalogue.places.get(self._todo.pop())) is not None:
                self._read(place, order.needs_outcomes)
                done += 1
        self.missing = len(self._todo)
        self._version += bool(done)
        return bool(done)

    def _plan(self, outcomes: bool) -> None:
        """What is to be read; the newest will be read first."""
        if outcomes:
            self._remeasure()
        planned = (self.catalogue.version, outcomes)
        if planned == self._planned:
            return
        self._planned = planned
        briefs, took, places = self._briefs, self._took, self.catalogue.places
        if outcomes:
            todo = [id for id, place in places.items() if (known := took.get(id)) is None or known[0] != place.path]
        else:
            todo = [id for id in places if id not in briefs]
        self._todo = sorted(todo)

    def _remeasure(self) -> None:
        now = time.monotonic()
        if now - self._measured > _ANEW:
            self._measured = now
            for id, place in self.catalogue.places.items():
                if place.status is Status.RUNNING and id in self._took:
                    self._took[id] = (place.path, *self._measure(place))
                    self._version += 1

    def _read(self, place: Place, outcome: bool) -> None:
        id = place.ticket.id
        if id not in self._briefs:
            self._briefs[id] = self._brief(id)
        if outcome:
            self._took[id] = (place.path, *self._measure(place))

    def _measure(self, place: Place) -> tuple[float, int]:
        """Seconds and bytes; of a running task, as they are now."""
        if place.status.ended and (outcome := records.find_outcome(self._store, place.ticket)) is not None:
            return outcome.seconds, outcome.peak_memory
        if place.status is Status.RUNNING and place.slot and (since := lookup.moved_at(place.path)):
            usage = members.find_usage(self._store, place.slot, str(place.ticket))
            return time.time() - since, usage.memory if usage is not None else 0
        return -1.0, -1

    def _brief(self, id: str) -> Brief:
        try:
            return self._of(records.read_spec(self._store, id))
        except (NbtasksError, OSError):
            return Brief("", "", None, False)

    def _of(self, spec: Spec) -> Brief:
        return Brief(spec.name, spec.lane, spec.notebook, (spec.host, spec.pid) == self._me)

    def lanes(self) -> list[str]:
        """The lanes that are known by now."""
        return sorted({brief.lane for brief in self._briefs.values()} | self.catalogue.lanes() - {""})

    def record(self, id: str) -> Record | None:
        """All about a task; None when it is gone. What stays the same is kept, for a few hundred tasks."""
        place = self.catalogue.places.get(id)
        known = self._records.get(id)
        if known is not None and place is not None and known.place.path == place.path:
            return known if known.status.ended else replace(known)  # its reason is found anew
        try:
            record = records.read_record(self._store, id, place)
        except (NbtasksError, OSError):
            return None
        self._briefs[id] = self._of(record.spec)
        if len(self._records) >= _KEPT:
            self._records.clear()
        self._records[id] = record
        return record

    def wanted(self, filters: Filters, order: Order = Order.LIVE) -> Iterator[Record]:
        """The records of the tasks that are wanted, read one by one as they are asked for."""
        for id in self._sorted(list(self.catalogue.places), order):
            place = self.catalogue.places[id]
            if filters.statuses and place.status not in filters.statuses:
                continue
            if (record := self.record(id)) is not None and _fits(self._briefs[id], filters):
                yield record


def _fits(brief: Brief, filters: Filters) -> bool:
    return (
        (not filters.lane or brief.lane == filters.lane)
        and (not filters.name or filters.name.lower() in brief.name.lower())
        and (not filters.mine or brief.here or (brief.notebook is not None and brief.notebook == filters.notebook))
    )
