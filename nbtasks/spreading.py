"""``map`` over the value of a task that is not there yet: a task that makes one task of each item, and waits for them.

It runs twice. First, when the value is there, it writes down the ids of the tasks to be (the plan), submits them, notes
that they hang together, and goes back to wait for them without holding a slot. When all have succeeded, it runs
again and has nothing to do but to end. Killed on the way, it goes on by the plan, so no item is submitted twice.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from nbtasks import payload, run, timing
from nbtasks.errors import PayloadError
from nbtasks.frames import Part
from nbtasks.handle import Task, new_task
from nbtasks.options import Fields
from nbtasks.queue import dependencies, lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import ITEMS, PLAN
from nbtasks.spec import Spec
from nbtasks.submitting import Call, Here, here, make_spec, name_of, pack, parts_of, store
from nbtasks.tasklist import TaskList

T = TypeVar("T")

_OF_THE_MAP = ("after", *timing.NAMES)  # options that say when it begins; the others are those of the items

_ENDLESS = (itertools.repeat, itertools.count, itertools.cycle)  # as long as the others; they are sent as they are

Bare = tuple[str, bytes, list[bytes]]  # a part of a frame, as an argument


class MapTask(Task[list[T]]):
    """What `map` over a task gives: its value is the list of the items' values, and it may be an argument itself."""

    @property
    def tasks(self) -> TaskList[T]:
        """The tasks of the items; an empty list until the value that they are made of is there."""
        return TaskList(self.queue, dependencies.items_of(self.queue, self.id), self.bell)

    def cancel(self) -> bool:
        """Cancel it and all its items. False when it has ended otherwise."""
        done = super().cancel()
        self.tasks.cancel()
        return done

    def terminate(self) -> bool:
        """As `cancel`, beginning with SIGTERM."""
        done = super().terminate()
        for task in self.tasks:
            task.terminate()
        return done


payload.register_reference(MapTask, lambda task: task.id)


def submit(function: Callable[..., Any], iterables: tuple[Any, ...], fields: Fields) -> MapTask[Any]:
    """Put the task that makes the others; at least one of `iterables` is a Task. Raises PayloadError, OptionError."""
    name = fields.get("name") or name_of(function)
    items = {key: value for key, value in fields.items() if key not in _OF_THE_MAP}
    bare = [(part.name, bytes(part.view()), [bytes(buffer) for buffer in part.buffers]) for part in parts_of(function)]
    listed = [one if isinstance(one, (Task, TaskList, *_ENDLESS)) else list(one) for one in iterables]
    call = pack(parts_of(spread), "map", (bare, name, items, *listed), {}, tuple(listed))
    texts = ", ".join(f"{one.name} {one.short}" if isinstance(one, Task) else "…" for one in listed)
    at = here()
    own = {key: value for key, value in fields.items() if key in (*_OF_THE_MAP, "lane", "priority")}
    spec = make_spec(at, call._replace(summary=f"map({name}, {texts})"), f"map {name}"[:100], own)
    spec = msgspec.structs.replace(spec, kind="map")
    store(at, spec, call.parts)
    task = new_task(at.queue, spec, kind=MapTask)
    assert isinstance(task, MapTask)
    return task


def spread(bare: Sequence[Bare], name: str, fields: Fields, *iterables: Any) -> list[str]:
    """What that task runs, in its slot: submits the items unless they are; the ids of their tasks."""
    running = run.current()
    assert running is not None
    at = here()
    layout = at.queue.layout
    made = dependencies.find_items(at.queue, running.id, ITEMS)
    if made is not None:
        return list(made)
    function = tuple(Part(part, data, tuple(map(memoryview, buffers))) for part, data, buffers in bare)
    calls = [pack(function, name, items, {}) for items in zip(*iterables, strict=False)]
    ids = _plan(at.queue, running.id, len(calls))
    for id, call in zip(ids, calls, strict=False):
        _put(at, _spec_of(at, id, call, name, fields, running.spec), call)
        with contextlib.suppress(FileExistsError):
            at.queue.disk.create(f"{layout.edges_folder(id)}/{running.id}", [])
    at.queue.disk.replace(layout.spread(running.id, ITEMS), msgspec.json.encode(ids))
    return list(ids)


def _plan(queue: Queue, id: str, count: int) -> tuple[str, ...]:
    """The ids that the items get, the same in every delivery of the map: whoever makes the file first has chosen them."""
    ids = tuple(queue.new_id() for _ in range(count))
    try:
        queue.disk.create(queue.layout.spread(id, PLAN), [msgspec.json.encode(ids)])
    except FileExistsError:
        if (known := dependencies.find_items(queue, id, PLAN)) is not None:
            return known
        queue.disk.replace(queue.layout.spread(id, PLAN), msgspec.json.encode(ids))
    return ids


def _spec_of(at: Here, id: str, call: Call, name: str, fields: Fields, parent: Spec) -> Spec:
    made = make_spec(at, call, name, fields, parent.context)
    known = {"id": id, "bell": parent.bell, "host": parent.host, "pid": parent.pid, "group": parent.group}
    return msgspec.structs.replace(made, **known)


def _put(at: Here, spec: Spec, call: Call) -> None:
    """Put one item, or see that an earlier run of the map did."""
    if at.queue.disk.exists(at.queue.layout.call(spec.id)):
        try:
            spec = records.read_spec(at.queue, spec.id)
        except PayloadError:  # a kill cut the writing short: there is no ticket yet
            at.queue.disk.remove(at.queue.layout.call(spec.id))
        else:
            if lookup.locate(at.queue, spec) is not None:
                return
    store(at, spec, call.parts)
