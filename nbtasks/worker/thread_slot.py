"""A thread that claims, runs and commits functions: a slot to all others, with a name, a bell and claims of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import signal
import time
import traceback
from collections.abc import Iterator
from typing import Protocol

from nbtasks import payload, running
from nbtasks.capture_threads import ThreadCapture
from nbtasks.context import Context, Entered
from nbtasks.engines.base import Delivery
from nbtasks.engines.local import DRAIN, LOOK, ORPHANED
from nbtasks.processes import Identity
from nbtasks.queue import members
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member, Stop
from nbtasks.queue.needy import Needy
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.tokens import Taken
from nbtasks.worker.interrupting import ThreadPlace
from nbtasks.worker.rooms import Guest, Read, Room
from nbtasks.worker.slot import Duty, Slot

_MIXED = "waits until other tasks in its process have ended: threads share folder, environment and project modules"
_ALONE = "waits until other tasks in its process have ended: it was lost before, and runs alone now"


class Host(Protocol):
    """The process that a thread is part of."""

    duty: Duty
    queue: Queue
    environ: dict[str, str]
    parent: int | None
    identity: Identity
    room: Room
    inside: mmap.mmap  # a byte for each thread, 1 while its task runs; the last one: it claims nothing more
    draining: bool

    def ended(self, slot: ThreadSlot, worn: bool) -> None:
        """A thread leaves; another takes its place if its output was spoiled by its task."""
        ...

    def fail(self) -> None:
        """A thread came to an end that it should not have come to."""
        ...

    def count(self) -> None:
        """One more task has ended."""
        ...

    def has_too_many(self) -> bool:
        """Whether this thread is one too many now."""
        ...

    def lend(self) -> None:
        """A task waits for another: one more thread may run tasks meanwhile."""
        ...

    def take_back(self) -> None:
        """It goes on."""
        ...


class ThreadDelivery(Delivery):
    """Deliveries of one thread."""

    clock = staticmethod(time.thread_time)

    def _usage(self, ticket: Ticket, took: float, cpu: float) -> tuple[float, int]:
        """Its own processor seconds; memory is that of the process, for nobody can tell whose it is."""
        return cpu, _peak()


class ThreadSlot(Slot):
    """One thread that runs tasks."""

    def __init__(self, host: Host, name: str) -> None:
        self.host, self.duty, self.queue = host, dataclasses.replace(host.duty, name=name), host.queue
        self.environ, self.parent = host.environ, host.parent
        self.draining = host.draining
        self.ticket: Ticket | None = None
        self.stop: Stop | None = None
        self.poked = False
        self.done = 0
        self.place: ThreadPlace | None = None
        self._flag = int(name.rpartition("-")[2]) % (len(host.inside) - 1)
        self.guest: Guest | None = None
        self._register()
        self.bells = [self.queue.bell(f"{lane}@{host.duty.env}", name) for lane in host.duty.lanes]
        self.taken: Taken | None = None
        self._look_at = 0.0
        self.functions, self.cells = Claimer(self.queue, name, self._lines("f")), Claimer(self.queue, name, [])
        self.needy = Needy(self.queue, [f"{lane}@{host.duty.env}" for lane in host.duty.lanes], "f")

    def _member(self) -> Member:
        return Member(
            name=self.duty.name, process=self.host.identity, started=time.time(), worker=self.duty.worker,
            lanes=self.duty.lanes, env=self.duty.env, engine="threads", shares=self.host.duty.name,
        )  # fmt: skip

    def main(self) -> None:
        """What the thread runs."""
        worn = False
        try:
            # C code that waits must not be disturbed by signals for the main thread. Children have them blocked, too;
            # but these no program knows of.
            signal.pthread_sigmask(signal.SIG_BLOCK, {LOOK, DRAIN, ORPHANED or DRAIN} - {signal.SIGINT, signal.SIGTERM})
            self.place = ThreadPlace()
            running.set_place(self.place)
            self.capture = ThreadCapture(self.queue.layout.slot_folder(self.duty.name))
            self.delivery = ThreadDelivery(self.queue, self.duty.name, self.capture, self.find_stop, self.say)
            self.delivery.enter = self._enter
            self.work()
            worn = self.delivery.is_worn
        except BaseException:  # what it has claimed is recovered when the process is gone
            self.say(f"slot {self.duty.name} cannot go on:\n{traceback.format_exc()}")
            self.host.fail()
        self.host.ended(self, worn)

    # Stopping.

    def find_stop(self, ticket: Ticket) -> Stop | None:
        """Why the running delivery is to stop, or None. Asked by the thread itself, and by the main thread."""
        if self.stop is not None and self.stop.ticket == str(ticket):
            return self.stop
        if self.queue.disk.exists(self.queue.layout.cancel_file(ticket.id)):
            return Stop(str(ticket), "cancel", "")
        if self.poked and self.place is not None and self.place.in_user_code:
            stop = members.find_stop(self.queue, self.duty.name)
            return stop if stop is not None and stop.ticket == str(ticket) else None
        return None

    def look(self) -> None:
        """Interrupt the task if that is asked for. For the main thread."""
        self.poked = True
        place = self.place
        serial = place.serial if place is not None else 0
        ticket = self.ticket  # behind the number: were it another's by now, that number would be good for nothing
        if ticket is None or place is None or not place.in_user_code:
            return
        with contextlib.suppress(OSError):
            self.stop = self.find_stop(ticket)
            if self.stop is not None and not place.interrupt(serial) and not place.in_user_code:
                self.stop = None

    def _is_to_stop(self) -> bool:
        if self.ticket is None:
            return False
        self.stop = self.find_stop(self.ticket)
        return self.stop is not None

    # Work.

    def _must_leave(self) -> bool:
        return self.draining or self._orphaned() or self.host.has_too_many()

    def _run(self, ticket: Ticket) -> bool:
        self.stop, self.poked = None, False
        self.ticket = ticket
        payload.make_home_of_thread()  # names of one notebook, and of one task, are not there for the others
        self.delivery.deliver(ticket, self.taken)
        self.ticket = self.stop = self.guest = None
        if self.taken is not None:
            self.taken.release(self.duty.worker)
            self.taken = None
        self.done += 1
        self.host.count()
        return not self.delivery.is_worn

    def _enter(self, context: Context, read: Read) -> Entered:
        assert self.ticket is not None
        ticket, name = self.ticket, self.duty.name
        self.guest = guest = Guest(self.host.room, context, read, ticket.losses > 0, self._note_inside)
        said: list[None] = []

        def say() -> None:
            members.note_trouble(self.queue, name, _ALONE if guest.alone else _MIXED)
            said.append(None)

        guest.enter(say, lambda: self.find_stop(ticket) is not None)
        if said:
            members.note_trouble(self.queue, name, "")
        return guest

    def _note_inside(self, is_inside: bool) -> None:
        """For the supervisor: if the process dies now, was that perhaps this task's doing?"""
        self.host.inside[self._flag] = is_inside

    @contextlib.contextmanager
    def waiting(self, *, lends: bool) -> Iterator[None]:
        """Around a wait of its task: its share of the process is free meanwhile, and its place, too, if it `lends` it."""
        assert self.place is not None
        assert self.guest is not None
        try:
            with self.place.held(self._is_to_stop):
                self.guest()
                if lends:
                    self.host.lend()
            yield
        finally:
            with self.place.held(self._is_to_stop):
                if lends:
                    self.host.take_back()
                self.guest.enter()

    def ring(self) -> None:
        """Wake the thread if it sleeps, for it is to leave."""
        for bell in self.bells:
            with contextlib.suppress(OSError):
                os.write(bell.fd, b"drain\n")

    def _close(self) -> None:
        super()._close()
        members.forget(self.queue, self.duty.name)


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
