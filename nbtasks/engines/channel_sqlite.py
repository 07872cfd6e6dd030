"""The channel over an SQLite file: the one in which the engine keeps its queue, so that one transaction does both.

Tables begin with ``nbtasks_``: ``run`` has a row for each delivery that was sent, with the one run that may begin and the request to
stop it; ``bundle`` and ``blob`` what the far side needs; ``packet`` what it says, until the bridge has dealt with it. All
who use the file are on one machine, so a run whose process is dead is seen to be lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from nbtasks import processes
from nbtasks.engines.foreign import TTL, EngineDown, Received, Seen, State
from nbtasks.engines.sqlite_file import Do, File, Pace, path_of
from nbtasks.engines.urls import EngineUrl

_BRIDGE_WAITS, _FAR_WAITS = 2.0, 10.0  # seconds for another's lock: the bridge has more to do meanwhile
_BATCH, _BATCH_SIZE = 500, 16 << 20  # packets, or bytes, that are read at once
_PIECE = 64 << 20  # bytes of a bundle in one row
_BLOB_TTL = 86400
_ENDED_TTL = 7200  # what has ended must not begin again, should its message turn up once more
_FRESH = 3600.0  # seconds for which a blob that was offered is taken to be there
_SWEEP = 600.0
_PAGES = 2000  # free pages that are given back at once
REVOKED = "revoked"  # in the place of a run's token: no run may begin
_SCHEMA = """
create table if not exists nbtasks_run (queue text not null, key text not null, token text not null default '', process blob,
    stop text not null default '', ended integer not null default 0, made real not null, primary key (queue, key));
create table if not exists nbtasks_bundle (queue text not null, key text not null, number integer not null, data blob not null,
    made real not null, primary key (queue, key, number));
create table if not exists nbtasks_packet (id integer primary key autoincrement, queue text not null, channel text not null,
    data blob not null, made real not null);
create index if not exists nbtasks_packet_of on nbtasks_packet (queue, channel, id);
create table if not exists nbtasks_blob (queue text not null, hash text not null, data blob not null, made real not null,
    primary key (queue, hash));
"""


def open_file(url: EngineUrl, waits: float = _FAR_WAITS) -> File:
    """The file of a URL, for one thread; it is opened when it is used."""
    return File(path_of(url), _SCHEMA, waits)


class SqliteChannel:
    """The bridge's end. An engine on SQLite inherits it."""

    queue = ""  # the uuid

    def __init__(self, url: EngineUrl) -> None:
        self.url = url
        self.file = open_file(url, _BRIDGE_WAITS)
        self.pace = Pace()
        self._last: dict[str, int] = {}  # by channel: the last packet that was read
        self._seen = -1  # the version that was read to its end
        self._inode = 0
        self._offered: dict[str, float] = {}
        self._swept = 0.0

    @property
    def pause(self) -> float:
        """As `Engine`: shorter while much comes in."""
        return self.pace.pause

    def descriptors(self) -> Iterable[int]:
        """As `Engine`: SQLite has nothing to wait for."""
        return []

    # Packets.

    def listen(self, queue: str, channels: Sequence[str]) -> None:
        """As `Engine`."""
        self.queue = queue
        self.file.version()  # opens it
        known = self._last if self.file.inode == self._inode else {}
        self._inode = self.file.inode
        self._last = {channel: known.get(channel, 0) for channel in channels}
        self._offered.clear()
        self._seen = -1

    def poll(self) -> list[Received]:
        """As `Engine`."""
        version = self.file.version()
        if self.file.inode != self._inode:
            raise EngineDown(f"{self.file.path} was removed, or another file put in its place")
        if version == self._seen:
            return []
        self.pace.note()
        found: list[Received] = []
        size = 0
        with self.file.talking() as do:
            for channel, last in self._last.items():
                for id, data in do(
                    "select id, data from nbtasks_packet where queue = ? and channel = ? and id > ? order by id limit ?",
                    (self.queue, channel, last, _BATCH),
                ):
                    found.append(Received(data, id))
                    self._last[channel] = id
                    size += len(data)
                    if size > _BATCH_SIZE:
                        return found  # the rest at the next look
        if len(found) < _BATCH:
            self._seen = version
        return found

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """As `Engine`."""
        with self.file.transaction() as do:
            for id in receipts:
                do("delete from nbtasks_packet where id = ?", (id,))

    # Runs.

    def put(self, do: Do, key: str, bundle: bytes) -> bool:
        """Within a transaction: keep a bundle for the far side. False when it was sent before."""
        now = time.time()
        if not do(
            "insert or ignore into nbtasks_run (queue, key, made) values (?, ?, ?)", (self.queue, key, now)
        ).rowcount:
            return False
        view = memoryview(bundle)
        for number, at in enumerate(range(0, len(view), _PIECE)):
            row = (self.queue, key, number, view[at : at + _PIECE], now)
            do("insert into nbtasks_bundle (queue, key, number, data, made) values (?, ?, ?, ?, ?)", row)
        return True

    def stop(self, words: Mapping[str, str]) -> set[str]:
        """As `Engine`: whoever takes the place of the run has kept it from beginning."""
        with self.file.transaction() as do:
            for key, word in words.items():
                self._revoke(do, key, word)
            never = {key for key in words if self._token(do, key) == REVOKED}
            if never:
                self.unqueue(do, never)
        return never

    def unqueue(self, do: Do, keys: set[str]) -> None:
        """Within a transaction: take these out of the engine's own queue. For an engine to say."""

    def _revoke(self, do: Do, key: str, word: str) -> None:
        do(
            "insert into nbtasks_run (queue, key, token, stop, made) values (?, ?, ?, ?, ?) on conflict (queue, key) do update "
            "set stop = excluded.stop, token = case token when '' then excluded.token else token end",
            (self.queue, key, REVOKED, word, time.time()),
        )

    def _token(self, do: Do, key: str) -> str:
        row = do("select token from nbtasks_run where queue = ? and key = ?", (self.queue, key)).fetchone()
        return row[0] if row else ""

    def states(self, keys: Sequence[str], queued: Callable[[Do], set[str]]) -> dict[str, Seen]:
        """What `Engine.in_flight` gives; `queued` reads the keys that are in the engine's own queue."""
        with self.file.talking() as do:
            rows = {
                key: do(
                    "select token, process from nbtasks_run where queue = ? and key = ?", (self.queue, key)
                ).fetchone()
                for key in keys
            }
            waiting = queued(do) if any(row and not row[0] for row in rows.values()) else set()
        return {key: _seen(row, key in waiting) for key, row in rows.items()}

    def forget(self, keys: Sequence[str], *, ended: bool) -> None:
        """As `Engine`. That they have begun is remembered for a while: they must not again."""
        with self.file.transaction() as do:
            for key in keys:
                if ended:
                    mark = (time.time(), self.queue, key)
                    do("update nbtasks_run set ended = 1, stop = '', made = ? where queue = ? and key = ?", mark)
                else:
                    self._revoke(do, key, "terminate")
                do("delete from nbtasks_bundle where queue = ? and key = ?", (self.queue, key))
        self._sweep()

    # Blobs.

    def offer_blobs(self, hashes: Iterable[str], read: Callable[[str], bytes]) -> None:
        """As `Engine`."""
        now = time.monotonic()
        for hash in [hash for hash in hashes if now - self._offered.get(hash, -_FRESH) >= _FRESH]:
            with self.file.transaction() as do:
                place = (time.time(), self.queue, hash)
                if not do("update nbtasks_blob set made = ? where queue = ? and hash = ?", place).rowcount:
                    row = (*place, read(hash))
                    do("insert into nbtasks_blob (made, queue, hash, data) values (?, ?, ?, ?)", row)
            self._offered[hash] = now

    def forget_offers(self) -> None:
        """As `Engine`."""
        self._offered.clear()

    def _sweep(self) -> None:
        """Now and then: what nobody will ask for any more goes."""
        if time.monotonic() - self._swept < _SWEEP:
            return
        self._swept = time.monotonic()
        now = time.time()
        with self.file.transaction() as do:
            do("delete from nbtasks_blob where made < ?", (now - _BLOB_TTL,))
            do("delete from nbtasks_run where made < ? or (ended and made < ?)", (now - TTL, now - _ENDED_TTL))
            do("delete from nbtasks_bundle where made < ?", (now - TTL,))
            do("delete from nbtasks_packet where made < ?", (now - TTL,))
        with self.file.talking() as do:
            do(f"pragma incremental_vacuum({_PAGES})").fetchall()

    def close(self) -> None:
        """As `Engine`."""
        self.file.close()


