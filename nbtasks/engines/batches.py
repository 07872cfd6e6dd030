"""Short tasks that travel together: when many of a few milliseconds wait, one message of the engine's brings some of them.

The far side runs them one after the other, each in its own right. When one takes longer than was thought, those behind it
go back to the queue at once. So together they save what a message costs, and cost nobody more than a moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from nbtasks import headers
from nbtasks.engines.foreign import Shipment
from nbtasks.outcome import Outcome
from nbtasks.spec import Spec
from nbtasks.status import Status

_TIME, _COUNT, _SIZE = 0.08, 16, 16 << 10  # seconds, tasks and bytes of one batch, at most
_SEEN = 3  # of a name, before it is said to be short
_FADES = 0.5  # what the longest of the last ones counts for, with each that follows
_NAMES = 1000
_MARK = b"nbtasks batch\n"
_decode = msgspec.msgpack.Decoder(list[bytes]).decode


def join(bundles: Sequence[bytes]) -> bytes:
    """Several bundles as one. Each is signed, together they are not."""
    return _MARK + msgspec.msgpack.encode(bundles)


def split(data: bytes) -> list[bytes]:
    """The bundles in what `join` gave, or in a single one. Raises FrameError."""
    if not data.startswith(_MARK):
        return [data]
    try:
        return _decode(data[len(_MARK) :])
    except (ValueError, RecursionError) as error:
        raise headers.damaged("the batch", f"it cannot be read ({error})") from error


class Durations:
    """How long tasks of a name took of late."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, float]] = {}  # name: how many were seen, and the longest of late, in seconds

    def note(self, spec: Spec, outcome: Outcome) -> None:
        """One has ended."""
        count, longest = self._known.pop(spec.name, (0, 0.0))
        if outcome.status is Status.SUCCEEDED:
            self._known[spec.name] = count + 1, max(outcome.seconds, longest * _FADES)
        if len(self._known) > _NAMES:
            del self._known[next(iter(self._known))]

    def doubt(self, spec: Spec) -> None:
        """One took longer than was thought."""
        self._known.pop(spec.name, None)

    def expect(self, spec: Spec) -> float:
        """Seconds that one takes, inf when that is not known, or when it has to be looked after by itself."""
        count, longest = self._known.get(spec.name, (0, math.inf))
        is_plain = spec.kind == "function" and spec.need == "f" and not spec.at_most_once and spec.timeout is None
        return max(longest, 0.001) if is_plain and count >= _SEEN else math.inf


def gather(shipments: Sequence[Shipment], expect: Callable[[Shipment], float], most: int) -> list[Shipment]:
    """The shipments, with those put together that are short; `most` are in one."""
    found: list[Shipment] = []
    batch: list[Shipment] = []
    left = _TIME
    for one in shipments:
        seconds = expect(one)
        is_like = bool(batch) and (one.lane, one.priority) == (batch[0].lane, batch[0].priority)
        has_room = len(batch) < min(most, _COUNT) and sum(len(it.bundle) for it in (*batch, one)) <= _SIZE
        if batch and not (is_like and has_room and seconds <= left):
            found.append(_one_of(batch))
            batch, left = [], _TIME
        if seconds <= left:
            batch.append(one)
            left -= seconds
        else:
            found.append(one)
    return [*found, *([_one_of(batch)] if batch else [])]


def _one_of(batch: list[Shipment]) -> Shipment:
    first, *others = batch
    if not others:
        return first
    name = f"{first.name} and {len(others)} more"
    keys = tuple(one.key for one in others)
    return first._replace(name=name, bundle=join([one.bundle for one in batch]), others=keys)


def singles(shipment: Shipment) -> list[Shipment]:
    """Those that are in a batch, as each would have travelled alone."""
    if not shipment.others:
        return [shipment]
    parts = zip(shipment.keys, split(shipment.bundle), strict=True)
    return [shipment._replace(key=key, bundle=bundle, others=()) for key, bundle in parts]
