"""Held locks: who lives, and who is the one. The operating system frees them at the instant the holder dies.

They never guard data (the tickets' renames do that), so a paused holder blocks nobody. A forked child does not
inherit the lock: filelock closes the copy of its descriptor after `os.fork`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # not there

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


class QuickLease:
    """The same lock as `Lease`, by the system call itself where there is one: for what is taken and given back with every task.

    It cost a hundredth of what the package costs. Unlike there, who loses the object loses the lock.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd, self._file = -1, (0, 0)
        self._other: Lease | None = None

    def try_take(self) -> bool:
        """Take the lock without waiting; False when another holds it."""
        if fcntl is None:
            self._other = Lease(self.path)
            return self._other.try_take()
        fd = self._open()
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            info = os.fstat(fd)
            if info.st_nlink:  # else the file was removed meanwhile, and another has the name
                self._fd, self._file, fd = fd, (info.st_dev, info.st_ino), -1
                _held.add(self)
                return True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
        finally:
            if fd >= 0:
                os.close(fd)
        return False

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            return os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), 0o700, exist_ok=True)
            return os.open(self.path, flags, 0o600)

    def wait(self, timeout: float) -> bool:
        """Take the lock within `timeout` seconds; False when another process holds it for so long."""
        until = time.monotonic() + timeout
        while not self.try_take():
            if time.monotonic() > until:
                return False
            time.sleep(_POLL)
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._other is not None:
            self._other.release()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):  # the task may have closed it, and the number may be another's now
                info = os.fstat(fd)
                if (info.st_dev, info.st_ino) == self._file:
                    fcntl.flock(fd, fcntl.LOCK_UN)  # also for a child that was forked in C and has the descriptor
                    os.close(fd)

    def __del__(self) -> None:
        self.release()

    def forget(self) -> None:
        """In a forked child: the lock is its parent's."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


_held: weakref.WeakSet[QuickLease] = weakref.WeakSet()


def _after_fork() -> None:
    for lease in list(_held):
        lease.forget()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
