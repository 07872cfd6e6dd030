"""The supervisor: one process without threads and without user code, which keeps slots alive and decides."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from dataclasses import dataclass
from types import FrameType

from nbtasks import __version__
from nbtasks import config, processes
from nbtasks.engines import local
from nbtasks.errors import OptionError
from nbtasks.queue import lookup, members, recovery
from nbtasks.queue.directory import Queue
from nbtasks.queue.leases import Lease
from nbtasks.queue.members import Member
from nbtasks.spec import check_name
from nbtasks.worker.crew import Crew
from nbtasks.worker.flusher import flush_forever
from nbtasks.worker.limits import Limits
from nbtasks.worker.slot import LISTING, Duty


@dataclass(frozen=True)
class Options:
    """What a worker was started with."""

    lanes: tuple[str, ...]
    slots: int
    env: str
    idle_exit: float | None = None  # seconds
    burst: bool = False
    auto: bool = False
    max_tasks: int | None = None
    grace: float | None = None  # seconds that draining waits; None: without limit


class Supervisor:
    """Keeps up to N slots while there is work, sees them die, stops what is to be stopped, and recovers."""

    def __init__(self, queue: Queue, options: Options) -> None:
        self.queue, self.options = queue, options
        self.name = members.new_name("w")
        self.limits = Limits(queue)
        self.drains = 0
        self.drain_since = 0.0
        self.active = time.monotonic()
        self.next_sweep = 0.0
        self.next_due: float | None = None
        self.leases: list[Lease] = []

    # Beginning.

    def run(self) -> int:
        """Work until there is a reason to leave; the exit code."""
        if not self._take_leases():
            return 0  # another worker that started by itself is there already
        self._register()
        self.crew = Crew(self.queue, self.options.slots, self._duty(), self.limits, self.say)
        self.places = [f"{lane}@{self.options.env}" for lane in self.options.lanes]
        self.bells = [self.queue.bell("workers", self.name)]
        self.bells += [self.queue.bell(place, self.name) for place in self.places]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._banner()
        flusher = (self.queue.root, f"f{self.name}", os.getpid())
        self.flusher = local.fork_slot(lambda: flush_forever(*flusher), f"f{self.name}")
        if found := recovery.verify_after_restart(self.queue, self.name):
            self.say(f"{found} outcomes were lost when the host went down; delivered again")
        while self._turn():
            pass
        return self._leave()

    def _take_leases(self) -> bool:
        if self.options.auto:
            for lane in self.options.lanes:
                lease = Lease(self.queue.layout.auto_lock(f"{lane}@{self.options.env}"))
                if not lease.try_take():
                    return False
                self.leases.append(lease)
        own = Lease(self.queue.layout.lock(self.name))
        own.try_take()
        self.leases.append(own)
        return True

    def _register(self) -> None:
        options = self.options
        member = Member(
            name=self.name, process=processes.identify(), started=time.time(), lanes=options.lanes, env=options.env,
            slots=options.slots, auto=options.auto, version=__version__,
        )  # fmt: skip
        members.register(self.queue, member)
        self.queue.disk.make_folder(self.queue.layout.running_folder(self.name))

    def _duty(self) -> Duty:
        options = self.options
        return Duty(
            root=self.queue.root, name="", worker=self.name, supervisor=os.getpid(), lanes=options.lanes,
            env=options.env, log=os.dup(2), burst=options.burst, max_tasks=options.max_tasks,
        )  # fmt: skip

    def _banner(self) -> None:
        options = self.options
        waiting = sum(1 for line in self._lines() for _ in lookup.queued_tickets(self.queue, line))
        self.say(f"nbtasks {__version__} worker {self.name}, pid {os.getpid()}")
        self.say(f"queue {self.queue.root}, lanes {', '.join(options.lanes)}, environment {options.env}")
        idle = f"leaves after {options.idle_exit:g} s idle" if options.idle_exit is not None else "stays"
        self.say(f"engine processes, {options.slots} slots, periodic off, {idle}, {waiting} queued")

    def say(self, line: str) -> None:
        """One line into the log."""
        with contextlib.suppress(OSError):
            os.write(2, f"{time.strftime('%H:%M:%S')} {line}\n".encode("utf-8", "replace"))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.drains += 1
        with contextlib.suppress(OSError):
            os.write(self.bells[0].fd, b"drain\n")  # wakes the wait below

    def _lines(self) -> list[str]:
        return [f"{place}@{need}" for place in self.places for need in ("c", "f")]

    # One turn of the loop.

    def _turn(self) -> bool:
        for hint in [hint for bell in self.bells for hint in bell.drain()]:
            self._obey(hint)
        self.crew.reap(self.name)
        if time.monotonic() >= self.next_sweep:
            self._sweep()
        pause = self.limits.climb()
        backlog = self._backlog()
        if self.drains:
            return self._drain(pause)
        if backlog:
            self.crew.staff(backlog)
        if self._has_nothing_left(backlog):
            return False
        self._wait(pause)
        return True

    def _obey(self, hint: str) -> None:
        word, _, rest = hint.partition(" ")
        if word in ("cancel", "terminate"):
            for slot in self.crew.names():
                for ticket in self.limits.running(slot):
                    if ticket.id == rest:
                        self.limits.cancel(slot, ticket, force=word == "terminate")
        elif word == "deadline":
            if rest in self.crew.names():
                self.limits.learn(rest)
        elif word == "upstream":
            recovery.look_at_child(self.queue, self.name, rest)
        elif word == "drain":  # `nbtasks stop`, as often as it likes; a signal counts, a hint does not
            self.drains = max(1, self.drains)
        elif word == "lend" and rest in self.crew.names():
            self.crew.lent.add(rest)
        elif word == "back":
            self.crew.lent.discard(rest)
        elif word == "until":
            self.next_due = recovery.release_due(self.queue)

    def _sweep(self) -> None:
        self.next_sweep = time.monotonic() + LISTING
        self.crew.adopt()
        recovery.sweep(self.queue, self.name, spare=frozenset(self.crew.names()))
        self.next_due = recovery.release_due(self.queue)
        for slot in self.crew.names():
            self.limits.learn(slot)

    def _backlog(self) -> int:
        if self.queue.disk.exists(self.queue.layout.paused):
            return 0
        queued = (ticket for line in self._lines() for ticket in lookup.queued_tickets(self.queue, line))
        return sum(1 for _ in itertools.islice(queued, self.options.slots))

    def _wait(self, pause: float | None) -> None:
        room = self.crew.has_room() and not self.drains
        for bell in self.bells[1:]:
            folder = bell.folder.removesuffix("/idle")
            bell.hang(f"{folder}/idle" if room else folder)
        if room and self._backlog() and self.crew.wants_more(self._backlog()):
            return  # a ticket came between the look and the hanging of the bell
        moments = [self.next_sweep - time.monotonic()]
        if pause is not None:
            moments.append(pause)
        if self.next_due is not None:
            moments.append(self.next_due - time.time())
            if moments[-1] <= 0:
                self.next_due = recovery.release_due(self.queue)
                return
        if not self.crew.has_pidfds:
            moments.append(0.2)
        self.bells[0].wait(max(0.0, min(moments)), *[bell.fd for bell in self.bells[1:] if bell.fd >= 0],
                           *self.crew.fds())  # fmt: skip

    # Ending.

    def _has_nothing_left(self, backlog: int) -> bool:
        if backlog or self.crew.busy():
            self.active = time.monotonic()
            return False
        if self.options.burst:
            return not self.crew.own and not self._anything_waits()
        if self.options.idle_exit is None:
            return False
        self.active = max(self.active, self.crew.last_active())
        if time.monotonic() - self.active < self.options.idle_exit or self.next_due is not None:
            return False
        # Out of sight first, then the look: a submit that still sees the bell has left its ticket before.
        for bell in self.bells[1:]:
            bell.hang(self.queue.layout.worker_folder(self.name))
        return not self._backlog()

    def _anything_waits(self) -> bool:
        disk, layout = self.queue.disk, self.queue.layout
        return bool(self._backlog() or disk.list(layout.until) or disk.list(layout.parents))

    def _drain(self, pause: float | None) -> bool:
        """Claim nothing more, and wait for what runs. False when all slots are gone."""
        if not self.drain_since:
            self.drain_since = time.monotonic()
            self.say("draining: waiting for what runs" if self.crew.busy() else "draining")
            for bell in self.bells[1:]:
                bell.hang(self.queue.layout.worker_folder(self.name))
            self.crew.drain()
        grace = self.options.grace
        if self.drains > 1 or (grace is not None and time.monotonic() - self.drain_since > grace):
            self.crew.evict(self.name)
        if not self.crew.own:
            return False
        moments = [1.0] + ([pause] if pause is not None else [])
        self.bells[0].wait(min(moments), *self.crew.fds())
        return True

    def _leave(self) -> int:
        self.say("leaving")
        for bell in self.bells:
            bell.close()
        self.crew.drain()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.flusher, signal.SIGTERM)
        deadline = time.monotonic() + 5.0
        while self.crew.own and time.monotonic() < deadline:
            self.crew.reap(self.name)
            time.sleep(0.01)
        members.forget(self.queue, self.name)
        for lease in self.leases:
            lease.release()
        return 0


def run_worker(
    root: str, *, lanes: list[str] | None = None, slots: int | None = None, idle_exit: float | None = None,
    burst: bool = False, auto: bool = False, max_tasks_per_slot: int | None = None, grace: float | None = None,
) -> int:  # fmt: skip
    """Be a worker of the queue at `root` until told to stop; the exit code. Raises OptionError, QueueError."""
    settings = config.settings()
    count = slots if slots is not None else settings.slots or processes.default_slots()
    if count < 1:
        raise OptionError(f"a worker with {count} slots could run nothing: give 1 or more")
    chosen = tuple(check_name("lane", lane) for lane in lanes or [settings.lane])
    options = Options(chosen, count, config.env_tag(), idle_exit, burst, auto, max_tasks_per_slot, grace)
    return Supervisor(Queue.open(root), options).run()


def _detached(root: str, lane: str) -> None:
    """What `autostart` runs: fork once more, so that nobody has to collect the worker when it ends."""
    if os.fork() == 0:
        code = run_worker(root, lanes=[lane], auto=True, idle_exit=config.settings().idle_exit)
        os._exit(code)
    os._exit(0)


if __name__ == "__main__":
    _detached(sys.argv[1], sys.argv[2])
