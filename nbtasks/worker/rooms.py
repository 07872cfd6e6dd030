"""What the threads of one process have to share: its folder, path, environment and project modules.

Tasks of the same context run side by side, and so do those that only add to it. One of another context waits until the
others have left; then the process changes over. A task that was lost when a process died with several in it runs alone,
so that one that crashes is told from its neighbours.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from nbtasks import context as contexts
from nbtasks.context import Context, Entered

Read = Callable[[str], bytes]


class Room:
    """The process that tasks share."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()
        self._inside = 0
        self._is_taken = False  # by one that runs alone
        self._entered: Entered | None = None
        self._context: Context | None = None

    def enter(self, guest: Guest, say: Callable[[], object], stopped: Callable[[], bool]) -> bool:
        """Wait until this one may run, in the order of coming; False when `stopped` says so first.

        `say` is called before the first waiting.
        """
        with self._changed:
            self._waiting.append(guest)
            try:
                if not self._may_enter(guest):
                    say()
                while not self._may_enter(guest):
                    if stopped():
                        return False
                    self._changed.wait()
                self._take_in(guest)
                return True
            finally:
                self._waiting.remove(guest)
                self._changed.notify_all()

    def _may_enter(self, guest: Guest) -> bool:
        if self._waiting[0] is not guest:
            return False
        if not self._inside:
            return True
        entered, current = self._entered, self._context
        if self._is_taken or guest.alone or entered is None or current is None:
            return False
        return entered.would_suit(guest.context, current)

    def _take_in(self, guest: Guest) -> None:
        if not self._inside:
            self._entered = contexts.enter(guest.context, guest.read)
            self._context, self._is_taken = guest.context, guest.alone
        elif guest.context is not self._context and self._context is not None:
            self._context = contexts.add(guest.context, self._context)
        self._inside += 1
        guest.note(True)
        guest.notes = self._entered.notes if self._entered is not None else ()

    def leave(self, guest: Guest) -> None:
        """One that was inside is so no more. The last one leaves the process as it was."""
        with self._changed:
            guest.note(False)
            self._inside -= 1
            if not self._inside and self._entered is not None:
                self._entered()
                self._entered, self._context, self._is_taken = None, None, False
            self._changed.notify_all()

    def wake(self) -> None:
        """Let those who wait look whether they are to stop."""
        with self._changed:
            self._changed.notify_all()


class Guest(Entered):
    """One task in the room; call it to leave."""

    def __init__(
        self, room: Room, context: Context, read: Read, alone: bool, note: Callable[[bool], object] = bool
    ) -> None:  # fmt: skip
        """`note` is told when it is inside (True) and when it is so no more."""
        self.room, self.context, self.read, self.alone, self.note = room, context, read, alone, note
        self.notes = ()
        self.is_inside = False

    def enter(self, say: Callable[[], object] = lambda: None, stopped: Callable[[], bool] = lambda: False) -> None:
        """See `Room.enter`."""
        self.is_inside = self.room.enter(self, say, stopped)

    def __call__(self) -> None:
        """Leave, if inside."""
        if self.is_inside:
            self.is_inside = False
            self.room.leave(self)
