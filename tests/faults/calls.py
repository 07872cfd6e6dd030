"""What the tasks of these tests do: each says outside of the queue that it ran."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import Any

import nbtasks


def note(path: str) -> int:
    """Append this task's id to the file, at once and whole."""
    task = nbtasks.current_task()
    assert task is not None
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{task.id}\n".encode())
    os.close(fd)
    return task.attempt


def work(path: str, seconds: float = 0.0, *needed: Any) -> int:
    """Run for a while."""
    attempt = note(path)
    time.sleep(seconds)
    return attempt


def fail_at_first(path: str) -> int:
    """Succeed at the second attempt only."""
    if (attempt := note(path)) < 2:
        raise ValueError("not yet")
    return attempt


def fail(path: str) -> None:
    note(path)
    raise ValueError("never")


def die(path: str) -> None:
    note(path)
    os.kill(os.getpid(), signal.SIGKILL)


def stay(path: str) -> None:
    """Run until stopped by force."""
    note(path)
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(3600)


def step(path: str, seconds: float, sound: str, *needed: Any) -> int:
    """Say when it begins and when it has done its work; fail while the file `sound` is wanted and not there."""
    task = nbtasks.current_task()
    assert task is not None
    _append(path, f"> {task.id}")
    time.sleep(seconds)
    if sound and not os.path.exists(sound):
        raise ValueError("not yet")
    _append(path, f"< {task.id}")
    return 1


def item(value: int, path: str) -> int:
    return step(path, 0.0, "") + value


def several(path: str, count: int, *needed: Any) -> list[int]:
    step(path, 0.0, "")
    return list(range(count))


def _append(path: str, line: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)
