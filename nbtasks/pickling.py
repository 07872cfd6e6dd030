"""cloudpickle, with the notebook's names at home in the ``__main__`` of the process that runs the task.

What is defined in a notebook travels by value. In a slot it must be found in ``__main__`` again, or
``pickle.dumps``, ``joblib.dump`` and ``Pool.map`` of it fail inside the task. In the notebook itself the opposite holds: a value
that comes back must not overwrite names, functions or classes that live there. Hence two ways of loading: *at home*
(`make_home` was called in this process, and the load asks for it) functions get ``__main__`` as their globals and named
ones appear in it; elsewhere they get globals of their own, and a class or function that this process has already is
that very one, as it is now.
"""

from __future__ import annotations

import copyreg
import functools
import secrets
import sys
import weakref
from collections.abc import Callable
from io import TextIOWrapper
from pickle import PicklingError
from types import CellType, FunctionType
from typing import Any

import cloudpickle.cloudpickle as cp

from nbtasks.errors import PayloadError
from nbtasks.homes import Names, functions_here, home_names, loading

PROTOCOL = 5
Reduced = tuple[Any, ...]


_fresh: weakref.WeakSet[Any] = weakref.WeakSet()  # classes and functions made here and not yet filled
# Named functions of the notebook, so that one that comes in two pickles is one function. Classes have
# such a table in cloudpickle.
_ids: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
_referenced: dict[type, Callable[[Any], str]] = {}


def register_reference(type: type, to_id: Callable[[Any], str]) -> None:
    """Let objects of exactly `type` become references among arguments; `to_id` gives the id of such an object."""
    _referenced[type] = to_id


