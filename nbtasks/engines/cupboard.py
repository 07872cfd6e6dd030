"""Blobs on the far side: kept for a day in a folder of this host, so that they travel once for many tasks.

Whoever reads one compares it with its hash, so the folder need not be trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable

from nbtasks import config
from nbtasks.errors import FrameDamaged

_KEPT = 86400.0  # seconds since it was used last
_SWEEP = 3600.0
_swept = 0.0


def folder() -> str:
    """Where they are; made when it is missing."""
    path = os.path.join(config.settings().host_dir, "far")
    os.makedirs(path, 0o700, exist_ok=True)
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
            with open(hidden, "xb") as file:
                file.write(fetch(hash))
            os.rename(hidden, path)
            _sweep(here)


def read(hash: str) -> bytes:
    """The bytes of a blob. Raises FrameDamaged when it is missing or altered."""
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
    return data


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
