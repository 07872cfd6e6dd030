"""The supervisor: one process without threads and without user code, which keeps slots alive and decides."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

from nbtasks import config, processes
from nbtasks.engines.urls import parse_all
from nbtasks.errors import NbtasksError, OptionError
from nbtasks.queue import doorbells, records, recovery, schedules
from nbtasks.queue.directory import Queue
from nbtasks.queue.tickets import parse_until
from nbtasks.spec import check_name
from nbtasks.worker import autostart
from nbtasks.worker.agenda import Agenda
from nbtasks.worker.backlog import Backlog
from nbtasks.worker.bridging import choose, hire
from nbtasks.worker.flusher import Flusher
from nbtasks.worker.gauges import EVERY
from nbtasks.worker.limits import Limits
from nbtasks.worker.slot import LISTING, Duty
from nbtasks.worker.standing import Options, Standing

_MANY = 10_000  # queued tasks are not counted beyond
_AGAIN = 1.0  # seconds after which a turn that met an error is tried again
_LAST_SLOTS = 5.0  # seconds in which idle slots leave


class Supervisor:
    """Keeps up to N slots while there is work, sees them die, stops what is to be stopped, and recovers."""

    def __init__(self, queue: Queue, options: Options) -> None:
        self.queue, self.options = queue, options
        self.standing = Standing(queue, options)
        self.name, self.say = self.standing.name, self.standing.say
        self.limits = Limits(queue)
        self.flusher = Flusher(queue.root, self.name)
        self.drains = 0
        self.drain_since = 0.0
        self.active = time.monotonic()
        self.next_sweep = 0.0
        self.agenda = Agenda(queue, self.name, options, self.say)
        self.backlog = Backlog(queue, options, self.name)

    # Beginning.

    def run(self) -> int:
        """Work until there is a reason to leave; the exit code."""
        if not self.standing.try_enter():
            self.say(f"a worker that started by itself is here already: {self.name} is not needed")
            return 0
        self.crew = hire(self.queue, self.options, self._duty(), self.limits, self.say)
        self.bells = [self.queue.bell(place, self.name) for place in ("workers", *self.options.places)]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        found = sum(1 for _ in itertools.islice(self.backlog.tickets(), _MANY))
        queued = f"{found} queued" if found < _MANY else f"more than {_MANY:,} queued"
        self.standing.introduce(queued, schedules.names(self.queue))
        if found := recovery.verify_after_restart(self.queue, self.name):
            self.say(f"{found} outcomes were lost when the host went down; delivered again")
        while self._try_turn():
            pass
        return self._leave()

    def _duty(self) -> Duty:
        options = self.options
        return Duty(
            root=self.queue.root, name="", worker=self.name, supervisor=os.getpid(), lanes=options.lanes,
            env=options.env, log=os.dup(2), burst=options.burst, max_tasks=options.max_tasks,
        )  # fmt: skip

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.drains += 1
        with contextlib.suppress(OSError):
            os.write(self.bells[0].fd, b"drain\n")  # wakes the wait below

    # One turn of the loop.

    def _try_turn(self) -> bool:
        try:
            return self._turn()
        except OSError as error:  # a disk that is full or fails for a while must not take the worker down
            self.say(f"cannot go on just now, trying again: {error}")
            time.sleep(_AGAIN)
            return True

    def _turn(self) -> bool:
        if not self.standing.is_queue_there():
            self.say("the queue was removed, or another is in its place")
            return False
        for hint in [hint for bell in self.bells for hint in bell.drain()]:
            self._obey(hint)
        self.crew.reap(self.name)
        self.flusher.keep()
        if time.monotonic() >= self.next_sweep:
            self._sweep()
        self.agenda.keep()
        pause = self._pause()
        if self.drains:
            return self._drain(pause)
        backlog = self.backlog.look()
        if backlog:
            self.crew.staff(backlog)
        if self._has_nothing_left(backlog):
            return False
        self._wait(pause)
        return True

    def _pause(self) -> float | None:
        """Take the steps that are due, look at what runs; seconds until either is due again, or None."""
        moments = [self.limits.climb(), self.limits.gauges.look(self.crew.measured())]
        return min((moment for moment in moments if moment is not None), default=None)

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
        elif word == "over":
            self.limits.over(rest)
        elif word == "upstream":
            recovery.look_at_child(self.queue, self.name, rest)
        elif word == "drain":  # `nbtasks stop`, as often as it likes; a signal counts, a hint does not
            self.drains = max(1, self.drains)
        elif word == "lend":
            self.crew.lend(rest)
        elif word == "back":
            self.crew.take_back(rest)
        elif word == "until":
            self.agenda.look_at_waiting()
        elif word == "schedule":
            self.agenda.look_at_schedules()

    def _sweep(self) -> None:
        self.next_sweep = time.monotonic() + LISTING
        self.crew.adopt()
        recovery.sweep(self.queue, self.name, spare=frozenset(self.crew.names()))
        self.agenda.look()
        for slot in self.crew.names():
            self.limits.learn(slot)
        if self.backlog.count():
            self._ring_idle()

    def _ring_idle(self) -> None:
        """Wake slots that sleep although something is queued: a ring was lost, or never came."""
        for place in self.options.places:
            for path in doorbells.bells_in(f"{self.queue.layout.bells_of(self.queue.boot, place)}/idle"):
                if not path.endswith(f"/{self.name}"):
                    doorbells.ring(path, "work")

    def _wait(self, pause: float | None) -> None:
        room = self.crew.has_room() and not self.drains
        for bell in self.bells[1:]:
            folder = bell.folder.removesuffix("/idle")
            bell.hang(f"{folder}/idle" if room else folder)
        if room and self.crew.wants_more(self.backlog.count()):
            return  # a ticket came between the look and the hanging of the bell
        moments = [self.next_sweep - time.monotonic()]
        others = (pause, self.crew.free_for(), self._idle_left(), self.agenda.left(), self.backlog.left())
        moments += [moment for moment in others if moment is not None]
        if not self.crew.has_pidfds:
            moments.append(0.2)
        if self.crew.has_young():  # what it claims now is to be looked at in a while
            moments.append(EVERY)
        bells = [bell.fd for bell in self.bells[1:] if bell.fd >= 0]
        self.bells[0].wait(max(0.0, min(moments)), *bells, *self.backlog.fds(), *self.crew.fds())

    # Ending.

    def _idle_left(self) -> float | None:
        """Seconds until it has been idle for long enough to leave."""
        if self.options.idle_exit is None or self.agenda.holds() or self.backlog.waits or self.crew.busy():
            return None
        return max(0.0, self.active + self.options.idle_exit - time.monotonic())

    def _has_nothing_left(self, backlog: int) -> bool:
        if backlog or self.backlog.waits or self.crew.busy():
            self.active = time.monotonic()
            return False
        if self.options.burst:
            return self._is_dry()
        if self.options.idle_exit is None:
            return False
        self.active = max(self.active, self.crew.last_active())
        if time.monotonic() - self.active < self.options.idle_exit or self.agenda.holds():
            return False
        self._hide()
        return not self.backlog.count()

    def _is_dry(self) -> bool:
        """Nothing is left of our lanes: what waits for a retry would be, what waits for other workers' tasks not."""
        if self.crew.own or self.backlog.count() or self._retries_wait():
            return False
        self._sweep()
        return not self.backlog.count()

    def _retries_wait(self) -> bool:
        for name in self.queue.disk.list(self.queue.layout.until):
            with contextlib.suppress(NbtasksError):
                parsed = parse_until(name)
                if parsed is None or not parsed[1].failures:  # what was told to wait is not waited for
                    continue
                spec = records.read_spec(self.queue, parsed[1].id)
                if spec.env == self.options.env and spec.lane in self.options.lanes:
                    return True
        return False

    def _hide(self) -> None:
        # Out of sight first, then the look: a submit that still sees the bell has left its ticket before.
        for bell in self.bells[1:]:
            bell.hang(self.queue.layout.worker_folder(self.name))

    def _drain(self, pause: float | None) -> bool:
        """Claim nothing more, and wait for what runs. False when all slots are gone."""
        if not self.drain_since:
            self.drain_since = time.monotonic()
            self.say("draining: waiting for what runs" if self.crew.busy() else "draining")
            self._hide()
            self.standing.release_lanes()  # the next submit starts another worker
            self.agenda.retire()
            self.crew.drain()
        grace = self.options.grace
        if self.drains > 1 or (grace is not None and time.monotonic() - self.drain_since > grace):
            self.crew.evict(self.name)
            self.crew.reap(self.name)
        if not self.crew.own:
            return False
        moments = [1.0] + ([pause] if pause is not None else [])
        self.bells[0].wait(min(moments), *self.crew.fds())
        return True

    def _leave(self) -> int:
        self.say("leaving")
        for bell in self.bells:
            bell.close()
        self.backlog.close()
        self.agenda.retire()
        self.crew.drain()
        self.flusher.stop()
        deadline = time.monotonic() + _LAST_SLOTS
        while self.crew.own and time.monotonic() < deadline:
            self.crew.reap(self.name)
            time.sleep(0.01)
        self.standing.leave()
        # Who submitted just before that saw no bell, and the worker that it started found the lock still taken.
        if self.options.auto and not self.drains and self.backlog.count():
            autostart.ensure_worker(self.queue, self.options.lanes[0], self.options.env)
        return 0


