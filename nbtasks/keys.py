"""The user's key: 32 bytes that sign every frame, kept outside of any queue.

The file holds 64 hexadecimal characters and a newline, mode 0600. One key per user; a sub-key is
derived per queue and kind of frame, so that a signature made for one says nothing for another.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import os
import secrets
import stat
import time

from nbtasks import config
from nbtasks.errors import OptionError, QueueError, QueueUnsafe

SIZE = 32
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_PATIENCE = 1.0  # seconds that another process may need to write the 65 bytes of a key it has just created


def load_key() -> bytes:
    """The 32 bytes of this user's key; made when there is none yet.

    It is the file ``key`` in the state folder, or the one that the setting ``key_file``
    (NBTASKS_KEY_FILE) names, which must exist. Raises QueueUnsafe when it belongs to somebody else
    or others may read it, QueueError when it is missing or no key; both say what mends it.
    """
    chosen = config.settings()
    if chosen.key_file:
        try:
            return _read(chosen.key_file)
        except FileNotFoundError:
            raise QueueError(
                f"the key file {chosen.key_file} (named by {config.origin('key_file')}) does not exist: copy there the "
                f"file `key` of the state folder ({chosen.state_dir}) of the machine that submits, with mode 0600"
            ) from None
    path = os.path.join(chosen.state_dir, "key")
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
        return _read(path)


def find_key() -> bytes:
    """The key as `load_key` gives it, where none must be made: on the far side of an engine, a new one would fit nothing.

    Raises QueueError when there is none, saying how to bring it; QueueUnsafe as `load_key`.
    """
    chosen = config.settings()
    path = chosen.key_file or os.path.join(chosen.state_dir, "key")
    try:
        return _read(path)
    except FileNotFoundError:
        raise QueueError(
            f"there is no key at {path}, so nothing can be verified: run `nbtasks key export FILE` on the machine that "
            f"submits, and `nbtasks key import FILE` where this worker runs, or let NBTASKS_KEY_FILE name a copy of it"
        ) from None


def export_key(path: str) -> None:
    """Write a copy of the key to the new file `path`, for another machine. Raises OptionError when there is a file already."""
    try:
        _write(path, load_key().hex().encode() + b"\n")
    except FileExistsError:
        raise OptionError(f"{path} is there already: give a new name, or remove it") from None


def import_key(path: str, *, replace: bool = False) -> str:
    """Make the key in the file `path` that of this user; where it is now.

    Raises OptionError when there is another one, which only `replace` sets aside (as ``key.old-…``): what it signed can be
    read no more. Raises QueueError and QueueUnsafe as `load_key` does, about `path`.
    """
    key = _read(path)
    target = config.settings().key_file or os.path.join(config.settings().state_dir, "key")
    os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
    if os.path.lexists(target):
        if _read(target) == key:
            return target
        if not replace:
            raise OptionError(
                f"there is another key at {target}: what it signed could not be read any more. `--replace` sets it aside"
            )
        os.rename(target, f"{target}.old-{time.strftime('%Y%m%d-%H%M%S')}")
    _write(target, key.hex().encode() + b"\n")
    _flush_folder(os.path.dirname(target))
    return target


def derive(key: bytes, queue_uuid: str, kind: str) -> bytes:
    """The sub-key (32 bytes) for frames of one `kind` in one queue."""
    return hmac.digest(key, f"nbtasks 1\n{queue_uuid}\n{kind}".encode(), "sha256")


def _read(path: str) -> bytes:
    deadline = time.monotonic() + _PATIENCE
    while True:
        text = _content(path)
        if text or time.monotonic() > deadline:
            break
        time.sleep(0.01)  # made this instant, on a file system without hard links, and not yet written
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != SIZE:
        raise QueueError(
            f"{path} is no key (64 hexadecimal characters): put it back from a backup, or remove it with "
            f"`rm {path}`; then a new one is made, and what the old one signed can no longer be read"
        )
    return key


def _content(path: str) -> bytes:
    try:
        fd = os.open(path, _READ)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise QueueUnsafe(f"{path} is a symbolic link: name the key itself with NBTASKS_KEY_FILE") from None
        raise
    try:
        _check(path, os.fstat(fd))
        return os.read(fd, 4096)
    finally:
        os.close(fd)


def _check(path: str, info: os.stat_result) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise QueueUnsafe(f"{path} is not a regular file, so it cannot hold the key: remove it")
    if not hasattr(os, "geteuid"):
        return  # Windows: the profile folder is private by its access list
    if info.st_uid != os.geteuid():
        raise QueueUnsafe(
            f"{path} belongs to user {info.st_uid}, not to you: whoever has the key can run code as you. "
            f"Make your own copy: cp {path} ~/nbtasks.key && chmod 600 ~/nbtasks.key; then set NBTASKS_KEY_FILE to it"
        )
    if info.st_mode & 0o077:
        raise QueueUnsafe(
            f"{path} can be read or written by others (mode {stat.S_IMODE(info.st_mode):04o}): whoever has the key "
            f"can run code as you. Mend it with: chmod 600 {path}"
        )


def _make(path: str) -> None:
    """Make a new key at `path`, unless another process does so first; whole, or not at all."""
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    text = secrets.token_hex(SIZE).encode() + b"\n"
    hidden = f"{path}.{secrets.token_hex(4)}"
    _write(hidden, text)
    try:
        os.link(hidden, path)  # appears whole, and never over another
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        with contextlib.suppress(FileExistsError):
            _write(path, text)
    finally:
        os.unlink(hidden)
    _flush_folder(folder)


def _write(path: str, text: bytes) -> None:
    fd = os.open(path, _NEW, 0o600)
    try:
        os.write(fd, text)
        os.fsync(fd)  # a key lost in a power cut would take every result with it
    finally:
        os.close(fd)


def _flush_folder(folder: str) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
