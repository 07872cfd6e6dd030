"""Under `durable`: what needs more than one system call, or differs between systems."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence

Bytes = bytes | bytearray | memoryview

BINARY = getattr(os, "O_BINARY", 0)  # Windows
NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | BINARY
READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | BINARY
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
WINDOWS = sys.platform == "win32"
_VECTORS = 1000  # IOV_MAX is 1024
_NETWORK = (
    "nfs", "cifs", "smb", "fuse.sshfs", "lustre", "ceph", "fuse.ceph", "gpfs", "9p", "afs", "beegfs", "fuse.gluster",
)  # fmt: skip


class CreateUncertain(OSError):
    """`create` failed and could not take its file away again: it may exist, or have been moved on already."""


def on_network(folder: str) -> bool:
    """Whether `folder` lies on a file system that other hosts may change too (NFS, SMB, sshfs…). False if unknown."""
    try:
        device = os.stat(folder).st_dev
        if device not in _networks:
            _networks[device] = _is_network(f"{os.major(device)}:{os.minor(device)}")
        return _networks[device]
    except (OSError, AttributeError):  # AttributeError: Windows has no os.major
        return False


_networks: dict[int, bool] = {}


def _is_network(device: str) -> bool:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            if before.split()[2] == device:
                return after.split()[0].startswith(_NETWORK)
    return False


def write_all(fd: int, parts: Sequence[Bytes]) -> None:
    """Write all of `parts` at the position of `fd`. OSError when the disk does not take them (full)."""
    if len(parts) == 1:
        part = parts[0]
        count = os.write(fd, part)
        if count == (part.nbytes if isinstance(part, memoryview) else len(part)):
            return
    else:
        count = _write_some(fd, parts[:_VECTORS])
    views: list[memoryview] = [memoryview(part) for part in parts]
    left = [view.cast("B") for view in views if view.nbytes]
    while left := _after(left, count):
        count = _write_some(fd, left[:_VECTORS])
        if not count:
            raise OSError(errno.ENOSPC, "nothing could be written")


def _write_some(fd: int, parts: Sequence[Bytes]) -> int:
    return os.write(fd, parts[0]) if WINDOWS else os.writev(fd, parts)


def _after(left: list[memoryview], count: int) -> list[memoryview]:
    """What is left of `left` after its first `count` bytes."""
    for index, view in enumerate(left):
        if count < view.nbytes:
            return [view[count:], *left[index + 1 :]]
        count -= view.nbytes
    return []


def read_rest(fd: int, missing: int) -> bytes:
    """Up to `missing` further bytes: fewer only at the end of the file."""
    chunks = []
    while missing and (chunk := os.read(fd, missing)):
        chunks.append(chunk)
        missing -= len(chunk)
    return b"".join(chunks)


def take_back(path: str, error: BaseException) -> None:
    """Remove the file whose making ended in `error`; CreateUncertain when that cannot be done."""
    try:
        os.unlink(path)
    except OSError as trouble:
        number = error.errno if isinstance(error, OSError) else trouble.errno
        raise CreateUncertain(number, f"{error}; and it could not be removed: {trouble}", path) from error


def is_there(path: str) -> bool:
    """Whether the name exists, links not followed; errors other than "not there" are raised."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def worth_another_try(error: OSError, attempt: int) -> bool:
    """Whether a rename that failed so, and changed nothing, may succeed when tried again."""
    if WINDOWS and isinstance(error, PermissionError):
        time.sleep(0.001 * attempt)  # somebody has the file open; together a good second
        return True
    return error.errno in (errno.ENOENT, errno.EINTR) or (error.errno == errno.ESTALE and attempt < 3)


def flush_path(folder: str) -> None:
    """Flush the names in a folder."""
    fd = os.open(folder, FOLDER)
    try:
        flush_fd(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some FUSE file systems cannot flush a folder, and say so thus
            raise
    finally:
        os.close(fd)


def flush_fd(fd: int) -> None:
    """Flush an open file down to the medium."""
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # fsync there leaves data in the drive's cache
    else:
        os.fsync(fd)


def flush_filesystem(root: str) -> None:
    """syncfs of the file system of `root`; sync of all where there is no such call."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None) if sys.platform == "linux" else None
    if syncfs is None:
        getattr(os, "sync", lambda: None)()
        return
    fd = os.open(root, FOLDER)
    try:
        if syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), "syncfs failed", root)
    finally:
        os.close(fd)
