"""The crew of the ``threads`` engine: one process whose threads run functions, and slots as ever for cells."""

from __future__ import annotations

import dataclasses
import itertools
import mmap
import time
from collections.abc import Callable

from nbtasks import processes
from nbtasks.engines import local
from nbtasks.queue import lookup, members, recovery
from nbtasks.queue.directory import Queue
from nbtasks.queue.needy import Needy
from nbtasks.queue.recovery import Death
from nbtasks.queue.tokens import NOW
from nbtasks.worker.crew import Crew, SlotProcess
from nbtasks.worker.limits import Limits, is_thread_of
from nbtasks.worker.slot import Duty
from nbtasks.worker.threads import pool_main

_REST = 0.2  # seconds without a bell after a ring that was for the threads


class ThreadCrew(Crew):
    """A process of `size` threads, another one while the first must not go on, and slots that take cells alone."""

    def __init__(self, queue: Queue, size: int, duty: Duty, limits: Limits, say: Callable[[str], None]) -> None:
        # A slot for cells does not sleep: its bell would be rung for functions.
        cells = dataclasses.replace(duty, needs="c", burst=True)
        super().__init__(queue, min(size, processes.default_slots()), cells, limits, say)
        self.threads, self._pool_duty = size, duty
        self._pools: dict[str, mmap.mmap] = {}  # see `thread_slot.Host.inside`
        self._rest_until = 0.0
        places = [f"{lane}@{duty.env}" for lane in duty.lanes]
        self._needy = {kind: Needy(queue, places, kind) for kind in "cf"}

    def names(self) -> list[str]:
        """All slots: those for cells, and the threads."""
        running = self.queue.disk.list(self.queue.layout.running) if self._pools else []
        threads = [name for name in running if any(is_thread_of(name, pool) for pool in self._pools)]
        return [name for name in super().names() if name not in self._pools] + threads

    def measured(self) -> list[str]:
        """The slots for cells."""
        return [name for name in super().names() if name not in self._pools]

    def _threads_of(self, pool: str) -> list[str]:
        return [name for name in self.queue.disk.list(self.queue.layout.running) if is_thread_of(name, pool)]

    def _pool(self) -> SlotProcess | None:
        """The process that takes functions."""
        for slot in self.own.values():
            inside = self._pools.get(slot.name)
            if inside is not None and not inside[-1] and not slot.leaving and slot.name not in self.limits.condemned:
                return slot
        return None

    # Making.

    def has_room(self) -> bool:
        """True while one more slot for a cell may be made, or a process for threads."""
        now = time.monotonic()
        cells = len(self.own) - len(self._pools) - len(self.lent)
        return (cells < self.size or self._pool() is None) and now >= max(self._pause_until, self._rest_until)

    def free_for(self) -> float | None:
        """Seconds until there may be room again; None: there is."""
        left = max(self._pause_until, self._rest_until) - time.monotonic()
        return left if left > 0 else None

    def wants_more(self, backlog: int) -> bool:
        """True when something waits that nobody who lives is about to take."""
        return self._wants_pool() or self._wants_slot()

    def _wants_pool(self) -> bool:
        return self._pool() is None and time.monotonic() >= self._pause_until and self._count("f") > 0

    def _wants_slot(self) -> bool:
        cells = len(self.own) - len(self._pools) - len(self.lent)
        if cells >= self.size or time.monotonic() < self._pause_until:
            return False
        young = sum(1 for slot in self.own.values() if slot.name not in self._pools and self._is_young(slot))
        return self._count("c") > young

    def _count(self, need: str) -> int:
        lines = [f"{lane}@{self.duty.env}@{need}" for lane in self.duty.lanes]
        found = (ticket for line in lines for ticket in lookup.queued_tickets(self.queue, line))
        ready = (one for one in self._needy[need].all() if one.wait == NOW)
        return sum(1 for _ in itertools.islice(itertools.chain(found, ready), self.size))

    def staff(self, backlog: int) -> None:
        """Make what the backlog wants and there is room for."""
        made = len(self.own)
        if self._wants_pool():
            self._make_pool()
        while self._wants_slot():
            self._make()
        if len(self.own) == made:  # functions in a burst: the threads take them, and ring among themselves
            self._rest_until = time.monotonic() + _REST

    def _make_pool(self) -> None:
        name = members.new_name("t", self.duty.worker[2:], next(self._numbers))
        duty = dataclasses.replace(self._pool_duty, name=name, threads=processes.usable_cores() // self.threads)
        oom = processes.oom_kills()
        inside = self._pools[name] = mmap.mmap(-1, mmap.PAGESIZE)
        pid = local.fork_slot(pool_main(duty, self.threads, inside), name, keep=duty.log)
        self.own[pid] = SlotProcess(name, pid, processes.open_pidfd(pid), time.monotonic(), oom)

    def take_back(self, name: str) -> None:
        """Slots for cells leave by themselves."""
        self.lent.discard(name)

    def last_active(self) -> float:
        """The monotonic moment at which the last task was seen."""
        if self.busy():
            self._last_active = time.monotonic()
        return self._last_active

    # Ending.

    def _settle_death(self, me: str, slot: SlotProcess, death: Death) -> None:
        if slot.name not in self._pools:
            super()._settle_death(me, slot, death)
            return
        inside = self._pools.pop(slot.name)
        names = self._threads_of(slot.name)
        ran = {
            name
            for name in names
            if inside[int(name.rpartition("-")[2]) % (len(inside) - 1)] and self.limits.running(name)
        }
        held = len(ran)
        for name in names:
            if name in ran:
                recovery.recover_slot(self.queue, me, name, _shared(death, held))
            else:  # what it has claimed had not begun, or waited for another task
                recovery.evict_slot(self.queue, me, name)
            self.limits.forget(name)
            members.forget(self.queue, name)
        condemned = slot.name in self.limits.condemned
        self.limits.condemned.discard(slot.name)
        had = f"a process of threads died with {held} tasks: {death.words()}"
        super()._settle_death(me, slot, Death() if held else death)
        if held and not slot.evicted:
            self.say("a thread did not stop, so its process was ended" if condemned else had)

    def evict(self, me: str) -> None:
        """End all now, and what they run."""
        for slot in self.own.values():
            if slot.name in self._pools and not slot.evicted:
                slot.evicted = True
                processes.kill_tree(slot.pid, mark=slot.name)
                for name in self._threads_of(slot.name):
                    recovery.evict_slot(self.queue, me, name)
        super().evict(me)


def _shared(death: Death, held: int) -> Death:
    """Of several tasks it is not known whose fault it was: each is lost, and runs alone the next time."""
    if held < 2 or not death.seen:
        return death
    others = "another task" if held == 2 else f"{held - 1} other tasks"
    return Death(reason=f"{death.words()}, in a process that it shared with {others}", peak_memory=death.peak_memory)
