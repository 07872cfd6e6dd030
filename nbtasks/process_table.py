"""Under `processes`: the processes that live now, read from /proc or, on other systems, by psutil."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import psutil

MARK = "NBTASKS_SLOT"
LINUX = sys.platform == "linux"
# Fields of /proc/PID/stat, counted from the state, which follows the name in parentheses.
_PARENT, _SESSION, UTIME, CSTIME, _THREADS, _START, ENV_START = 1, 3, 11, 14, 17, 19, 47


class Process(NamedTuple):
    """A live process of a tree."""

    pid: int
    parent: int
    session: int
    start: float


def _read(path: str) -> bytes:
    """A file of /proc; b"" when its process is gone or not ours."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return b""


def stat_of(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on; none when the process is gone."""
    return _read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def environment_of(pid: int) -> bytes:
    """What /proc shows as its environment: as it was when it was executed. b"" when not ours to see."""
    return _read(f"/proc/{pid}/environ")


def look(pid: int) -> Process | None:
    """The live process of that number. A zombie is dead, unless only its first thread has ended."""
    if not LINUX:
        return _psutil_look(pid)
    stat = stat_of(pid)
    if not stat or (stat[0] in (b"Z", b"X", b"x") and int(stat[_THREADS]) <= 1):
        return None
    return Process(pid, int(stat[_PARENT]), int(stat[_SESSION]), int(stat[_START]))


def everyone_alive() -> dict[int, Process]:
    """Every live process that can be seen, by pid."""
    if LINUX:
        pids: Iterable[int] = map(int, filter(str.isdigit, os.listdir("/proc")))
    else:
        import psutil

        pids = psutil.pids()
    looks = ((pid, look(pid)) for pid in pids)
    return {pid: process for pid, process in looks if process}


def has_mark(pid: int, mark: str) -> bool:
    """Whether the process was started with NBTASKS_SLOT=`mark` in its environment, or shows so since `mark_self`."""
    wanted = f"{MARK}={mark}".encode()
    if LINUX:
        return b"\0" + wanted + b"\0" in b"\0" + environment_of(pid) + b"\0"
    import psutil

    try:
        return bool(psutil.Process(pid).environ().get(MARK) == mark)
    except psutil.Error:
        return False


def family(pid: int) -> list[int]:
    """A process and its descendants, cheaply: without looking at every process of the machine."""
    todo, found = [pid], []
    while todo:
        found.append(one := todo.pop())
        for thread in _threads(one):
            todo += map(int, _read(f"/proc/{one}/task/{thread}/children").split())
    return found


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []


def sizes_of(pid: int) -> Iterator[tuple[str, int]]:
    """The sizes in /proc/PID/status, in bytes."""
    for line in _read(f"/proc/{pid}/status").decode(errors="replace").splitlines():
        name, _, size = line.partition(":")
        if size.endswith(" kB"):
            yield name, int(size.split()[0]) * 1024


def _psutil_look(pid: int) -> Process | None:
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return None
            session = os.getsid(pid) if hasattr(os, "getsid") else 0
            return Process(pid, process.ppid(), session, process.create_time())
    except (psutil.Error, OSError):
        return None


def psutil_family(pid: int) -> list[psutil.Process]:
    """As `family`, for systems without /proc."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
