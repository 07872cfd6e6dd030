"""What goes over an engine: bundles there, packets back. Both are signed with the user's key, and verified before anything
in them is unpickled.

A *bundle* is a frame of kind ``bundle`` (see `frames`): its record is an `Order`, its parts are those of the call
(``call/NAME``), the values of its parents (``value/ID/NAME``), the outcome before (``earlier/NAME``) and blobs
(``blob/HASH``). A *packet* is 32 bytes of HMAC-SHA256 and a `Packet` as MessagePack: some messages of one run, in order.
"""

from __future__ import annotations

import hmac
import platform
from collections.abc import Callable, Mapping
from typing import Any

import cloudpickle
import msgspec

from nbtasks import __version__, frames, headers, keys, processes
from nbtasks.blobs import Maps
from nbtasks.engines.base import load_value
from nbtasks.errors import FrameError, PayloadError
from nbtasks.frames import Frame, Part
from nbtasks.queue import records
from nbtasks.queue.layout import ID
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import NAME, Spec

WIRE = 1  # what both sides have to agree on
_HMAC = 32
_UNSIGNED = bytes(_HMAC)


class Versions(msgspec.Struct, frozen=True):
    """What decides whether a bundle of one Python can be run by another."""

    python: str
    nbtasks: str
    cloudpickle: str

    def words(self) -> str:
        """ "Python 3.11.9, nbtasks 0.1.0"."""
        return f"Python {self.python}, nbtasks {self.nbtasks}"


HERE = Versions(platform.python_version(), __version__, cloudpickle.__version__)


class Order(msgspec.Struct, frozen=True):
    """The record of a bundle: the call's spec, which delivery this is, and where its packets go."""

    wire: int
    spec: msgspec.Raw
    failures: int
    losses: int
    channel: str
    beat: float  # seconds between two signs of life
    versions: Versions
    offered: tuple[str, ...] = ()  # blobs that are not in the bundle but with the engine
    home: tuple[str, str] = ("", "")  # the boot id of the machine that it comes from, and the folder of its queue there


class Bundle:
    """A verified bundle. Nothing of it was unpickled yet."""

    def __init__(self, frame: Frame, order: Order, data: bytes) -> None:
        self.frame, self.order, self.data = frame, order, data
        self.ticket = Ticket(frame.id, frame.delivery, order.failures, order.losses)
        self.spec: Spec = records.decode_spec(bytes(order.spec))

    @property
    def key(self) -> str:
        """What engines know this delivery by."""
        return key_of(self.ticket)

    def call(self) -> Frame:
        """The call as `run.execute` takes it."""
        return Frame("call", self.frame.queue, self.frame.id, 0, bytes(self.order.spec), self.parts("call"))

    def parts(self, folder: str) -> dict[str, Part]:
        """The parts whose names begin with ``FOLDER/``, by the rest of the name."""
        found: dict[str, Part] = {}
        for name, part in self.frame.parts.items():
            above, _, last = name.rpartition("/")
            if above == folder:
                found[last] = Part(last, part.pickle, part.buffers, sha256=part.sha256)
        return found


class BundleValues:
    """Values and blobs for `run.execute`, from a bundle; `fetch` gives a blob that was only offered."""

    def __init__(self, bundle: Bundle, fetch: Any) -> None:
        self.bundle, self.fetch = bundle, fetch

    def value(self, id: str) -> object:
        """The value of a task among the arguments."""
        return load_value(self.bundle.parts(f"value/{id}"), self.value)

    def blob(self, hash: str) -> bytes:
        """The bytes of a blob, compared with its hash."""
        part = self.bundle.frame.parts.get(f"blob/{hash}")
        return bytes(part.view()) if part is not None else bytes(self.fetch(hash))

    def earlier(self, ticket: Ticket) -> Frame | None:
        """The outcome of the delivery before, when it travelled along."""
        parts = self.bundle.parts("earlier")
        return Frame("outcome", self.bundle.frame.queue, ticket.id, ticket.delivery - 1, b"", parts) if parts else None


def key_of(ticket: Ticket) -> str:
    """``ID.D``: what engines know a delivery by."""
    return f"{ticket.id}.{ticket.delivery}"


def pack(
    queue: str, ticket: Ticket, order: Order, parts: Mapping[str, Part], key: bytes, stored: Callable[[Part], list[str]]
) -> bytes:  # fmt: skip
    """A bundle of the queue with that uuid, signed with the user's `key`; `stored` as for `frames.to_bytes`."""
    frame = Frame("bundle", queue, ticket.id, ticket.delivery, msgspec.json.encode(order), dict(parts))
    return b"".join(frames.to_bytes(frame, key, stored))


class Address(msgspec.Struct, frozen=True):
    """Where a bundle says that it comes from. Not verified: good for an answer, and for nothing else."""

    queue: str
    id: str
    delivery: int
    channel: str


class _Claims(msgspec.Struct):
    queue: str
    id: str
    delivery: int
    outcome: Order


_decode_claims = msgspec.json.Decoder(_Claims).decode
_decode_order = msgspec.json.Decoder(Order).decode


