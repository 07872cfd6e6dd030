"""Where a pickle is written while it is made: memory up to 16 MiB, then a file without a name."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import tempfile
from typing import BinaryIO

MEMORY = 16 << 20


class Spool:
    """A large pickle in a temporary file, mapped; the file is gone when nobody holds this object any more."""

    __slots__ = ("_view",)

    def __init__(self, file: BinaryIO, size: int) -> None:
        with file:  # the mapping keeps it
            file.flush()
            self._view = memoryview(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))

    def view(self) -> memoryview:
        """Its bytes; they are not held in memory."""
        return self._view


class Sink:
    """A file to pickle into: keeps what is small, spools what is large, and hashes all of it."""

    __slots__ = ("_chunks", "_file", "_hash", "_size", "trouble")

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self._hash = hashlib.sha256()
        self._file: BinaryIO | None = None
        self.trouble: OSError | None = None  # why spooling failed; not the fault of what is pickled

    def write(self, data: bytes | memoryview) -> int:
        """Take the next bytes. A bytearray comes as a view of memory that is not ours to keep."""
        self._size += len(data)
        self._hash.update(data)
        if self._size <= MEMORY:
            self._chunks.append(data if type(data) is bytes else bytes(data))
            return len(data)
        try:
            if self._file is None:
                self._file = _open()
                self._file.writelines(self._chunks)
                self._chunks.clear()
            self._file.write(data)
        except OSError as error:
            self.trouble = error
            raise
        return len(data)

    def result(self) -> tuple[bytes | Spool, str]:
        """What was written, and its SHA-256."""
        if self._file is None:
            chunks = self._chunks
            return chunks[0] if len(chunks) == 1 else b"".join(chunks), self._hash.hexdigest()
        try:
            return Spool(self._file, self._size), self._hash.hexdigest()
        except OSError as error:
            self.trouble = error
            raise

    def close(self) -> None:
        """Give up: the temporary file goes."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()


def _open() -> BinaryIO:
    # /tmp is memory on many machines, and what comes here is what should not be held in memory.
    folder = tempfile.gettempdir()
    if folder == "/tmp" and os.access("/var/tmp", os.W_OK | os.X_OK):
        folder = "/var/tmp"
    return tempfile.TemporaryFile(dir=folder, prefix="nbtasks-")
