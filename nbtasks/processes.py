"""Who lives, and how a whole tree of processes ends. Linux by /proc and pidfd, other systems by psutil."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterable

import msgspec

from nbtasks.host import boot_id, default_slots, host_name, machine_id, memory_limit, oom_kills, usable_cores
from nbtasks.process_table import (
    CSTIME,
    ENV_START,
    LINUX,
    MARK,
    UTIME,
    Process,
    environment_of,
    everyone_alive,
    family,
    has_mark,
    look,
    psutil_family,
    sizes_of,
    stat_of,
)

__all__ = [
    "Identity", "Process", "become_subreaper", "boot_id", "cpu_of_tree", "default_slots", "end_tree", "host_name",
    "identify", "is_alive", "kill_tree", "mark_environment", "mark_self", "memory_limit", "memory_of_tree",
    "oom_kills", "open_pidfd", "pid_namespace", "restart_with_room", "tree", "usable_cores",
]  # fmt: skip

_SIGKILL = getattr(signal, "SIGKILL", signal.SIGTERM)
_ROOM = 80  # bytes kept for the mark of a slot in the environment of its supervisor


class Identity(msgspec.Struct, frozen=True):
    """One process, told from every other there was or will be."""

    pid: int
    start: float  # when it started: ticks since boot on Linux, else seconds since 1970
    boot: str
    host: str
    pidns: str = ""
    machine: str = ""


def pid_namespace() -> str:
    """The name of this process's pid namespace; "" where there are none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def identify(pid: int | None = None) -> Identity:
    """The identity of a live process of this host, by default this one. ProcessLookupError if there is none."""
    pid = os.getpid() if pid is None else pid
    process = look(pid)
    if process is None:
        raise ProcessLookupError(f"there is no process {pid}")
    return Identity(pid, process.start, boot_id(), host_name(), pid_namespace(), machine_id())


def is_alive(identity: Identity) -> bool | None:
    """Whether that very process lives (a zombie does not). None: it cannot be told from here.

    Same boot and pid namespace: exact. The same host after a restart: False. Another host, or another
    container of this host: None.
    """
    if identity.boot != boot_id():
        same_host = identity.host == host_name() and identity.machine == machine_id()
        return False if same_host else None
    if identity.pidns != pid_namespace():
        return None
    process = look(identity.pid)
    return process is not None and process.start == identity.start


def open_pidfd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process ends; None where the system has none (then poll).

    The caller closes it. ProcessLookupError if there is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (AttributeError, OSError):
        return None


def mark_environment(slot: str = "") -> dict[str, str]:
    """What to add to the environment so that whatever a slot starts can be found again by `tree`.

    Without a slot: the room for a mark; start supervisors with it, and their forks can use `mark_self`.
    A process that must not end with the slot that starts it (a worker) gets this instead of the slot's mark.
    """
    return {MARK: slot or "-" * _ROOM}


def mark_self(slot: str) -> bool:
    """Mark this process, and whatever it forks or starts from now on, as the slot's. For the slot itself.

    A child that is only forked shows the environment that the supervisor was started with, whatever
    `os.environ` says. So the mark is written over the room that `mark_environment` keeps there; False
    when there is none, and then only children that were executed are marked.
    """
    os.environ[MARK] = slot
    if not LINUX or len(slot) > _ROOM:
        return False
    room = f"{MARK}={'-' * _ROOM}".encode()
    at = (b"\0" + environment_of(os.getpid())).find(b"\0" + room + b"\0")
    if at < 0:
        return False
    import ctypes

    start = int(stat_of(os.getpid())[ENV_START])
    ctypes.memmove(start + at, f"{MARK}={slot}".encode().ljust(len(room), b"\0"), len(room))
    return True


def restart_with_room() -> None:
    """Start this program again when its environment has no room for a mark; then this does not return.

    For a worker that was started by hand, before it does anything.
    """
    room = mark_environment()
    if LINUX and os.environ.get(MARK) != room[MARK]:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | room)


def become_subreaper() -> bool:
    """Let orphans among the descendants of this process become its children, not those of init. Linux only."""
    if not LINUX:
        return False
    import ctypes

    return bool(ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0)


