"""Runs of pipelines: which tasks belong together. A run is a folder with one empty file per task.

``NAME/ID`` is a group: the pipeline's name, and the id of its run, which sorts by time. So a name may run again
and again, and nothing is moved or removed for it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable

from nbtasks.errors import OptionError
from nbtasks.queue import lookup
from nbtasks.queue.layout import ID, new_id
from nbtasks.queue.lookup import Place
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import parse_ended
from nbtasks.spec import NAME, check_name

_GROUP = re.compile(rf"(?P<name>{NAME.pattern})/(?P<run>{ID.pattern})", re.ASCII)


def new_group(name: str) -> str:
    """A group for a new run of the pipeline `name`. Raises OptionError for a name that cannot be."""
    return f"{check_name('pipeline', name)}/{new_id()}"


def name_of(group: str) -> str:
    """The pipeline's name."""
    return group.partition("/")[0]


def join(store: Store, group: str, id: str) -> None:
    """Note that the task `id` belongs to `group`."""
    if not _GROUP.fullmatch(group):
        raise OptionError(f"{group!r} is no run of a pipeline: tasks join one inside `with nbtasks.pipeline(name)`")
    with contextlib.suppress(FileExistsError):
        store.disk.create(f"{store.layout.group_folder(group)}/{id}", [])


def runs_of(store: Store, name: str) -> list[str]:
    """The groups of a pipeline, the oldest first; [] when there was none of that name."""
    if not NAME.fullmatch(name):
        return []
    return [f"{name}/{run}" for run in store.names(store.layout.group_folder(name)) if ID.fullmatch(run)]


def names(store: Store) -> list[str]:
    """The names of all pipelines that have run."""
    return [name for name in store.names(store.layout.group_folder("").rstrip("/")) if NAME.fullmatch(name)]


def members(store: Store, group: str) -> list[str]:
    """The ids of the tasks of a run, in the order in which they were submitted.

    One whose submit never came to its end may be among them.
    """
    return [id for id in store.names(store.layout.group_folder(group)) if ID.fullmatch(id)]


def places(store: Store, ids: Iterable[str]) -> dict[str, Place]:
    """Where each of `ids` is, told by the tickets alone; one that has none (or is just being retried) is left out."""
    wanted = set(ids)
    # Those that live first, then those that have ended: tickets move that way, so that none is missed.
    found = {place.ticket.id: place for place in lookup.live_tickets(store) if place.ticket.id in wanted}
    rest = wanted - found.keys()
    for folder in {store.layout.ended_folder(id) for id in rest}:
        for name in store.disk.list(folder):
            if name.partition(".")[0] in rest and (parsed := parse_ended(name)):
                found[parsed[0].id] = Place(parsed[1], parsed[0], os.path.join(folder, name))
    return found
