"""The bridge: a process that stands where slots would, and passes tasks to a foreign engine.

It claims up to N tickets, ships each, writes what comes back into the files of the task, and commits its outcome. Every claimed
ticket is in one of three places: shipped and awaited, put back, or finished. The claims of a dead bridge are taken over by
the next one to the same engine, which asks the engine what became of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from nbtasks import processes
from nbtasks.engines import adoption
from nbtasks.engines.claiming import Claiming
from nbtasks.engines.foreign import Engine, EngineDown, EngineFull
from nbtasks.engines.in_flight import InFlight
from nbtasks.engines.local import DRAIN, ORPHANED
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member

_LISTING = 10.0  # seconds between looks that make good a lost hint
_PACE = 0.1  # seconds in which an engine that has enough to do is given something once: in numbers it costs less
_SHORTEST, _LONGEST = 0.1, 5.0  # seconds between two tries to reach an engine that is down
_MANY = 16  # in flight; when there are more, one exchange is for what came within
_BREATH = 0.02  # seconds


@dataclass(frozen=True)
class BridgeDuty:
    """What a bridge is told by the worker that makes it."""

    name: str
    worker: str
    supervisor: int  # process id
    lanes: tuple[str, ...]
    env: str
    capacity: int
    burst: bool = False  # leave when nothing is queued any more


class Bridge:
    """One bridge, from its start to its end."""

    def __init__(self, duty: BridgeDuty, engine: Engine, queue: Queue, say: Callable[[str], None]) -> None:
        self.duty, self.engine, self.queue, self.say = duty, engine, queue, say
        self.draining = False
        self.down = ""  # why the engine cannot be reached
        self.again, self.pause = 0.0, _SHORTEST
        self.next_listing = self.next_exchange = self.next_shipping = 0.0
        self.channels: tuple[str, ...] = (duty.name,)
        # A cluster that this worker has for itself is no other worker's.
        self.place = f"{engine.url.shown}{members.OWN}{duty.worker}" if engine.url.is_own else engine.url.shown
        self.parent = processes.open_pidfd(duty.supervisor)
        self.in_flight = InFlight(queue, duty.name, engine, say, duty.worker)
        self._register()
        places = [f"{lane}@{duty.env}" for lane in duty.lanes]
        self.bells = [queue.bell(place, duty.name) for place in ("workers", *places)]
        self.claiming = Claiming(queue, duty.name, duty.worker, places)
        self.mark = queue.find_mark()
        for number in (signal.SIGTERM, signal.SIGINT, DRAIN, ORPHANED):
            if number is not None:
                signal.signal(number, self._on_drain)

    def _register(self) -> None:
        duty = self.duty
        members.register(
            self.queue,
            Member(
                name=duty.name, process=processes.identify(), started=time.time(), worker=duty.worker, lanes=duty.lanes,
                env=duty.env, slots=duty.capacity, engine=self.place, channels=self.channels,
            ),
        )  # fmt: skip
        self.queue.disk.make_folder(self.queue.layout.running_folder(duty.name))

    def _on_drain(self, number: int, frame: FrameType | None) -> None:
        self.draining = True
        with contextlib.suppress(OSError):
            os.write(self.bells[0].fd, b"look\n")

    # Work.

    def work(self) -> int:
        """Pass tasks on until there is a reason to leave; the exit code (0)."""
        self._touch(self._listen)
        while not (self._is_leaving() and not self.in_flight.tasks) and not self._is_pointless():
            self._turn()
        for bell in self.bells:
            bell.close()
        self.engine.close()
        return 0

    def _listen(self) -> None:
        self.engine.listen(self.queue.uuid, self.channels)

    def _is_leaving(self) -> bool:
        if self.draining or self._is_orphan():
            return True
        return self.duty.burst and not self.in_flight.tasks and self.claiming.find_head() is None

    def _is_pointless(self) -> bool:
        """Whether nobody will ever want what is in flight, or can bring it."""
        if self.queue.find_mark() != self.mark:
            self.say(f"bridge {self.duty.name}: the queue was removed, or another is in its place")
            return True
        if self.engine.url.is_own and self._is_orphan():
            self.say(f"bridge {self.duty.name}: {self.engine.url.shown} has ended with its worker")
            return True
        return False

    def _is_orphan(self) -> bool:
        return os.getppid() != self.duty.supervisor

    def _turn(self) -> None:
        asked = {rest for bell in self.bells for hint in bell.drain() if (rest := _to_stop(hint))}
        now = time.monotonic()
        if now >= self.next_listing:
            self._list()
        elif asked and not self.down:
            tasks = [one for one in self.in_flight.tasks.values() if one.ticket.id in asked]
            self._touch(lambda: self.in_flight.stop(tasks))
        if not self.down or now >= self.again:
            if len(self.in_flight.tasks) > _MANY:
                time.sleep(min(_BREATH, max(0.0, self.next_exchange - now)))
            self._touch(self._exchange)
            self.next_exchange = time.monotonic() + _BREATH
        self.in_flight.local_tasks.collect()
        self.in_flight.finishing.settle()
        self._wait()

    def _list(self) -> None:
        """The look that makes good what was missed."""
        self.next_listing = time.monotonic() + _LISTING
        if self.down:
            return
        if leftovers := adoption.find_leftovers(self.queue, self.place, self.duty.name):
            more = [channel for leftover in leftovers for channel in leftover.channels]
            self.channels = tuple(dict.fromkeys((*self.channels, *more)))
            self._register()
            found = adoption.take_over(self.in_flight, leftovers)
            self.say(f"took over {found} tasks at {self.engine.url.shown} from a bridge that died")
            self._touch(self._listen)
        self._touch(lambda: self.in_flight.stop(list(self.in_flight.tasks.values())))

    def _exchange(self) -> None:
        """All that needs the engine."""
        if self.down:
            self._listen()
            self.in_flight.resend()
        self.in_flight.receive()
        self._reached()
        woken = False
        while (room := self._room()) and self.in_flight.ship(self.claiming.try_claim, room):
            woken = True
        if woken:
            self.next_shipping = time.monotonic() + _PACE
            self.claiming.wake_next()
        self.in_flight.check()

    def _room(self) -> int:
        """How many more may be claimed now."""
        if self._is_leaving() or self.down or time.monotonic() < self.in_flight.full_until:
            return 0
        if self._has_enough() and time.monotonic() < self.next_shipping:
            return 0
        return max(0, self.duty.capacity - len(self.in_flight.tasks))

    def _has_enough(self) -> bool:
        return len(self.in_flight.tasks) > self.duty.capacity // 2

    # The engine's absence.

    def _touch(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (EngineDown, EngineFull) as error:
            if not self.down:
                self.say(f"{error}; what is there is kept, and it is tried again until it answers")
                self.pause = _SHORTEST
            self.down = str(error)
            self.again, self.pause = time.monotonic() + self.pause, min(_LONGEST, self.pause * 2)
            members.note_trouble(self.queue, self.duty.name, self.down)

    def _reached(self) -> None:
        if self.down:
            self.down = ""
            self.say(f"{self.engine.url.shown} answers again")
            members.note_trouble(self.queue, self.duty.name, "")
            self.in_flight.doubt_all()
            self.next_listing = 0.0  # there may be something to take over

    # Waiting.

    def _wait(self) -> None:
        if self._is_leaving() and not self.in_flight.tasks:
            return  # what was in flight has just ended
        room = self._room()
        for bell in self.bells[1:]:
            folder = bell.folder.removesuffix("/idle")
            bell.hang(f"{folder}/idle" if room else folder)
        if room and self.claiming.find_head() is not None:
            return  # a ticket came between the look and the hanging of the bell
        if room:
            self.claiming.ask_worker()
        fds = [*self.in_flight.local_tasks.descriptors(), *(bell.fd for bell in self.bells[1:] if bell.fd >= 0)]
        if self.parent is not None and not self._is_orphan():
            fds.append(self.parent)
        moments = [*self._moments(), *self._engine_pause(fds)]
        self.bells[0].wait(max(0.0, min(moments) - time.monotonic()), *fds)

    def _moments(self) -> list[float]:
        """When something is due by the clock."""
        moments = [self.next_listing]
        if self.down:
            moments.append(self.again)
        elif self.in_flight.tasks:  # the engine is asked only when it is there
            moments.append(self.in_flight.next_check)
        moments.append(self.in_flight.finishing.next_try)
        if time.monotonic() < self.in_flight.full_until:
            moments.append(self.in_flight.full_until)
        if self._has_enough() and self.next_shipping > time.monotonic():
            moments.append(self.next_shipping)
        return moments

    def _engine_pause(self, fds: list[int]) -> list[float]:
        """Add what the engine can be waited for by to `fds`; where there is nothing, the moment at which it is to be asked."""
        if self.down:
            return []
        found: list[int] = []
        self._touch(lambda: found.extend(self.engine.descriptors()))
        fds += found
        if self.down:
            return [self.again]
        return [] if found or not self.in_flight.tasks else [time.monotonic() + self.engine.pause]


def _to_stop(hint: str) -> str:
    """The id of the task that a hint asks to stop, or ""."""
    word, _, rest = hint.partition(" ")
    return rest if word in ("cancel", "terminate") else ""