class Pickler(cp.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles to `file`. With ``references=True`` registered types become references, collected in `found`."""

    def __init__(
        self, file: Any, buffer_callback: Callable[[Any], Any] | None = None, *, references: bool = False
    ) -> None:
        super().__init__(file, PROTOCOL, buffer_callback)
        self._main = home_names()
        # cloudpickle asks this table for the globals that a function will have when it is loaded.
        self.globals_ref = {id(self._main): _NOTEBOOK}
        self._types = _referenced if references else {}
        self.found: dict[str, None] = {}

    def reducer_override(self, obj: Any) -> Any:
        """Called for every object but those of a few builtin types, so it does little."""
        kind = type(obj)
        if kind in self._types:
            id = self._types[kind](obj)
            self.found[id] = None
            return _value_of, (id,)
        if kind is CellType:
            return self._reduce_cell(obj) if self._types else NotImplemented
        if kind is functools._lru_cache_wrapper:
            return self._reduce_cached(obj)
        if kind is TextIOWrapper and obj not in (sys.stdout, sys.stderr):
            raise PicklingError("cannot pickle an open file")  # cloudpickle would send its content, as a StringIO
        if isinstance(obj, BaseException) and _reduces_as(kind, BaseException):
            # As pickle does, but without calling __init__: it may want other arguments than those it passed on.
            return _new, (kind, *obj.args), obj.__dict__ or None
        reduced = super().reducer_override(obj)
        return reduced if reduced is NotImplemented else self._reduce_dynamic(obj, reduced)

    def _reduce_dynamic(self, obj: Any, reduced: Reduced) -> Reduced:
        """What cloudpickle reduces by value: a function or class of the notebook, or a local one."""
        make, args, *rest = reduced
        name = self._name_of(obj)
        if make is cp._make_function:
            slots = rest[0][1]
            if self._types:
                slots["__globals__"] = {key: self._as_handle(value) for key, value in slots["__globals__"].items()}
            if name:
                return _make_function, (_id_of(obj), args), (rest[0], name), None, None, _fill_function
            return make, args, *rest[:-1], _set_function
        elif make in (cp._make_skeleton_class, cp._make_skeleton_enum):
            return _make_class, (make, args), (rest[0], name), None, None, _fill_class
        return reduced

    def _name_of(self, obj: Any) -> str:
        """Under what name `obj` is found in the notebook; "" when it is not."""
        name: str = obj.__qualname__
        return name if self._main.get(name) is obj else ""

    def _reduce_cell(self, cell: CellType) -> Any:
        # A task in a closure stays a handle; only arguments are replaced by values.
        try:
            content = cell.cell_contents
        except ValueError:  # still empty
            return NotImplemented
        return (cp._make_cell, (_Handle(content),)) if type(content) in self._types else NotImplemented

    def _as_handle(self, value: Any) -> Any:
        return _Handle(value) if type(value) in self._types else value

    def _reduce_cached(self, obj: Any) -> Any:
        """A function under ``functools.cache``: pickle knows it by name alone, which does not do for the notebook's."""
        function = getattr(obj, "__wrapped__", None)
        if type(function) is not FunctionType or cp._lookup_module_and_qualname(obj) is not None:
            return NotImplemented
        _, args, state, *_ = self._dynamic_function_reduce(function)
        limits = obj.cache_parameters()
        made = (_id_of(obj), args, limits["maxsize"], limits["typed"])
        return _make_cached, made, (state, self._name_of(obj)), None, None, _fill_cached


def _id_of(function: Any) -> str:
    id = _ids.get(function)
    if id is None:
        id = _ids.setdefault(function, secrets.token_hex(16))
        functions_here()[id] = function
    return id


def _reduces_as(kind: type, base: type) -> bool:
    return all(getattr(kind, name) is getattr(base, name) for name in ("__reduce__", "__reduce_ex__"))


class _Handle:
    """Stands for a task that is to arrive as itself, not as its value."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __reduce_ex__(self, protocol: Any) -> Any:
        make, args, *rest = self._task.__reduce_ex__(protocol)
        # pickle has an opcode for __newobj__, and insists that it makes an object of this very class.
        return (_new if make is copyreg.__newobj__ else make, args, *rest)  # type: ignore[attr-defined]  # typeshed lacks it


class _Notebook:
    """Stands for the globals of the notebook."""

    def __reduce__(self) -> Reduced:
        return _notebook_globals, ()


_NOTEBOOK: Any = _Notebook()


# What pickles call when they are loaded. These names are part of the format.


def _notebook_globals() -> dict[str, Any]:
    return home_names() if loading.home or loading.guest else {"__name__": "__main__"}


def _set_function(function: FunctionType, state: tuple[Any, dict[str, Any]]) -> None:
    there = function.__globals__
    if loading.guest and there is sys.modules["__main__"].__dict__:
        slots = state[1]
        missing = {name: value for name, value in slots["__globals__"].items() if name not in there}
        slots["__globals__"] = missing
        if loading.added is not None:
            loading.added.update(missing)
    cp._function_setstate(function, state)


def _value_of(id: str) -> object:
    if loading.values is None:
        raise PayloadError(f"the value of task {id} is asked for where it cannot be had: only the task itself gets it")
    return loading.values(id)


def _new(cls: type, *args: Any) -> Any:
    return cls.__new__(cls, *args)


def _make_class(make: Callable[..., type], args: tuple[Any, ...]) -> type:
    if loading.own is not None:
        return _make_class_of_thread(loading.own, make, args)
    known = cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(args[-2])
    made = make(*args)
    if made is not known:
        _fresh.add(made)
    return made


def _make_class_of_thread(own: Names, make: Callable[..., type], args: tuple[Any, ...]) -> type:
    """A class of this thread alone: filled again for another task, its methods would change under this one."""
    id = args[-2]
    known: type | None = own.classes.get(id)
    if known is None:
        known = own.classes[id] = make(*args[:-2], None, args[-1])
        cp._DYNAMIC_CLASS_TRACKER_BY_CLASS[known] = id  # back in the notebook it is the notebook's
        _fresh.add(known)
    return known


def _make_function(id: str, args: tuple[Any, ...]) -> Any:
    return _find_function(id, args) or _new_function(id, cp._make_function(*args))


def _make_cached(id: str, args: tuple[Any, ...], maxsize: int | None, typed: bool) -> Any:
    known = _find_function(id, args)
    return known or _new_function(id, functools.lru_cache(maxsize, typed)(cp._make_function(*args)))


def _find_function(id: str, args: tuple[Any, ...]) -> Any:
    known = functions_here().get(id)
    if known is None:
        return None
    plain: Any = known.__wrapped__ if isinstance(known, functools._lru_cache_wrapper) else known
    is_same = plain.__code__ == args[0] and (plain.__globals__ is args[1] or not loading.home)
    return known if is_same else None


def _new_function(id: str, made: Any) -> Any:
    _ids[made] = id
    functions_here()[id] = made
    _fresh.add(made)
    return made


def _fill_class(cls: type, filling: tuple[Any, str]) -> None:
    _fill(cls, filling, cp._class_setstate)


def _fill_function(function: Any, filling: tuple[Any, str]) -> None:
    _fill(function, filling, _set_function)


def _fill_cached(cached: Any, filling: tuple[Any, str]) -> None:
    def fill(cached: Any, state: Any) -> None:
        _set_function(cached.__wrapped__, state)
        functools.update_wrapper(cached, cached.__wrapped__)

    _fill(cached, filling, fill)


def _fill(obj: Any, filling: tuple[Any, str], fill: Callable[[Any, Any], object]) -> None:
    """Give `obj` its content, unless it is the notebook's own, and at home its name."""
    state, name = filling
    if loading.home or obj in _fresh:
        fill(obj, state)
        _fresh.discard(obj)
    if name and loading.home:
        home_names()[name] = obj
