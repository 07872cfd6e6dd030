"""Tasks that need others: edges, and the one move that releases a child.

Who submits a child writes its edges, then its ticket, then looks at the parents; who ends a parent commits,
then looks at the children. Each side writes before it reads, so one of them sees the other, and the move of the
child's ticket happens once. A worker's sweep repeats the look.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from nbtasks.queue import lookup
from nbtasks.queue.layout import ID
from nbtasks.queue.lookup import Place
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import Ticket, parse_ticket
from nbtasks.spec import Spec
from nbtasks.status import Status


class Verdict(NamedTuple):
    """What the parents say about a child: go on waiting, may run, or must fail because of `culprit`."""

    ready: bool
    culprit: str | None = None


def publish_edges(store: Store, spec: Spec) -> None:
    """Note under every parent that this task hangs on it."""
    for parent in dict.fromkeys(spec.dependencies):
        with contextlib.suppress(FileExistsError):
            store.disk.create(f"{store.layout.edges_folder(parent)}/{spec.id}", [])


def children_of(store: Store, parent: str) -> list[str]:
    """The ids of the tasks that hang on `parent`."""
    return [name for name in store.names(store.layout.edges_folder(parent)) if ID.fullmatch(name)]


def judge(store: Store, spec: Spec) -> Verdict:
    """Look at all that `spec` depends on. One that failed, was cancelled or is gone fails it, also for ``after``."""
    ready = True
    for id in spec.dependencies:
        place = lookup.find_ended_id(store, id)
        if place is None:
            ready = False
            if _is_missing(store, id):
                return Verdict(False, id)
        elif place.status is not Status.SUCCEEDED:
            return Verdict(False, id)
    return Verdict(ready)


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
