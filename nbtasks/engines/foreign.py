"""What the bridge asks of a foreign engine: one that was there before us, such as RQ, Celery, Huey or Dask.

An engine is told apart from its *channel*: the engine starts `nbtasks.engines.far.run` on a bundle somewhere, the channel
carries back what that has to say. Both are one object on the bridge's side (`Engine`); on the far side there is the channel
alone (`FarChannel`). Bundles and packets are opaque bytes to either, signed by `wire`.

Invariants that every engine has to keep:

* `send` of a key that was sent before changes nothing: it may be repeated after a cut connection.
* Of all runs of a key, one gets True from `FarChannel.begin`, for ever (a week, at least). `stop` takes the same place.
* A packet that `FarChannel.send` has returned for is kept until it is acknowledged, also while no bridge lives.
* A state of `in_flight` is older than what `poll` gives afterwards: who has ended before the question was answered has
  left its last packet before.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nbtasks.engines.urls import EngineUrl
from nbtasks.errors import EngineError

TTL = 7 * 86400  # seconds for which an engine keeps what nobody asked for


class EngineDown(EngineError):
    """It does not answer just now. Whether what was asked for has happened is not known: ask again."""


class EngineFull(EngineError):
    """It answered, and took nothing of what it was given: out of memory, read-only, not permitted."""


class State(enum.Enum):
    """What an engine knows of a key."""

    UNKNOWN = "unknown"
    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"  # its last packet was sent before, unless its process died


class Seen(NamedTuple):
    """A state, and the engine's own words about an end that it did not like ("work-horse terminated, signal 9")."""

    state: State
    words: str = ""


class Shipment(NamedTuple):
    """One delivery on its way to the engine."""

    key: str  # "ID.D": the engine's id of it, or made from that
    lane: str
    priority: int  # 0 to 9, higher is sooner
    name: str  # for the engine's own lists
    bundle: bytes
    others: tuple[str, ...] = ()  # the keys of those that travel with it, when it is several; see `batches`

    @property
    def keys(self) -> tuple[str, ...]:
        """All that are in it."""
        return self.key, *self.others


class Received(NamedTuple):
    """One packet from the far side. `receipt` is what the engine wants back in order to forget it."""

    data: bytes
    receipt: Any = None


@dataclass(frozen=True)
class Abilities:
    """What an engine cannot do by itself; "" where it can. In words, for the banner and the documents."""

    priorities: str = ""
    cancel_queued: str = ""  # a task that has not begun at the engine
    survive_restart: str = ""  # of the broker
    limit: int = 512 << 20  # bytes of the largest piece that its transport takes
    blobs: bool = False  # it keeps blobs for the far side (`offer_blobs`), so that they travel once
    batches: bool = False  # it takes shipments with several keys; its far end is a `BatchChannel`

    def lacks(self) -> list[str]:
        """The sentences for the banner."""
        return [text for text in (self.priorities, self.cancel_queued, self.survive_restart) if text]


class Engine(Protocol):
    """The bridge's side. All but `connect` raise EngineDown when it does not answer, and are asked again."""

    url: EngineUrl
    can: Abilities
    pause: float  # seconds between two polls when `descriptors` is empty

    def connect(self) -> str:
        """Reach it; a few words about it for the banner. Raises EngineError, which names what to start or install."""
        ...

    def listen(self, queue: str, channels: Sequence[str]) -> None:
        """Take packets for these channels of the queue with that uuid from now on; the first is the bridge's own.

        Called again when there are more channels, and after it was down; what `poll` gave before need not come again.
        """
        ...

    def send(self, shipments: Sequence[Shipment]) -> None:
        """Hand them over, all or none per key; one that was sent before is left as it is. Raises EngineFull, EngineDown."""
        ...

    def offer_blobs(self, hashes: Iterable[str], read: Callable[[str], bytes]) -> None:
        """See to it that the far side finds these blobs; `read` gives one. Nothing to do unless `can.blobs`. Raises EngineFull."""
        ...

    def forget_offers(self) -> None:
        """The blobs that were offered may be gone: offer them again. Asked only of engines with `can.blobs`."""
        ...

    def descriptors(self) -> Iterable[int]:
        """What becomes readable when there is something to `poll`; none: it is asked every `pause` seconds."""
        ...

    def poll(self) -> list[Received]:
        """What has arrived since the last call, in order. Never waits."""
        ...

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """These have been dealt with for good."""
        ...

    def stop(self, words: Mapping[str, str]) -> set[str]:
        """Stop by key: "cancel", or "terminate" without grace. Those that have not begun, and never will."""
        ...

    def in_flight(self, keys: Sequence[str]) -> dict[str, Seen]:
        """What the engine knows of each."""
        ...

    def forget(self, keys: Sequence[str], *, ended: bool) -> None:
        """They are over for us: nothing of them need be kept but that they must not begin.

        `ended`: their last packet has come. Otherwise whatever still runs of them is to stop.
        """
        ...

    def close(self) -> None:
        """Let go. Never raises."""
        ...


class FarChannel(Protocol):
    """The far side's end. Every method may raise OSError or EngineDown; the far side then tries again."""

    def begin(self, queue: str, key: str, token: str) -> bool:
        """Whether this run of the key is the one that may begin. Asked again with the same token it says the same."""
        ...

    def send(self, queue: str, channel: str, packet: bytes) -> None:
        """Leave a packet for the bridge."""
        ...

    def find_stop(self, queue: str, key: str) -> str:
        """ "cancel", "terminate", or "" while it may go on."""
        ...

    def fetch_blob(self, queue: str, hash: str) -> bytes:
        """A blob that was offered. Raises LookupError when it is not there (any more)."""
        ...


class BatchChannel(FarChannel, Protocol):
    """The far side's end of an engine that takes batches."""

    def begin_all(self, queue: str, keys: Sequence[str], token: str) -> set[str]:
        """`begin` for each: those that may."""
        ...

    def send_all(self, queue: str, channel: str, packets: Sequence[bytes], *, last: bool) -> None:
        """`send` for each; `last`: nothing runs here any more."""
        ...
