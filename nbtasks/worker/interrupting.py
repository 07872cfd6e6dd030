"""Interrupting Python code in a thread: KeyboardInterrupt at its next step, once, and never behind the user's code.

CPython raises such an exception some instructions after it was asked to. So there is a right to ask, which is there while the
user's code runs and is taken exactly once: by who interrupts, or by the thread itself at the end of that code. A thread
that finds it taken waits until the exception has come. Each task has a right of its own, so none is taken for another.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Iterator

from nbtasks.running import Place


class ThreadPlace(Place):
    """The thread that makes it, as a place where tasks run."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.serial = 0  # of the task
        self._rights: dict[int, None] = {}  # to pop from a dict is one step, so only one of two gets it
        self._asked = False

    def begin(self) -> None:
        """As `Place`."""
        self._asked = False
        self.serial += 1
        self._rights[self.serial] = None
        self.in_user_code = True

    def end(self) -> None:
        """As `Place`. What was asked for and has not come yet comes in here, and is dropped."""
        while self.in_user_code:
            with contextlib.suppress(KeyboardInterrupt):
                if not self._take(self.serial):
                    self._await()
                self.in_user_code = False

    def try_interrupt(self) -> bool:
        """As `Place`, for the thread itself. One that was asked for meanwhile is dropped at the end."""
        self._asked = self._take(self.serial) or self._asked
        return True

    def interrupt(self, serial: int) -> bool:
        """Raise KeyboardInterrupt in the task of that number; for others. False when it has ended, or was interrupted."""
        if not self._take(serial):
            return False
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(KeyboardInterrupt))
        self._asked = True
        return True

    @contextlib.contextmanager
    def held(self, is_to_stop: Callable[[], bool]) -> Iterator[None]:
        """For what must not be interrupted amid the user's code; an interrupt that falls into it comes at its end."""
        had, came = self._take(self.serial), False
        if not had and self.in_user_code:
            try:
                self._await()
            except KeyboardInterrupt:
                came = True
        try:
            yield
        finally:
            if had:
                self._rights[self.serial] = None
        if had and is_to_stop() and self._take(self.serial):
            came = self._asked = True
        if came:
            raise KeyboardInterrupt

    def _take(self, serial: int) -> bool:
        try:
            self._rights.pop(serial)
        except KeyError:
            return False
        return True

    def _await(self) -> None:
        """Return when nothing can come any more; raises what comes."""
        while not self._asked:
            time.sleep(0.0005)
        for _ in range(3):  # what was asked for comes at the next step but one
            time.sleep(0)
