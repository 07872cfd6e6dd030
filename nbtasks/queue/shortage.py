"""What a task lacks that needs tokens, in words: which limit, rate or resource, and who has it. Nothing is locked for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbtasks import config
from nbtasks.needs import Needs, of_fields, rate_words
from nbtasks.queue import holders, rates
from nbtasks.queue.holders import Holder
from nbtasks.queue.layout import HostLayout
from nbtasks.queue.store import Store


def of_needs(store: Store, code: str, fields: dict[str, Any]) -> str:
    """``for licence: 2 of 2 in use by k7q2 (train, 01:12) and m3x9 (fit, 00:07)``; "" when nothing is seen to be missing."""
    needs = of_fields(fields, code)
    if needs is None:
        return "its needs are of a newer version: only a newer worker takes it"
    for name, wanted, most, found in _missing(store, needs):
        more = f"{wanted} wanted, " if wanted > 1 else ""
        return f"for {name}: {more}{len(found)} of {most} in use by {holders.listed(found)}"
    return _rate(store, needs)


def blocking(store: Store, needs: Needs) -> list[Holder]:
    """Who holds what a task with these needs lacks first."""
    return next((found for _, _, _, found in _missing(store, needs)), [])


def _missing(store: Store, needs: Needs) -> Iterator[tuple[str, int, int, list[Holder]]]:
    """Of each limit and resource that is short: its name, how many are wanted, of how many, and who has them."""
    for name, wanted, paths in places_of(store, needs):
        found = _held(paths)
        if len(paths) - len(found) < wanted:
            yield name, wanted, len(paths), found


def places_of(store: Store, needs: Needs) -> Iterator[tuple[str, int, list[str]]]:
    """Of each limit and resource: its name, how many tokens are wanted, and the files of all that there are."""
    for key, most in sorted(needs.limits.items()):
        yield key, 1, [store.layout.limit(key, number) for number in range(1, most + 1)]
    if needs.resources:
        host = HostLayout(config.settings().host_dir)
        for name, (wanted, most) in sorted(needs.resources.items()):
            yield name, wanted, [host.resource(name, number) for number in range(1, most + 1)]


def _held(paths: list[str]) -> list[Holder]:
    return [holder for path in paths if (holder := holders.read(path)) is not None and holder.is_at_it]


def _rate(store: Store, needs: Needs) -> str:
    waits = [(rates.left(store, key, rate), key, rate) for key, rate in needs.rates.items()]
    longest, key, rate = max(waits, default=(0.0, "", (0, 0.0)))
    if not longest:
        return ""
    return f"for rate {key} ({rate_words(rate)}): next in {longest:.1f} s"


def of_lock(store: Store, name: str) -> str:
    """``for lock db, held by k7q2 (load, 00:12)``."""
    holder = holders.read(store.layout.named_lock(name))
    return f"for lock {name}" + (f", held by {holder.words()}" if holder and holder.is_at_it else "")


def joined(place: str, lack: str) -> str:
    """What is lacking, behind the place in line of one that is not the next."""
    if not lack:
        return place
    return lack if place in ("", "next in line") else f"{place}, {lack}"
