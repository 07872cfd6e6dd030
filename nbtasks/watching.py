"""Waiting for tasks to end: one bell per process and queue, read by whoever waits.

A lone ``result()`` reads the bell itself, so nothing is handed from thread to thread. Only when somebody must be
told without waiting (a callback, ``concurrent.futures.wait``, an event loop) or several threads wait does a
reader thread start; it goes when nothing is left to wait for. Hints may be lost: while something is awaited, a
listing after 1 s, growing to 10 s, makes good for that, and starts a worker when none lives.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable
from typing import Protocol

from nbtasks.ends import find_ends
from nbtasks.errors import NbtasksError
from nbtasks.queue.directory import Queue
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.lookup import Place
from nbtasks.queue.tickets import parse_ended
from nbtasks.spec import Spec

_FIRST_SWEEP, _LONGEST_SWEEP = 1.0, 10.0
_LINGER = 5.0  # seconds that an idle reader thread stays
_NAP = 0.0015  # under load: many hints are then read at once, and the submitting thread keeps its turn
_SAMPLE = 20
_CROWD = 8  # so many awaited tasks are load
_FLOOD = 1000  # about a full FIFO: some hints were surely lost


class Watched(Protocol):
    """What is waited for; `nbtasks.handle.Task` is the one."""

    id: str
    generation: int  # the first delivery that counts
    bell: str  # the bell that its end rings

    @property
    def has_ended(self) -> bool:
        """True once its end was noted."""
        ...

    @property
    def spec(self) -> Spec:
        """How it is run."""
        ...

    def look(self) -> bool:
        """Look on the disk whether it has ended, and note it."""
        ...

    def note_end(self, place: Place) -> None:
        """Take note that it has ended, and tell whoever waits. Twice is once."""
        ...

    def wait_for_note(self, timeout: float | None) -> None:
        """Sleep until the end is noted by another thread, or `timeout` seconds."""
        ...


class Watcher:
    """Waits for tasks of one queue in this process."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.name = f"c{os.getpid()}-{secrets.token_hex(4)}"
        self._bell = queue.bell("clients", self.name)
        self._watch: Bell | None = None  # rung at the end of every task; only for tasks submitted elsewhere
        self._tasks: dict[str, list[Watched]] = {}
        self._foreign: set[str] = set()
        self._lock = threading.Lock()  # of the two above and of the thread; never held while a task is told
        # Whoever holds it reads the bells for all. Reentrant: a callback may wait for another task.
        self._reading = threading.RLock()
        self._polling = False
        self._thread: threading.Thread | None = None
        self._more = threading.Event()
        self._interval = _FIRST_SWEEP
        self._sweep_at = 0.0
        self._unsure = False  # True: hints may have been lost, so look before relying on them

    # For one thread that waits.

    def wait(self, task: Watched, timeout: float | None = None) -> bool:
        """Sleep until the task has ended, or `timeout` seconds pass. True: it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        nested = self._reading._is_owned()  # type: ignore[attr-defined]  # in a callback of the reader
        self._add(task)
        try:
            if not task.look():  # again: it may have ended before we were listening
                self._wait(task, deadline)
        finally:
            self._drop(task)
            if not nested and self._reading._is_owned():  # type: ignore[attr-defined]  # also after an interrupt
                self._reading.release()
                self._hand_over()
        return task.has_ended

    def _wait(self, task: Watched, deadline: float | None) -> None:
        while not task.has_ended:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            if self._reading._is_owned() or self._reading.acquire(blocking=False):  # type: ignore[attr-defined]  # not in typeshed
                return self._read(lambda: task.has_ended, deadline)
            task.wait_for_note(left)  # another reads; when it stops, it starts the thread for us

    # For those who are told.

    def follow(self, task: Watched) -> None:
        """Tell the task when it has ended, by the reader thread, without anybody waiting."""
        self._add(task)
        if task.look():
            self._drop(task)
        else:
            self._hand_over()

    def _hand_over(self) -> None:
        # After the lock of the reader was given back: whoever failed to get it is in `_tasks` by now.
        with self._lock:
            if not self._tasks:
                return
            self._more.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="nbtasks-watch", daemon=True)
                self._thread.start()

    def _serve(self) -> None:
        while True:
            self._more.clear()
            if self._tasks:
                with self._reading:
                    try:
                        self._read(lambda: not self._tasks, None)
                    except (OSError, NbtasksError):  # a disk that fails for a while: nobody here could be told
                        time.sleep(_FIRST_SWEEP)
                        self._more.set()
            if not self._more.wait(_LINGER):
                with self._lock:
                    if not self._more.is_set():
                        self._thread = None
                        return

    # Who is waited for.

    def _add(self, task: Watched) -> None:
        with self._lock:
            if not self._tasks:
                self._interval = _FIRST_SWEEP
            self._tasks.setdefault(task.id, []).append(task)
            due = time.monotonic() + _FIRST_SWEEP
            sooner = self._sweep_at > due or len(self._tasks) == 1
            if sooner:
                self._sweep_at = due
            if task.bell != self.name:
                self._foreign.add(task.id)
                if self._watch is None:
                    self._watch = self.queue.bell("watch", self.name)
                    sooner = True
        if sooner and self._polling and self._bell.fd >= 0:
            with contextlib.suppress(OSError):
                os.write(self._bell.fd, b"\n")  # the reader looks at its clock and its bells anew

    def _drop(self, task: Watched) -> None:
        with self._lock:
            tasks = self._tasks.get(task.id, [])
            if any(one is task for one in tasks):
                tasks.remove(task)
            if not tasks:
                self._tasks.pop(task.id, None)
                self._foreign.discard(task.id)

    # Reading, by one thread at a time.

    def _read(self, over: Callable[[], bool], deadline: float | None) -> None:
        last = 0.0
        while not over():
            self._polling = True  # from here on a change of what is watched needs a nudge
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return
            if now >= self._sweep_at or self._unsure:
                self._sweep()
                continue
            self._listen((self._sweep_at if deadline is None else min(deadline, self._sweep_at)) - now)
            rung = self._note()
            arrived = time.monotonic()
            # Lonely round trips are never delayed: they leave nothing awaited, or come singly.
            if len(self._tasks) >= _CROWD or (rung and arrived - last < _NAP and not over()):
                time.sleep(_NAP)
            last = arrived

    def _listen(self, seconds: float) -> None:
        if self._watch is not None and not self._foreign:
            with self._lock:  # nobody waits for tasks of others any more: workers need not ring for us
                if self._watch is not None and not self._foreign:
                    self._watch.close()
                    self._watch = None
        watch = self._watch
        self._bell.wait(seconds, *([watch.fd] if watch is not None and watch.fd >= 0 else []))
        self._polling = False
        if self._bell.fd < 0:  # no FIFOs here: looking is all there is
            self._unsure = True

    def _note(self) -> bool:
        """Take the hints that were rung and tell those whom they concern. False: there were none."""
        unsure = self._unsure
        self._unsure = True  # until all is told: an interrupt may come in between, and the hints are gone then
        hints = self._bell.drain()
        if (watch := self._watch) is not None:
            hints += watch.drain()
        for hint in hints:
            if hint.partition(".")[0] in self._tasks and (parsed := parse_ended(hint)):
                path = f"{self.queue.layout.ended_folder(parsed[0].id)}/{hint}"
                if self.queue.disk.exists(path):  # a hint is no proof: it may have been retried since
                    self._tell(Place(parsed[1], parsed[0], path))
        self._unsure = unsure or len(hints) >= _FLOOD
        return bool(hints)

    def _tell(self, place: Place) -> None:
        id = place.ticket.id
        with self._lock:
            tasks = self._tasks.pop(id, [])
            later = [task for task in tasks if task.generation > place.ticket.delivery]
            if later:
                self._tasks[id] = later
            else:
                self._foreign.discard(id)
        for task in tasks:
            if task not in later:
                task.note_end(place)

    def _sweep(self) -> None:
        """Look for all that is awaited, whether a hint came or not, and see to it that a worker lives."""
        self._unsure = False
        with self._lock:
            awaited = [tasks[0] for tasks in self._tasks.values()]
        ends = find_ends(self.queue, [task.id for task in awaited])
        for place in ends.values():
            self._tell(place)
        self._interval = _FIRST_SWEEP if ends else self._interval
        self._sweep_at = time.monotonic() + self._interval
        self._interval = min(self._interval * 2, _LONGEST_SWEEP)
        self._rouse([task for task in awaited if task.id not in ends])

    def _rouse(self, tasks: list[Watched]) -> None:
        lines: dict[tuple[str, str, str], Spec] = {}
        for task in tasks[:_SAMPLE]:  # reading the specs of thousands would cost more than it tells
            with contextlib.suppress(NbtasksError):
                lines.setdefault((task.spec.lane, task.spec.env, task.spec.need), task.spec)
        for spec in lines.values():
            with contextlib.suppress(NbtasksError, OSError):
                self.queue.wake(spec)

    def close(self, *, mine: bool = True) -> None:
        """Take the bells away; after a fork (not `mine`) only let go of them, for they are the parent's."""
        for bell in (self._bell, self._watch):
            if bell is not None and mine:
                bell.close()
            elif bell is not None and bell.fd >= 0:
                os.close(bell.fd)
                bell.fd = -1


_watchers: dict[str, Watcher] = {}
_making = threading.Lock()


def watcher_of(queue: Queue) -> Watcher:
    """The one watcher of a queue in this process."""
    watcher = _watchers.get(queue.root)
    if watcher is None:
        with _making:
            watcher = _watchers.get(queue.root)
            if watcher is None:
                watcher = _watchers[queue.root] = Watcher(queue)
    return watcher


def _leave() -> None:
    for watcher in _watchers.values():
        watcher.close()
    _watchers.clear()


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for watcher in _watchers.values():
        watcher.close(mine=False)
    _watchers.clear()


atexit.register(_leave)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