def _seen(row: tuple[str, bytes | None] | None, is_queued: bool) -> Seen:
    if row is None:
        return Seen(State.UNKNOWN)
    token, process = row
    if not token:  # between the queue and its run there is a moment
        return Seen(State.QUEUED if is_queued else State.RUNNING)
    if token == REVOKED:
        return Seen(State.ENDED, "it was stopped before it began")
    who = msgspec.json.decode(process, type=processes.Identity) if process else None
    if who is not None and processes.is_alive(who) is False:
        return Seen(State.ENDED, f"the process {who.pid} that ran it died")
    return Seen(State.RUNNING)


class FarSqlite:
    """The far side's end, for one thread."""

    def __init__(self, file: File) -> None:
        self.file = file
        self._me = msgspec.json.encode(processes.identify())

    def begin(self, queue: str, key: str, token: str) -> bool:
        """As `FarChannel`."""
        with self.file.transaction() as do:
            do(
                "insert into nbtasks_run (queue, key, token, process, made) values (?, ?, ?, ?, ?) on conflict (queue, key) "
                "do update set token = excluded.token, process = excluded.process where token = ''",
                (queue, key, token, self._me, time.time()),
            )
            row = do("select token from nbtasks_run where queue = ? and key = ?", (queue, key)).fetchone()
        return bool(row[0] == token)

    def send(self, queue: str, channel: str, packet: bytes) -> None:
        """As `FarChannel`."""
        with self.file.talking() as do:
            row = (queue, channel, packet, time.time())
            do("insert into nbtasks_packet (queue, channel, data, made) values (?, ?, ?, ?)", row)

    def find_stop(self, queue: str, key: str) -> str:
        """As `FarChannel`."""
        with self.file.talking() as do:
            row = do("select stop from nbtasks_run where queue = ? and key = ?", (queue, key)).fetchone()
        return row[0] if row else ""

    def fetch_blob(self, queue: str, hash: str) -> bytes:
        """As `FarChannel`."""
        with self.file.talking() as do:
            row = do("select data from nbtasks_blob where queue = ? and hash = ?", (queue, hash)).fetchone()
        if row is None:
            raise LookupError(hash)
        return bytes(row[0])

    def fetch_bundle(self, queue: str, key: str) -> bytes:
        """A bundle that was sent. Raises LookupError when it is not there (any more)."""
        with self.file.talking() as do:
            rows = do(
                "select data from nbtasks_bundle where queue = ? and key = ? order by number", (queue, key)
            ).fetchall()
        if not rows:
            raise LookupError(key)
        return b"".join(row[0] for row in rows)
