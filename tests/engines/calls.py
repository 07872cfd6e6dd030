"""What these tests run in slots."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

opened: list[int] = []


def give_after(gate: str, size: int) -> bytes:
    """Many bytes that cannot be made smaller, once the gate is open."""
    while not os.path.exists(gate):
        time.sleep(0.002)
    return os.urandom(size)


def leave_no_descriptor(size: int) -> bytes:
    """Return something when not one file can be opened any more."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        while True:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return bytes(size)


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)