def peek(data: bytes) -> Address:
    """Whom to answer about a bundle that cannot be trusted. Raises FrameError when it is none."""
    line = data[: max(0, data.find(b"\n", 0, headers.LIMIT))]
    try:
        said = _decode_claims(line)
    except (ValueError, RecursionError) as error:
        raise headers.damaged("the bundle", f"its header cannot be read ({error})") from error
    is_sound = ID.fullmatch(said.id) and NAME.fullmatch(said.outcome.channel) and said.queue.isalnum()
    if not is_sound or len(said.queue) > 64 or said.delivery < 1:
        raise headers.damaged("the bundle", "its header names no task")
    return Address(said.queue, said.id, said.delivery, said.outcome.channel)


def open_order(data: bytes, address: Address, key: bytes) -> Bundle:
    """The bundle in `data` without its parts: what says how it is to be run, verified. Raises FrameError, PayloadError."""
    head = data[: data.find(b"\n", 0, headers.LIMIT) + 1 + headers.SIGNATURE]
    header, _ = headers.decode(
        _origin(address), head, key, kind="bundle", queue=address.queue, id=address.id, delivery=address.delivery
    )
    return _bundle(Frame("bundle", header.queue, header.id, header.delivery, header.body), address, data)


def unpack(data: bytes, address: Address, key: bytes, blobs: Maps) -> Bundle:
    """The bundle in `data`, verified, with all its parts; `blobs` has what was offered. Raises FrameError, PayloadError."""
    frame = frames.from_bytes(
        data, key, kind="bundle", queue=address.queue, id=address.id, delivery=address.delivery,
        origin=_origin(address), blobs=blobs,
    )  # fmt: skip
    return _bundle(frame, address, data)


def _origin(address: Address) -> str:
    return f"the bundle of {address.id}"


def _bundle(frame: Frame, address: Address, data: bytes) -> Bundle:
    try:
        return Bundle(frame, _decode_order(frame.body), data)
    except msgspec.DecodeError as error:
        raise PayloadError(f"{_origin(address)} was made by another version ({error})") from error


class Begun(msgspec.Struct, tag="begun"):
    """The task is about to run there."""

    host: str
    pid: int
    versions: Versions


class Grown(msgspec.Struct, tag="grown"):
    """More of the log or the events, from that byte on; `anew`: all of it, in place of what there is."""

    file: str  # LOG or EVENTS
    at: int
    data: bytes
    anew: bool = False


class Progress(msgspec.Struct, tag="progress"):
    """The bars, as JSON."""

    data: bytes


class Alive(msgspec.Struct, tag="alive"):
    """Nothing new, but it runs."""


class Piece(msgspec.Struct, tag="piece"):
    """Some of the bytes of the outcome's frame."""

    number: int
    data: bytes
    last: bool = False


class Died(msgspec.Struct, tag="died"):
    """The process of the task ended, and nobody but its parent saw how."""

    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    peak_memory: int = 0
    kind: str = ""  # "cancel" or "timeout": what it was told before
    reason: str = ""


class Refused(msgspec.Struct, tag="refused"):
    """It does not run there. The only message that may come without a signature: it is text, and shown as such."""

    text: str
    error: str = "nbtasks.errors.EngineError"


class Lacking(msgspec.Struct, tag="lacking"):
    """It did not begin, for a blob that was offered is not with the engine any more; or, without one, for another took long."""

    hash: str


Message = Begun | Grown | Progress | Alive | Piece | Died | Refused | Lacking


class Packet(msgspec.Struct, array_like=True):
    """Messages of one run of one delivery; `token` names the run, `number` counts its packets from 0."""

    id: str
    delivery: int
    token: str
    number: int
    messages: list[Message]

    @property
    def key(self) -> str:
        """What engines know the delivery by."""
        return f"{self.id}.{self.delivery}"


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packet).decode


def seal(packet: Packet, queue: str, key: bytes | None) -> bytes:
    """A packet for the channel. Without a key it is not signed, and will be believed a refusal at most."""
    data = _encode(packet)
    return (_sign(queue, key, data) if key is not None else _UNSIGNED) + data


def unseal(data: bytes, queue: str, key: bytes) -> Packet:
    """The packet in `data`. Raises FrameError unless it was signed with `key`, or is a mere refusal."""
    signature, rest = data[:_HMAC], data[_HMAC:]
    is_signed = hmac.compare_digest(signature, _sign(queue, key, rest))
    if not is_signed and signature != _UNSIGNED:
        raise FrameError("a packet was not signed with your key: it was left alone")
    try:
        packet = _decode(rest)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a packet cannot be read ({error})") from error
    if not is_signed and not (len(packet.messages) == 1 and isinstance(packet.messages[0], Refused)):
        raise FrameError("a packet came without a signature: it was left alone")
    return packet


def look_at(packet: bytes) -> tuple[str, bool]:
    """The key of a packet of ours, and whether it holds the last that is to be said, or the beginning of that. Not verified."""
    said = _decode(packet[_HMAC:])
    return said.key, any(isinstance(one, Piece | Died | Refused | Lacking) for one in said.messages)


def _sign(queue: str, key: bytes, data: bytes) -> bytes:
    return hmac.digest(keys.derive(key, queue, "packet"), data, "sha256")


def where(versions: Versions = HERE) -> str:
    """This process in words, for an error: "node7 (Python 3.11.9, nbtasks 0.1.0)"."""
    return f"{processes.host_name()} ({versions.words()})"
