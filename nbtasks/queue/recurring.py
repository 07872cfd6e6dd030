"""The timetable: one worker of a queue makes one ticket for each moment that is due.

It goes by the clock on the wall, which may jump. No moment is made twice, since its id is made from name and moment;
and what was noted for moments that lie in the future, because the clock was wrong, holds nothing up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nbtasks.errors import NbtasksError
from nbtasks.queue import layout, schedules
from nbtasks.queue.directory import Queue
from nbtasks.queue.leases import Lease
from nbtasks.queue.schedules import BY_HAND, MADE, MISSED, OVERLAP, Entry, Fates
from nbtasks.recurrence import between, latest

LATE = 60.0  # seconds by which a moment may be late before it counts as missed
_KEPT = 100  # moments whose fate is kept
_TOLD = 20  # missed moments that are noted at once
_BATCH = 100  # tickets made for one schedule at one look
_BEHIND = 1.0  # seconds after a moment, after which others look whether the one who makes tickets still lives
_SOON = 1.0  # seconds after which is looked again for the end of a run that others wait for
_LATER = 10.0  # seconds after which is tried again what did not go, twice


class Timetable:
    """The schedules of a queue, as one worker sees them. `clock` gives seconds since 1970."""

    def __init__(
        self, queue: Queue, *, clock: Callable[[], float] = time.time, say: Callable[[str], None] = lambda line: None,
        made: Callable[[Entry], None] = lambda entry: None,
    ) -> None:  # fmt: skip
        self.queue, self.clock, self.say, self._made = queue, clock, say, made
        self._lease: Lease | None = None
        self._looked: dict[str, float] = {}  # when we looked at each schedule
        self._ended: set[str] = set()  # runs that are known to have ended
        self._faults: dict[str, str] = {}  # what was said of schedules that could not be served

    @property
    def leads(self) -> bool:
        """Whether we are the one who makes tickets."""
        return self._lease is not None

    def look(self) -> float | None:
        """Make the tickets that are due, unless another does; the moment of the next look, or None when nothing recurs."""
        found = [entry for entry in schedules.entries(self.queue) if not entry.paused]
        if not found:
            self.release()
            return None
        if not self._lead([entry.name for entry in found]):
            return self._soonest([self._next(entry) for entry in found], _BEHIND)
        return self._soonest([self._look_at(entry) for entry in found])

    def release(self) -> None:
        """Let another one make the tickets."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None

    def _lead(self, names: list[str]) -> bool:
        if self._lease is None:
            lease = Lease(self.queue.layout.schedules_lock())
            if not lease.try_take():
                return False
            self._lease = lease
            self.say(f"makes the tickets of schedules: {', '.join(names)}")
        return True

    def _next(self, entry: Entry) -> float | None:
        return entry.recurrence.after(self.clock())

    def _soonest(self, moments: list[float | None], behind: float = 0.0) -> float | None:
        return min((moment + behind for moment in moments if moment is not None), default=None)

    # One schedule.

    def _look_at(self, entry: Entry) -> float | None:
        now = self.clock()
        try:
            held = self._take_due(entry, now)
        except (NbtasksError, OSError) as error:  # replaced just now, or a full disk; others go on
            if self._faults.get(entry.name) == str(error):
                return now + _LATER
            self._faults[entry.name] = str(error)
            self.say(f"schedule {entry.name}: {error}")
            return now + _SOON
        self._faults.pop(entry.name, None)
        return now + _SOON if held else self._next(entry)

    def _take_due(self, entry: Entry, now: float) -> bool:
        """Give every moment since the last one its fate. True: one is held up until a run has ended."""
        fates = schedules.fates(self.queue, entry.name)
        since = self._since(entry, fates, now)
        held = False
        if entry.missed == "all":
            for count, moment in enumerate(between(entry.recurrence, since, now)):
                held = count >= _BATCH or not self._try_make(entry, moment, fates, or_else="")
                if held:
                    break
        else:
            self._take_recent(entry, fates, since, now)
        self._prune(entry, fates, now)
        self._looked[entry.name] = now
        return held

    def _take_recent(self, entry: Entry, fates: Fates, since: float, now: float) -> None:
        edge = max(since, now - LATE)
        missed = latest(entry.recurrence, since, edge, _TOLD) if edge > since else []
        fresh = list(between(entry.recurrence, edge, now))
        chosen = missed.pop() if missed and not fresh and entry.missed == "once" else None
        for moment in missed:
            self._note(entry, moment, fates, MISSED)
        for moment in fresh if chosen is None else [chosen]:
            self._try_make(entry, moment, fates, or_else=OVERLAP)

    def _since(self, entry: Entry, fates: Fates, now: float) -> float:
        """The last moment that has its fate. What is noted for the future was noted when the clock was wrong."""
        noted = (layout.submitted_at(id) for id, fate in fates.items() if fate != BY_HAND)
        known = [moment for moment in (entry.since, *noted) if moment <= now]
        return max(known) if known else min(now, self._looked.get(entry.name, now))

    def _try_make(self, entry: Entry, moment: float, fates: Fates, or_else: str) -> bool:
        """Make the task of a moment; while another run lives note `or_else` instead. False: nothing was done."""
        if not entry.overlap and any(
            self._is_live(one) for one, fate in reversed(fates.items()) if fate in (MADE, BY_HAND)
        ):
            if or_else:
                self._note(entry, moment, fates, or_else)
            return bool(or_else)
        fates[schedules.make(self.queue, entry, moment)] = MADE
        self._made(entry)
        return True

    def _note(self, entry: Entry, moment: float, fates: Fates, fate: str) -> None:
        id = schedules.id_of(entry.name, moment)
        schedules.note_fate(self.queue, entry.name, id, fate)
        fates[id] = fate

    def _is_live(self, id: str) -> bool:
        if id in self._ended:
            return False
        if not schedules.is_live(self.queue, id):
            self._ended.add(id)
            return False
        return True

    def _prune(self, entry: Entry, fates: Fates, now: float) -> None:
        """Forget old moments; never the last one, nor one whose run lives."""
        past = [id for id in sorted(fates) if layout.submitted_at(id) <= now]
        for id in past[:-_KEPT]:
            if fates[id] not in (MADE, BY_HAND) or not self._is_live(id):
                schedules.drop_fate(self.queue, entry.name, id, fates[id])
                self._ended.discard(id)
