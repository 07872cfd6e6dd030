"""Huey on SQLite: the bridge's side, and what a consumer there is made of.

The statements on the table ``task`` are those of `huey.storage.SqliteStorage`: so a delivery, its bundle and its mark are sent in one
transaction.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any

import huey as library
from huey.storage import SqliteStorage

from nbtasks.engines.channel_sqlite import FarSqlite, SqliteChannel, open_file
from nbtasks.engines.foreign import Abilities, EngineDown, Seen, Shipment
from nbtasks.engines.huey_messages import key_in, note_of, queue_name
from nbtasks.engines.sqlite_file import Do, File, Pace, path_of
from nbtasks.engines.urls import EngineUrl
from nbtasks.errors import EngineError

_LOOKS = 1.0  # seconds for which a consumer watches the file before it asks whether it is to leave


class HueySqlite(SqliteChannel):
    """The bridge's side."""

    can = Abilities(blobs=True)

    def __init__(self, url: EngineUrl) -> None:
        super().__init__(url)
        self._channel = ""

    def connect(self) -> str:
        """As `Engine`. Huey keeps no list of its consumers."""
        folder = os.path.dirname(self.file.path)
        if not os.path.isdir(folder):
            raise EngineError(f"{self.url.shown}: there is no folder {folder}: make it, or name another file")
        try:
            self.file.version()
            self._make_tables()
        except EngineError as error:
            raise EngineError(f"{self.url.shown}: {error}") from error
        return f"Huey {library.__version__} on SQLite {sqlite3.sqlite_version}"

    def _make_tables(self) -> None:
        try:
            SqliteStorage(queue_name("default"), self.file.path).close()
        except sqlite3.OperationalError as error:
            raise EngineDown(f"{self.file.path} does not answer ({error})") from error

    def listen(self, queue: str, channels: Sequence[str]) -> None:
        """As `Engine`."""
        super().listen(queue, channels)
        self._make_tables()  # the file may be another
        self._channel = channels[0]

    def send(self, shipments: Sequence[Shipment]) -> None:
        """As `Engine`."""
        with self.file.transaction() as do:
            for one in shipments:
                if self.put(do, one.key, one.bundle):
                    row = (queue_name(one.lane), note_of(one, self.queue, self._channel), one.priority)
                    do("insert into task (queue, data, priority) values (?, ?, ?)", row)

    def in_flight(self, keys: Sequence[str]) -> dict[str, Seen]:
        """As `Engine`."""
        return self.states(keys, lambda do: {key for _, key in self._queued(do)})

    def _queued(self, do: Do) -> list[tuple[int, str]]:
        rows = do("select id, data from task where queue = 'nbtasks' or queue like 'nbtasks-%'")
        return [(id, key) for id, data in rows if (key := key_in(bytes(data), self.queue))]

    def unqueue(self, do: Do, keys: set[str]) -> None:
        """As `SqliteChannel`."""
        for id, key in self._queued(do):
            if key in keys:
                do("delete from task where id = ?", (id,))


# The far side.


class Storage(SqliteStorage):  # type: ignore[misc]  # Huey has no types
    """Huey's own, which sees within milliseconds that there is something, and does not wait for the disk at each step."""

    blocking = True  # `dequeue` waits by itself

    def __init__(self, name: str, url: EngineUrl, **options: Any) -> None:
        self._url = url
        self._seat = threading.local()
        file = open_file(url)
        file.version()  # first, so that it is made as the channel wants it
        self._inode = file.inode
        file.close()
        super().__init__(name, filename=path_of(url), **options)

    def _create_connection(self) -> sqlite3.Connection:
        made: sqlite3.Connection = super()._create_connection()
        made.execute("pragma synchronous=normal")
        return made

    @property
    def _watched(self) -> tuple[File, Pace]:
        if not hasattr(self._seat, "watched"):
            self._seat.watched = open_file(self._url), Pace()
        watched: tuple[File, Pace] = self._seat.watched
        return watched

    def dequeue(self) -> bytes | None:
        """The next message, or None after about a second."""
        file, pace = self._watched
        deadline = time.monotonic() + _LOOKS
        while True:
            version = self._look(file)
            if (data := super().dequeue()) is not None:
                pace.note()
                return bytes(data)
            while self._look(file) == version:
                if time.monotonic() >= deadline:
                    return None
                time.sleep(pace.pause)

    def _look(self, file: File) -> int:
        version = file.version()
        if file.inode != self._inode:  # it was removed, and is another
            self._inode = file.inode
            self.close()
            self.initialize_schema()
        return version


def storage(url: EngineUrl) -> dict[str, Any]:
    """How a `huey.Huey` is told to keep its queue there."""
    return {"storage_class": Storage, "url": url}


def far_channel(url: EngineUrl) -> FarSqlite:
    """The channel of one thread of a consumer."""
    return FarSqlite(open_file(url))
