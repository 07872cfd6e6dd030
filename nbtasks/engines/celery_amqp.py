"""Celery over AMQP, such as RabbitMQ. The bridge publishes Celery's messages itself.

One message goes into two queues at once: the one that workers read, and as the permit into that of the task (see
`channel_amqp`).

The broker gives back at once what a worker had taken that died. In case it had said before that it begins, and did not, the
bridge publishes anew what has not begun within a lease and is not in the workers' queue.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import celery

from nbtasks import config
from nbtasks.engines import celery_words as words
from nbtasks.engines.channel_amqp import Line, named
from nbtasks.engines.foreign import Abilities, Received, Seen, Shipment, State
from nbtasks.engines.urls import EngineUrl
from nbtasks.errors import EngineError

_PIECE = 4 << 20  # bytes of one message: brokers take 16 MiB and more
_NEVER = 1  # the number of who keeps a task from beginning; those of runs are larger
_HIGHEST = 9


class CeleryOnAmqp:
    """The bridge's side."""

    can = Abilities(limit=_PIECE)
    pause = 0.0
    queue = ""

    def __init__(self, url: EngineUrl) -> None:
        self.url = url
        self.line, self.ears = Line(url), Line(url)
        self._inbox: list[Received] = []
        self._tags: dict[
            str, int
        ] = {}  # name of a packet that is not acknowledged: its number on this connection, 0: on another
        self._done: set[str] = set()  # to be acknowledged when they come again
        self._lanes: dict[str, str] = {}  # what was sent: the queue it is for
        self._unheard: dict[str, str] = {}  # requests to stop of what has taken its permit, and not begun yet
        self._revoked: set[str] = set()
        self._missing: dict[str, float] = {}
        self._next_look = 0.0

    def connect(self) -> str:
        """As `Engine`."""
        try:
            with self.line.open():
                server = self.line.connection.server_properties
        except EngineError as error:
            raise EngineError(f"{error}: start a rabbitmq-server there, or name another one") from error
        try:
            count = self.line.look(words.queue_name("default")).consumer_count
        except LookupError:
            count = 0
        there = words.workers(count, self.url.shown)
        return f"Celery {celery.__version__} on {server.get('product', 'AMQP')} {server.get('version', '')}, {there}"

    # Packets.

    def listen(self, queue: str, channels: Sequence[str]) -> None:
        """As `Engine`."""
        self.queue = queue
        self.ears.close()
        self._tags = dict.fromkeys(self._tags, 0)
        with self.ears.open() as channel:
            for name in (named(queue, "out", one) for one in channels):
                self.ears.declare(name)
                channel.basic_consume(name, callback=self._on_packet)

    def _on_packet(self, message: Any) -> None:
        name, tag = message.properties["message_id"], message.delivery_info["delivery_tag"]
        if name in self._done:
            self._done.discard(name)
            message.channel.basic_ack(tag)
            return
        if name not in self._tags:
            self._inbox.append(Received(bytes(message.body), name))
        self._tags[name] = tag

    def descriptors(self) -> Iterable[int]:
        """As `Engine`."""
        if self._inbox:  # they came while something else was waited for
            return []
        with self.ears.held():
            return [self.ears.connection.sock.fileno()]

    def poll(self) -> list[Received]:
        """As `Engine`."""
        with self.ears.held():
            try:
                while True:
                    self.ears.connection.drain_events(timeout=0)
            except TimeoutError:
                pass
        found, self._inbox = self._inbox, []
        return found

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """As `Engine`."""
        with self.ears.held() as channel:
            for name in receipts:
                if tag := self._tags.pop(name, 0):
                    channel.basic_ack(tag)
                else:
                    self._done.add(name)

    # Out.

    def send(self, shipments: Sequence[Shipment]) -> None:
        """As `Engine`."""
        for one in shipments:
            lane, task = words.queue_name(one.lane), named(self.queue, "task", one.key)
            if one.key in self._lanes and self._count(task) is not None:
                continue  # it may have arrived; if it has not, that is seen as a loss
            self._lanes[one.key] = lane
            self.line.declare(lane, **{"x-max-priority": _HIGHEST})
            pieces = self._put_bundle(one)
            self.line.declare(task)
            self._publish(lane, task, words.headers(one), words.body(self.queue, one, pieces), one.priority)
        self.line.confirm()

    def _put_bundle(self, one: Shipment) -> int:
        if len(one.bundle) <= words.INLINE:
            return 0
        name, view = named(self.queue, "bundle", one.key), memoryview(one.bundle)
        self.line.drop([name])
        self.line.declare(name)
        pieces = range(0, len(view), _PIECE)
        for number, at in enumerate(pieces):
            self.line.publish(name, bytes(view[at : at + _PIECE]), message_id=str(number))
            self.line.confirm()
        return len(pieces)

    def _publish(self, lane: str, task: str, headers: dict[str, Any], body: str | bytes, priority: int) -> None:
        self.line.publish(
            lane, body, application_headers=headers | {"BCC": [task]}, priority=priority, content_type=words.JSON,
            content_encoding=words.UTF8, correlation_id=headers["id"],
        )  # fmt: skip

    def offer_blobs(self, hashes: Iterable[str], read: Callable[[str], bytes]) -> None:
        """As `Engine`: they are in the bundles."""

    def forget_offers(self) -> None:
        """As `Engine`: there are none."""

    # What became of it.

    def _count(self, name: str) -> int | None:
        try:
            return int(self.line.look(name).message_count)
        except LookupError:
            return None

    def _take_permit(self, key: str) -> Any:
        """The message that nobody may begin with any more; None when somebody has."""
        try:
            return self.line.take(named(self.queue, "task", key))
        except LookupError:
            return None

    def stop(self, asked: Mapping[str, str]) -> set[str]:
        """As `Engine`."""
        self._unheard.update({key: word for key, word in asked.items() if not self._revoke(key)})
        self._pass_on()
        return asked.keys() & self._revoked

    def _revoke(self, key: str) -> bool:
        is_mine = key not in self._revoked and self._take_permit(key) is not None
        if is_mine and self.line.try_claim(named(self.queue, "begun", key), _NEVER):
            self._revoked.add(key)
        return key in self._revoked

    def _pass_on(self) -> None:
        for key, word in list(self._unheard.items()):
            name = named(self.queue, "begun", key)
            if self._count(name) is not None:
                self.line.publish(name, word.encode())
                self.line.confirm()
                del self._unheard[key]

    def in_flight(self, keys: Sequence[str]) -> dict[str, Seen]:
        """As `Engine`."""
        self._pass_on()
        found = {key: Seen(self._state(key)) for key in keys}
        now, lease = time.monotonic(), config.settings().lease
        if now >= self._next_look:
            self._next_look = now + lease / 3
            self._hand_over_again([key for key, seen in found.items() if seen.state is State.QUEUED], now, lease)
        return found

    def _state(self, key: str) -> State:
        count = self._count(named(self.queue, "task", key))
        if count is None:
            return State.UNKNOWN
        if key in self._revoked:
            return State.ENDED
        return State.QUEUED if count else State.RUNNING

    def _hand_over_again(self, queued: Sequence[str], now: float, lease: float) -> None:
        waiting = {lane for lane in {self._lanes.get(key, "") for key in queued} if lane and self._count(lane)}
        self._missing = {key: self._missing.get(key, now) for key in queued if self._lanes.get(key, "") not in waiting}
        for key in [key for key, since in self._missing.items() if now - since >= lease]:
            del self._missing[key]
            if (message := self._take_permit(key)) is not None:
                lane = self._lanes[key] = message.delivery_info["routing_key"]
                facts = message.properties
                task = named(self.queue, "task", key)
                self._publish(lane, task, facts["application_headers"], message.body, facts.get("priority", 0))
                self.line.confirm()

    def forget(self, keys: Sequence[str], *, ended: bool) -> None:
        """As `Engine`: whoever still runs one finds that its queue is gone, and stops."""
        self.line.drop([named(self.queue, kind, key) for key in keys for kind in ("task", "begun", "bundle")])
        for key in keys:
            self._lanes.pop(key, None)
            self._unheard.pop(key, None)
        self._revoked.difference_update(keys)

    def close(self) -> None:
        """As `Engine`."""
        self.line.close()
        self.ears.close()


