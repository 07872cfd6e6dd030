"""Calls that are not computed twice: a submit with ``cache`` gives the task that has run, or is running, the same call."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nbtasks import cache_look, context, tasklist
from nbtasks.cache_finding import NotKeyable
from nbtasks.cache_keys import CallKeys
from nbtasks.errors import OptionError
from nbtasks.handle import Task, attach, renew
from nbtasks.options import Fields
from nbtasks.queue import cache, groups
from nbtasks.queue.cache import Found, Taken
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.submitting import Call, group_here, here, pack, parts_of, put_call
from nbtasks.tasklist import TaskList

cache_look.register(Task, lambda task: task.id)  # what it will give is settled by which one it is


def submit(
    function: Any,
    plain: Callable[..., Any],
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    fields: Fields,
) -> Task[Any]:
    """As `submitting.put_call`, with ``cache`` among the fields. `plain` is the function without our decorator."""
    if not fields["cache"]:
        return put_call(pack(parts_of(function), name, args, kwargs), name, without(fields))
    return _Cached(function, plain, name, fields).submit(args, kwargs)


def map_calls(
    function: Any, plain: Callable[..., Any], name: str, iterables: tuple[Iterable[Any], ...], fields: Fields
) -> TaskList[Any]:
    """As `tasklist.map_calls`, with ``cache`` among the fields. When one item cannot be pickled, nothing is stored."""
    if not fields["cache"] or not iterables:
        return tasklist.map_calls(function, iterables, without(fields))
    calls = _Cached(function, plain, name, fields)
    packed = [(items, calls.pack(items, {})) for items in zip(*iterables, strict=False)]
    return TaskList(here().queue, [calls.submit(items, {}, call).id for items, call in packed])


def without(fields: Fields) -> Fields:
    """The fields of a spec: all but ``cache``."""
    return {key: value for key, value in fields.items() if key != "cache"}


def left_out(fields: Fields, what: str) -> Fields:
    """As `without`, with a warning if there would have been a cache."""
    if fields.get("cache"):
        warnings.warn(f"{what} is not cached: what it will be called with is not known yet", stacklevel=3)
    return without(fields)


class _Cached:
    """One function, of which calls are submitted."""

    def __init__(self, function: Any, plain: Callable[..., Any], name: str, fields: Fields) -> None:
        self._function, self._name = function, name
        self._max_age = fields["cache"]
        self._fields = without(fields)
        self._queue = here().queue
        self._frozen = context.capture(self._queue.blobs)
        self._keys = CallKeys(self._queue.blobs, self._frozen, function, plain, name)
        self._said = False

    def pack(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """A call, ready to be put. Raises PayloadError."""
        return pack(parts_of(self._function), self._name, args, kwargs)

    def submit(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], call: Call | None = None) -> Task[Any]:
        """The task of a call: a new one, unless the cache has one. `call` is the call if it was packed before."""
        try:
            key = self._keys.of(args, kwargs)
        except NotKeyable as error:
            task = put_call(call or self.pack(args, kwargs), self._name, self._fields, self._frozen)
            self._warn(error)
            return task
        fields = {**self._fields, "cache_key": key}
        return settle(
            lambda: cache.find(self._queue, key, self._max_age),
            lambda record: take(self._queue, record),
            lambda found: put_call(call or self.pack(args, kwargs), self._name, fields, self._frozen, found.claim),
        )

    def _warn(self, error: NotKeyable) -> None:
        if not self._said:
            self._said = True
            warn(self._name, error)


def settle(
    find: Callable[[], Found], use: Callable[[Record], Task[Any]], put: Callable[[Found], Task[Any]]
) -> Task[Any]:
    """What is found in the cache, or a new task that takes its place there, whoever else tries the same."""
    while True:
        found = find()
        if found.record is not None:
            return use(found.record)
        try:
            return put(found)
        except Taken:
            continue


def take(queue: Queue, record: Record, more: str = "") -> Task[Any]:
    """The handle of a task from the cache, which says so, and `more`."""
    if record.status.ended and (group := group_here()):  # what lives is not to be cancelled with the pipeline
        groups.join(queue, group, record.id)
    task = renew(attach(queue, record.id, spec=record.spec))
    task.remark = remark(record, "task.invalidate()", more)
    return task


def remark(record: Record, cure: str, more: str = "") -> str:
    """What the card of a task from the cache says; `cure` makes it run."""
    more = f"; {more}" if more else ""
    if not record.status.ended:
        return f"attached: the same call is {record.status} already{more}"
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.ended))
    return f"cached: it succeeded {when}, with the same code and inputs{more} ({cure} lets it run again)"


def warn(name: str, error: NotKeyable) -> None:
    """Say that a call runs without the cache, and why: at the line that submitted it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "nbtasks":
        level, frame = level + 1, frame.f_back
    warnings.warn(f"{name} is not cached: {error}; whether that is the same cannot be told", stacklevel=level)


def refuse_in_schedules(options: Mapping[str, Any]) -> None:
    """Raise OptionError when somebody asks for a cache for what recurs."""
    if options.get("cache"):
        raise OptionError(
            "cache has no meaning for what recurs: its code and its arguments stay as they were registered, so that no run "
            "after the first would compute anything. Let it recur less often, or let what recurs submit with cache itself"
        )


__all__ = ["left_out", "map_calls", "refuse_in_schedules", "remark", "settle", "submit", "take", "warn", "without"]
