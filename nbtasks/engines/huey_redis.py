"""Huey on Redis: the bridge's side, and what a consumer there is made of."""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import huey as library
from huey.storage import PriorityRedisStorage

from nbtasks.engines.channel_redis import REVOKED, FarRedis, RedisChannel, named, open_client, talking
from nbtasks.engines.foreign import TTL, Abilities, Seen, Shipment, State
from nbtasks.engines.huey_messages import is_batch, note_of, queue_name
from nbtasks.engines.urls import EngineUrl

_INLINE = 24 << 10  # bytes of a bundle that go into the message itself
_PIECE = 64 << 20  # bytes of a bundle in one entry of a list
_STAMP = struct.Struct(">Q")  # Huey puts the time before a message, so that equal priorities keep their order


class Storage(PriorityRedisStorage):  # type: ignore[misc]  # Huey has no types
    """Huey's own, but lanes that differ by a dash alone are two queues."""

    def clean_name(self, name: str) -> str:
        """The name as it is."""
        return name


def queue_key(lane: str) -> str:
    """Where Huey keeps the queue of a lane."""
    return f"huey.redis.{queue_name(lane)}"


class HueyRedis(RedisChannel):
    """The bridge's side."""

    can = Abilities(
        blobs=True, batches=True,
    )  # fmt: skip

    def __init__(self, url: EngineUrl) -> None:
        super().__init__(url)
        self._channel = ""

    def connect(self) -> str:
        """As `Engine`. Huey keeps no list of its consumers."""
        return f"Huey {library.__version__} on {self.greet()}"

    def listen(self, queue: str, channels: Sequence[str]) -> None:
        """As `Engine`."""
        super().listen(queue, channels)
        self._channel = channels[0]

    def send(self, shipments: Sequence[Shipment]) -> None:
        """As `Engine`."""
        self.send_new(shipments, self._put)

    def _put(self, one: Shipment, pipe: Any) -> bytes:
        place = queue_key(one.lane)
        is_small = len(one.bundle) <= _INLINE
        if not is_small:
            bundle = named(self.queue, "bundle", one.key)
            view = memoryview(one.bundle)
            pipe.rpush(bundle, *[bytes(view[at : at + _PIECE]) for at in range(0, len(view), _PIECE)])
            pipe.expire(bundle, TTL)
        note = note_of(one, self.queue, self._channel, one.bundle if is_small else b"")
        member = _STAMP.pack(int(time.time() * 1e6)) + note
        pipe.zadd(place, {member: -one.priority})
        return place.encode() + b"\n" + member

    def in_flight(self, keys: Sequence[str]) -> dict[str, Seen]:
        """As `Engine`. Of what has begun Redis does not know how it stands: signs of life do."""
        with talking(self.url.shown):
            with self.client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.mget(named(self.queue, "begun", key), named(self.queue, "sent", key))
                marks = dict(zip(keys, pipe.execute(), strict=True))
            queued = self._find_queued({key: sent for key, (begun, sent) in marks.items() if sent and not begun})
        return {key: Seen(_state(begun, sent, key in queued)) for key, (begun, sent) in marks.items()}

    def _find_queued(self, sent: Mapping[str, bytes]) -> set[str]:
        with self.client.pipeline(transaction=False) as pipe:
            for mark in sent.values():
                pipe.zscore(*mark.split(b"\n", 1))
            return {key for key, score in zip(sent, pipe.execute(), strict=True) if score is not None}

    def stop(self, words: Mapping[str, str]) -> set[str]:
        """As `Engine`; what never begins is taken out of Huey's queue."""
        never = super().stop(words)
        with talking(self.url.shown), self.client.pipeline(transaction=False) as pipe:
            marks: Any = self.client.mget([named(self.queue, "sent", key) for key in never]) if never else []
            for mark in filter(None, marks):
                if is_batch(mark.split(b"\n", 1)[1][_STAMP.size :]):
                    continue  # its message is that of others too; `begin_all` leaves it out
                pipe.zrem(*mark.split(b"\n", 1))
            pipe.execute()
        return never

    def forget(self, keys: Sequence[str], *, ended: bool) -> None:
        """As `Engine`."""
        with talking(self.url.shown), self.client.pipeline(transaction=False) as pipe:
            self.forget_marks(keys, pipe, ended=ended)
            pipe.delete(*[named(self.queue, "bundle", key) for key in keys])
            pipe.execute()


def _state(begun: bytes | None, sent: bytes | None, is_queued: bool) -> State:
    if begun is not None:
        return State.ENDED if begun == REVOKED.encode() else State.RUNNING
    if sent is None:
        return State.UNKNOWN
    return State.QUEUED if is_queued else State.RUNNING  # between the queue and its run there is a moment


# The far side.


class FarHueyRedis(FarRedis):
    """The far side's end."""

    def fetch_bundle(self, queue: str, key: str) -> bytes:
        """A bundle that was sent. Raises LookupError when it is not there (any more)."""
        with talking("Redis"):
            pieces: Any = self.client.lrange(named(queue, "bundle", key), 0, -1)
        if not pieces:
            raise LookupError(key)
        return b"".join(pieces)


def storage(url: EngineUrl) -> dict[str, Any]:
    """How a `huey.Huey` is told to keep its queue there."""
    return {"storage_class": Storage, "url": url.address}


def far_channel(url: EngineUrl) -> FarHueyRedis:
    """The channel of one thread of a consumer."""
    return FarHueyRedis(open_client(url.address))
