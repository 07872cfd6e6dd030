"""The log of a task as a file: kept within bounds while it is written, and read with what was left out marked.

A log that grows beyond its limit loses its middle: the file keeps its length, so offsets stay true and ``tail -f``
goes on, but the middle takes no disk any more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

Piece = tuple[int, bytes]  # where in the log, and what stands there

_KEEP_SIZE_PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
_BLOCK = 4096


def trim(fd: int, limit: int, kept_from: int = 0) -> int:
    """Free the middle of an open log, so that `limit` bytes stay: the first and the last half.

    `kept_from` is what the last call returned. Returns where the last half begins now, 0 when the log is within
    its limit. OSError when this file system cannot do it.
    """
    size = os.fstat(fd).st_size
    if size <= limit:
        return 0
    head = max(limit // 2 // _BLOCK * _BLOCK, kept_from)
    tail = (size - limit // 2) // _BLOCK * _BLOCK
    if tail > head:
        _punch(fd, head, tail - head)
    return max(tail, head)


def _punch(fd: int, start: int, length: int) -> None:
    import ctypes  # only a flood needs it

    try:
        fallocate: Callable[..., int] = ctypes.CDLL(None, use_errno=True).fallocate64
    except (OSError, AttributeError):
        raise OSError("this system cannot free a part of a file") from None
    result = fallocate(
        ctypes.c_int(fd), ctypes.c_int(_KEEP_SIZE_PUNCH_HOLE), ctypes.c_longlong(start), ctypes.c_longlong(length)
    )
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def read_log(path: str, limit: int = 16 << 20) -> list[Piece]:
    """A log as pieces in order: one when it is whole and within `limit` bytes, else its beginning and its end.

    [] when there is no log: the task printed nothing.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return []
    try:
        size = os.fstat(fd).st_size
        hole, data = _find_hole(fd, size)
        if hole == data and size <= limit:
            return [(0, _read(fd, 0, size))] if size else []
        first = min(hole, limit // 2)
        second = max(data if hole < size else 0, size - limit // 2, first)
        return [(0, _read(fd, 0, first)), (second, _read(fd, second, size - second))]
    finally:
        os.close(fd)


def _find_hole(fd: int, size: int) -> tuple[int, int]:
    """Where the freed middle begins and ends; twice `size` when there is none."""
    try:
        hole = os.lseek(fd, 0, os.SEEK_HOLE)
        return (hole, os.lseek(fd, hole, os.SEEK_DATA)) if hole < size else (size, size)
    except (OSError, AttributeError):  # all hole to the end, or a system that cannot tell
        return size, size


def _read(fd: int, start: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(fd, min(length, 1 << 24), start)):
        parts.append(part)
        start += len(part)
        length -= len(part)
    return b"".join(parts)


def left_out(count: int) -> str:
    """The line that stands where `count` bytes of a log are not shown."""
    size, unit = float(count), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"\n[… {size:,.{0 if unit == 'bytes' else 1}f} {unit} left out …]\n"


def text_of(pieces: Sequence[Piece]) -> str:
    """The pieces of a log as one text."""
    texts: list[str] = []
    end = 0
    for at, data in pieces:
        if at > end:
            texts.append(left_out(at - end))
        texts.append(data.decode("utf-8", "replace"))
        end = at + len(data)
    return "".join(texts)
