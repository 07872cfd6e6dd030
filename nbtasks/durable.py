"""The one door for tickets, calls, outcomes and blobs: create, move, list, read, flush.

Three forms of one class: `RealDisk` (the file system); for tests `durable_faults.FaultyDisk`, which
kills or fails at named steps, and `durable_model.ModelDisk`, the crash model. All paths are absolute.

What a crash may leave: a rename is atomic across both folders; data and names that were not
flushed may be lost or empty. The hot operations are plain system calls: open, write, close
for `create`, one rename for `move`.
"""

from __future__ import annotations

import errno
import importlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Sequence

from nbtasks.config import settings
from nbtasks.durable_calls import (
    BINARY,
    NEW,
    READ,
    WINDOWS,
    Bytes,
    CreateUncertain,
    flush_fd,
    flush_filesystem,
    flush_path,
    is_there,
    on_network,
    read_rest,
    take_back,
    worth_another_try,
    write_all,
)

Names = list[str]

__all__ = ["Bytes", "CreateUncertain", "Disk", "RealDisk", "on_network", "open_disk"]

_TRIES = 50  # others may remove the empty folder that we have just made; not fifty times
_FIRM_FOR = 5.0  # seconds; empty folders are removed when 10 s old, so a younger one is still the same


class Disk:
    """What every form can do. Errors are OSError; nothing but `move` and `create` tries again by itself."""

    def create(self, path: str, parts: Sequence[Bytes], *, flush: bool = False) -> None:
        """Make the new file `path` (mode 0600) of `parts`, and its folder (0700) when that is missing.

        ``flush=True``: data and name survive a power cut once this returns. On any error the half
        file is taken away and the error raised (FileExistsError when the name is in use);
        CreateUncertain when it could not be taken away.
        """
        raise NotImplementedError

    def move(self, source: str, target: str) -> bool:
        """One rename. True: we moved it. False: `source` is gone, somebody else was faster.

        Makes the target's folder when it is missing. An error is raised only when `source` is
        still there afterwards. Of many movers of one source exactly one gets True.
        """
        raise NotImplementedError

    def list(self, folder: str) -> Names:
        """The names in `folder`, in no order; none when it does not exist or is none."""
        raise NotImplementedError

    def read(self, path: str, limit: int | None = None) -> bytes:
        """The content of a regular file, or its first `limit` bytes.

        FileNotFoundError when it is missing; OSError when it is a link, FIFO, folder or device.
        """
        raise NotImplementedError

    def exists(self, path: str) -> bool:
        """Whether the name is there (a dangling link is). Errors other than "not there" are raised."""
        raise NotImplementedError

    def remove(self, path: str) -> bool:
        """Take a file away; False when there was none."""
        raise NotImplementedError

    def make_folder(self, path: str) -> None:
        """Make a folder and what is missing above it, with mode 0700; fine when it is there."""
        raise NotImplementedError

    def remove_folder(self, path: str) -> bool:
        """Take an empty folder away; False when it is missing or not empty."""
        raise NotImplementedError

    def replace(self, path: str, data: bytes) -> None:
        """Give `path` new content: readers see all of the old or all of the new. For what is not a ticket or frame."""
        raise NotImplementedError

    def flush(self, path: str) -> None:
        """Let a file and its name survive a power cut (fsync of it, its folder, and the folders above)."""
        raise NotImplementedError

    def flush_all(self, root: str) -> None:
        """Let everything on the file system of `root` survive a power cut. Takes 2 ms to seconds."""
        raise NotImplementedError


