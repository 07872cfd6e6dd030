"""The processes engine: slots are forked from the supervisor, which is clean: no threads, no user package.

Each slot is the leader of a session of its own, so that no signal meant for the worker or a notebook reaches it,
and all that it starts can be found and ended with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from nbtasks import processes

ORPHANED = signal.SIGRTMIN + 5 if hasattr(signal, "SIGRTMIN") else None  # sent to a slot whose supervisor died
# Tells a slot to finish what it runs and leave. Not SIGTERM: user code may have given that a meaning of its own.
DRAIN = signal.SIGRTMIN + 6 if hasattr(signal, "SIGRTMIN") else signal.SIGTERM
# Tells a process of threads to look which of its tasks are to stop.
LOOK = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else signal.SIGINT
_PR_SET_PDEATHSIG = 1
_MAX_FD = 65536


def fork_slot(main: Callable[[], int], name: str, keep: int = 2) -> int:
    """Start a slot that runs `main` and exits with what it returns; its process id.

    Of the descriptors over 2 only `keep` stays open: an inherited bell or lock would make the supervisor seem
    alive after its death.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become_slot(main, name, keep)
    return pid


def _become_slot(main: Callable[[], int], name: str, keep: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        os.closerange(3, keep)
        os.closerange(keep + 1, _MAX_FD)
        processes.mark_self(name)  # by which all that descends from it is found
        _ask_for_orphan_signal()
        code = main()
    except BaseException:  # a slot must never run on into the supervisor's code
        import traceback

        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _ask_for_orphan_signal() -> None:
    # Linux only, and bound to the parent's thread: the supervisor has exactly one.
    if ORPHANED is None or not sys.platform.startswith("linux"):
        return
    signal.signal(ORPHANED, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, ORPHANED, 0, 0, 0)
