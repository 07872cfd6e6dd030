"""What the tests run in slots. Slots import this file, so it brings little."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import resource
import signal
import sys
import threading
import time
import warnings
from typing import Any

import nbtasks


def pid() -> int:
    """The process that runs this."""
    return os.getpid()


def note(path: str, line: object) -> int:
    """Append a line to a file, at once and whole; the process that did."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)
    return os.getpid()


def note_moment(path: str) -> None:
    """Append the moment of the schedule that this run is for, in seconds since 1970."""
    task = nbtasks.current_task()
    assert task is not None
    assert task.spec.due is not None
    note(path, round(task.spec.due))


def wait_for(path: str) -> int:
    """Run until the file is there."""
    while not os.path.exists(path):
        time.sleep(0.002)
    return os.getpid()


def note_and_wait(path: str, line: object, gate: str) -> int:
    """Append a line, then run until the gate is there."""
    note(path, line)
    return wait_for(gate)


def note_threads_and_wait(path: str, gate: str) -> int:
    """Append how many threads numpy and its kin may use, then run until the gate is there."""
    return note_and_wait(path, os.environ["OMP_NUM_THREADS"], gate)


def fail() -> None:
    raise ValueError("no good")


def fail_at_length() -> None:
    """With colours, more than a line, and more than anybody reads."""
    raise ValueError("\x1b[31mred\nand on" + " and on" * 200)


def fail_until(path: str, count: int) -> int:
    """Fail until the file has `count` lines, one for each try."""
    print("try")
    note(path, repr(time.time()))
    with open(path) as file:
        tries = len(file.readlines())
    if tries < count:
        raise ValueError(f"try {tries}")
    return tries


# What a task may do to its process.


def spoil() -> int:
    """Change all that a task might change, and leave it so."""
    import matplotlib.pyplot as plt

    os.chdir("/")
    os.environ["SPOILT"] = "1"
    os.environ.pop("HOME", None)
    sys.path.insert(0, "/spoilt")
    os.umask(0o777)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGUSR2])
    signal.setitimer(signal.ITIMER_REAL, 3600)
    warnings.simplefilter("error")
    plt.figure()
    sys.modules["__main__"].leaked = 1  # type: ignore[attr-defined]
    sys.stdout.close()
    return os.getpid()


def look() -> dict[str, Any]:
    """What a task finds."""
    umask = os.umask(0o077)
    os.umask(umask)
    pyplot = sys.modules.get("matplotlib.pyplot")
    print("here")
    return {
        "cwd": os.getcwd(),
        "environ": {name: value for name, value in os.environ.items() if name in ("SPOILT", "HOME", "PATH")},
        "path": [entry for entry in sys.path if entry == "/spoilt"],
        "umask": umask,
        "handlers": [repr(signal.getsignal(number)) for number in signal.valid_signals()],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "filters": warnings.filters[:3],
        "figures": pyplot.get_fignums() if pyplot is not None else [],
        "main": [name for name in vars(sys.modules["__main__"]) if not name.startswith("__")],
    }


def leave_thread() -> int:
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
    return os.getpid()


def close_input() -> int:
    os.close(0)
    return os.getpid()


def close_all() -> int:
    """What a daemon does at its start."""
    os.closerange(3, 4096)
    return os.getpid()


def open_many() -> int:
    """Use up all descriptors, and leave them open."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    opened = []
    with contextlib.suppress(OSError):
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    return os.getpid()


def grow() -> int:
    """Need much memory for a moment."""
    block = bytearray(600_000_000)
    block[::4096] = b"x" * len(block[::4096])
    return os.getpid()


def narrow() -> int:
    """Run out of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    return len(bytearray(8 << 30))


def reserve(size: int) -> int:
    """Take address space, but no memory."""
    with mmap.mmap(-1, size) as block:
        return len(block)


# How a process may die.


def exit_now(code: int) -> None:
    os._exit(code)


def segfault() -> None:
    ctypes.string_at(1)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sys_exit() -> None:
    sys.exit("enough")


def overflow_stack() -> None:
    """Without end in C, where Python's own limit does not see it."""
    sys.setrecursionlimit(1 << 30)
    nested: list[Any] = []
    for _ in range(3_000_000):
        nested = [nested]
    repr(nested)


def recurse() -> int:
    return recurse() + 1


# What is to be stopped.


def keep_value(started: str) -> str:
    """Return something when interrupted."""
    try:
        note(started, os.getpid())
        time.sleep(3600)
    except KeyboardInterrupt:
        return "kept"
    return "never"


def ignore_all(started: str) -> None:
    """Listen to nothing."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(started, os.getpid())
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(3600)


def leave_children(started: str) -> None:
    """Have children that went their own ways, then listen to nothing."""
    if os.fork() == 0:  # a session of its own
        os.setsid()
        _stay(started)
    if os.fork() == 0:  # a daemon: forked twice
        os.setsid()
        if os.fork() == 0:
            _stay(started)
        os._exit(0)
    if os.fork() == 0:  # another program
        os.setsid()
        note(started, os.getpid())
        os.execvp("sleep", ["sleep", "3600"])
    ignore_all(started)


def _stay(started: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    note(started, os.getpid())
    while True:
        time.sleep(3600)


def nap(started: str, seconds: float) -> int:
    note(started, os.getpid())
    time.sleep(seconds)
    return os.getpid()


# What submits others.


def ask_another(depth: int) -> int:
    """Submit the same for one less, and wait for it."""
    import nbtasks

    return 0 if depth == 0 else nbtasks.submit(ask_another, depth - 1).result(60) + 1


# At most so many at once.


def occupy(folder: str, places: int, seconds: float) -> float:
    """Take one of the places in a folder for a while; when all are taken, note that there were too many. The moment of its start."""
    start = time.time()
    for number in range(places):
        fd = os.open(f"{folder}/place-{number}", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # free when its process is dead
        except BlockingIOError:
            os.close(fd)
            continue
        time.sleep(seconds)
        os.close(fd)
        return start
    note(f"{folder}/too-many", os.getpid())
    raise RuntimeError("too many at once")


def occupy_by_child(folder: str) -> None:
    """Let a child of ours, in a session of its own, keep a place until it is ended."""
    if os.fork() == 0:
        os.setsid()
        fd = os.open(f"{folder}/place-0", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        note(f"{folder}/child", os.getpid())
        time.sleep(3600)
        os._exit(0)
    time.sleep(3600)


def note_now(path: str) -> None:
    """Append the moment."""
    note(path, repr(time.time()))
