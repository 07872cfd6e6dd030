"""What the contract suite runs. The far side does not have this file: it travels with the tasks."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

import nbtasks


def add(one: Any, other: Any) -> Any:
    return one + other


def nothing() -> None:
    return None


class Odd(Exception):
    """An exception of the project, with facts."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{number} is odd")
        self.number = number


def raise_odd(number: int) -> None:
    raise Odd(number)


def say_and_wait(gate: str) -> str:
    """Print, move a bar, then run until the gate is there."""
    print("first line")
    print("to stderr", file=sys.stderr)
    for _ in nbtasks.progress(range(4), desc="steps"):
        time.sleep(0.001)
    wait(gate)
    print("last line")
    return "done"


def print_below() -> None:
    """As a library in C prints, and as a child process does."""
    os.write(1, b"from below\n")


def wait(gate: str) -> None:
    """Run until the file is there."""
    while not os.path.exists(gate):
        time.sleep(0.005)


def note(path: str, line: str = "ran") -> None:
    """Append a line to a file, at once and whole."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def note_and_wait(path: str, gate: str) -> int:
    """Leave a line with the process id, then run until the gate is there."""
    note(path, str(os.getpid()))
    wait(gate)
    return os.getpid()


def pass_by(path: str, number: int, gate: str) -> int:
    """Leave the number, and give it back; where there is a gate, when that is there."""
    note(path, str(number))
    if gate:
        wait(gate)
    return number


def sleep(path: str, seconds: float) -> None:
    """Leave a line, then sleep."""
    note(path)
    time.sleep(seconds)


def stubborn(path: str) -> None:
    """Do not let oneself be interrupted."""
    if threading.current_thread() is threading.main_thread():  # elsewhere nobody may say that
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(path, str(os.getpid()))
    while True:
        try:
            time.sleep(0.01)
        except KeyboardInterrupt:
            note(path, "interrupted")


def leave(code: int) -> None:
    print("about to leave")
    sys.stdout.flush()
    os._exit(code)


def crash() -> None:
    ctypes.string_at(0)


def fail_until(path: str, count: int) -> int:
    """Fail until the file has `count` lines, one for each try."""
    note(path)
    with open(path) as file:
        tries = len(file.readlines())
    if tries < count:
        raise ValueError(f"try {tries}")
    return tries


def large(size: int) -> bytes:
    return os.urandom(1024) * (size // 1024)


def length(data: bytes) -> int:
    return len(data)


def not_to_be_pickled() -> Any:
    return (one for one in range(3))


def submit_another() -> None:
    nbtasks.submit(nothing)


def import_missing() -> None:
    import nbtasks_no_such_module  # type: ignore[import-not-found]  # noqa: F401


def where() -> tuple[str, int]:
    """The working directory and the process."""
    return os.getcwd(), os.getpid()


def total(data: Any, number: int) -> float:
    """Also writes to what it was given, which is its own."""
    data[0] = number
    return float(data.sum())
