"""What lies in Huey's queue: the address of a delivery, as MessagePack. The bundle is kept by the channel, or with it when it is small.

Huey pickles what it puts into a queue. This is no pickle: who can write into the queue can name a delivery, and run nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec
from huey.api import Task
from huey.registry import Message
from huey.serializer import Serializer

from nbtasks.engines.foreign import Shipment
from nbtasks.errors import FrameError

TASK = "nbtasks.engines.huey.run"  # the name that Huey gives the one function that it runs


class Note(msgspec.Struct):
    """One message of the queue."""

    key: str
    queue: str  # the uuid
    channel: str
    name: str  # for Huey's log
    priority: int = 0
    bundle: bytes = b""  # b"": the channel has it
    others: tuple[str, ...] = ()  # the keys of those that travel with it


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Note).decode


def note_of(one: Shipment, queue: str, channel: str, bundle: bytes = b"") -> bytes:
    """The message for a delivery."""
    return _encode(Note(one.key, queue, channel, one.name, one.priority, bundle, one.others))


def key_in(data: bytes, queue: str) -> str:
    """The key that a message of the queue with that uuid names; "" when it is another's."""
    try:
        note = _decode(data)
    except msgspec.DecodeError:
        return ""
    return note.key if note.queue == queue else ""


def is_batch(data: bytes) -> bool:
    """Whether a message of ours brings several deliveries."""
    return bool(_decode(data).others)


class Notes(Serializer):  # type: ignore[misc]  # Huey has no types
    """How Huey reads and writes them."""

    def _serialize(self, data: Any) -> bytes:
        raise FrameError("this Huey runs tasks of nbtasks, and nothing else can be put into it")

    def _deserialize(self, data: bytes) -> Message:
        note = _decode(data)
        args = (note.queue, note.key, note.channel, note.name, note.bundle)
        return Message(id=note.key, name=TASK, priority=note.priority, args=args, kwargs={})


class Delivery(Task):  # type: ignore[misc]  # Huey has no types
    """A task as Huey shows it in its log."""

    def __repr__(self) -> str:
        return f"{self.args[3]} ({self.id})"


def queue_name(lane: str) -> str:
    """Huey's queue for a lane."""
    return "nbtasks" if lane == "default" else f"nbtasks-{lane}"
