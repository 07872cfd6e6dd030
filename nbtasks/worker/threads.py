"""A process whose threads each claim, run and commit functions: the ``threads`` engine, as its supervisor forks it.

The main thread runs no task; it takes signals, interrupts threads, and sees when the supervisor dies.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from nbtasks import config, hooks, keyboard, payload, processes, running
from nbtasks.capture_threads import route
from nbtasks.engines.local import DRAIN, LOOK, ORPHANED
from nbtasks.queue.directory import Queue
from nbtasks.worker.autostart import ensure_worker
from nbtasks.worker.rooms import Room
from nbtasks.worker.slot import LISTING, Duty
from nbtasks.worker.thread_slot import ThreadSlot
from nbtasks.worker.warm import set_threads

_LOOK = 0.2  # seconds after which a task that waits for another one can be interrupted


class ThreadPool:
    """The process: its threads, and what they share."""

    def __init__(self, duty: Duty, size: int, inside: mmap.mmap) -> None:
        self.duty, self.size, self.inside = duty, size, inside
        self.queue = Queue.open(duty.root)
        self.environ = dict(os.environ)
        self.parent = processes.open_pidfd(duty.supervisor)
        self.identity = processes.identify()
        self.room = Room()
        self.draining = self.failed = False
        self.slots: list[ThreadSlot] = []
        self._lock = threading.RLock()
        self._lent = self._made = self._done = 0
        self._wake, self._woken = os.pipe()
        route(duty.log)
        set_threads(duty.threads)
        payload.make_home_of_thread()
        hooks.before_wait.append(self._waiting)
        hooks.longest_wait = _LOOK
        hooks.making_way = functools.partial(self._waiting, lends=False)
        hooks.slot_name = self._slot_name
        keyboard.who = _short_id
        self._catch_signals()

    def work(self) -> int:
        """Run tasks until there is a reason to leave; the exit code."""
        for _ in range(self.size):
            self._add()
        poll = select.poll()
        for fd in filter(None, (self._wake, self.parent)):
            poll.register(fd, select.POLLIN)
        while self.slots:
            ready = [fd for fd, _ in poll.poll(LISTING * 1000 if self.parent is None else None)]
            if self._wake in ready:
                os.read(self._wake, 4096)
            if os.getppid() != self.duty.supervisor and not self.draining:
                self._on_orphaned()
                poll = select.poll()
                poll.register(self._wake, select.POLLIN)
        return int(self.failed)

    def _catch_signals(self) -> None:
        handlers: dict[int, Callable[[], None]] = {
            signal.SIGINT: _nothing, signal.SIGTERM: self.drain, DRAIN: self.drain, signal.SIGHUP: _nothing,
            LOOK: self._look,
        }  # fmt: skip
        if ORPHANED is not None:
            handlers[ORPHANED] = self._on_orphaned
        for number, handler in handlers.items():
            signal.signal(number, _calling(handler))
            signal.siginterrupt(number, False)

    # From signals, on the main thread.

    def _look(self) -> None:
        for slot in list(self.slots):
            slot.look()
        self.room.wake()

    def drain(self) -> None:
        """Claim nothing more, and leave when what runs has ended."""
        self.draining = True
        self.inside[-1] = True  # the supervisor makes another process for what comes
        for slot in list(self.slots):
            slot.draining = True
            slot.ring()

    def _on_orphaned(self) -> None:
        self.drain()
        if any(slot.ticket is not None for slot in list(self.slots)):
            with contextlib.suppress(OSError):
                ensure_worker(self.queue, self.duty.lanes[0], self.duty.env, self.environ)

    # From the threads.

    def _add(self) -> None:
        with self._lock:
            self._made += 1
            slot = ThreadSlot(self, f"{self.duty.name}-{self._made}")
            self.slots.append(slot)
        threading.Thread(target=slot.main, name=slot.duty.name, daemon=True).start()

    def ended(self, slot: ThreadSlot, worn: bool) -> None:
        """A thread leaves; another takes its place if its output was spoiled by its task."""
        if worn and not self.draining:
            self._add()
        with self._lock:
            self.slots.remove(slot)
        os.write(self._woken, b".")

    def fail(self) -> None:
        """A thread came to an end that it should not have come to."""
        self.failed = True
        self.drain()

    def count(self) -> None:
        """One more task has ended."""
        with self._lock:
            self._done += 1
        limit = self.duty.max_tasks
        if limit is not None and self._done >= limit * self.size and not self.draining:
            self.drain()
            self.queue.ring_workers("work")

    def has_too_many(self) -> bool:
        """Whether there are more threads than may run tasks now."""
        with self._lock:
            return sum(not slot.draining for slot in self.slots) > self.size + self._lent and self._let_one_go()

    def _let_one_go(self) -> bool:
        if (slot := self._slot()) is not None:
            slot.draining = True
        return True

    def _slot(self) -> ThreadSlot | None:
        """The slot that the calling thread is."""
        name = threading.current_thread().name
        return next((slot for slot in list(self.slots) if slot.duty.name == name), None)

    def _slot_name(self) -> str:
        return slot.duty.name if (slot := self._slot()) is not None else ""

    @contextlib.contextmanager
    def _waiting(self, *, lends: bool = True) -> Iterator[None]:
        slot = self._slot()
        if slot is None or slot.guest is None:
            yield
        else:
            with slot.waiting(lends=lends):
                yield

    def lend(self) -> None:
        """A task waits for another: one more thread may run tasks meanwhile."""
        with self._lock:
            self._lent += 1
            short = sum(not slot.draining for slot in self.slots) < self.size + self._lent
        if short and not self.draining:
            self._add()

    def take_back(self) -> None:
        """It goes on: an idle thread is one too many now."""
        with self._lock:
            self._lent -= 1
        for slot in list(self.slots):
            if slot.ticket is None:
                slot.ring()
                return


def _calling(handler: Callable[[], None]) -> Callable[[int, FrameType | None], Any]:
    return lambda number, frame: handler()


def _nothing() -> None:
    pass


def _short_id() -> str:
    task = running.current()
    return task.id.rpartition("-")[2] if task is not None else ""


def pool_main(duty: Duty, size: int, inside: mmap.mmap) -> Callable[[], int]:
    """What a forked process of `size` threads runs. `inside` is memory that it shares with its supervisor."""

    def main() -> int:
        config.settings()
        return ThreadPool(duty, size, inside).work()

    return main