def tree(root: int | Identity, mark: str = "") -> list[Process]:
    """The live processes that belong to `root`: itself, its descendants, its session, and all that carry `mark`.

    With a pid, `root` must be a child of ours that was not waited for, so that nobody else can have got
    its number; with an Identity it may be long gone. This process is never among them.
    """
    everyone = everyone_alive()
    pid = _pid_to_follow(root, everyone)
    first = everyone[pid].start if pid in everyone else 0
    found = {pid} if pid else set()
    for process in sorted(everyone.values(), key=lambda process: process.start):
        if process.start < first or process.pid in found:
            continue
        if (pid and process.session == pid) or (mark and has_mark(process.pid, mark)):
            found.add(process.pid)
    return [everyone[one] for one in _with_descendants(found, everyone.values()) if one in everyone]


def _pid_to_follow(root: int | Identity, everyone: dict[int, Process]) -> int:
    """The pid whose descendants and session are meant; 0 when that number belongs to somebody else by now."""
    if isinstance(root, int):
        return root
    if is_alive(root) is None or root.boot != boot_id():
        return 0
    return root.pid if root.pid not in everyone or everyone[root.pid].start == root.start else 0


def _with_descendants(found: set[int], everyone: Iterable[Process]) -> list[int]:
    children: dict[int, list[int]] = {}
    for process in everyone:
        children.setdefault(process.parent, []).append(process.pid)
    todo, done = list(found), dict.fromkeys(found)
    while todo:
        for child in children.get(todo.pop(), ()):
            if child not in done:
                done[child] = None
                todo.append(child)
    done.pop(os.getpid(), None)
    return list(done)


def end_tree(root: int | Identity, mark: str = "", *, term: bool) -> int:
    """Send SIGTERM (`term`) or SIGKILL once to every process of the tree; how many got it."""
    number = signal.SIGTERM if term else _SIGKILL
    return sum(_send(process, number) for process in tree(root, mark))


def kill_tree(root: int | Identity, mark: str = "", timeout: float = 2.0) -> list[Process]:
    """Kill the tree, again and again until nothing of it is left. Those that outlive `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    killed: set[Process] = set()
    # One that dies shows no mark any more, but lets go of its files and locks only a little later.
    while left := list({one.pid: one for one in (*filter(_is_there, killed), *tree(root, mark))}.values()):
        for process in left:
            _send(process, _SIGKILL)
        killed.update(left)
        if time.monotonic() > deadline:
            return left
        time.sleep(pause)
        pause = min(pause * 2, 0.05)
    return []


def _is_there(process: Process) -> bool:
    now = look(process.pid)
    return now is not None and now.start == process.start


def _send(process: Process, number: int) -> bool:
    """Signal that very process, not one that has got its number meanwhile. False when it is gone or not ours."""
    try:
        fd = open_pidfd(process.pid)
        try:
            if not _is_there(process):
                return False
            if fd is None:
                os.kill(process.pid, number)
            else:
                signal.pidfd_send_signal(fd, number)
            return True
        finally:
            if fd is not None:
                os.close(fd)
    except (ProcessLookupError, PermissionError):
        return False


def memory_of_tree(pid: int) -> int:
    """Bytes of memory in use by a process and its descendants; what they map from files is not counted.

    Pages that a fork shares with its parent count for both; shared memory counts once.
    """
    if not LINUX:
        return sum(process.memory_info().rss for process in psutil_family(pid))
    own = shared = 0
    for one in family(pid):
        sizes = dict(sizes_of(one))
        own += sizes.get("RssAnon", 0)
        shared = max(shared, sizes.get("RssShmem", 0))
    return own + shared


def cpu_of_tree(pid: int) -> float:
    """Seconds of processor time that a process and its descendants have used, ended children included."""
    if not LINUX:
        return float(sum(sum(process.cpu_times()[:4]) for process in psutil_family(pid)))
    stats = [stat_of(one) for one in family(pid)]
    return sum(int(tick) for stat in stats for tick in stat[UTIME : CSTIME + 1]) / os.sysconf("SC_CLK_TCK")
