"""Stopping what runs: KeyboardInterrupt, after a grace SIGTERM, then SIGKILL for the whole tree.

A time limit and a cancel climb the same ladder. Time is monotonic: on Linux it does not count a suspended machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field

from nbtasks import processes
from nbtasks.engines import local
from nbtasks.errors import NbtasksError
from nbtasks.processes import Identity
from nbtasks.queue import lookup, members, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Stop
from nbtasks.queue.tickets import Ticket, parse_ticket
from nbtasks.spec import Spec, duration_words
from nbtasks.worker.gauges import Gauges

_TERM_TO_KILL = 1.0  # seconds


def is_thread_of(slot: str, process: str) -> bool:
    """Whether a slot is a thread of the process of that name."""
    return slot.startswith(f"{process}-")


@dataclass
class Ladder:
    """The steps that are left for one delivery."""

    slot: str
    process: Identity
    ticket: Ticket
    grace: float
    kind: str  # "cancel" or "timeout"
    next: float = 0.0  # monotonic moment of the next step
    step: int = 0  # 0 interrupt, 1 terminate, 2 kill
    shares: str = ""  # of a thread: its process, which others share


@dataclass
class Limits:
    """Deadlines and ladders of the slots that one supervisor looks after."""

    queue: Queue
    ladders: dict[Ticket, Ladder] = field(default_factory=dict)
    deadlines: dict[Ticket, tuple[float, str, Spec]] = field(default_factory=dict)
    _known: set[Ticket] = field(default_factory=set)
    condemned: set[str] = field(default_factory=set)  # processes of threads of which one does not stop
    gauges: Gauges = field(init=False)

    def __post_init__(self) -> None:
        self.gauges = Gauges(self.queue, self.running)

    def running(self, slot: str) -> list[Ticket]:
        """What the slot has claimed."""
        names = self.queue.disk.list(self.queue.layout.running_folder(slot))
        return [ticket for name in names if (ticket := parse_ticket(name))]

    def learn(self, slot: str) -> None:
        """Look for time limits among what the slot runs, and for cancels that were asked for."""
        for ticket in self.running(slot):
            if self.queue.disk.exists(self.queue.layout.cancel_file(ticket.id)):
                self.cancel(slot, ticket)
            if ticket in self._known:
                continue
            with contextlib.suppress(NbtasksError, OSError):
                spec = records.read_spec(self.queue, ticket.id)
                self._known.add(ticket)
                if spec.timeout is not None:
                    path = f"{self.queue.layout.running_folder(slot)}/{ticket}"
                    ran = max(0.0, time.time() - (lookup.moved_at(path) or time.time()))
                    self.deadlines[ticket] = (time.monotonic() + spec.timeout - ran, slot, spec)

    def cancel(self, slot: str, ticket: Ticket, *, force: bool = False) -> None:
        """Start to stop a running task."""
        if not force:
            with contextlib.suppress(OSError):
                force = self.queue.disk.read(self.queue.layout.cancel_file(ticket.id), 64) == b"terminate"
        if ladder := self.ladders.get(ticket):
            if force and ladder.step < 2:
                ladder.step, ladder.next = 1, 0.0
            return
        with contextlib.suppress(NbtasksError, OSError):
            grace = records.read_spec(self.queue, ticket.id).grace
            self._start(slot, ticket, grace, None, force)

    def over(self, slot: str) -> None:
        """The user's code of the slot has ended in time: what is left is to keep its result."""
        for ticket in self.running(slot):
            self.deadlines.pop(ticket, None)
            self._known.add(ticket)
            if (ladder := self.ladders.get(ticket)) and ladder.kind == "timeout":
                del self.ladders[ticket]

    def _start(self, slot: str, ticket: Ticket, grace: float, stop: Stop | None, force: bool = False) -> None:
        member = members.find_member(self.queue, slot)
        if member is None:
            return
        if stop is not None:  # a cancel is on file already
            members.request_stop(self.queue, slot, stop)
        kind = "cancel" if stop is None else stop.kind
        self.ladders[ticket] = Ladder(slot, member.process, ticket, grace, kind, 0.0, 1 if force else 0, member.shares)

    def climb(self) -> float | None:
        """Take every step that is due; seconds until the next one, or None."""
        now = time.monotonic()
        for ticket, (moment, slot, spec) in list(self.deadlines.items()):
            if moment <= now:
                del self.deadlines[ticket]
                if ticket not in self.ladders:
                    self._time_out(slot, ticket, spec, now)
        for ladder in list(self.ladders.values()):
            if ladder.next <= now:
                self._step(ladder, now)
        moments = [ladder.next for ladder in self.ladders.values()]
        moments += [moment for moment, _, _ in self.deadlines.values()]
        return max(0.0, min(moments) - now) if moments else None

    def _time_out(self, slot: str, ticket: Ticket, spec: Spec, now: float) -> None:
        reason = f"timed out after {duration_words(spec.timeout or 0.0)}"
        try:
            self._start(slot, ticket, spec.grace, Stop(str(ticket), "timeout", reason))
        except OSError:  # a full disk: the slot could not be told why
            self.deadlines[ticket] = (now + _TERM_TO_KILL, slot, spec)

    def _step(self, ladder: Ladder, now: float) -> None:
        path = f"{self.queue.layout.running_folder(ladder.slot)}/{ladder.ticket}"
        if not self.queue.disk.exists(path):  # it ended
            self.ladders.pop(ladder.ticket, None)
            return
        with contextlib.suppress(ProcessLookupError):
            if ladder.step == 0:
                os.kill(ladder.process.pid, local.LOOK if ladder.shares else signal.SIGINT)
                ladder.next = now + ladder.grace
            elif ladder.shares:
                self._end_thread(ladder)
                ladder.next = now + _TERM_TO_KILL
            elif ladder.step == 1:
                processes.end_tree(ladder.process, ladder.slot, term=True)
                ladder.next = now + _TERM_TO_KILL
            else:
                self._kill(ladder, path)
                ladder.next = now + _TERM_TO_KILL
        ladder.step = min(2, ladder.step + 1)

    def _end_thread(self, ladder: Ladder) -> None:
        """A thread cannot be ended, only its process: it takes nothing more, and ends when only such are left in it."""
        if ladder.step == 1:
            self.condemned.add(ladder.shares)
            os.kill(ladder.process.pid, local.LOOK)  # one that is ended by force at once was not interrupted yet
            os.kill(ladder.process.pid, local.DRAIN)
        if found := self._beside(ladder):
            many = "another task" if len(found) == 1 else f"{len(found)} other tasks"
            members.note_trouble(
                self.queue, ladder.slot, f"does not stop; its process ends when {many} in it has ended"
            )
            return
        os.kill(ladder.process.pid, signal.SIGSTOP)  # as in `_kill`
        if self.running(ladder.slot) and not self._beside(ladder):
            processes.end_tree(ladder.process, ladder.shares, term=False)
        else:
            os.kill(ladder.process.pid, signal.SIGCONT)

    def _beside(self, ladder: Ladder) -> list[Ticket]:
        """What runs in the same process and was not told to end long ago."""
        names = [slot for slot in self.queue.disk.list(self.queue.layout.running) if is_thread_of(slot, ladder.shares)]
        found = [ticket for name in names for ticket in self.running(name) if ticket != ladder.ticket]
        return [ticket for ticket in found if ticket not in self.ladders or self.ladders[ticket].step < 2]

    def _kill(self, ladder: Ladder, path: str) -> None:
        # Held still, so that the kill cannot hit the next task of a slot that has just finished this one.
        os.kill(ladder.process.pid, signal.SIGSTOP)
        if self.queue.disk.exists(path):
            processes.end_tree(ladder.process, ladder.slot, term=False)
        else:
            os.kill(ladder.process.pid, signal.SIGCONT)

    def forget(self, slot: str) -> None:
        """The slot is gone."""
        self.gauges.forget(slot)
        for ticket, ladder in list(self.ladders.items()):
            if ladder.slot == slot:
                del self.ladders[ticket]
        for ticket, (_, owner, _) in list(self.deadlines.items()):
            if owner == slot:
                del self.deadlines[ticket]
        if len(self._known) > 10_000:
            self._known.clear()
