"""What a worker does at moments of the clock: it releases what waited, ends what came too late, and serves schedules."""

from __future__ import annotations

import time
from collections.abc import Callable

from nbtasks.queue import expiring, members, recovery, schedules
from nbtasks.queue.directory import Queue
from nbtasks.queue.recurring import Timetable
from nbtasks.queue.schedules import Entry
from nbtasks.worker import autostart
from nbtasks.worker.standing import Options


class Agenda:
    """One worker's next moments. `me` is the claimer that writes outcomes, `clock` gives seconds since 1970."""

    def __init__(
        self,
        queue: Queue,
        me: str,
        options: Options,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.queue, self.me, self.options, self.clock = queue, me, options, clock
        self.timetable = Timetable(queue, clock=clock, say=say, made=self._see_that_it_runs)
        self.release: float | None = None
        self.expiry: float | None = None
        self.moment: float | None = None
        self._stays = False
        self._retired = not options.periodic

    def look(self) -> None:
        """Look at everything, and do what is due."""
        self.look_at_waiting()
        self.look_at_schedules()

    def look_at_waiting(self) -> None:
        """Release what waited for a moment that has come, and end what has not started in time."""
        now = self.clock()
        self.release = recovery.release_due(self.queue, self.me, now)
        self.expiry = expiring.expire_due(self.queue, self.me, now)

    def look_at_schedules(self) -> None:
        """Make the tickets that are due, unless another worker does that, or we are not to."""
        if not self._retired:
            self.moment = self.timetable.look()
            found = [entry for entry in schedules.entries(self.queue) if not entry.paused] if self.moment else []
            self._stays = self.timetable.leads or any(map(self._serves, found))

    def keep(self) -> None:
        """Do what is due."""
        now = self.clock()
        if any(moment is not None and moment <= now for moment in (self.release, self.expiry)):
            self.look_at_waiting()
        if self.moment is not None and self.moment <= now:
            self.look_at_schedules()

    def left(self) -> float | None:
        """Seconds until something is due, or None."""
        moments = [moment for moment in (self.release, self.expiry, self.moment) if moment is not None]
        return max(0.0, min(moments) - self.clock()) if moments else None

    def holds(self) -> bool:
        """Whether the worker stays though it is idle: for what waits for its moment, and for what recurs."""
        return self.release is not None or self._stays

    def retire(self) -> None:
        """Make no tickets any more: another worker does."""
        self.timetable.release()
        self.moment, self._stays, self._retired = None, False, True

    def _serves(self, entry: Entry) -> bool:
        return entry.env == self.options.env and entry.lane in self.options.lanes

    def _see_that_it_runs(self, entry: Entry) -> None:
        if self._serves(entry):
            return
        workers = members.list_workers(self.queue)
        if not any(worker.env == entry.env and entry.lane in worker.lanes for worker in workers):
            autostart.ensure_worker(self.queue, entry.lane, entry.env)
