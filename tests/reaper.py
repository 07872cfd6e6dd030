"""Ends what a process of the tests has left behind, however that has ended, even by kill -9.

Servers, workers and browsers have sessions of their own, and some go into the background; but all inherit a mark in their environment.
Run as ``python -S reaper.py PID MARK``: it waits for the end of process PID, then kills all that have the mark.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time

NAME = "TESTS_OF_NBTASKS"
_LOOK = 0.5  # seconds between looks


def watch_this_process() -> None:
    """From now on whatever this process starts ends with it, at the latest."""
    if sys.platform != "linux":
        return
    os.environ[NAME] = mark = secrets.token_hex(8)
    # It becomes nobody's child here, so that no test that counts children sees it; and no signal for us all ends it.
    command = [sys.executable, "-S", __file__, str(os.getpid()), mark]
    null = subprocess.DEVNULL
    subprocess.run(command, stdin=null, stdout=null, stderr=null, start_new_session=True, check=True)


def _born(pid: int) -> bytes:
    """The moment at which a process was born; b"" when it is dead."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
        return b"" if fields[0] in b"ZX" else fields[19]
    return b""


def _has_mark(pid: str, mark: bytes) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return mark in file.read().split(b"\0")
    return False


def _reap(pid: int, mark: bytes) -> None:
    born = _born(pid)
    while born and _born(pid) == born:
        time.sleep(_LOOK)
    me = str(os.getpid())
    while left := [one for one in os.listdir("/proc") if one.isdigit() and one != me and _has_mark(one, mark)]:
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(one), signal.SIGKILL)
        time.sleep(0.05)


if __name__ == "__main__" and os.fork() == 0:
    _reap(int(sys.argv[1]), f"{NAME}={sys.argv[2]}".encode())
