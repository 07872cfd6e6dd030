"""Celery on Redis. The bridge writes Celery's messages itself: a batch of them, with their marks, goes in one transaction.

A mark ``sent:KEY`` holds the message for as long as the bridge waits for the task. No run begins without it, so whatever copy of
a message turns up late does nothing. It is also what makes good a message that got lost in a worker: Redis knows no
owner of a message, and Celery gives back those of a dead worker, or of one that was cut off, after an hour. So one that is in no list
any more and has not begun soon is put into its list once more, and whichever copy begins first is the one.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

import celery
import msgspec
import redis

from nbtasks.engines import batches
from nbtasks.engines import celery_words as words
from nbtasks.engines.channel_redis import REVOKED, FarRedis, RedisChannel, named, talking
from nbtasks.engines.foreign import TTL, Abilities, Received, Seen, Shipment, State
from nbtasks.engines.urls import EngineUrl

CLIENT = "nbtasks-celery"  # by which Redis knows the connections of workers
_PIECE = 64 << 20
_FAILED_TTL = 3600
_REFRESH = 60.0
_LOST = 5.0  # seconds for which a message may be in no list and not begun; a copy for nothing costs an exchange with Redis, no more
_STEPS = (9, 9, 6, 6, 6, 3, 3, 3, 0, 0)  # Celery's step by our priority: it takes the lower ones first
_HEAD = 256  # bytes of a mark that has the name of the list in its first line
_KEYS = re.compile(rb'"nbtasks_keys": ?"([^"]+)"')


class CeleryOnRedis(RedisChannel):
    """The bridge's side."""

    can = Abilities(
        priorities="Celery on Redis knows four priorities: of what it holds, 8 and 9 go first, then 5 to 7, 2 to 4, 0 and 1",
        blobs=True, batches=True,
    )  # fmt: skip

    def __init__(self, url: EngineUrl) -> None:
        super().__init__(url)
        self._tried: set[str] = set()  # keys that were sent, or may have been
        self._dealt_with: list[Any] = []  # receipts that Redis need be told of
        self._missing: dict[str, float] = {}  # key: since when its message is in no list
        self._next_look = 0.0

    def connect(self) -> str:
        """As `Engine`."""
        said = self.greet()
        there = ""
        with contextlib.suppress(redis.RedisError, OSError):  # not everybody may ask for it
            clients: Any = self.client.client_list()
            count = sum(1 for one in clients if one.get("name") == CLIENT and one.get("cmd") == "brpop")
            there = f", {words.workers(count, self.url.shown)}"
        return f"Celery {celery.__version__} on {said}{there}"

    # Out.

    def send(self, shipments: Sequence[Shipment]) -> None:
        """As `Engine`."""
        with talking(self.url.shown):
            known = {one.key for one in shipments if one.key in self._tried and self._is_sent(one.key)}
            self._tried.update(key for one in shipments for key in one.keys)
            with self.client.pipeline() as pipe:
                for one in shipments:
                    if one.key not in known:
                        self._put(one, pipe)
                pipe.execute()

    def _is_sent(self, key: str) -> bool:
        return bool(self.client.exists(named(self.queue, "sent", key)))

    def _put(self, one: Shipment, pipe: Any) -> None:
        pieces = 0
        if len(one.bundle) > words.INLINE and not one.others:
            view, name = memoryview(one.bundle), named(self.queue, "bundle", one.key)
            for at in range(0, len(view), _PIECE):
                pipe.hset(name, str(pieces), bytes(view[at : at + _PIECE]))
                pieces += 1
            pipe.expire(name, TTL)
        lane, step = words.queue_name(one.lane), _STEPS[one.priority]
        place = f"{lane}\x06\x16{step}" if step else lane
        message = _message(self.queue, one, lane, step, pieces)
        for single in batches.singles(one):  # should the message be lost, each is handed over by itself
            kept = _message(self.queue, single, lane, step, 0) if one.others else message
            pipe.set(named(self.queue, "sent", single.key), place.encode() + b"\n" + kept, ex=TTL)
        pipe.lpush(place, message)

    # Packets that are dealt with are told together with the ends that most of them are.

    def poll(self) -> list[Received]:
        """As `Engine`."""
        if self._dealt_with:
            super().acknowledge(self._dealt_with)
            self._dealt_with = []
        return super().poll()

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """As `Engine`; at the latest before the next poll."""
        self._dealt_with += receipts

    # What became of it.

    def in_flight(self, keys: Sequence[str]) -> dict[str, Seen]:
        """As `Engine`."""
        with talking(self.url.shown):
            with self.client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.get(named(self.queue, "begun", key))
                    pipe.get(named(self.queue, "failed", key))
                    pipe.getrange(named(self.queue, "sent", key), 0, _HEAD)
                answers = pipe.execute()
            found, queued = {}, {}
            for number, key in enumerate(keys):
                begun, failed, head = answers[3 * number : 3 * number + 3]
                found[key] = _seen(begun, failed, head)
                if found[key].state is State.QUEUED:
                    queued[key] = head.partition(b"\n")[0].decode()
            self._hand_over_again(queued)
        return found

    def _hand_over_again(self, queued: dict[str, str]) -> None:
        """See to it that what has not begun (key and list) is in its list, or has not been out of it for long."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOST / 2
        there = {key for place in set(queued.values()) for key in self._listed(place)}
        self._missing = {key: self._missing.get(key, now) for key in queued if key not in there}
        for key in [key for key, since in self._missing.items() if now - since >= _LOST]:
            del self._missing[key]
            kept: Any = self.client.get(named(self.queue, "sent", key))
            place, _, message = (kept or b"").partition(b"\n")
            if message:
                self.client.lpush(place, message.replace(_tag(key), _tag(f"{key}+{secrets.token_hex(4)}")))

    def _listed(self, place: str) -> set[str]:
        messages: Any = self.client.lrange(place, 0, -1)
        return {key for one in messages if (found := _KEYS.search(one)) for key in found[1].decode().split()}

    def forget(self, keys: Sequence[str], *, ended: bool) -> None:
        """As `Engine`."""
        with talking(self.url.shown), self.client.pipeline(transaction=False) as pipe:
            for stream, entry in self._dealt_with:
                pipe.xdel(stream, entry)
            self.forget_marks(keys, pipe, ended=ended)
            for key in keys:
                pipe.unlink(*(named(self.queue, kind, key) for kind in ("sent", "bundle", "failed")))
            pipe.execute()
        self._dealt_with = []
        self._tried.difference_update(keys)


def _message(queue: str, one: Shipment, lane: str, step: int, pieces: int) -> bytes:
    """As kombu writes it into a list."""
    properties = {
        "correlation_id": one.key, "reply_to": "", "delivery_mode": 2, "priority": step, "delivery_tag": one.key,
        "delivery_info": {"exchange": "", "routing_key": lane},
    }  # fmt: skip
    return msgspec.json.encode(
        {
            "headers": words.headers(one), "properties": properties, "body": words.body(queue, one, pieces),
            "content-type": words.JSON, "content-encoding": words.UTF8,
        }
    )  # fmt: skip


def _tag(text: str) -> bytes:
    return f'"delivery_tag":"{text}"'.encode()


def _seen(begun: bytes | None, failed: bytes | None, sent: bytes) -> Seen:
    if failed is not None or begun == REVOKED.encode():
        return Seen(State.ENDED, (failed or b"").decode())
    if begun is not None:
        return Seen(State.RUNNING)
    return Seen(State.QUEUED if sent else State.UNKNOWN)


# The place of the one run, if the bridge waits for it and nobody was there before.
_BEGIN = """
if redis.call('exists', KEYS[1]) == 0 then return 0 end
redis.call('set', KEYS[2], ARGV[1], 'NX', 'EX', ARGV[2])
return redis.call('get', KEYS[2]) == ARGV[1] and 1 or 0
"""


class FarCeleryRedis(FarRedis):
    """The far side's end: of a process that runs many tasks."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self._begin = client.register_script(_BEGIN)
        self._refreshed: dict[str, float] = {}  # stream: when its end was put off

    def begin(self, queue: str, key: str, token: str) -> bool:
        """As `FarChannel`."""
        with talking("Redis"):
            return bool(self._begin([named(queue, "sent", key), named(queue, "begun", key)], [token, TTL]))

    def begin_all(self, queue: str, keys: Sequence[str], token: str) -> set[str]:
        """As `BatchChannel`."""
        return {key for key in keys if self.begin(queue, key, token)}

    def send(self, queue: str, channel: str, packet: bytes) -> None:
        """As `FarChannel`."""
        stream, now = named(queue, "out", channel), time.monotonic()
        with talking("Redis"):
            self.client.xadd(stream, {"p": packet})
            if now - self._refreshed.get(stream, -_REFRESH) >= _REFRESH:
                self.client.expire(stream, TTL)
                self._refreshed = {name: at for name, at in self._refreshed.items() if now - at < _REFRESH} | {
                    stream: now
                }

    def fetch_bundle(self, queue: str, key: str, pieces: int) -> bytes | None:
        """A bundle that is not in its message; None when nobody waits for its task any more. Raises LookupError."""
        with talking("Redis"), self.client.pipeline(transaction=False) as pipe:
            pipe.exists(named(queue, "sent", key))
            for number in range(pieces):
                pipe.hget(named(queue, "bundle", key), str(number))
            is_awaited, *found = pipe.execute()
        if not is_awaited:
            return None
        if None in found:
            raise LookupError(f"the bundle {key} is not in Redis any more: it was dropped to make room")
        return b"".join(found)

    def note_failure(self, queue: str, key: str, why: str) -> None:
        """The process that ran it has ended, and will say no more."""
        with talking("Redis"):
            self.client.set(named(queue, "failed", key), why, ex=_FAILED_TTL)
