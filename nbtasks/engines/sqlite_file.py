"""An SQLite file that several processes of one machine share: opened, locked for a moment, and looked at without a rush."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Generator
from typing import TypeAlias
from urllib.parse import unquote

from nbtasks.engines.foreign import EngineDown, EngineFull
from nbtasks.engines.urls import EngineUrl

Do: TypeAlias = Callable[..., sqlite3.Cursor]
_WAL_KEPT = 64 << 20  # bytes of the write-ahead log that stay on the disk when it was emptied
_RETRY = 0.01
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_AWAY = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)


class Pace:
    """How long to sleep between two looks: a twentieth of the time since something happened last, within bounds."""

    def __init__(self, shortest: float = 0.004, longest: float = 0.05) -> None:
        self.shortest, self.longest = shortest, longest
        self._last = time.monotonic()

    def note(self) -> None:
        """Something has happened."""
        self._last = time.monotonic()

    @property
    def pause(self) -> float:
        """Seconds."""
        return min(self.longest, max(self.shortest, (time.monotonic() - self._last) / 20))


class File:
    """One connection to the file, opened when it is needed, and anew when the file is another; for one thread of one process."""

    def __init__(self, path: str, schema: str, waits: float) -> None:
        self.path, self.schema, self.waits = path, schema, waits
        self.inode = 0  # of the file that is open: another one when it was removed and made anew
        self._connection: sqlite3.Connection | None = None

    @contextlib.contextmanager
    def talking(self) -> Generator[Do]:
        """What executes a statement. Raises EngineDown while the file is locked or out of reach, else EngineFull."""
        try:
            yield self._open().execute
        except sqlite3.Error as error:
            code = _code(error)
            if code in _BUSY:
                raise EngineDown(f"{self.path} does not answer: another program has locked it") from error
            if code in _AWAY:
                self.close()
                raise EngineDown(f"{self.path} does not answer ({error})") from error
            raise EngineFull(f"{self.path}: {error}") from error
        except OSError as error:
            raise EngineDown(f"{self.path} does not answer ({error.strerror})") from error

    @contextlib.contextmanager
    def transaction(self) -> Generator[Do]:
        """The same, for several statements of which all count or none."""
        with self.talking() as do:
            do("begin immediate")
            try:
                yield do
                do("commit")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    do("rollback")
                raise

    def version(self) -> int:
        """Another number whenever somebody else has written."""
        with self.talking() as do:
            return int(do("pragma data_version").fetchone()[0])

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self._has_gone():
            self.close()
        if self._connection is None:
            # What is in it is for nobody else; SQLite gives the files beside it the same permissions. One that is there is not
            # opened by us: to close it would drop the locks of every other connection of this process.
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600))
            made = sqlite3.connect(self.path, timeout=self.waits, isolation_level=None, check_same_thread=False)
            try:
                self._prepare(made)
            except BaseException:
                made.close()
                raise
            self.inode = os.stat(self.path).st_ino
            self._connection = made
        return self._connection

    def _prepare(self, made: sqlite3.Connection) -> None:
        made.execute("pragma auto_vacuum=incremental")  # of a new file; of one with tables it changes nothing
        deadline = time.monotonic() + self.waits
        while True:  # whoever is first changes a new file to this mode, and SQLite does not let the others wait for it
            try:
                mode = made.execute("pragma journal_mode=wal").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(_RETRY)
        if mode != "wal":
            raise EngineFull(
                f"{self.path} is on a file system that SQLite cannot share: put it on a disk of this machine"
            )
        made.execute("pragma synchronous=normal")  # a power cut may cost the last messages, never the file
        made.execute(f"pragma journal_size_limit={_WAL_KEPT}")
        made.executescript(self.schema)

    def _has_gone(self) -> bool:
        try:
            return os.stat(self.path).st_ino != self.inode
        except OSError:
            return True

    def close(self) -> None:
        """Let go."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def path_of(url: EngineUrl) -> str:
    """The file of a URL, in which %20 stands for a space."""
    return unquote(url.path)
