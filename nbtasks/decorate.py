"""``@nbtasks.task``: a function that can also be run in the background."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from nbtasks.handle import Task
from nbtasks.options import Fields, parse
from nbtasks.submitting import name_of, pack, part_of, put_call
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
        return put_call(pack(part_of(function), name, args, kwargs), name, fields)

    def map(self, function: Callable[..., T], /, *iterables: Any) -> TaskList[T]:
        """One task for each item, with these options; see `nbtasks.map`."""
        return map_calls(function, iterables, self._over(function))

    def task(self, function: Callable[P, T], /) -> TaskFunction[P, T]:
        """The function with these options: the decorator ``@nbtasks.using(…).task``."""
        return TaskFunction(function, self)

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

    def map(self, *iterables: Any) -> TaskList[T]:
        """One task for each item."""
        return _NONE.map(self, *iterables)

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