def run_worker(
    root: str, *, lanes: list[str] | None = None, slots: int | None = None, idle_exit: float | None = None,
    burst: bool = False, auto: bool = False, max_tasks_per_slot: int | None = None, grace: float | None = None,
    periodic: bool = True, engines: Sequence[str] = (), capacity: int | None = None,
) -> int:  # fmt: skip
    """Be a worker of the queue at `root` until told to stop; the exit code. Raises OptionError, QueueError."""
    settings = config.settings()
    count = slots if slots is not None else settings.slots or processes.default_slots()
    if count < 1:
        raise OptionError(f"a worker with {count} slots could run nothing: give 1 or more")
    chosen = tuple(check_name("lane", lane) for lane in lanes or [settings.lane])
    config.configure(queue=root)  # for tasks that submit others
    engine, about = choose(parse_all(list(engines) or settings.engine))
    options = Options(
        chosen, 1 if engine.kind == "inline" else count, config.env_tag(), idle_exit, burst, auto, max_tasks_per_slot, grace, periodic, engine,
        capacity or settings.capacity, about,
    )  # fmt: skip
    return Supervisor(Queue.open(root), options).run()


def _detached(root: str, lane: str) -> None:
    """What `autostart` runs: fork once more, so that nobody has to collect the worker when it ends."""
    if os.fork() == 0:
        os._exit(_try_run(root, lane))
    os._exit(0)


def _try_run(root: str, lane: str) -> int:
    try:
        return run_worker(root, lanes=[lane], auto=True, idle_exit=config.settings().idle_exit)
    except NbtasksError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        autostart.note_refusal(root, lane, str(error))
        return 2


if __name__ == "__main__":
    _detached(sys.argv[1], sys.argv[2])
