"""Ends what a process of the tests has left behind, however that has ended, even by kill -9.

Servers, workers and browsers have sessions of their own, and some go into the background; but all inherit a mark in their environment.
Some write over that to have a title of their own, as redis-server does: `note` these.

Run as ``python -S reaper.py PID MARK FILE``: it waits for the end of process PID, then kills all that have the mark or are noted in the file.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time

NAME = "TESTS_OF_NBTASKS"
_LOOK = 0.5  # seconds between looks
_notes = ""  # the file


def watch_this_process() -> None:
    """From now on whatever this process starts ends with it, at the latest."""
    global _notes
    if sys.platform != "linux":
        return
    os.environ[NAME] = mark = secrets.token_hex(8)
    number, _notes = tempfile.mkstemp(prefix="nbtasks-reaper-")
    os.close(number)
    # It becomes nobody's child here, so that no test that counts children sees it; and no signal for us all ends it.
    command = [sys.executable, "-S", __file__, str(os.getpid()), mark, _notes]
    null = subprocess.DEVNULL
    subprocess.run(command, stdin=null, stdout=null, stderr=null, start_new_session=True, check=True)


def note(pid: int) -> None:
    """This process is to end too, whatever it does with its environment."""
    if _notes:
        with open(_notes, "ab") as file:
            file.write(b"%d %s\n" % (pid, _born(pid)))


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


def _noted(path: str) -> list[str]:
    pairs: list[list[bytes]] = []
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        pairs = [line.split() for line in file]
    return [pair[0].decode() for pair in pairs if len(pair) == 2 and _born(int(pair[0])) == pair[1]]


def _reap(pid: int, mark: bytes, notes: str) -> None:
    born = _born(pid)
    while born and _born(pid) == born:
        time.sleep(_LOOK)
    me = str(os.getpid())
    while left := {*_noted(notes), *(one for one in os.listdir("/proc") if one.isdigit() and _has_mark(one, mark))} - {
        me
    }:
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(one), signal.SIGKILL)
        time.sleep(0.05)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(notes)


if __name__ == "__main__" and os.fork() == 0:
    _reap(int(sys.argv[1]), f"{NAME}={sys.argv[2]}".encode(), sys.argv[3])
