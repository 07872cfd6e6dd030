"""The cache: which task stands for a key. No lock: whoever creates the next number of a key's folder has it.

``cache/KEY/N`` names a task; the highest N counts. An entry is good while its task lives, or has succeeded; else the next
submitter creates N+1, and of several only one can.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from nbtasks.errors import PayloadError, TaskNotFound
from nbtasks.queue import lookup, records
from nbtasks.queue.layout import ID
from nbtasks.queue.records import Record
from nbtasks.queue.store import Store
from nbtasks.status import Status

KEY = re.compile(r"[0-9a-f]{32}")
_PATIENCE = 2.0  # seconds in which whoever took a key brings its task's ticket; it takes a millisecond
_FORGOTTEN = "-"


class Taken(Exception):
    """Another submitter was faster."""


class Entry(NamedTuple):
    """The newest entry of a key."""

    number: int  # 0: there is none
    text: str  # "ID.D", "-" when it was forgotten, something else while it is being written

    @property
    def id(self) -> str:
        """The task; "" when there is none."""
        id, _, delivery = self.text.partition(".")
        return id if ID.fullmatch(id) and delivery.isdigit() else ""


class Found(NamedTuple):
    """What the cache has for a key: a task that lives or has succeeded, or nothing."""

    key: str
    number: int
    record: Record | None

    def claim(self, store: Store, id: str) -> None:
        """Let the task `id`, whose call is written, stand for the key. Raises Taken; then the call is gone again."""
        try:
            _take_number(store, self.key, self.number + 1, f"{id}.1")
        except Taken:
            store.disk.remove(store.layout.call(id))
            raise


def find(store: Store, key: str, max_age: float) -> Found:
    """What there is for `key`, not older than `max_age` seconds. Waits a moment for one that is being submitted."""
    deadline = time.monotonic() + _PATIENCE
    pause = 0.001
    while True:
        entry = newest(store, key)
        record, is_coming = _judge(store, key, entry, max_age)
        if not is_coming or time.monotonic() > deadline:
            return Found(key, entry.number, record)
        time.sleep(pause)
        pause = min(0.05, pause * 2)


def newest(store: Store, key: str) -> Entry:
    """The newest entry of a key."""
    folder = store.layout.cache_folder(key)
    while numbers := _numbers(store, folder):
        with contextlib.suppress(FileNotFoundError):  # a newer one took it away
            return Entry(
                numbers[-1], store.disk.read(f"{folder}/{numbers[-1]}", 128).decode("ascii", "replace").rstrip("\n")
            )
    return Entry(0, _FORGOTTEN)


def _numbers(store: Store, folder: str) -> list[int]:
    return sorted(int(name) for name in store.disk.list(folder) if name.isdecimal())


def _judge(store: Store, key: str, entry: Entry, max_age: float) -> tuple[Record | None, bool]:
    """The task that may be used, and whether one is just being submitted."""
    if not entry.id:
        return None, entry.text != _FORGOTTEN
    if not store.disk.exists(store.layout.call(entry.id)):
        return None, False  # removed
    try:
        spec = records.read_spec(store, entry.id)
    except (PayloadError, TaskNotFound):
        return None, False
    if spec.cache_key != key:  # the call is signed, the entry is not
        return None, False
    place = lookup.find_ended_id(store, entry.id) or lookup.locate(store, spec)
    if place is None:
        return None, True
    if place.status.ended:
        outcome = records.find_whole_outcome(store, place.ticket) if place.status is Status.SUCCEEDED else None
        if outcome is None or time.time() - outcome.ended > max_age:
            return None, False
        return Record(store, spec, place, outcome, lookup.moved_at(place.path)), False
    is_later = spec.due is not None and spec.due > time.time()  # who asks now does not want to wait for that moment
    if is_later or store.disk.exists(store.layout.cancel_file(entry.id)):
        return None, False
    return Record(store, spec, place, None, lookup.moved_at(place.path)), False


def _take_number(store: Store, key: str, number: int, text: str) -> None:
    folder = store.layout.cache_folder(key)
    mine = f"{folder}/{number}"
    try:
        store.disk.create(mine, [f"{text}\n".encode()])
    except FileExistsError:
        raise Taken(key) from None
    numbers = _numbers(store, folder)
    if numbers[-1:] != [number]:  # it had been taken and taken away, while we slept
        store.disk.remove(mine)
        raise Taken(key)
    for old in numbers[:-1]:
        store.disk.remove(f"{folder}/{old}")


def forget(store: Store, key: str, id: str) -> bool:
    """Let the task `id` not stand for the key any more. False: it did not."""
    while True:
        entry = newest(store, key)
        if entry.id != id:
            return False
        with contextlib.suppress(Taken):
            _take_number(store, key, entry.number + 1, _FORGOTTEN)
            return True


def clean(store: Store, wanted: Callable[[Record], bool]) -> int:
    """Forget the tasks that have ended and are `wanted`, and what is of no use; how many of them were good."""
    found = 0
    for key in store.names(store.layout.cache):
        if KEY.fullmatch(key):
            entry = newest(store, key)
            record, is_coming = _judge(store, key, entry, float("inf"))
            if is_coming or (record is not None and not (record.status.ended and wanted(record))):
                continue
            found += record is not None
            _remove(store, key, entry.number)
    return found


def _remove(store: Store, key: str, last: int) -> None:
    folder = store.layout.cache_folder(key)
    for number in _numbers(store, folder):
        if number <= last:
            store.disk.remove(f"{folder}/{number}")
    store.disk.remove_folder(folder)
