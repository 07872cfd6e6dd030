"""A worker whose slots are elsewhere: its crew is one bridge, made again when it dies."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence

import msgspec

from nbtasks import config, processes
from nbtasks.engines import local
from nbtasks.engines.urls import EngineUrl
from nbtasks.errors import EngineError, NbtasksError
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.worker.crew import Crew
from nbtasks.worker.limits import Limits
from nbtasks.worker.slot import Duty
from nbtasks.worker.standing import Options
from nbtasks.worker.thread_crew import ThreadCrew

_SHORTEST, _LONGEST = 0.1, 30.0  # seconds until a bridge that died at birth is made again


# What is said of an engine of this machine when a worker begins.
LOCAL_WORDS = {
    "threads": (
        "threads: functions share one process, its folder and its memory; cells have a process each",
        "threads: cancel and timeout stop Python code; code that waits in C ends with its process, when it is alone there",
        "threads: what C code and child processes print stands in this log; a crash takes all tasks of the process along",
    ),
    "inline": ("inline: one task at a time, in one process; a cell has a process of its own",),
}


class Choice(msgspec.Struct, frozen=True):
    """Which of the engines that were named answers: its place among them, what to say of it, why not those before."""

    index: int  # -1: none
    words: str
    refused: tuple[str, ...] = ()


def choose(urls: Sequence[EngineUrl]) -> tuple[EngineUrl, tuple[str, ...]]:
    """The first engine that answers, and what to say of it and of those before. Raises EngineError when none does.

    They are asked in a process of their own: the supervisor loads no engine's library.
    """
    if urls[0].is_local:
        return urls[0], LOCAL_WORDS.get(urls[0].kind, ())
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.close(read)
            os.write(write, msgspec.json.encode(_ask(urls)))
            code = 0
        os._exit(code)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    choice = msgspec.json.decode(said, type=Choice) if said else Choice(-1, "", ("the engines could not be asked",))
    if choice.index < 0:
        raise EngineError("no engine answers: " + "; ".join(choice.refused))
    about = [*(f"not used: {words}" for words in choice.refused), choice.words]
    return urls[choice.index], tuple(filter(None, about))


def _ask(urls: Sequence[EngineUrl]) -> Choice:
    from nbtasks.engines.registry import open_engine

    refused: list[str] = []
    for index, url in enumerate(urls):
        if url.is_local:
            return Choice(index, "", tuple(refused))
        try:
            engine = open_engine(url)
            words = engine.connect()
            engine.close()
            return Choice(index, "; ".join([words, *engine.can.lacks()]), tuple(refused))
        except NbtasksError as error:
            refused.append(str(error))
        except Exception as error:
            refused.append(f"{url.shown}: {type(error).__name__}: {error}")
    return Choice(-1, "", tuple(refused))


class BridgeCrew:
    """What a supervisor asks of a `Crew`, with one bridge in place of slots."""

    def __init__(self, queue: Queue, url: EngineUrl, capacity: int, duty: Duty, say: Callable[[str], None]) -> None:
        self.queue, self.url, self.capacity, self.duty, self.say = queue, url, capacity, duty, say
        self.own: dict[int, str] = {}  # process id: name
        self._pidfds: dict[int, int | None] = {}
        self._pause, self._pause_until = _SHORTEST, 0.0
        self._born = 0.0
        self._leaving = False
        self.has_pidfds = hasattr(os, "pidfd_open")
        self._last_active = time.monotonic()
        self.start()

    def start(self) -> None:
        """See to it that there is a bridge, unless one died just now."""
        if self.own or self._leaving or time.monotonic() < self._pause_until:
            return
        name = members.new_name("b", self.duty.worker[2:])
        pid = local.fork_slot(self._main(name), name, keep=self.duty.log)
        self._born = time.monotonic()
        self.own[pid] = name
        self._pidfds[pid] = processes.open_pidfd(pid)

    def _main(self, name: str) -> Callable[[], int]:
        duty, url, capacity, root = self.duty, self.url, self.capacity, self.queue.root

        def main() -> int:
            from nbtasks.engines.bridge import Bridge, BridgeDuty
            from nbtasks.engines.registry import open_engine

            config.settings()
            mine = BridgeDuty(name, duty.worker, duty.supervisor, duty.lanes, duty.env, capacity, duty.burst)
            return Bridge(mine, open_engine(url), Queue.open(root), self.say).work()

        return main

    # What a supervisor asks.

    def names(self) -> list[str]:
        """No slots: nobody here signals what runs elsewhere."""
        return []

    def measured(self) -> list[str]:
        """What runs elsewhere is not measured."""
        return []

    def fds(self) -> list[int]:
        """What becomes readable when the bridge dies."""
        return [fd for fd in self._pidfds.values() if fd is not None]

    def has_room(self) -> bool:
        """The bridge's bell is rung, not the supervisor's."""
        return False

    def wants_more(self, backlog: int) -> bool:
        """Never: see `has_room`."""
        return False

    def has_young(self) -> bool:
        """Never."""
        return False

    def free_for(self) -> float | None:
        """Seconds until a bridge is to be made again; None while there is one."""
        return None if self.own or self._leaving else max(0.0, self._pause_until - time.monotonic())

    def lend(self, name: str) -> None:
        """Nothing is lent."""

    def take_back(self, name: str) -> None:
        """Nothing was."""

    def staff(self, backlog: int) -> None:
        """See to it that there is a bridge; it takes what it has room for."""
        self.start()

    def busy(self) -> int:
        """How many tasks the bridge holds."""
        return sum(len(self.queue.disk.list(self.queue.layout.running_folder(name))) for name in self.own.values())

    def last_active(self) -> float:
        """The monotonic moment at which the bridge last held a task."""
        if self.busy():
            self._last_active = time.monotonic()
        return self._last_active

    def reap(self, me: str) -> None:
        """Collect a bridge that ended, and make another."""
        for pid, name in list(self.own.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            del self.own[pid]
            if (fd := self._pidfds.pop(pid)) is not None:
                os.close(fd)
            if not self.queue.disk.list(self.queue.layout.running_folder(name)):
                members.forget(self.queue, name)
            if status:
                self.say(
                    f"the bridge {name} to {self.url.shown} died ({os.waitstatus_to_exitcode(status)}); another takes over"
                )
                lived = time.monotonic() - self._born
                self._pause = _SHORTEST if lived > _LONGEST else min(_LONGEST, self._pause * 2)
                self._pause_until = time.monotonic() + self._pause
        if not self.duty.burst:
            self.start()

    def adopt(self) -> None:
        """Bridges take over from one another by themselves."""

    def drain(self) -> None:
        """Tell the bridge to wait for what it holds, and leave."""
        self._leaving = True
        self._signal(local.DRAIN)

    def evict(self, me: str) -> None:
        """End the bridge now. What it holds goes on at the engine, and is for the next bridge."""
        self._leaving = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for pid in self.own:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def hire(queue: Queue, options: Options, duty: Duty, limits: Limits, say: Callable[[str], None]) -> Crew | BridgeCrew:
    """The crew of a worker with these options."""
    if options.engine.kind == "threads":
        return ThreadCrew(queue, options.slots, duty, limits, say)
    if options.engine.is_local:
        return Crew(queue, options.slots, duty, limits, say)
    return BridgeCrew(queue, options.engine, options.capacity, duty, say)


__all__ = ["BridgeCrew", "Choice", "choose", "hire"]
