"""A worker among others: what it was started with, the locks it holds, its entry in the queue, what it says."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from nbtasks import __version__, processes
from nbtasks.engines.urls import PROCESSES, EngineUrl
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.queue.leases import Lease
from nbtasks.queue.members import Member


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
    periodic: bool = True  # it may make the tickets of schedules
    engine: EngineUrl = PROCESSES
    capacity: int = 0  # tasks that a foreign engine is given at once
    about: tuple[str, ...] = ()  # the engine: what it says of itself, and why not those before it

    @property
    def places(self) -> list[str]:
        """LANE@ENV of each lane."""
        return [f"{lane}@{self.env}" for lane in self.lanes]


class Standing:
    """One worker's place in its queue, from its start to its end."""

    def __init__(self, queue: Queue, options: Options) -> None:
        self.queue, self.options = queue, options
        self.name = members.new_name("w")
        self._own = Lease(queue.layout.lock(self.name))
        self._lanes: list[Lease] = []
        self._mark = queue.find_mark()

    def try_enter(self) -> bool:
        """Be a worker. False when another one that started by itself is there already."""
        if self.options.auto:
            for place in self.options.places:
                lease = Lease(self.queue.layout.auto_lock(place))
                if not lease.try_take():
                    self.release_lanes()
                    return False
                self._lanes.append(lease)
        self._own.try_take()
        self._register()
        for place in self.options.places:
            self.queue.disk.remove(self.queue.layout.auto_refused(place))
        return True

    def _register(self) -> None:
        options = self.options
        member = Member(
            name=self.name, process=processes.identify(), started=time.time(), lanes=options.lanes, env=options.env,
            slots=options.slots, auto=options.auto, periodic=options.periodic, engine=options.engine.shown,
            version=__version__,
        )  # fmt: skip
        members.register(self.queue, member)
        self.queue.disk.make_folder(self.queue.layout.running_folder(self.name))

    def is_queue_there(self) -> bool:
        """False when the queue was removed, also when another one is in its place."""
        return self.queue.find_mark() == self._mark

    def release_lanes(self) -> None:
        """Let another worker start by itself for these lanes."""
        for lease in self._lanes:
            lease.release()

    def leave(self) -> None:
        """Be no worker any more."""
        if self.is_queue_there():
            members.forget(self.queue, self.name)
        self.release_lanes()
        self._own.release()

    def say(self, line: str) -> None:
        """One line into the log."""
        with contextlib.suppress(OSError):
            os.write(2, f"{time.strftime('%H:%M:%S')} {line}\n".encode("utf-8", "replace"))

    def introduce(self, queued: str, schedules: Sequence[str] = ()) -> None:
        """The first lines: who it is, what it serves, how much waits, what recurs."""
        options = self.options
        self.say(f"nbtasks {__version__} worker {self.name}, pid {os.getpid()}")
        self.say(f"queue {self.queue.root}, lanes {', '.join(options.lanes)}, environment {options.env}")
        idle = f"leaves after {options.idle_exit:g} s idle" if options.idle_exit is not None else "stays"
        recurring = f" ({', '.join(schedules)})" if schedules else ""
        periodic = f"periodic on{recurring}" if options.periodic else "periodic off"
        many = (
            f"{options.slots} slot{'s' * (options.slots != 1)}"
            if options.engine.is_local
            else f"up to {options.capacity} tasks at once"
        )
        self.say(f"engine {options.engine.shown}, {many}, {periodic}, {idle}, {queued}")
        for line in options.about:
            self.say(line)
