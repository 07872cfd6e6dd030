"""Which task runs here and now: in this process, or in this thread of a process whose threads run tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec

# Takes a kind ("start", "display", "progress", "full", "ended" …) and its data; False says "stop". After "full" (no room
# for what is to be kept) it answers when another try makes sense.
Emit = Callable[[str, dict[str, Any]], bool]


@dataclass(frozen=True)
class Running:
    """The task that runs in this process: what ``nbtasks.current_task()`` gives."""

    spec: Spec
    ticket: Ticket
    emit: Emit

    @property
    def id(self) -> str:
        """The full id."""
        return self.spec.id

    @property
    def name(self) -> str:
        """What people call it."""
        return self.spec.name

    @property
    def attempt(self) -> int:
        """1 for the first attempt."""
        return self.ticket.attempt


class Place:
    """Where tasks run one after the other: this process, or one thread of it (see `set_place`)."""

    def __init__(self) -> None:
        self.current: Running | None = None
        self.in_user_code = False

    def begin(self) -> None:
        """The user's code is about to run: from now on it may be interrupted."""
        self.in_user_code = True

    def end(self) -> None:
        """It runs no more. May be called again."""
        self.in_user_code = False

    def try_interrupt(self) -> bool:
        """True once while the user's code runs."""
        allowed, self.in_user_code = self.in_user_code, False
        return allowed


_process = Place()
_threads: dict[int, Place] = {}  # by their numbers; empty but in a process whose threads run tasks


def here() -> Place:
    """The place of the calling thread."""
    return _threads.get(threading.get_ident(), _process) if _threads else _process


def set_place(place: Place) -> None:
    """Let the calling thread run tasks beside those of other threads."""
    _threads[threading.get_ident()] = place


def current() -> Running | None:
    """The task that this process runs just now, in this thread if its threads run tasks; None outside of one."""
    return here().current


def in_user_code() -> bool:
    """True while the user's code runs and was not interrupted yet: the only time at which an interrupt may be raised."""
    return here().in_user_code


def try_interrupt() -> bool:
    """For the handler that is about to raise KeyboardInterrupt: True once while the user's code runs.

    Only once, so that none can come later, while what the code still returned is being kept.
    """
    return here().try_interrupt()
