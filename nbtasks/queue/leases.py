"""Held locks: who lives, and who is the one. The operating system frees them at the instant the holder dies.

They never guard data (the tickets' renames do that), so a paused holder blocks nobody. A forked child does not
inherit the lock: filelock closes the copy of its descriptor after `os.fork`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

_POLL = 0.001  # seconds between two tries of who waits: only what is held for an instant is waited for


class Lease:
    """One held lock file, by the ``filelock`` package (never its soft lock, which survives its holder)."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock: BaseFileLock | None = None

    def try_take(self) -> bool:
        """Take the lock without waiting; False when another process holds it."""
        return self.wait(0.0)

    def wait(self, timeout: float) -> bool:
        """Take the lock within `timeout` seconds; False when another process holds it for so long."""
        # Imported here: it costs 35 ms (it brings asyncio), and only workers take leases.
        from filelock import FileLock, Timeout

        os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
        lock = FileLock(self.path, timeout=timeout, mode=0o600, thread_local=False, fallback_to_soft=False)
        try:
            lock.acquire(poll_interval=_POLL)
        except Timeout:
            return False
        self._lock = lock
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None
