"""Bells: FIFOs that wake a process which waits. A ring is a hint and may be lost; listings make good for that."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
import weakref

HAVE_FIFOS = hasattr(os, "mkfifo")
POLL = 0.05  # seconds between looks where there are no FIFOs
_PIECE = 65536


class Bell:
    """A FIFO of our own under `folder`. Only this process reads it; anybody who may write the queue rings it.

    It is made under a dot-name and renamed into view, so that whoever sees it can ring it. The read end is
    opened read-write: the FIFO then never reports end-of-file, and dies with the process.
    """

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = folder, name
        self.fd = -1
        if HAVE_FIFOS:
            _make_folder(folder)
            hidden = f"{folder}/.{name}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(hidden)
            os.mkfifo(hidden, 0o600)
            self.fd = os.open(hidden, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            os.rename(hidden, self.path)
            _ours.add(self)

    @property
    def path(self) -> str:
        """Where the bell hangs now."""
        return f"{self.folder}/{self.name}"

    def hang(self, folder: str) -> None:
        """Move the bell to another folder (idle or not); it keeps what was rung."""
        if folder == self.folder or not HAVE_FIFOS:
            self.folder = folder
            return
        try:
            os.rename(self.path, f"{folder}/{self.name}")
        except FileNotFoundError:
            _make_folder(folder)
            if not os.path.exists(self.path):  # swept away by someone who took us for dead
                os.close(self.fd)
                self.__init__(folder, self.name)  # type: ignore[misc]  # all of it anew
                return
            os.rename(self.path, f"{folder}/{self.name}")
        self.folder = folder

    def drain(self) -> list[str]:
        """All hints rung since the last drain, oldest first. Never blocks."""
        if self.fd < 0:
            return []
        data = b""
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(self.fd, _PIECE):
                data += piece
                if len(piece) < _PIECE:
                    break
        return data.decode("utf-8", "replace").split("\n")[:-1] if data else []

    def wait(self, timeout: float | None, *fds: int) -> bool:
        """Sleep until the bell rings, one of `fds` is readable, or `timeout` seconds pass. True: something rang."""
        if self.fd < 0:
            time.sleep(POLL if timeout is None else min(POLL, timeout))
            return True
        poll = select.poll()
        for fd in (self.fd, *fds):
            poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0, timeout) * 1000))

    def close(self) -> None:
        """Take the bell away."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            os.close(self.fd)
            self.fd = -1


def _make_folder(path: str) -> None:
    # Not `makedirs`: it gives its mode to the innermost folder only.
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make_folder(os.path.dirname(path))
        _make_folder(path)


_ours: weakref.WeakSet[Bell] = weakref.WeakSet()


def _after_fork() -> None:
    # A child that kept the descriptor would make its dead parent seem to listen.
    for bell in list(_ours):
        if bell.fd >= 0:
            os.close(bell.fd)
            bell.fd = -1
    _ours.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def ring(path: str, hint: str = "") -> bool:
    """Ring one bell. False when nobody hears it any more (the dead bell is taken away)."""
    fd = _open(path)
    if fd < 0:
        return False
    try:
        os.write(fd, f"{hint}\n".encode())
    except BlockingIOError:
        pass  # full: it is awake already
    except BrokenPipeError:
        return False  # it went between our open and our write
    finally:
        os.close(fd)
    return True


def hears(path: str) -> bool:
    """True while the owner of the bell lives. A dead bell is taken away."""
    fd = _open(path)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.ENXIO:
            with contextlib.suppress(OSError):
                os.unlink(path)
        return -1


def bells_in(folder: str, letter: str = "") -> list[str]:
    """Paths of the bells in `folder`, in the order of their names; only of those whose names begin with `letter`."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [
        f"{folder}/{name}" for name in sorted(names) if name != "idle" and name[0] != "." and name.startswith(letter)
    ]


def ring_all(folder: str, hint: str) -> int:
    """Ring every bell in `folder`; how many heard it."""
    return sum(ring(path, hint) for path in bells_in(folder))
