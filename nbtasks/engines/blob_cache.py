"""Blobs on the far side: kept for a day in a folder of this host, so that they travel once for many tasks.

Each is compared with its hash when it comes, what is run as code also when it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable

from nbtasks import config
from nbtasks.blobs import map_file, open_regular
from nbtasks.errors import FrameDamaged

_KEPT = 86400.0  # seconds since it was used last
_SWEEP = 3600.0
_SMALL, _MANY = 1 << 20, 64  # contexts and sources: the same for many tasks
_swept = 0.0
_made: set[str] = set()
_small: dict[str, bytes] = {}


def folder() -> str:
    """Where they are; made when it is missing."""
    path = os.path.join(config.settings().host_dir, "far")
    if path not in _made:
        os.makedirs(path, 0o700, exist_ok=True)
        _made.add(path)
    return path


def fill(hashes: Iterable[str], fetch: Callable[[str], bytes]) -> None:
    """See to it that all `hashes` are there; `fetch` gives one. Raises what that raises."""
    here = folder()
    for hash in hashes:
        path = f"{here}/{hash}"
        try:
            if time.time() - os.stat(path).st_mtime > _SWEEP:
                os.utime(path)
        except FileNotFoundError:
            hidden = f"{here}/.{secrets.token_hex(8)}"
            data = fetch(hash)
            if hashlib.sha256(data).hexdigest() != hash:
                raise LookupError(hash) from None
            with open(hidden, "xb") as file:
                file.write(data)
            os.rename(hidden, path)
            _sweep(here)


def read(hash: str) -> bytes:
    """The bytes of a blob. Raises FrameDamaged when it is missing or altered."""
    if (known := _small.get(hash)) is not None:
        return known
    path = f"{folder()}/{hash}"
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise FrameDamaged(f"the blob {path} cannot be read ({error.strerror}): run the task again") from error
    if hashlib.sha256(data).hexdigest() != hash:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise FrameDamaged(f"the blob {path} was altered: run the task again", path=path)
    if len(data) < _SMALL:
        if len(_small) > _MANY:
            _small.clear()
        _small[hash] = data
    return data


class BlobCache:
    """The blobs as the buffers of a bundle are mapped from them."""

    def __init__(self) -> None:
        self.folder = folder()

    def map(self, hash: str, size: int | None = None) -> memoryview:
        """A blob in memory, writable; writing changes neither the file nor what others see. Raises FrameDamaged."""
        path = f"{self.folder}/{hash}"
        try:
            fd, found = open_regular(path)
        except OSError as error:
            raise FrameDamaged(f"the blob {path} cannot be read ({error.strerror}): run the task again") from error
        try:
            if size not in (None, found):
                raise FrameDamaged(
                    f"the blob {path} has {found} bytes instead of {size}: run the task again", path=path
                )
            return map_file(fd, found)
        finally:
            os.close(fd)


def _sweep(here: str) -> None:
    global _swept
    now = time.time()
    if now - _swept < _SWEEP:
        return
    _swept = now
    with contextlib.suppress(OSError):
        for entry in os.scandir(here):
            if now - entry.stat(follow_symlinks=False).st_mtime > _KEPT:
                os.unlink(entry.path)
