"""The channel over Redis: packets in one stream per bridge, marks and blobs as keys that expire.

Keys begin with ``nbtasks:UUID:`` of the queue: ``out:CHANNEL`` is the stream, ``begun:KEY`` the mark of the one run that may
begin, ``stop:KEY`` a request to stop, ``blob:HASH`` a blob. An entry stays in its stream until the bridge has dealt with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from nbtasks.engines.foreign import TTL, EngineDown, EngineFull, Received, Shipment
from nbtasks.engines.urls import EngineUrl, hide
from nbtasks.errors import EngineError

_ANSWERS = 10.0  # seconds in which a command must be answered
_CONNECTS = 3.0
_BATCH = 500  # entries read at once
_BLOB_TTL = 86400
_BEGUN_TTL = 7200  # after the end: a broker may hand out a message once more, an hour later
_FRESH = 3600.0  # seconds for which a blob that was offered is taken to be there
_DOWN = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, OSError)
REVOKED = "revoked"  # in the place of a run's token: no run may begin


@contextlib.contextmanager
def talking(what: str) -> Generator[None]:
    """Turn what redis-py raises into EngineDown or EngineFull."""
    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError) as error:
        raise EngineFull(f"{what} refuses the user or password: {error}") from error
    except redis.exceptions.OutOfMemoryError as error:
        raise EngineFull(
            f"{what} is full: it takes nothing before something is removed, or its maxmemory raised"
        ) from error
    except _DOWN as error:
        raise EngineDown(f"{what} does not answer ({hide(str(error))})") from error
    except redis.RedisError as error:
        raise EngineFull(f"{what} refuses: {error}") from error


def open_client(address: str, **options: Any) -> redis.Redis:
    """A client that says at once what is wrong, instead of trying again by itself."""
    return redis.Redis.from_url(
        address, protocol=2, socket_timeout=_ANSWERS, socket_connect_timeout=_CONNECTS, retry=Retry(NoBackoff(), 0),
        client_name="nbtasks", **options,
    )  # fmt: skip


def named(queue: str, kind: str, name: str) -> str:
    """The key of one thing of the queue with that uuid."""
    return f"nbtasks:{queue}:{kind}:{name}"


class RedisChannel:
    """The bridge's end. An engine on Redis inherits it."""

    pause = 1.0
    queue = ""  # the uuid

    def __init__(self, url: EngineUrl) -> None:
        self.url = url
        self.client = open_client(url.address)
        self._reader: Any = None
        self._waits = False
        self._streams: dict[str, str] = {}  # name: the last entry that was read
        self._offered: dict[str, float] = {}

    def greet(self) -> str:
        """Reach Redis; its version and what speaks against it. Raises EngineError."""
        try:
            with talking(self.url.shown):
                info: Any = {}
                for section in ("server", "memory", "persistence"):
                    info |= self.client.info(section)
        except EngineDown as error:
            raise EngineError(f"{error}: start a redis-server there, or name another one") from error
        words = f"Redis {info.get('redis_version', '?')}"
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy != "noeviction":
            words += f", which may drop what it holds when it is full (maxmemory-policy {policy}): noeviction is safe"
        if not info.get("aof_enabled"):
            words += ", which may forget what it holds when it restarts (appendonly no): such tasks are delivered again"
        return words

    # Packets.

    def listen(self, queue: str, channels: Sequence[str]) -> None:
        """As `Engine`."""
        self.queue = queue
        known = self._streams
        self._streams = {name: known.get(name, "0") for name in (named(queue, "out", one) for one in channels)}
        self._offered.clear()  # it may have been away, and come back empty
        self._hang_up()

    def descriptors(self) -> Iterable[int]:
        """As `Engine`."""
        self._ask()
        return [self._reader._sock.fileno()]

    def _ask(self) -> None:
        """Have one question under way whose answer makes the connection readable."""
        if self._waits:
            return
        with talking(self.url.shown):
            if self._reader is None:
                pool = self.client.connection_pool
                self._reader = pool.connection_class(**(pool.connection_kwargs | {"socket_timeout": None}))
                self._reader.connect()
            names, last = list(self._streams), list(self._streams.values())
            self._reader.send_command("XREAD", "COUNT", _BATCH, "BLOCK", 0, "STREAMS", *names, *last)
        self._waits = True

    def poll(self) -> list[Received]:
        """As `Engine`."""
        received: list[Received] = []
        try:
            self._ask()
            with talking(self.url.shown):
                while self._reader.can_read(timeout=0):
                    answer = self._reader.read_response()
                    self._waits = False
                    received += self._taken(answer)
                    self._ask()
        except EngineError:
            self._hang_up()
            if not received:
                raise
        return received

    def _taken(self, answer: Any) -> list[Received]:
        found: list[Received] = []
        for name, entries in answer or ():
            for entry, fields in entries:
                self._streams[name.decode()] = entry.decode()
                found.append(Received(fields[1], (name, entry)))
        return found

    def _hang_up(self) -> None:
        self._waits = False
        if self._reader is not None:
            self._reader.disconnect()
            self._reader = None

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """As `Engine`."""
        by_stream: dict[bytes, list[bytes]] = {}
        for stream, entry in receipts:
            by_stream.setdefault(stream, []).append(entry)
        with talking(self.url.shown), self.client.pipeline(transaction=False) as pipe:
            for stream, entries in by_stream.items():
                pipe.xdel(stream, *entries)
            pipe.execute()

    # Marks.

    def send_new(self, shipments: Sequence[Shipment], put: Callable[[Shipment, Any], str | bytes]) -> None:
        """For `Engine.send`: what was not sent before goes in one transaction. `put` adds one to it, and gives its mark."""
        marks = [named(self.queue, "sent", key) for one in shipments for key in one.keys]
        with talking(self.url.shown):
            while True:
                try:
                    with self.client.pipeline() as pipe:
                        pipe.watch(*marks)  # type: ignore[no-untyped-call]  # redis types it by half
                        held: Any = pipe.mget(marks)
                        pipe.multi()
                        known = {mark for mark, old in zip(marks, held, strict=True) if old is not None}
                        for one in shipments:
                            new = [mark for key in one.keys if (mark := named(self.queue, "sent", key)) not in known]
                            if new:
                                made = put(one, pipe)
                                for mark in new:
                                    pipe.set(mark, made, ex=TTL)
                        pipe.execute()
                    return
                except redis.WatchError:  # another bridge sends the same just now
                    continue

    def stop(self, words: Mapping[str, str]) -> set[str]:
        """As `Engine`: whoever takes the place of the run has kept it from beginning."""
        with talking(self.url.shown), self.client.pipeline(transaction=False) as pipe:
            for key, word in words.items():
                pipe.set(named(self.queue, "stop", key), word, ex=TTL)
                pipe.set(named(self.queue, "begun", key), REVOKED, ex=TTL, nx=True)
                pipe.get(named(self.queue, "begun", key))
            answers = pipe.execute()
        return {key for key, holder in zip(words, answers[2::3], strict=True) if holder == REVOKED.encode()}

    def forget_marks(self, keys: Sequence[str], pipe: Any, *, ended: bool) -> None:
        """Add to `pipe` what removes the marks of keys. That they have begun is remembered for a while: they must not again."""
        for key in keys:
            if ended:
                pipe.delete(named(self.queue, "stop", key), named(self.queue, "sent", key))
                pipe.expire(named(self.queue, "begun", key), _BEGUN_TTL)
            else:
                pipe.set(named(self.queue, "begun", key), REVOKED, ex=TTL, nx=True)
                pipe.set(named(self.queue, "stop", key), "terminate", ex=TTL)

    # Blobs.

    def offer_blobs(self, hashes: Iterable[str], read: Callable[[str], bytes]) -> None:
        """As `Engine`."""
        now = time.monotonic()
        for hash in [hash for hash in hashes if now - self._offered.get(hash, -_FRESH) >= _FRESH]:
            with talking(self.url.shown):
                name = named(self.queue, "blob", hash)
                if not self.client.expire(name, _BLOB_TTL):
                    self.client.set(name, read(hash), ex=_BLOB_TTL)
            self._offered[hash] = now

    def forget_offers(self) -> None:
        """As `Engine`."""
        self._offered.clear()

    def close(self) -> None:
        """As `Engine`."""
        self._hang_up()
        with contextlib.suppress(redis.RedisError, OSError):
            self.client.close()


