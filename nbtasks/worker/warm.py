"""What a warm slot gets back between two functions, and when it must be replaced instead."""

from __future__ import annotations

import _signal
import os
import resource
import signal
import sys
import threading
import warnings

WATCH_THREAD = "nbtasks-watch"
_GROWTH = 500_000_000  # bytes of peak memory over which the process is replaced
# The C function: that of `signal` makes an enum of every number and handler, ten times the cost of the look.
_get_handler = _signal.getsignal
_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM, signal.SIGPIPE]


class Warmth:
    """The state of a process that tasks might change, taken when the slot is fresh."""

    def __init__(self) -> None:
        self.handlers = [(int(number), _get_handler(int(number))) for number in _SIGNALS]
        self.umask = os.umask(0o077)
        os.umask(self.umask)
        self.filters = list(warnings.filters)
        self.threads = self._threads()
        self.peak = _peak()

    def restore(self) -> bool:
        """Put things back; False when they cannot be, and a new process must take over."""
        for number, handler in self.handlers:
            if _get_handler(number) is not handler and handler is not None:
                signal.signal(number, handler)
        if signal.getitimer(signal.ITIMER_REAL)[0]:
            signal.setitimer(signal.ITIMER_REAL, 0)
        os.umask(self.umask)
        if warnings.filters != self.filters:
            warnings.filters[:] = self.filters  # type: ignore[index]
        self._close_figures()
        return self._threads() <= self.threads and _peak() - self.peak < _GROWTH

    @staticmethod
    def _threads() -> int:
        # The reader of a nested wait is ours, and goes by itself.
        return sum(1 for thread in threading.enumerate() if thread.name != WATCH_THREAD)

    @staticmethod
    def _close_figures() -> None:
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is not None and pyplot.get_fignums():
            pyplot.close("all")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
