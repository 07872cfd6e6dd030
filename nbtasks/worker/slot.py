"""A slot: a process that claims, runs and commits one task at a time. Functions reuse it, a cell has it alone.

It needs its supervisor for nothing but limits and cancelling: when the supervisor dies, the slot finishes what it
runs, sees to it that a worker is there, and leaves.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from nbtasks import config, hooks, keyboard, payload, processes, run
from nbtasks.capture import Capture
from nbtasks.engines.base import Delivery
from nbtasks.engines.local import DRAIN, ORPHANED
from nbtasks.queue import doorbells, members
from nbtasks.queue.claims import Claimer, Head
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member, Stop
from nbtasks.queue.needy import Needy
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.tokens import Taken
from nbtasks.spec import Spec
from nbtasks.worker.autostart import ensure_worker
from nbtasks.worker.warm import Warmth, set_threads

LISTING = 10.0  # seconds between the looks that make good a lost ring
_LOOK = 0.02  # seconds between two looks of a warm slot whether a cell, or what needs tokens, is next
_SELDOM = 20  # or so many times what the look took


@dataclass(frozen=True)
class Duty:
    """What a slot is told by the worker that makes it."""

    root: str
    name: str
    worker: str
    supervisor: int  # process id
    lanes: tuple[str, ...]
    env: str
    log: int  # descriptor of the worker's log
    burst: bool = False
    max_tasks: int | None = None
    needs: str = "cf"  # what it claims: cells ("c"), functions ("f")
    threads: int = 1  # that each of a pool's tasks may use


class Slot:
    """One slot process, from its birth to its end."""

    def __init__(self, duty: Duty) -> None:
        self.duty = duty
        self.queue = Queue.open(duty.root)
        self.environ = dict(os.environ)  # before a task changes it
        self.ticket: Ticket | None = None
        self.stop: Stop | None = None
        self.poked = False  # an interrupt came since the claim: only then is a request to stop looked for
        self.draining, self.done = False, 0
        self.taken: Taken | None = None  # the tokens of the running task
        self._look_at = 0.0  # monotonic moment of the next look for what is no plain function
        self.parent = processes.open_pidfd(duty.supervisor)
        self._register()
        self.bells = [self.queue.bell(f"{lane}@{duty.env}", duty.name) for lane in duty.lanes]
        self.capture = Capture(self.queue.layout.slot_folder(duty.name))
        self.delivery = Delivery(self.queue, duty.name, self.capture, self.find_stop, self.say)
        self.cells = Claimer(self.queue, duty.name, self._lines("c") if "c" in duty.needs else [])
        self.functions = Claimer(self.queue, duty.name, self._lines("f") if "f" in duty.needs else [])
        self.needy = Needy(self.queue, [f"{lane}@{duty.env}" for lane in duty.lanes], duty.needs)
        hooks.before_wait.append(self._lend)
        hooks.slot_name = lambda: duty.name
        keyboard.who = lambda: self.ticket.id.rpartition("-")[2] if self.ticket else ""
        self._catch_signals()
        self.warmth = Warmth([0, duty.log, self.parent or -1, *(bell.fd for bell in self.bells)])

    def _lines(self, need: str) -> list[str]:
        return [f"{lane}@{self.duty.env}@{need}" for lane in self.duty.lanes]

    def _register(self) -> None:
        members.register(self.queue, self._member())
        self.queue.disk.make_folder(self.queue.layout.running_folder(self.duty.name))

    def _member(self) -> Member:
        duty = self.duty
        return Member(
            name=duty.name, process=processes.identify(), started=time.time(), worker=duty.worker,
            lanes=duty.lanes, env=duty.env,
        )  # fmt: skip

    def say(self, line: str) -> None:
        """One line into the worker's log."""
        with contextlib.suppress(OSError):
            os.write(self.duty.log, f"{_clock(int(time.time()))} {line}\n".encode("utf-8", "replace"))

    # Signals.

    def _catch_signals(self) -> None:
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(DRAIN, self._on_terminate)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if ORPHANED is not None:
            signal.signal(ORPHANED, self._on_orphaned)
        for number in {signal.SIGTERM, DRAIN, ORPHANED or DRAIN}:
            signal.siginterrupt(number, False)  # C code that waits must not see EINTR from it

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        # A Ctrl-C meant for somebody else is not for us: only a stop that names the running task counts.
        self.poked = True
        stop = None
        if run.in_user_code() and self.ticket is not None:
            with contextlib.suppress(OSError):  # it must not come out of the user's code
                stop = self.find_stop(self.ticket)
        if stop is not None:
            self.stop = stop
            if run.try_interrupt():
                raise KeyboardInterrupt

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        self.poked = True
        if number == signal.SIGTERM and self.ticket is not None and self.find_stop(self.ticket):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        self.draining = True  # from outside (systemd, pkill): finish, then leave
        for bell in self.bells:
            with contextlib.suppress(OSError):
                os.write(bell.fd, b"drain\n")

    def _on_orphaned(self, number: int, frame: FrameType | None) -> None:
        self.draining = True
        if self.ticket is not None:
            with contextlib.suppress(OSError):  # nor this
                ensure_worker(self.queue, self.duty.lanes[0], self.duty.env, self.environ)

    def find_stop(self, ticket: Ticket) -> Stop | None:
        """Why the running delivery is to stop, or None."""
        if self.stop is not None:
            return self.stop
        if self.queue.disk.exists(self.queue.layout.cancel_file(ticket.id)):
            return Stop(str(ticket), "cancel", "")
        if self.poked:
            stop = members.find_stop(self.queue, self.duty.name)
            # A time limit stops only what it interrupted; a task that made it in time has made it.
            if stop is not None and stop.ticket == str(ticket) and (stop.kind == "cancel" or run.in_user_code()):
                return stop
        return None

    @contextlib.contextmanager
    def _lend(self) -> Iterator[None]:
        """While the task waits for another one, its place may be used: nested submits cannot deadlock."""
        self.queue.ring_workers(f"lend {self.duty.name}")
        try:
            yield
        finally:
            self.queue.ring_workers(f"back {self.duty.name}")

    # Work.

    def work(self) -> int:
        """Claim and run until there is a reason to leave; the exit code (always 0)."""
        woken = True
        while not self._must_leave():
            ahead = self._find_ahead()
            if ahead and self.done and ahead[1]:
                break  # it wants a fresh process: make room for one
            ticket = self._try_claim(ahead[0] if ahead else None)
            if ticket is None:
                if self.duty.burst or not self._sleep():
                    break
                woken = True
                continue
            if woken:
                self._wake_next()
            woken = self.taken is not None  # what it gives back may let more than one begin
            if not self._run(ticket):
                break
        if woken:
            self._wake_next()
        self._close()
        return 0

    def _must_leave(self) -> bool:
        limit = self.duty.max_tasks
        return self.draining or self._orphaned() or (limit is not None and self.done >= limit)

    def _orphaned(self) -> bool:
        return os.getppid() != self.duty.supervisor

    def _find_ahead(self) -> tuple[Head, bool] | None:
        """A cell, or what needs tokens and may start, that stands before all functions; whether it wants a fresh process.

        Looked up only now and then: it costs as much as a claim.
        """
        now = time.monotonic()
        if now < self._look_at:
            return None
        found = [(cell, True)] if (cell := self.cells.find_head()) else []
        if ready := self.needy.find_ready():
            found.append((ready.head, ready.is_fresh))
        self._look_at = now + max(_LOOK, _SELDOM * (time.monotonic() - now))
        if not found:
            return None
        best = min(found, key=lambda one: one[0][:2])
        function = self.functions.find_head()
        return best if function is None or best[0][:2] < function[:2] else None

    def _try_claim(self, ahead: Head | None) -> Ticket | None:
        """Take what stands `ahead` of the functions, else a function, else what there is."""
        if not self.done:
            self._look_at = 0.0
        orders = [self.functions.try_claim, self._try_claim_needy]
        if not self.done:
            orders.insert(1, self.cells.try_claim)
        if ahead is not None:
            orders.insert(0, self.cells.try_claim if ahead.line.name.endswith("@c") else self._try_claim_needy)
        return next((ticket for claim in orders if (ticket := claim())), None)

    def _try_claim_needy(self) -> Ticket | None:
        self.taken = self.needy.try_claim(self.duty.name, fresh=not self.done)
        return self.taken.ticket if self.taken else None

    def _find_head(self) -> Head | None:
        if head := self.functions.find_head() or self.cells.find_head():
            return head
        ready = self.needy.find_ready()
        return ready.head if ready else None

    def _wake_next(self) -> None:
        """Whoever was woken wakes the next while something is left: so a burst wakes as many as it needs."""
        if head := self._find_head():
            lane, env, need = head.line.name.split("@")
            self.queue.wake(Spec(id="", name="", lane=lane, env=env, need="c" if self.needy.is_fresh(head) else need))

    def _run(self, ticket: Ticket) -> bool:
        """Run one task; False when this process must not run another."""
        self.ticket, self.stop, self.poked = ticket, None, False
        if self.done == 0:  # it may have been made, or have slept, while others were busy, or none
            set_threads(processes.usable_cores() // max(1, members.count_busy(self.queue, self.duty.worker)))
        payload.make_home()  # a __main__ of its own: names of one notebook are not there for the next
        spec = self.delivery.deliver(ticket, self.taken)
        stopped = self.delivery.stopped is not None or self.stop is not None
        self.ticket = self.stop = None
        if self.taken is not None:
            self.taken.release(self.duty.worker)
            self.taken = None
        self.done += 1
        return not (spec.is_fresh or stopped or self.delivery.is_worn) and self.warmth.restore()

    def _sleep(self) -> bool:
        """Wait for work; False when the slot should leave instead."""
        for bell in self.bells:
            bell.hang(f"{bell.folder}/idle")
            bell.drain()
        # Shown as idle first, then the look: a submit sees the idle bell, or this sees its ticket.
        if self._find_head() is None:
            if self.needy.waits:  # the worker sees to it that somebody begins when there is a token
                doorbells.ring(f"{self.queue.layout.bells_of(self.queue.boot, 'workers')}/{self.duty.worker}", "needs")
            if not self._wait():
                return False
        for bell in self.bells:
            bell.drain()
            bell.hang(bell.folder.removesuffix("/idle"))
        self._look_at = 0.0
        return True

    def _wait(self) -> bool:
        others = [bell.fd for bell in self.bells[1:] if bell.fd >= 0]
        parent = [self.parent] if self.parent is not None else []
        while not self.draining and not self._orphaned():
            # Rings that were lost are made good by the supervisor, which looks now and then and rings again.
            if self.bells[0].wait(None if parent else LISTING, *others, *parent) or self._find_head():
                return not self.draining and not self._orphaned()
        return False

    def _close(self) -> None:
        for bell in self.bells:
            bell.close()
        self.capture.close()


@functools.lru_cache(maxsize=1)
def _clock(second: int) -> str:
    return time.strftime("%H:%M:%S", time.localtime(second))


def slot_main(duty: Duty) -> Callable[[], int]:
    """What a forked slot runs."""

    def main() -> int:
        config.settings()
        return Slot(duty).work()

    return main
