"""The channel over AMQP: packets in a durable queue for each bridge, and two queues for each task.

Queues are called ``nbtasks.UUID.KIND.NAME``. ``out.CHANNEL`` has the packets. ``task.KEY`` holds the *permit*: whoever takes it out,
begins; a bridge that takes it out has kept the task from beginning; when the queue is gone, nothing begins. A broker that was
killed may have forgotten that a message was taken, but no queue that it has declared. So who begins declares ``begun.KEY``
besides, with a number of its own, which can be done by one only. Requests to stop lie there. ``bundle.KEY`` has a large bundle.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Generator, Sequence
from typing import Any

import amqp
from amqp.exceptions import AccessRefused, NotAllowed, NotFound, PreconditionFailed
from kombu.connection import Connection

from nbtasks.engines.foreign import TTL, EngineDown, EngineFull
from nbtasks.engines.urls import EngineUrl, hide

_CONNECTS, _ANSWERS = 3.0, 10.0  # seconds
_ARGUMENTS = {"x-expires": TTL * 1000}


@contextlib.contextmanager
def talking(what: str) -> Generator[None]:
    """Turn what kombu and amqp raise into EngineDown or EngineFull."""
    try:
        yield
    except (AccessRefused, NotAllowed) as error:
        raise EngineFull(f"{what} refuses: {error}") from error
    except (amqp.exceptions.AMQPError, OSError) as error:
        raise EngineDown(f"{what} does not answer ({hide(str(error)) or type(error).__name__})") from error


def named(queue: str, kind: str, name: str) -> str:
    """The AMQP queue for one thing of the queue with that uuid."""
    return f"nbtasks.{queue}.{kind}.{name}"


class Line:
    """One connection with one channel, made again after an error. Its methods raise EngineDown and EngineFull."""

    def __init__(self, url: EngineUrl) -> None:
        self.url = url
        self.connection: Any = None
        self._channel: Any = None
        self._known: set[str] = set()  # queues that were declared over this connection
        self._sent = self._confirmed = 0

    @contextlib.contextmanager
    def held(self) -> Generator[Any]:
        """The channel, as it is. After an error it is gone."""
        try:
            with talking(self.url.shown):
                if self._channel is None:
                    raise ConnectionResetError("the connection is not there")
                yield self._channel
        except (EngineDown, EngineFull):
            self.close()
            raise

    @contextlib.contextmanager
    def open(self) -> Generator[Any]:
        """The channel; a new one when there is none."""
        with talking(self.url.shown):
            if self._channel is None:
                self._connect()
        with self.held() as channel:
            yield channel

    def _connect(self) -> None:
        if self.connection is None:
            connection = Connection(  # type: ignore[no-untyped-call]  # amqp has no types
                self.url.address, connect_timeout=_CONNECTS, heartbeat=0,
                ssl={"cert_reqs": ssl.CERT_REQUIRED} if self.url.transport == "amqps" else False,
                transport_options={"read_timeout": _ANSWERS, "write_timeout": _ANSWERS},
            )  # fmt: skip
            self.connection = connection.transport.establish_connection()
        self._channel = self.connection.channel()
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_confirmed)
        self._channel.events["basic_nack"].add(self._on_refused)
        self._sent = self._confirmed = 0

    def _on_confirmed(self, tag: int, multiple: bool) -> None:
        self._confirmed = max(self._confirmed, tag) if multiple else self._confirmed + 1

    def _on_refused(self, tag: int, multiple: bool) -> None:
        raise ConnectionError("a message was not taken")

    def publish(self, to: str, body: bytes | str, **properties: Any) -> None:
        """Send a message to a queue; it is there for certain after `confirm`."""
        with self.open() as channel:
            message = amqp.Message(body, delivery_mode=2, **properties)
            channel.basic_publish(message, exchange="", routing_key=to)
            self._sent += 1

    def confirm(self) -> None:
        """Wait until all that was published is with the broker."""
        with self.held():
            while self._confirmed < self._sent:
                self.connection.drain_events(timeout=_ANSWERS)

    def declare(self, name: str, **arguments: int) -> None:
        """See to it that there is such a queue, which outlives the broker; one of ours for a week after it was used last."""
        if name not in self._known:
            with self.open() as channel:
                channel.queue_declare(
                    name, durable=True, auto_delete=False, arguments=arguments or _ARGUMENTS, nowait=not arguments
                )
            self._known.add(name)

    def try_claim(self, name: str, number: int) -> bool:
        """Declare a queue by a number; False when that was done with another one. Asked again with the same it says the same."""
        with self.open() as channel:
            try:
                arguments = _ARGUMENTS | {"x-max-length": number}
                channel.queue_declare(name, durable=True, auto_delete=False, arguments=arguments)
                return True
            except PreconditionFailed:
                self._channel = None  # the broker has closed it
                channel.close()
        return False

    def drop(self, names: Sequence[str]) -> None:
        """Remove these queues, with what is in them."""
        with self.open() as channel:
            for name in names:
                self._known.discard(name)
                channel.queue_delete(name, nowait=True)

    def look(self, name: str) -> Any:
        """How many messages wait in a queue (`message_count`), and who for them (`consumer_count`). Raises LookupError when it is not there."""
        return self._ask(lambda channel: channel.queue_declare(name, passive=True), name)

    def take(self, name: str, *, no_ack: bool = True) -> Any:
        """The next message of a queue, which is gone from there; None when there is none. Raises LookupError when it is not there."""
        return self._ask(lambda channel: channel.basic_get(name, no_ack=no_ack), name)

    def _ask(self, action: Callable[[Any], Any], name: str) -> Any:
        with self.open() as channel:
            try:
                return action(channel)
            except NotFound:
                self._channel = None  # the broker has closed it
                channel.close()
        raise LookupError(name)

    def close(self) -> None:
        """Let go. Never raises."""
        connection, self.connection, self._channel = self.connection, None, None
        self._known.clear()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.collect()
