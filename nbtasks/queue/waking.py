"""Waking whoever waits: slots and workers for work, submitters for ends. All of it hints, which may be lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from nbtasks import config, processes
from nbtasks.durable import Disk
from nbtasks.queue import doorbells
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.layout import WAITERS, HostLayout
from nbtasks.queue.store import Store
from nbtasks.spec import Spec

_SEEN = 1.0  # seconds for which a process that was seen alive is taken to be alive
_FLUSH_HINT = 0.5

Summon = Callable[[Any, str, str], None]


class Waking(Store):
    """A store whose bells can be rung.

    `summon` is called with queue, lane and env when a task is there and nobody lives who could run it.
    """

    summon: ClassVar[Summon | None] = None

    def __init__(self, root: str, *, create: bool = True, disk: Disk | None = None) -> None:
        super().__init__(root, create=create, disk=disk)
        self.boot = processes.boot_id()
        self._seen: dict[str, float] = {}
        self._flush_rung = self._flusher_seen = float("-inf")

    def wake(self, spec: Spec) -> None:
        """Ring one idle bell of the task's lane; when nobody lives there, summon a worker."""
        place = f"{spec.lane}@{spec.env}"
        folder = self.layout.bells_of(self.boot, place)
        bells = doorbells.bells_in(f"{folder}/idle")
        # A function goes to a warm slot ("s…") first, a cell to a supervisor ("w…") that can make a fresh one.
        for path in reversed(bells) if spec.is_fresh else bells:
            if doorbells.ring(path, "work"):
                self._seen[place] = time.monotonic()
                return
        if time.monotonic() - self._seen.get(place, -_SEEN) < _SEEN:
            return
        # Only supervisors count: a busy slot may be one that leaves after its task.
        if any(map(doorbells.hears, doorbells.bells_in(folder, "w"))):
            self._seen[place] = time.monotonic()
        elif (summon := type(self).summon) is not None:
            summon(self, spec.lane, spec.env)

    def ring_workers(self, hint: str) -> int:
        """Ring every supervisor of this queue on this host; how many heard it."""
        return doorbells.ring_all(self.layout.bells_of(self.boot, "workers"), hint)

    def bell(self, place: str, name: str) -> Bell:
        """A bell of our own in one of this boot's places."""
        return Bell(self.layout.bells_of(self.boot, place), name)

    def token_bells(self, name: str) -> list[Bell]:
        """Bells of our own among those who wait for a token, a rate or a named lock: of this queue, of this machine."""
        return [self.bell(WAITERS, name), Bell(self._host_bells(), name)]

    def ring_token_waiters(self, me: str = "") -> None:
        """Tell all who wait for a token, a rate or a named lock, but for `me`, that something may be free."""
        for folder in (self.layout.bells_of(self.boot, WAITERS), self._host_bells()):
            for path in doorbells.bells_in(folder):
                if not me or not path.endswith(f"/{me}"):
                    doorbells.ring(path, "free")

    def _host_bells(self) -> str:
        return HostLayout(config.settings().host_dir).bells(self.boot)

    def nobody_flushes(self) -> bool:
        """True while no worker lives that flushes what was submitted."""
        now = time.monotonic()
        if now - self._flusher_seen < _SEEN:
            return False
        if any(map(doorbells.hears, doorbells.bells_in(self.layout.bells_of(self.boot, "flush")))):
            self._flusher_seen = now
            return False
        return True

    def ask_for_flush(self) -> None:
        """Tell the flushers that something was written; at most every half second."""
        now = time.monotonic()
        if now - self._flush_rung > _FLUSH_HINT:
            self._flush_rung = now
            doorbells.ring_all(self.layout.bells_of(self.boot, "flush"), "dirty")

    def ring_waiters(self, spec: Spec, hint: str) -> None:
        """Tell the submitter of a task, and all that watch the queue, that it ended; `hint` is its ended name."""
        if spec.bell:
            doorbells.ring(f"{self.layout.bells_of(self.boot, 'clients')}/{spec.bell}", hint)
        doorbells.ring_all(self.layout.bells_of(self.boot, "watch"), hint)
