"""TaskList: many tasks as one sequence, whose handles are made when somebody takes one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, SupportsIndex, TypeVar, cast, overload

from nbtasks import context, ends
from nbtasks.errors import NbtasksError, OptionError
from nbtasks.handle import Task, attach, latest_generation
from nbtasks.hooks import bind_names
from nbtasks.options import Fields
from nbtasks.queue import lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.spec import seconds
from nbtasks.status import Status
from nbtasks.submitting import here, make_spec, name_of, pack, parts_of, store

T = TypeVar("T")
_SHOWN = 50


class TaskList(Sequence[Task[T]]):
    """Tasks in order. Indexing gives a `Task`; slices, lists of indices and masks (True and False) give a TaskList."""

    def __init__(self, queue: Queue, ids: Iterable[str], bell: str = "") -> None:
        self.queue = queue
        self.ids = list(ids)
        self._bell = bell  # the one that their ends ring, when it is the same for all

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Task[T]]:
        return map(self._task, self.ids)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Task[T]: ...
    @overload
    def __getitem__(self, index: slice | Iterable[Any]) -> TaskList[T]: ...
    def __getitem__(self, index: Any) -> Task[T] | TaskList[T]:
        if isinstance(index, slice):
            return self._of(self.ids[index])
        if hasattr(index, "__index__") and not hasattr(index, "__iter__"):
            return self._task(self.ids[index])
        chosen = list(index)
        if chosen and all(type(one).__name__ in ("bool", "bool_") for one in chosen):
            if len(chosen) != len(self):
                raise IndexError(f"a mask of {len(chosen)} for {len(self)} tasks")
            return self._of(id for id, wanted in zip(self.ids, chosen, strict=True) if wanted)
        return self._of(self.ids[one] for one in chosen)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, TaskList) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.ids))

    def _of(self, ids: Iterable[str]) -> TaskList[T]:
        return TaskList(self.queue, ids, self._bell)

    def _task(self, id: str) -> Task[T]:
        task = attach(self.queue, id)
        task.bell = task.bell or self._bell
        return cast("Task[T]", task)

    def results(self, timeout: float | str | None = None, *, errors: Literal["raise", "return"] = "raise") -> list[T]:
        """Wait for all and give their values in order.

        The first (in order) that failed or was cancelled raises as `Task.result` does; with ``errors="return"`` its
        exception stands in its place. Raises TimeoutError when not all have ended after `timeout` seconds.
        """
        if errors not in ("raise", "return"):
            raise OptionError(f"errors={errors!r} cannot be: give 'raise' or 'return'")
        limit = seconds("timeout", timeout)
        deadline = None if limit is None else time.monotonic() + limit
        values = [self._result(id, deadline, errors == "return") for id in self.ids]
        bind_names()
        return values

    def _result(self, id: str, deadline: float | None, keep: bool) -> Any:
        # Most have ended when we come to them, and then no handle is made.
        place = ends.find_end(self.queue, id, latest_generation(self.queue, id))
        if place is not None and place.status is Status.SUCCEEDED:
            return ends.read_value(self.queue, place)
        task = self._task(id)
        try:
            return task.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except Exception as error:
            if keep and task.has_ended:
                return error
            raise

    def cancel(self) -> int:
        """Cancel all that have not ended; how many that were."""
        return sum(task.cancel() for task in self if not task.look())

    def retry(self) -> TaskList[T]:
        """Run those again that failed or were cancelled. Returns the same list, with new handles for these."""
        for task in self:
            if task.look() and task.status is not Status.SUCCEEDED:
                task.retry()
        return self._of(self.ids)

    @property
    def statuses(self) -> dict[Status, int]:
        """How many have each status; told by their tickets, so that thousands cost milliseconds."""
        found = Counter(_statuses(self.queue, self.ids))
        return {status: found[status] for status in Status if found[status]}

    def records(self) -> Iterator[Record]:
        """What their files tell, one after the other."""
        return (records.read_record(self.queue, id) for id in self.ids)

    def frame(self) -> Any:
        """A pandas DataFrame with one row for each task: id, name, call, status, reason, attempt, times, value."""
        try:
            import pandas as pd
        except ImportError:
            raise OptionError("frame() needs pandas, which is not installed here: pip install pandas") from None
        return pd.DataFrame([_row(record) for record in self.records()], columns=_COLUMNS)

    def __repr__(self) -> str:
        if not self.ids:
            return "<TaskList of nothing>"
        try:
            counts = ", ".join(f"{count:,} {status}" for status, count in self.statuses.items())
            return f"<TaskList of {len(self):,}, {self[0].name}: {counts}>"
        except (NbtasksError, OSError):
            return f"<TaskList of {len(self)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from nbtasks.jupyter import render  # a list at the end of a cell shows its table

        more = f"[{_SHOWN}:] has the rest, .frame() all"
        return render.table(self.records(), limit=_SHOWN, counts=self.statuses, total=len(self), more=more)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (list(self),)  # as an argument: each becomes its value, and they arrive as a list


def _statuses(queue: Queue, ids: Iterable[str]) -> Iterator[Status]:
    # First those that live, then those that have ended: tickets move that way, so none is missed.
    wanted = set(ids)
    live = {place.ticket.id: place.status for place in lookup.live_tickets(queue) if place.ticket.id in wanted}
    ended = ends.find_ends(queue, [id for id in ids if id not in live])
    for id in ids:
        if id in live:
            yield live[id]
        elif id in ended:
            yield ended[id].status
        else:  # retried between the two looks
            yield attach(queue, id).status


def _restore(items: list[Any]) -> Any:
    if not items or not all(isinstance(item, Task) for item in items):
        return items
    return TaskList(items[0].queue, [task.id for task in items])


_COLUMNS = ("id", "name", "call", "status", "reason", "attempt", "started", "ended", "seconds", "value")


def _row(record: Record) -> tuple[Any, ...]:
    outcome = record.outcome
    times = [None if at is None else datetime.fromtimestamp(at, UTC) for at in (record.started, record.ended)]
    ran = outcome.seconds if outcome is not None else None
    value = outcome.preview if outcome is not None else ""
    status = str(record.status)
    return record.id, record.name, record.spec.summary, status, record.reason, record.attempt, *times, ran, value


def map_calls(function: Callable[..., T], iterables: tuple[Iterable[Any], ...], fields: Fields) -> TaskList[T]:
    """Put one task for each item. When one item cannot be pickled, or the putting is stopped, none of them stays."""
    if not iterables:
        raise OptionError("map needs at least one list of arguments: map(function, items)")
    name, parts = name_of(function), parts_of(function)
    # First all pickles (large arrays are not copied for them), then all files.
    calls = [pack(parts, name, items, {}) for items in zip(*iterables, strict=False)]
    at = here()
    frozen = context.capture(at.queue.blobs) if calls else ""
    ids: list[str] = []
    try:
        for call in calls:
            spec = make_spec(at, call, name, fields, frozen)
            store(at, spec, call.parts)
            ids.append(spec.id)
    except BaseException:
        for id in ids:
            at.queue.cancel(id)
        raise
    return TaskList(at.queue, ids, at.bell)
