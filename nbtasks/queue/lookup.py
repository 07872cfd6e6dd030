"""Where a task stands: found by looking in the order in which tickets move, twice."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from nbtasks.errors import TaskNotFound
from nbtasks.queue.layout import CALL, ID
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import Ticket, parse_ended, parse_ticket, parse_until
from nbtasks.spec import Spec
from nbtasks.status import ENDED, Status

_PART = re.compile(r"[0-9a-z-]{1,40}")
_SHORTEST = 3  # characters of a part
_LOOKS = 50


class Place(NamedTuple):
    """A ticket, the status that its folder gives it, its path, and the slot that claimed it."""

    status: Status
    ticket: Ticket
    path: str
    slot: str | None = None


def line_of(spec: Spec) -> str:
    """The folder under ``queued/`` for a task: LANE@ENV@NEED."""
    return f"{spec.lane}@{spec.env}@{spec.need}"


def locate(store: Store, spec: Spec) -> Place | None:
    """Where the task is now. None when it has no ticket (its submit never got that far).

    Tickets move from waiting over queued and running to ended. Looking in that order, and again because a
    retry moves against it, misses none; any other order does.
    """
    if place := _first_delivery(store, spec):
        return place
    for _ in range(_LOOKS):  # more than two only while it is being retried again and again, or has no ticket
        for look in (_waiting, _queued, _running, find_ended):
            if place := look(store, spec):
                return place
    return None


def _first_delivery(store: Store, spec: Spec) -> Place | None:
    # Most tasks are in their first delivery, whose names are known: a burst's folders need not be listed.
    layout, exists, first = store.layout, store.disk.exists, Ticket(spec.id)
    if exists(path := f"{layout.ended_folder(spec.id)}/{first}.{Status.SUCCEEDED}"):
        return Place(Status.SUCCEEDED, first, path)
    if exists(path := f"{layout.queued_folder(line_of(spec), spec.priority, spec.id)}/{first}"):
        return Place(Status.QUEUED, first, path)
    for slot in store.names(layout.running):
        if exists(path := f"{layout.running_folder(slot)}/{first}"):
            return Place(Status.RUNNING, first, path, slot)
    return None


def _waiting(store: Store, spec: Spec) -> Place | None:
    if spec.parents or spec.after:
        for ticket in _tickets(store, store.layout.parents, spec.id):
            return Place(Status.WAITING, ticket, f"{store.layout.parents}/{ticket}")
    if spec.retries or spec.due is not None:
        for name in store.disk.list(store.layout.until):
            if spec.id in name and (parsed := parse_until(name)) and parsed[1].id == spec.id:
                return Place(Status.WAITING, parsed[1], f"{store.layout.until}/{name}")
    return None


def _queued(store: Store, spec: Spec) -> Place | None:
    folder = store.layout.queued_folder(line_of(spec), spec.priority, spec.id)
    for ticket in _tickets(store, folder, spec.id):
        return Place(Status.QUEUED, ticket, f"{folder}/{ticket}")
    return None


def _running(store: Store, spec: Spec) -> Place | None:
    for slot in store.names(store.layout.running):
        folder = store.layout.running_folder(slot)
        for ticket in _tickets(store, folder, spec.id):
            return Place(Status.RUNNING, ticket, f"{folder}/{ticket}", slot)
    return None


def find_ended(store: Store, spec: Spec) -> Place | None:
    """The place of an ended task, or None while it lives."""
    return find_ended_id(store, spec.id)


def find_ended_id(store: Store, id: str) -> Place | None:
    """The place of an ended task, or None while it lives or when there is no such task."""
    folder = store.layout.ended_folder(id)
    first = Ticket(id)
    path = f"{folder}/{first}.{Status.SUCCEEDED}"
    if store.disk.exists(path):
        return Place(Status.SUCCEEDED, first, path)
    for name in store.disk.list(folder):
        if name.startswith(id) and (parsed := parse_ended(name)) and parsed[0].id == id:
            return Place(parsed[1], parsed[0], f"{folder}/{name}")
    return None


def _tickets(store: Store, folder: str, id: str) -> Iterator[Ticket]:
    first = Ticket(id)
    if store.disk.exists(f"{folder}/{first}"):
        yield first
    for name in store.disk.list(folder):
        if name.startswith(id) and (ticket := parse_ticket(name)) and ticket.id == id:
            yield ticket


def locate_anywhere(store: Store, id: str) -> Place | None:
    """Where the task is, found without its spec by looking at every ticket. For a call that cannot be read."""
    for _ in range(2):
        for place in live_tickets(store):
            if place.ticket.id == id:
                return place
        if place_ended := find_ended_id(store, id):
            return place_ended
    return None


def all_ids(store: Store) -> Iterator[str]:
    """The ids of all call files, newest second first; within a second newest first."""
    root = store.layout.tasks
    for minute in reversed(store.names(root)):
        for second in reversed(store.names(f"{root}/{minute}")):
            for name in reversed(store.names(f"{root}/{minute}/{second}")):
                if name.endswith(f".{CALL}") and ID.fullmatch(name[: -len(CALL) - 1]):
                    yield name[: -len(CALL) - 1]


def find_id(store: Store, part: str) -> str:
    """The full id of the one task whose id has `part` in it; an exact suffix (``k7q2``) wins over other matches.

    Less than three characters are no part: somebody else's word could be hit by chance.

    Raises TaskNotFound, with candidates in ``matches``, when there is none or more than one.
    """
    if ID.fullmatch(part):
        if store.disk.exists(store.layout.call(part)):
            return part
        close = _close(store, part)
        raise TaskNotFound(_none(store, part, close), matches=close)
    if not _PART.fullmatch(part):
        raise TaskNotFound(f"{part!r} is not a task id; they look like k7q2, `nbtasks status` lists them")
    exact, partial = [], []
    for id in all_ids(store):
        if id.endswith(f"-{part}"):
            exact.append(id)
        elif part in id and len(part) >= _SHORTEST:
            partial.append(id)
    found = exact or partial
    if len(found) == 1:
        return found[0]
    if not found:
        close = _close(store, part)
        raise TaskNotFound(_none(store, part, close), matches=close)
    listed = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    raise TaskNotFound(f"{part!r} is part of {len(found)} task ids: {listed}; give more of it", matches=tuple(found))


def _none(store: Store, part: str, close: tuple[str, ...] = ()) -> str:
    hint = f"; close to it: {', '.join(id.rpartition('-')[2] for id in close)}" if close else ""
    return f"no task {part!r} in {store.root}{hint}. `nbtasks status` lists the tasks of this queue"


def _close(store: Store, part: str) -> tuple[str, ...]:
    import difflib

    ids = {id.rpartition("-")[2]: id for id in itertools.islice(all_ids(store), 10_000)}
    return tuple(ids[name] for name in difflib.get_close_matches(part.rpartition("-")[2], ids, n=3, cutoff=0.5))


def ended_tickets(store: Store, *, newest_first: bool = True) -> Iterator[Place]:
    """All ended tickets, by the second of their ids."""
    root, step = store.layout.ended, -1 if newest_first else 1
    for minute in store.names(root)[::step]:
        for second in store.names(f"{root}/{minute}")[::step]:
            folder = f"{root}/{minute}/{second}"
            for name in store.names(folder)[::step]:
                if parsed := parse_ended(name):
                    yield Place(parsed[1], parsed[0], f"{folder}/{name}")


def live_tickets(store: Store) -> Iterator[Place]:
    """All tickets that have not ended: waiting, queued in running order, running."""
    layout = store.layout
    for name in store.names(layout.parents):
        if ticket := parse_ticket(name):
            yield Place(Status.WAITING, ticket, f"{layout.parents}/{name}")
    for name in store.names(layout.until):
        if parsed := parse_until(name):
            yield Place(Status.WAITING, parsed[1], f"{layout.until}/{name}")
    for line in store.names(layout.queued):
        for path, ticket in queued_tickets(store, line):
            yield Place(Status.QUEUED, ticket, path)
    for slot in store.names(layout.running):
        for name in store.names(layout.running_folder(slot)):
            if ticket := parse_ticket(name):
                yield Place(Status.RUNNING, ticket, f"{layout.running_folder(slot)}/{name}", slot)


def queued_tickets(store: Store, line: str) -> Iterator[tuple[str, Ticket]]:
    """Path and ticket of what waits in one line, in the order in which it will be claimed."""
    root = f"{store.layout.queued}/{line}"
    for priority in store.names(root):
        for minute in store.names(f"{root}/{priority}"):
            for second in store.names(f"{root}/{priority}/{minute}"):
                folder = f"{root}/{priority}/{minute}/{second}"
                for name in store.names(folder):
                    if ticket := parse_ticket(name):
                        yield f"{folder}/{name}", ticket


def moved_at(path: str) -> float | None:
    """When a ticket came to where it is (seconds since 1970); None when it has gone on."""
    try:
        return os.stat(path).st_ctime
    except OSError:
        return None


def counts(store: Store) -> dict[Status, int]:
    """How many tasks have each status."""
    found = dict.fromkeys(Status, 0)
    for place in live_tickets(store):
        found[place.status] += 1
    for place in ended_tickets(store):
        found[place.status] += 1
    return found


__all__ = [
    "ENDED", "Place", "all_ids", "counts", "ended_tickets", "find_ended", "find_ended_id", "find_id",
    "line_of", "live_tickets", "locate", "locate_anywhere", "moved_at", "queued_tickets",
]  # fmt: skip
