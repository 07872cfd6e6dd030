"""Tasks that need others: edges, and the one move that releases a child.

Who submits a child writes its edges, then its ticket, then looks at the parents; who ends a parent commits,
then looks at the children. Each side writes before it reads, so one of them sees the other, and the move of the
child's ticket happens once. A worker's sweep repeats the look.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from nbtasks.errors import NbtasksError
from nbtasks.queue import lookup, records
from nbtasks.queue.layout import ID, ITEMS
from nbtasks.queue.lookup import Place
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import Ticket, parse_ended, parse_ticket
from nbtasks.spec import Spec
from nbtasks.status import Status

_FEW = 8


class Verdict(NamedTuple):
    """What the parents say about a child: go on waiting, may run, or must fail because of `culprit`."""

    ready: bool
    culprit: str | None = None


def publish_edges(store: Store, child: str, parents: Iterable[str]) -> None:
    """Note under every parent that `child` hangs on it."""
    for parent in dict.fromkeys(parents):
        with contextlib.suppress(FileExistsError):
            store.disk.create(f"{store.layout.edges_folder(parent)}/{child}", [])


def children_of(store: Store, parent: str) -> list[str]:
    """The ids of the tasks that hang on `parent`."""
    return [name for name in store.names(store.layout.edges_folder(parent)) if ID.fullmatch(name)]


def needs(store: Store, spec: Spec) -> tuple[str, ...]:
    """All that a task waits for: what it was submitted with, and of a map, once they are there, the tasks of its items."""
    return spec.dependencies if spec.kind != "map" else (*spec.dependencies, *items_of(store, spec.id))


def items_of(store: Store, id: str) -> tuple[str, ...]:
    """The tasks that a map has made of its items; () while it has not."""
    return find_items(store, id, ITEMS) or ()


def find_items(store: Store, id: str, kind: str) -> tuple[str, ...] | None:
    """The ids that a map has written down (ITEMS or PLAN); None while it has not, or when a power cut left half of it."""
    path = store.layout.spread(id, kind)
    if not store.disk.exists(path):
        return None
    try:
        return msgspec.json.decode(store.disk.read(path), type=tuple[str, ...])
    except msgspec.DecodeError:
        return None


def judge(store: Store, spec: Spec) -> Verdict:
    """Look at all that `spec` depends on. One that failed, was cancelled or is gone fails it, also for ``after``."""
    ready = True
    needed = needs(store, spec)
    find = _find_one if len(needed) <= _FEW else _finder_of_many()
    for id in needed:
        status = find(store, id)
        if status is None:
            ready = False
            if _is_missing(store, id):
                return Verdict(False, id)
        elif status is not Status.SUCCEEDED:
            return Verdict(False, id)
    return Verdict(ready)


def find_chain(store: Store, start: str, wanted: str) -> list[str]:
    """How `start` hangs on `wanted`: ids from one to the other, [] when it does not. Ended tasks hang on nothing."""
    came_from: dict[str, str] = {start: ""}
    todo = [start]
    while todo:
        id = todo.pop()
        if id == wanted:
            chain = [id]
            while came_from[chain[-1]]:
                chain.append(came_from[chain[-1]])
            return chain[::-1]
        with contextlib.suppress(NbtasksError):
            if lookup.find_ended_id(store, id) is None:
                new = [one for one in needs(store, records.read_spec(store, id)) if one not in came_from]
                came_from |= dict.fromkeys(new, id)
                todo += new
    return []


def _find_one(store: Store, id: str) -> Status | None:
    place = lookup.find_ended_id(store, id)
    return place.status if place else None


def _finder_of_many() -> Callable[[Store, str], Status | None]:
    """As `_find_one`, for tasks of which many share a folder: each is listed once."""
    listed: dict[str, dict[str, Status]] = {}

    def find(store: Store, id: str) -> Status | None:
        folder = store.layout.ended_folder(id)
        if folder not in listed:
            # One that ends after this look is seen by whoever ends it.
            found = map(parse_ended, store.disk.list(folder))
            listed[folder] = {one[0].id: one[1] for one in found if one}
        return listed[folder].get(id)

    return find


def _is_missing(store: Store, id: str) -> bool:
    # A network file system may hide a new file from a stat for a while, but not from a listing.
    call = store.layout.call(id)
    return not store.disk.exists(call) and call.rpartition("/")[2] not in store.disk.list(store.layout.task_folder(id))


def find_waiting(store: Store, child: str) -> Place | None:
    """The child's ticket in ``waiting/parents``, or None."""
    folder = store.layout.parents
    first = Ticket(child)
    if store.disk.exists(f"{folder}/{first}"):
        return Place(Status.WAITING, first, f"{folder}/{first}")
    for name in store.disk.list(folder):
        if name.startswith(child) and (ticket := parse_ticket(name)) and ticket.id == child:
            return Place(Status.WAITING, ticket, f"{folder}/{name}")
    return None


def try_release(store: Store, spec: Spec, place: Place) -> bool:
    """Move a child whose parents have all succeeded to its queue. False: another did, or it must wait."""
    target = store.layout.queued_folder(lookup.line_of(spec), spec.priority, spec.id)
    return store.disk.move(place.path, f"{target}/{place.ticket}")