class FarRedis:
    """The far side's end, over a connection of the engine's own making."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def begin(self, queue: str, key: str, token: str) -> bool:
        """As `FarChannel`."""
        name = named(queue, "begun", key)
        with talking("Redis"):
            return bool(self.client.set(name, token, ex=TTL, nx=True)) or self.client.get(name) == token.encode()

    def begin_all(self, queue: str, keys: Sequence[str], token: str) -> set[str]:
        """As `BatchChannel`."""
        with talking("Redis"), self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.set(named(queue, "begun", key), token, ex=TTL, nx=True)
            pipe.mget([named(queue, "begun", key) for key in keys])
            holders = pipe.execute()[-1]
        return {key for key, holder in zip(keys, holders, strict=True) if holder == token.encode()}

    def send(self, queue: str, channel: str, packet: bytes) -> None:
        """As `FarChannel`."""
        self.send_all(queue, channel, [packet], last=False)

    def send_all(self, queue: str, channel: str, packets: Sequence[bytes], *, last: bool) -> None:
        """As `BatchChannel`."""
        if not packets:
            return
        stream = named(queue, "out", channel)
        with talking("Redis"), self.client.pipeline(transaction=False) as pipe:
            for packet in packets:
                pipe.xadd(stream, {"p": packet})
            pipe.expire(stream, TTL)
            pipe.execute()

    def find_stop(self, queue: str, key: str) -> str:
        """As `FarChannel`."""
        with talking("Redis"):
            return (self.client.get(named(queue, "stop", key)) or b"").decode()  # type: ignore[union-attr]  # never awaitable here

    def fetch_blob(self, queue: str, hash: str) -> bytes:
        """As `FarChannel`."""
        with talking("Redis"):
            data = self.client.get(named(queue, "blob", hash))
        if data is None:
            raise LookupError(hash)
        return bytes(data)  # type: ignore[arg-type]  # never awaitable here