class FarAmqp:
    """The far side's end."""

    def __init__(self, url: EngineUrl) -> None:
        self.line = Line(url)
        self._permit = ""  # the token of the run that took one out
        self._stop = ("", "")  # key and word: a request is taken out once

    def begin(self, queue: str, key: str, token: str) -> bool:
        """As `FarChannel`. When the broker's answer is lost, so may be the permit: the bridge takes the task for lost then."""
        if self._permit != token:
            try:
                if self.line.take(named(queue, "task", key)) is None:
                    return False
            except LookupError:
                return False
            self._permit = token
        return self.line.try_claim(named(queue, "begun", key), (int(token, 16) & 0x3FFFFFFF) + _NEVER + 1000)

    def send(self, queue: str, channel: str, packet: bytes) -> None:
        """As `FarChannel`."""
        name = named(queue, "out", channel)
        self.line.declare(name)
        self.line.publish(name, packet, message_id=secrets.token_hex(8))
        self.line.confirm()

    def find_stop(self, queue: str, key: str) -> str:
        """As `FarChannel`."""
        try:
            message = self.line.take(named(queue, "begun", key))
        except LookupError:  # nobody waits for it any more
            return "terminate"
        if message is not None:
            self._stop = key, bytes(message.body).decode()
        return self._stop[1] if self._stop[0] == key else ""

    def fetch_blob(self, queue: str, hash: str) -> bytes:
        """As `FarChannel`: none is ever offered."""
        raise LookupError(hash)

    def fetch_bundle(self, queue: str, key: str, pieces: int) -> bytes | None:
        """A bundle that is not in its message; None when nobody waits for its task any more, or another run has it.

        Its pieces go back when this process dies; its queue is removed by the bridge.
        """
        found: dict[int, bytes] = {}
        try:
            for _ in range(pieces):
                if (message := self.line.take(named(queue, "bundle", key), no_ack=False)) is None:
                    return None
                found[int(message.properties["message_id"])] = bytes(message.body)
        except LookupError:
            return None
        return b"".join(found[number] for number in sorted(found))

    def note_failure(self, queue: str, key: str, why: str) -> None:
        """The process that ran it has ended, and will say no more. Had it not begun, it never will, and counts as lost."""
        try:
            self.line.take(named(queue, "task", key))
        except LookupError:
            return
