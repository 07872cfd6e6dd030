"""What must hold in every queue at every moment, looked at from outside: `nbtasks doctor` and the torture tests.

- Each task has one ticket, in one place. A call without a ticket is a submit that never got to its end.
- Each call is readable and signed; so is the outcome of whatever ended, and it says what the ticket says.
- Nothing is set aside in ``damaged/``.

Nothing is changed and nothing is unpickled. The queue may be in use: what looks wrong is looked at again before
it is told, because a ticket that moves meanwhile is seen twice or not at all.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from nbtasks.errors import FrameError, NbtasksError, PayloadError
from nbtasks.queue import lookup, records
from nbtasks.queue.layout import OUTCOME
from nbtasks.queue.lookup import Place
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import parse_ended, parse_ticket, parse_until
from nbtasks.status import Status

_SUBMIT_TAKES = 60.0  # seconds; a call that is older and has no ticket will never get one
_PIECE = 1 << 20


class Finding(NamedTuple):
    """One thing that is wrong: what kind, which task or file, a sentence, and what to do about it."""

    kind: str  # two tickets | no ticket | no call | unknown name | call | outcome | blob | damaged
    subject: str
    sentence: str
    cure: str = ""


def check(store: Store, *, full: bool = False) -> list[Finding]:
    """All that is wrong in a queue, worst first; [] for a sound one.

    `full` also reads every value through and compares every blob with its name, which reads the whole queue.
    """
    places = _places(store)
    found = [*_tickets(store, places), *_calls(store, places, full), *_outcomes(store, places, full)]
    found += [*_unknown_names(store), *(_blobs(store) if full else ()), *_damaged(store)]
    return found


def _places(store: Store) -> dict[str, list[Place]]:
    places: dict[str, list[Place]] = {}
    for place in (*lookup.live_tickets(store), *lookup.ended_tickets(store)):
        places.setdefault(place.ticket.id, []).append(place)
    return places


def _tickets(store: Store, places: dict[str, list[Place]]) -> Iterator[Finding]:
    for id, seen in places.items():
        if len(seen) > 1 and len(there := _still_there(store, seen)) > 1:
            where = " and ".join(os.path.relpath(place.path, store.root) for place in there)
            yield Finding(
                "two tickets", id, f"{id} has {len(there)} tickets: {where}", "keep the last one, remove the others"
            )
        if not store.disk.exists(store.layout.call(id)):
            yield Finding(
                "no call", id, f"{id} has a ticket but no call: what was to run is gone", f"rm {seen[0].path}"
            )


def _still_there(store: Store, places: list[Place]) -> list[Place]:
    # A moving ticket leaves one place before it is seen in the next: only what is there in two looks counts.
    first = [place for place in places if store.disk.exists(place.path)]
    return [place for place in first if store.disk.exists(place.path)]


def _calls(store: Store, places: dict[str, list[Place]], full: bool) -> Iterator[Finding]:
    for id in lookup.all_ids(store):
        try:
            spec = records.read_spec(store, id)
            if full:
                records.read_call(store, id)
        except (FrameError, PayloadError, OSError) as error:
            if id in places or lookup.locate_anywhere(store, id):
                yield Finding("call", id, str(error), "submit it again; a worker ends this one as failed")
            elif found := _without_ticket(store, id, "half written"):
                yield found
            continue
        except NbtasksError:  # gone since it was listed
            continue
        if id not in places and lookup.locate(store, spec) is None and (found := _without_ticket(store, id, spec.name)):
            yield found


def _without_ticket(store: Store, id: str, what: str) -> Finding | None:
    """What is to be said of a call that has no ticket; nothing while its submit may still go on."""
    path = store.layout.call(id)
    try:
        if time.time() - os.stat(path).st_mtime < _SUBMIT_TAKES:
            return None
    except FileNotFoundError:
        return None
    return Finding(
        "no ticket", id, f"{id} ({what}) was never wholly submitted: it has a call and no ticket", f"rm {path}"
    )  # fmt: skip


def _outcomes(store: Store, places: dict[str, list[Place]], full: bool) -> Iterator[Finding]:
    for id, seen in places.items():
        for place in seen:
            if place.status.ended and (wrong := _wrong_outcome(store, place, full)):
                yield Finding("outcome", id, f"{id} {place.status}: {wrong}", "submit it again")


def _wrong_outcome(store: Store, place: Place, full: bool) -> str:
    path = store.layout.file(place.ticket.id, place.ticket.delivery, OUTCOME)
    if not store.disk.exists(path):
        if place.status is Status.CANCELLED or not store.disk.exists(place.path):
            return ""  # cancelled before it started, or gone on meanwhile
        return "its outcome file is missing"
    try:
        frame = records.read_outcome_frame(store, place.ticket)
        outcome = records.decode_outcome(bytes(frame.body))
    except (PayloadError, OSError) as error:
        return str(error)
    if outcome.status is not place.status and store.disk.exists(place.path):
        return f"its outcome says {outcome.status}"
    return ""


def _unknown_names(store: Store) -> Iterator[Finding]:
    """Names among the tickets that are none: they are never claimed, and never removed either."""
    layout = store.layout
    known = {place.path for place in lookup.live_tickets(store)} | {place.path for place in lookup.ended_tickets(store)}
    for top in (layout.parents, layout.until, layout.queued, layout.running, layout.ended):
        for folder, _, names in os.walk(top):
            for name in names:
                path = f"{folder}/{name}"
                if path not in known and name[0] != "." and not _is_ticket(path) and store.disk.exists(path):
                    short = os.path.relpath(path, store.root)
                    yield Finding("unknown name", short, f"{short} is no ticket; it is left alone", f"rm {path}")


def _is_ticket(path: str) -> bool:
    name = path.rpartition("/")[2]
    return bool(parse_ticket(name) or parse_ended(name) or parse_until(name))


def _blobs(store: Store) -> Iterator[Finding]:
    for folder, _, names in os.walk(store.layout.blobs):
        for name in names:
            if len(name) == 64 and _hash_of(path := f"{folder}/{name}") not in (name, ""):
                yield Finding(
                    "blob", name, f"{path} does not hold what its name says", f"rm {path}, and retry what reads it"
                )


def _hash_of(path: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def _damaged(store: Store) -> Iterator[Finding]:
    for name in sorted(store.disk.list(store.layout.damaged)):
        path = f"{store.layout.damaged}/{name}"
        yield Finding("damaged", name, f"{name} was set aside as damaged", f"look at {path}, then remove it")
