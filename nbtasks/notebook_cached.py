"""Notebooks that are not run twice: a hit gives the task that has run, and brings its executed copy where it was asked for."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

from nbtasks import caching, context, hooks, notebook_copies, notebook_files, notebook_keys, payload
from nbtasks.errors import NbtasksError
from nbtasks.handle import Task
from nbtasks.notebook_copies import PART, Kept
from nbtasks.notebook_files import NotebookCall
from nbtasks.notebook_keys import Kernel, Key
from nbtasks.notebook_parameters import inject
from nbtasks.queue import cache, records
from nbtasks.queue.cache import Found
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.status import Status

_SHORT = 60  # characters of a path on a card


class Wanted(NamedTuple):
    """A notebook with its parameters, to be looked for in the cache. `known`: none of them waits for a task."""

    call: NotebookCall
    given: Mapping[str, object]
    known: bool
    kernel: Kernel

    def key(self, queue: Queue) -> tuple[Key, str]:
        """Its key, and the hash of the context that it was made in. Raises NotKeyable."""
        frozen = context.capture(queue.blobs)
        return notebook_keys.key_of(queue.blobs, frozen, *self), frozen

    def find(self, queue: Queue, key: str, max_age: float) -> Found:
        """What there is for it. A run that kept no copy, as its modules were changed meanwhile, is none."""
        found = cache.find(queue, key, max_age)
        record = found.record
        if record is not None and record.status is Status.SUCCEEDED and _kept(queue, record) is None:
            return found._replace(record=None)
        return found

    def take(self, queue: Queue, record: Record) -> Task[Any]:
        """The handle of what was found, whose copy is, or will be, where this one is to have it. Raises OSError."""
        kept = _kept(queue, record) if record.status.ended else None
        where = f"its copy is {_brief(self._bring(record, kept))}" if kept else "its copy comes when it has ended"
        task = caching.take(queue, record, where)
        if kept is None:
            _Coming(self, task)
        return task

    def _bring(self, record: Record, kept: Kept) -> str:
        """Put the copy of a run to where this one is to have it, and back to where it was; the path."""
        content = inject(self.call.content, kept.parameters)
        copy, page = notebook_files.paths_of(self.call, record.id, kept.parameters, time.time())
        if kept.value.endswith(".ipynb") and not os.path.exists(kept.value):
            notebook_copies.bring(kept, content, kept.value)
        notebook_copies.bring(kept, content, "" if self.call.only_page else copy, page)
        return page if self.call.only_page else copy

    def bring_of(self, task: Task[Any]) -> None:
        """The same of a task that has ended well by now. Raises OSError."""
        record = task.record
        if record.status is Status.SUCCEEDED and (kept := _kept(task.queue, record)):
            self._bring(record, kept)


def _kept(queue: Queue, record: Record) -> Kept | None:
    try:
        part = records.read_outcome_frame(queue, record.ticket).parts.get(PART)
        return payload.load(part) if part is not None else None
    except (OSError, NbtasksError):  # damaged, or removed just now
        return None


def _brief(path: str) -> str:
    near = os.path.relpath(path)
    return near if len(near) <= _SHORT else f"…{near[1 - _SHORT :]}"


class _Coming:
    """The copy of a run that goes on: brought when it has ended, once, and before a wait for it returns."""

    def __init__(self, wanted: Wanted, task: Task[Any]) -> None:
        self._wanted, self._task = wanted, task
        self._lock = threading.Lock()
        hooks.binding_hooks.append(self.catch_up)
        task.add_done_callback(lambda _: self.catch_up())

    def catch_up(self) -> None:
        """Bring it, if it is time."""
        with self._lock:
            if self.catch_up not in hooks.binding_hooks or not self._task.look():
                return
            try:
                self._wanted.bring_of(self._task)
            except (OSError, NbtasksError) as error:
                warnings.warn(f"the executed copy of {self._task.short} could not be brought: {error}", stacklevel=2)
            finally:
                hooks.binding_hooks.remove(self.catch_up)