class RealDisk(Disk):
    """The file system."""

    def __init__(self) -> None:
        self.rename: Callable[[str, str], None] = os.rename  # FaultyDisk puts steps around it
        self._firm: dict[str, float] = {}  # folder: when its own name was last flushed

    def create(self, path: str, parts: Sequence[Bytes], *, flush: bool = False) -> None:
        try:
            fd = os.open(path, NEW, 0o600)
        except FileNotFoundError:
            fd = self._open_in_new_folder(path)
        try:
            try:
                if parts:
                    write_all(fd, parts)
                if flush:
                    flush_fd(fd)
            finally:
                os.close(fd)  # its error counts: NFS says "no space" here
            if flush:
                self._flush_folder(os.path.dirname(path))
        except BaseException as error:
            take_back(path, error)
            raise

    def _open_in_new_folder(self, path: str) -> int:
        for _ in range(_TRIES):
            self.make_folder(os.path.dirname(path))
            try:
                return os.open(path, NEW, 0o600)
            except FileNotFoundError:
                continue
        raise FileNotFoundError(errno.ENOENT, "its folder keeps disappearing", path)

    def move(self, source: str, target: str) -> bool:
        try:
            self.rename(source, target)
        except OSError as error:
            return self._settle(source, target, error)
        return True

    def _settle(self, source: str, target: str, error: OSError) -> bool:
        """Decide who moved `source` after a rename that reported `error`, trying again while that makes sense."""
        for attempt in range(_TRIES):
            there, arrived = is_there(source), is_there(target)
            if not there:
                # ENOENT from a local file system is the truth: it was not us, even if somebody else moved it
                # to the same target. Any other error, and every error of a network file system, may be
                # that of a repeated request whose first reply was lost.
                return arrived and (error.errno != errno.ENOENT or on_network(os.path.dirname(target)))
            if arrived or not worth_another_try(error, attempt):
                raise error
            if error.errno == errno.ENOENT:
                self.make_folder(os.path.dirname(target))
            try:
                self.rename(source, target)
                return True
            except OSError as another:
                error = another
        raise error

    def list(self, folder: str) -> Names:
        try:
            return os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):  # a stray file where a folder belongs stops nobody
            return []

    def read(self, path: str, limit: int | None = None) -> bytes:
        fd = os.open(path, READ)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            size = status.st_size if limit is None or limit > status.st_size else limit
            data = os.read(fd, size) if size else b""
            if len(data) == size:
                return data
            return data + read_rest(fd, size - len(data))
        finally:
            os.close(fd)

    def exists(self, path: str) -> bool:
        return is_there(path)

    def remove(self, path: str) -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def make_folder(self, path: str) -> None:
        for _ in range(_TRIES):
            try:
                os.mkdir(path, 0o700)
                return
            except FileExistsError:
                if os.path.isdir(path):
                    return
                raise
            except FileNotFoundError:
                if os.path.dirname(path) == path:
                    raise
                self.make_folder(os.path.dirname(path))
        raise FileNotFoundError(errno.ENOENT, "the folder above keeps disappearing", path)

    def remove_folder(self, path: str) -> bool:
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def replace(self, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        # A dot-name: whoever lists the folder leaves it alone, and the sweep knows it for a leftover.
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}"
        self.create(temporary, (data,))
        try:
            os.replace(temporary, path)
        except BaseException:
            self.remove(temporary)
            raise

    def flush(self, path: str) -> None:
        fd = os.open(path, os.O_RDWR | BINARY if WINDOWS else READ)
        try:
            flush_fd(fd)
        finally:
            os.close(fd)
        self._flush_folder(os.path.dirname(path))

    def _flush_folder(self, folder: str) -> None:
        """Flush the names in `folder`, and its own name and those above unless that was done a moment ago."""
        if WINDOWS:
            return  # has no way to do it, and no need: NTFS journals names
        flush_path(folder)
        now = time.monotonic()
        if len(self._firm) > 1000:
            self._firm.clear()
        while now - self._firm.get(folder, -_FIRM_FOR) >= _FIRM_FOR:
            above = os.path.dirname(folder)
            if os.path.ismount(folder):
                return
            try:
                flush_path(above)
            except PermissionError:
                return  # above the home folder: not ours to read, and older than what we made
            self._firm[folder] = now
            folder = above

    def flush_all(self, root: str) -> None:
        flush_filesystem(root)


def open_disk() -> Disk:
    """The disk of this process: `RealDisk`, or a faulty one when the setting `fault` (NBTASKS_FAULT) is set."""
    chosen = settings()
    if not chosen.fault:
        return RealDisk()
    # The test form stands above this file, and is loaded only where somebody asked for it.
    faults = importlib.import_module("nbtasks.durable_faults")
    armed: Disk = faults.arm(chosen.fault, chosen.fault_once)
    return armed
