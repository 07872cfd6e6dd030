"""Taking an ended task out of the queue, because somebody asked for it."""

from __future__ import annotations

from nbtasks.errors import OptionError
from nbtasks.queue import dependencies, lookup
from nbtasks.queue.layout import CALL, check_id
from nbtasks.queue.store import Store


def try_remove(store: Store, id: str) -> bool:
    """Remove all files of an ended task but its blobs, which others may share. False: it lives, or lives again.

    The ticket goes first: without it there is no task, whatever is left when we are interrupted, and a retry that comes at
    the same time finds either the ticket or nothing. Raises OptionError while a task that needs this one lives.
    """
    place = lookup.find_ended_id(store, check_id(id))
    if place is None:
        return False
    for child in dependencies.children_of(store, id):
        if store.disk.exists(store.layout.call(child)) and lookup.find_ended_id(store, child) is None:
            raise OptionError(f"{id} is needed by {child}, which has not ended: cancel that one first, or wait for it")
    if not store.disk.remove(place.path):
        return False
    call = store.layout.call(id)
    folder = store.layout.task_folder(id)
    for name in store.names(folder):
        if name.startswith(f"{id}.") and name != f"{id}.{CALL}":
            store.disk.remove(f"{folder}/{name}")
    store.disk.remove(store.layout.cancel_file(id))
    store.disk.remove(call)
    return True
