"""The slots of one worker: making them, seeing them die, adopting those that a dead worker left."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import signal
import time
from collections.abc import Callable

from nbtasks import processes
from nbtasks.engines import local
from nbtasks.queue import members, recovery
from nbtasks.queue.directory import Queue
from nbtasks.queue.recovery import Death
from nbtasks.worker.limits import Limits
from nbtasks.worker.slot import Duty, slot_main

_YOUNG = 2.0  # seconds in which a new slot may not have claimed yet


@dataclasses.dataclass
class SlotProcess:
    """One slot as its supervisor sees it."""

    name: str
    pid: int
    pidfd: int | None
    born: float  # monotonic
    oom_before: int = 0
    leaving: bool = False  # it was told to
    evicted: bool = False


class Crew:
    """Own slots (children) and adopted ones (of a worker that died)."""

    def __init__(self, queue: Queue, size: int, duty: Duty, limits: Limits, say: Callable[[str], None]) -> None:
        self.queue, self.size, self.duty, self.limits, self.say = queue, size, duty, limits, say
        self.own: dict[int, SlotProcess] = {}
        self.adopted: dict[str, SlotProcess] = {}
        self.lent: set[str] = set()  # slots whose task waits for another: their places are free meanwhile
        self.has_pidfds = hasattr(os, "pidfd_open")
        self._numbers = itertools.count(1)
        self._pause, self._pause_until = 0.1, 0.0
        self._last_active = time.monotonic()

    def names(self) -> list[str]:
        """All slots that this worker looks after."""
        return [slot.name for slot in self.own.values()] + list(self.adopted)

    def measured(self) -> list[str]:
        """Those that have a process of their own, so that it can be told what their tasks take."""
        return self.names()

    def fds(self) -> list[int]:
        """Descriptors that become readable when a slot dies."""
        slots = itertools.chain(self.own.values(), self.adopted.values())
        return [slot.pidfd for slot in slots if slot.pidfd is not None]

    def has_room(self) -> bool:
        """True while one more slot may be made."""
        return len(self.own) - len(self.lent) < self.size and time.monotonic() >= self._pause_until

    def wants_more(self, backlog: int) -> bool:
        """True when there is more work than slots that are about to take it."""
        young = sum(1 for slot in self.own.values() if self._is_young(slot))
        return self.has_room() and backlog > young

    def _is_young(self, slot: SlotProcess) -> bool:
        return time.monotonic() - slot.born < _YOUNG and not self.queue.disk.exists(
            self.queue.layout.identity(slot.name)
        )

    def has_young(self) -> bool:
        """True when a slot was made lately, and may have claimed since."""
        return any(time.monotonic() - slot.born < 2 * _YOUNG for slot in self.own.values())

    def free_for(self) -> float | None:
        """Seconds until a slot may be made again after some died at birth; None: at once."""
        left = self._pause_until - time.monotonic()
        return left if left > 0 else None

    def lend(self, name: str) -> None:
        """The task of a slot waits for another one: its place may be used meanwhile."""
        if any(slot.name == name for slot in self.own.values()):
            self.lent.add(name)

    def take_back(self, name: str) -> None:
        """The task goes on: let a slot go that was made for the time of its waiting."""
        self.lent.discard(name)
        staying = [slot for slot in self.own.values() if not slot.leaving and slot.name not in self.lent]
        idle_first = sorted(staying, key=lambda slot: bool(self.limits.running(slot.name)))
        for slot in idle_first[: max(0, len(staying) - self.size)]:
            self._send_off(slot)

    def staff(self, backlog: int) -> None:
        """Make as many slots as the backlog wants and there is room for."""
        while self.wants_more(backlog):
            self._make()

    def _make(self) -> None:
        name = members.new_name("s", self.duty.worker[2:], next(self._numbers))
        duty = dataclasses.replace(self.duty, name=name)
        oom = processes.oom_kills()
        pid = local.fork_slot(slot_main(duty), name, keep=duty.log)
        self.own[pid] = SlotProcess(name, pid, processes.open_pidfd(pid), time.monotonic(), oom)

    def busy(self) -> int:
        """How many slots hold a claim."""
        return sum(1 for name in self.names() if self.limits.running(name))

    def last_active(self) -> float:
        """The monotonic moment at which a slot last went idle or died, as far as it can be told."""
        for place in self.duty.lanes:
            folder = self.queue.layout.bells_of(self.queue.boot, f"{place}@{self.duty.env}/idle")
            for slot in self.own.values():
                with contextlib.suppress(OSError):
                    age = time.time() - os.stat(f"{folder}/{slot.name}").st_ctime
                    self._last_active = max(self._last_active, time.monotonic() - max(0.0, age))
        return self._last_active

    # Deaths.

    def reap(self, me: str) -> None:
        """Collect slots that ended, and settle what they had claimed. `me` writes the outcomes."""
        for slot in list(self.own.values()):
            pid, status, usage = os.wait4(slot.pid, os.WNOHANG)
            if pid:
                del self.own[pid]
                peak = max(usage.ru_maxrss * 1024, self.limits.gauges.peak(slot.name))
                self._settle_death(me, slot, _death(slot, status, peak))
        for slot in list(self.adopted.values()):
            if members.is_dead(self.queue, slot.name):
                del self.adopted[slot.name]
                self._settle_death(me, slot, Death())

    def _settle_death(self, me: str, slot: SlotProcess, death: Death) -> None:
        self._last_active = time.monotonic()
        self.lent.discard(slot.name)
        if slot.pidfd is not None:
            os.close(slot.pidfd)
        had = recovery.recover_slot(self.queue, me, slot.name, death)
        self.limits.forget(slot.name)
        members.forget(self.queue, slot.name)
        if slot.evicted:
            self.say(f"slot {slot.name} was stopped")
        elif had:
            self.say(f"slot {slot.name} died with a task: {death.words()}")
        elif death.signal is not None or death.exit_code:
            # It died at birth: wait a little longer each time, or the worker would do nothing but fork.
            self.say(f"slot {slot.name} could not start: {death.words()}")
            self._pause = min(30.0, self._pause * 2)
            self._pause_until = time.monotonic() + self._pause
            return
        self._pause = 0.1

    def adopt(self) -> None:
        """Take over slots that live but whose worker is dead."""
        ours = set(self.names())
        for member in members.list_slots(self.queue):
            if (
                member.name in ours
                or not member.worker
                or members.is_foreign(member)
                or processes.is_alive(member.process) is not True
            ):
                continue
            if members.is_dead(self.queue, member.worker):
                pid = member.process.pid
                self.adopted[member.name] = SlotProcess(member.name, pid, processes.open_pidfd(pid), time.monotonic())
                self.limits.learn(member.name)
                self.say(f"adopted slot {member.name} (pid {pid}), whose worker died")

    # Leaving.

    def drain(self) -> None:
        """Tell every slot of ours to finish what it runs and leave."""
        for slot in self.own.values():
            self._send_off(slot)

    def _send_off(self, slot: SlotProcess) -> None:
        slot.leaving = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(slot.pid, local.DRAIN)

    def evict(self, me: str) -> None:
        """End all slots now, and what they run: functions go back, started cells end failed."""
        for slot in [*self.own.values(), *self.adopted.values()]:
            if not slot.evicted:
                slot.evicted = True
                member = members.find_member(self.queue, slot.name)
                # First the processes, then the ticket: nothing of a task is left when it may run again.
                processes.kill_tree(member.process if member else slot.pid, mark=slot.name)
                recovery.evict_slot(self.queue, me, slot.name)


def _death(slot: SlotProcess, status: int, peak: int) -> Death:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        oom = number == signal.SIGKILL and processes.oom_kills() > slot.oom_before
        return Death(signal=number, out_of_memory=oom, peak_memory=peak)
    return Death(exit_code=os.WEXITSTATUS(status), peak_memory=peak)
