"""The starts under a rate: a small file with the last moments, changed only behind the gate of the tokens.

Moments are those of the machine's monotonic clock, so nobody gains a start by setting the clock. After a restart of the
machine they are counted back from the wall clock that was noted beside them.
"""

from __future__ import annotations

import time

import msgspec

from nbtasks import processes
from nbtasks.needs import MOST
from nbtasks.queue.store import Store

_LARGEST = 1 << 20


class Starts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The last starts, oldest first: each a moment of the monotonic clock, and a mark of who started."""

    boot: str
    clock: float  # monotonic, when this was written
    wall: float  # seconds since 1970, at the same time
    span: float  # starts older than this are forgotten
    starts: list[tuple[float, str]] = []


_decoder = msgspec.json.Decoder(Starts)


def left(store: Store, key: str, rate: tuple[int, float]) -> float:
    """Seconds until one more may start; 0: now."""
    count, span = rate
    now = time.monotonic()
    within = sorted(moment for moment, _ in _read(store, key, now).starts if moment > now - span)
    return within[-count] + span - now if len(within) >= count else 0.0


def add(store: Store, key: str, rate: tuple[int, float], mark: str) -> None:
    """Note that `mark` starts now; noted before, its start is moved to now."""
    now = time.monotonic()
    known = _read(store, key, now)
    known.span = max(known.span, rate[1])
    _drop(known, mark)
    known.starts.append((now, mark))
    _write(store, key, known, now)


def remove(store: Store, key: str, mark: str) -> None:
    """It did not start after all."""
    now = time.monotonic()
    known = _read(store, key, now)
    _drop(known, mark)
    _write(store, key, known, now)


def _drop(known: Starts, mark: str) -> None:
    known.starts = [start for start in known.starts if start[1] != mark]


def _read(store: Store, key: str, now: float) -> Starts:
    boot = processes.boot_id()
    try:
        known = _decoder.decode(store.disk.read(store.layout.rate(key), _LARGEST))
    except (OSError, msgspec.DecodeError):  # none has started yet, or the power failed while it was written
        return Starts(boot=boot, clock=now, wall=time.time(), span=0.0)
    if known.boot != boot:
        shift = now - known.clock - max(0.0, time.time() - known.wall)
        known.starts = [(moment + shift, mark) for moment, mark in known.starts]
    # None lies in the future, whatever was done to the clocks: who waits, waits for one span at most.
    known.starts = [(min(moment, now), mark) for moment, mark in known.starts]
    return known


def _write(store: Store, key: str, known: Starts, now: float) -> None:
    known.boot, known.clock, known.wall = processes.boot_id(), now, time.time()
    known.starts = [start for start in known.starts if start[0] > now - known.span][-MOST:]
    store.disk.replace(store.layout.rate(key), msgspec.json.encode(known))
