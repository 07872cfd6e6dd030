"""What a warm slot gets back between two functions, and when it must be replaced instead."""

from __future__ import annotations

import _signal
import functools
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Iterable

WATCH_THREAD = "nbtasks-watch"
_GROWTH = 500_000_000  # bytes of peak memory over which the process is replaced
_LEAK = 64  # descriptors left open after which it is replaced
# The C functions: those of `signal` make an enum of every number and handler, ten times the cost of the look.
_get_handler, _get_mask = _signal.getsignal, functools.partial(_signal.pthread_sigmask, signal.SIG_BLOCK, ())
_SIGNALS = [int(number) for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP} if number < 32]
_LIMITS = [resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_STACK, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE]


class Warmth:
    """The state of a process that tasks might change, taken when the slot is fresh."""

    def __init__(self, descriptors: Iterable[int] = ()) -> None:
        """`descriptors` are those that the slot itself needs: a task may have closed them."""
        self.handlers = [(number, _get_handler(number)) for number in _SIGNALS]
        self.mask = _get_mask()
        self.umask = os.umask(0o077)
        os.umask(self.umask)
        self.filters = list(warnings.filters)
        self.threads = threading.active_count()
        self.limits = [resource.getrlimit(limit) for limit in _LIMITS]
        self.descriptors = [(number, _file_at(number)) for number in descriptors if number >= 0]
        self.next_descriptor = _next_descriptor()
        self.peak = _peak()

    def restore(self) -> bool:
        """Put things back; False when they cannot be, and a new process must take over."""
        for number, handler in self.handlers:
            if _get_handler(number) is not handler and handler is not None:
                signal.signal(number, handler)
        if _get_mask() != self.mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        if signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, 0)
        os.umask(self.umask)
        if warnings.filters != self.filters:
            warnings.filters[:] = self.filters  # type: ignore[index]  # a list; typeshed has a sequence
        self._close_figures()
        return self._is_sound()

    def _is_sound(self) -> bool:
        return (
            threading.active_count() <= self.threads
            and _peak() - self.peak < _GROWTH
            and all(_file_at(number) == file for number, file in self.descriptors)
            and _next_descriptor() < self.next_descriptor + _LEAK
            and [resource.getrlimit(limit) for limit in _LIMITS] == self.limits
        )

    @staticmethod
    def _close_figures() -> None:
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and pyplot.get_fignums():
            pyplot.close("all")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _file_at(descriptor: int) -> tuple[int, int] | None:
    try:
        info = os.fstat(descriptor)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _next_descriptor() -> int:
    """The lowest number that is free: it grows as files are left open."""
    try:
        free = os.dup(0)
    except OSError:  # none is free
        return sys.maxsize
    os.close(free)
    return free


def set_threads(count: int) -> None:
    """Let numpy and its kin use so many threads, at least one."""
    # Before numpy and its kin are loaded: they read these once. What the user set stays.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                 "LOKY_MAX_CPU_COUNT"):  # fmt: skip
        os.environ.setdefault(name, str(max(1, count)))
