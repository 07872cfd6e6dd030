"""Blobs: large buffers, project sources and contexts, stored once under their SHA-256.

A blob appears under its name whole, by a rename, so whoever finds one of the right size may use it.
Buffers are mapped copy-on-write and not read through; what is run as code (sources) is read by
`Blobs.read`, which compares the hash.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
import secrets
import stat
import threading
import weakref
from typing import Protocol

from nbtasks.durable import Bytes, Disk, RealDisk
from nbtasks.errors import FrameDamaged

_HASH = re.compile(r"[0-9a-f]{64}")
_WORTH_A_THREAD = 8 << 20
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

# A mapping keeps a descriptor. A thousand small results in one kernel must not use them all up, so
# beyond this number only what is really large is mapped, and the rest read.
_MANY_MAPS = 200
_LARGE = 64 << 20
_maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


class Maps(Protocol):
    """Where buffers are that are not in a frame itself; `Blobs` of a queue, or what came over a wire."""

    folder: str

    def map(self, hash: str, size: int | None = None) -> memoryview:
        """A buffer, writable. Raises FrameDamaged when it is missing."""
        ...


class Blobs:
    """The folder ``blobs/`` of a queue: HASH (64 hexadecimal characters) ↔ bytes."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self.disk = disk
        self.folder = folder
        self._known: set[tuple[int, bytes]] = set()

    def path(self, hash: str) -> str:
        """Where a blob lies. Raises FrameDamaged when `hash` is none, so that nothing else becomes a path."""
        if not _HASH.fullmatch(hash):
            raise FrameDamaged(f"{hash[:80]!r} names no blob (64 hexadecimal characters)")
        return f"{self.folder}/{hash[:2]}/{hash}"

    def put(self, buffer: Bytes, *, flush: bool = False) -> str:
        """Store `buffer` unless it is there, and give its hash. Nothing is copied.

        ``flush=True``: it survives a power cut. Raises OSError when it does not fit; then nothing is left behind.
        """
        view = flat(buffer)
        if view.nbytes < _WORTH_A_THREAD or self._is_known(view):
            hash = hashlib.sha256(view).hexdigest()
            path = self.path(hash)
            if self._size(path) != view.nbytes:  # a crash may have left half of one
                hidden = self._hidden(f"{hash[:2]}/")
                self.disk.create(hidden, (view,))
                self._show(hidden, path)
        else:
            path = self._put_large(view)
            hash = path.rpartition("/")[2]
        if flush:
            self.disk.flush(path)
        return hash

    def _put_large(self, view: memoryview) -> str:
        """Write and hash at the same time, for either takes long; the path."""
        hashes: list[str] = []
        thread = threading.Thread(target=lambda: hashes.append(hashlib.sha256(view).hexdigest()))
        thread.start()
        hidden = self._hidden("")
        try:
            self.disk.create(hidden, (view,))
        finally:
            thread.join()
        path = self.path(hashes[0])
        if self._size(path) == view.nbytes:
            self.disk.remove(hidden)
        else:
            self._show(hidden, path)
        return path

    def _show(self, hidden: str, path: str) -> None:
        try:
            self.disk.move(hidden, path)
        except BaseException:
            self.disk.remove(hidden)
            raise

    def _hidden(self, folder: str) -> str:
        # A dot-name: whoever lists the folder leaves it alone, and the sweep knows it for a leftover.
        return f"{self.folder}/{folder}.{secrets.token_hex(8)}"

    def _is_known(self, view: memoryview) -> bool:
        """Whether this process has probably stored the same before; then it is not written only to be thrown away."""
        sample = hashlib.sha256()
        for at in range(0, view.nbytes, view.nbytes // 64):
            sample.update(view[at : at + 512])
        known = (view.nbytes, sample.digest())
        if known in self._known:
            return True
        if len(self._known) > 10_000:
            self._known.clear()
        self._known.add(known)
        return False

    def has(self, hash: str) -> bool:
        """Whether a blob is there."""
        return self.disk.exists(self.path(hash))

    def read(self, hash: str) -> bytes:
        """The bytes of a blob, compared with their hash. Raises FrameDamaged when it is missing or altered."""
        path = self.path(hash)
        try:
            data = self.disk.read(path)
        except OSError as error:
            raise _unusable(path, error) from error
        if hashlib.sha256(data).hexdigest() != hash:
            raise FrameDamaged(f"the blob {path} was altered or cut short: submit again what needs it", path=path)
        return data

    def map(self, hash: str, size: int | None = None) -> memoryview:
        """A blob in memory, writable; writing changes neither the file nor what others see.

        Raises FrameDamaged when it is missing or, with `size` given, not of that many bytes.
        """
        path = self.path(hash)
        if not is_real(self.disk):
            return memoryview(bytearray(self.read(hash)))
        try:
            fd, found = open_regular(path)
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            if size is not None and found != size:
                raise FrameDamaged(
                    f"the blob {path} has {found} bytes instead of {size}: submit again what needs it", path=path
                )
            return map_file(fd, found)
        finally:
            os.close(fd)

    def _size(self, path: str) -> int:
        """The size of a blob, -1 when it is not there."""
        try:
            if not is_real(self.disk):
                return len(self.disk.read(path))
            info = os.lstat(path)
        except FileNotFoundError:
            return -1
        return info.st_size if stat.S_ISREG(info.st_mode) else -1


def flat(buffer: Bytes) -> memoryview:
    """A buffer as contiguous bytes; copied only when its parts lie scattered."""
    view = memoryview(buffer)
    if view.ndim == 1 and view.format == "B" and view.contiguous:
        return view
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())


def is_real(disk: Disk) -> bool:
    """Whether the disk's paths are paths of this machine (the crash model's are not)."""
    return isinstance(getattr(disk, "inner", disk), RealDisk)


def open_regular(path: str) -> tuple[int, int]:
    """A descriptor for reading `path`, which is no link and a regular file, and its size.

    Raises FrameDamaged when something else stands in its place; never waits (a FIFO). Other
    errors are OSError, FileNotFoundError among them.
    """
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link; a socket
            raise not_a_file(path) from error
        raise
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)
        raise not_a_file(path)
    return fd, info.st_size


def not_a_file(path: str) -> FrameDamaged:
    """The error for a link, FIFO, folder or device where a file should be."""
    return FrameDamaged(
        f"{path} is not a regular file (a link, a FIFO, a folder?): it was not opened; remove it", path=path
    )


def map_file(fd: int, size: int) -> memoryview:
    """A whole file as writable memory that nobody else sees the changes of."""
    if not size or (len(_maps) >= _MANY_MAPS and size < _LARGE):
        return memoryview(read_into(fd, size))
    mapping = mmap.mmap(fd, size, access=mmap.ACCESS_COPY)
    _maps.add(mapping)
    return memoryview(mapping)


def read_into(fd: int, size: int, offset: int = 0) -> bytearray:
    """`size` bytes of a file from `offset` on, or what there is."""
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    os.lseek(fd, offset, os.SEEK_SET)
    while done < size and (count := os.readv(fd, [view[done:]])):
        done += count
    if done < size:
        view.release()
        del data[done:]
    return data


def _unusable(path: str, error: OSError) -> FrameDamaged:
    return FrameDamaged(
        f"the blob {path} cannot be read ({error.strerror or error}): it was removed or damaged; submit again "
        f"what needs it",
        path=path,
    )
