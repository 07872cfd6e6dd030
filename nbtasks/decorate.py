"""``@nbtasks.task``: a function that can also be run in the background."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from nbtasks import cache_look, caching, notebooks, scheduling, spreading
from nbtasks.cache_finding import Named
from nbtasks.handle import Task
from nbtasks.options import Fields, parse
from nbtasks.scheduling import Schedule
from nbtasks.spreading import MapTask
from nbtasks.submitting import name_of, pack, parts_of, put_call
from nbtasks.tasklist import TaskList, map_calls

P = ParamSpec("P")
T = TypeVar("T")


class Using:
    """Options, to be followed by ``.submit(…)``, ``.map(…)`` or ``.task``: what `nbtasks.using` gives."""

    def __init__(self, options: Mapping[str, Any], fields: Fields | None = None) -> None:
        self._options = dict(options)
        self._fields = parse(options) if fields is None else fields

    def __repr__(self) -> str:
        return f"using({', '.join(f'{name}={value!r}' for name, value in self._options.items())})"

    def using(self, **options: Any) -> Using:
        """The same with these options over it."""
        return Using({**self._options, **options}, {**self._fields, **parse(options)})

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Run ``function(*args, **kwargs)`` in the background with these options; see `nbtasks.submit`."""
        fields = self._over(function)
        name = name_of(function)
        if "cache" in fields:
            return caching.submit(_named(function), _plain(function), name, args, kwargs, fields)
        return put_call(pack(parts_of(function), name, args, kwargs), name, fields)

    @overload
    def map(self, function: Callable[..., T], items: Task[Any], /, *more: Any) -> MapTask[T]: ...
    @overload
    def map(self, function: Callable[..., T], /, *iterables: Any) -> TaskList[T]: ...
    def map(self, function: Callable[..., T], /, *iterables: Any) -> TaskList[T] | MapTask[T]:
        """One task for each item, with these options; see `nbtasks.map`."""
        if any(isinstance(one, Task) for one in iterables):
            return spreading.submit(function, iterables, caching.left_out(self._over(function), "map over a task"))
        fields = self._over(function)
        if "cache" in fields:
            return caching.map_calls(_named(function), _plain(function), name_of(function), iterables, fields)
        return map_calls(function, iterables, fields)

    def every(
        self, interval: float | str, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs
    ) -> Schedule:
        """Run it again and again with these options; see `nbtasks.every`."""
        return scheduling.add_call(scheduling.every(interval), function, args, kwargs, self._recurring(function))

    def cron(self, line: str, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Schedule:
        """Run it at the moments of a cron line with these options; see `nbtasks.cron`."""
        return scheduling.add_call(scheduling.cron(line), function, args, kwargs, self._recurring(function))

    def submit_notebook(
        self, path: str | os.PathLike[str], parameters: Mapping[str, object] | None = None, *,
        output: str | os.PathLike[str] | None = None, kernel_name: str | None = None,
        timeout_per_cell: float | str | None = None, resume: bool = False, html: bool = False,
        cache: bool | float | str | timedelta | None = None,
    ) -> Task[Any]:  # fmt: skip
        """Run a notebook in the background with these options; see `nbtasks.submit_notebook`."""
        return notebooks.submit(
            path, parameters, {**self._fields, **parse({"cache": cache})}, output=output, kernel_name=kernel_name,
            timeout_per_cell=timeout_per_cell, resume=resume, html=html,
        )  # fmt: skip

    def task(self, function: Callable[P, T], /) -> TaskFunction[P, T]:
        """The function with these options: the decorator ``@nbtasks.using(…).task``."""
        return TaskFunction(function, self)

    def _recurring(self, function: object) -> Fields:
        # Code and arguments stay as they were registered: a function that was defined with a cache is to run all the same.
        caching.refuse_in_schedules(self._fields)
        return caching.without(self._over(function))

    def _over(self, function: object) -> Fields:
        own = function.options._fields if isinstance(function, TaskFunction) else None
        return {**own, **self._fields} if own else self._fields


class TaskFunction(Generic[P, T]):
    """A function decorated by `nbtasks.task`. Called, it runs here and now; ``.submit`` runs it in the background."""

    def __init__(self, function: Callable[P, T], options: Using) -> None:
        name_of(function)  # refuses what is no function
        self.function = function
        self.options = options
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.function(*args, **kwargs)

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
        """Run it in the background with these arguments."""
        return _NONE.submit(self, *args, **kwargs)

    @overload
    def map(self, items: Task[Any], /, *more: Any) -> MapTask[T]: ...
    @overload
    def map(self, *iterables: Any) -> TaskList[T]: ...
    def map(self, *iterables: Any) -> TaskList[T] | MapTask[T]:
        """One task for each item; of a task's value that is not there yet, too."""
        made: TaskList[T] | MapTask[T] = _NONE.map(self, *iterables)
        return made

    def using(self, **options: Any) -> TaskFunction[P, T]:
        """The same function with these options over its own."""
        return TaskFunction(self.function, self.options.using(**options))

    def __get__(self, instance: object, owner: type | None = None) -> TaskFunction[..., T]:
        return self if instance is None else TaskFunction(MethodType(self.function, instance), self.options)

    def __repr__(self) -> str:
        return f"<task function {name_of(self.function)}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        module, name = getattr(self, "__module__", None), getattr(self, "__qualname__", "")
        if module and module != "__main__" and getattr(sys.modules.get(module), name, None) is self:
            return name  # by its name, as a plain function would be
        # The state after the object: a function that speaks of itself finds it there already.
        return _blank, (), self.__dict__


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function without our decorator."""
    return function.function if isinstance(function, TaskFunction) else function


def _named(function: Any) -> Any:
    """A function with the options that it was defined with: others do not make it another function."""
    if isinstance(function, TaskFunction):
        module, name = getattr(function, "__module__", None) or "", getattr(function, "__qualname__", "")
        found = getattr(sys.modules.get(module), name, None)
        if isinstance(found, TaskFunction) and found.function is function.function:
            return found
    return function


def _counts_as(function: TaskFunction[..., Any]) -> object:
    """What a decorated function is in the key of a call: its options do not matter."""
    name = function.__reduce__()
    return Named(getattr(function, "__module__", ""), name) if isinstance(name, str) else function.function


cache_look.register(TaskFunction, _counts_as)


def _blank() -> TaskFunction[..., Any]:
    return TaskFunction.__new__(TaskFunction)


_NONE = Using({})


@overload
def task(function: Callable[P, T], /) -> TaskFunction[P, T]: ...
@overload
def task(**options: Any) -> Callable[[Callable[P, T]], TaskFunction[P, T]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Let a function be run in the background: ``@task`` or ``@task(retries=3, timeout="1h")``.

    ``train(1)`` runs it here as before; ``train.submit(1)`` in the background, ``train.map(items)`` once for each
    item, ``train.using(priority=9).submit(1)`` with other options. The options are those of `nbtasks.using`.
    """
    using = Using(options)
    return using.task if function is None else using.task(function)
