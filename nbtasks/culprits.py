"""Why something cannot be pickled, in words: which part of it, where that was found, and what to do."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import cloudpickle.cloudpickle as cp

from nbtasks.errors import PayloadError
from nbtasks.pickling import Pickler

PATIENCE = 1.0  # seconds to look for the culprit in
_DEPTH = 50

Child = tuple[str, object]  # how to get there from its parent, and itself

_CURES = {
    "generator": "turn it into a list first: list(…)",
    "file": "pass its path, and open it inside the task",
    "connection": "open it inside the task, and pass what it is opened with (a path, an address)",
    "lock": "make it inside the task",
    "deep": "flatten it, or raise the limit with sys.setrecursionlimit",
}
_OTHERWISE = "make it inside the task, or give its class a __reduce__ that says how to make it again"


def explain(obj: object, name: str, where: str, error: Exception, *, references: bool = False) -> PayloadError:
    """The error to raise because `obj`, the part `name` of a frame, could not be pickled: `error`.

    `where` says in words what `obj` is. Takes little more than a second at most.
    """
    path, culprit, reason = _find(obj, name, where, error, references)
    kind = _type_name(culprit)
    cure = _CURES["deep"] if isinstance(reason.__cause__ or reason, RecursionError) else _cure(culprit)
    return PayloadError(
        f"{path} cannot be pickled: it is of type {kind} ({type(reason).__name__}: {_short(reason)}). To mend it: {cure}",
        where=path,
        type=kind,
    )


def _find(obj: object, name: str, where: str, error: Exception, references: bool) -> tuple[str, object, Exception]:
    deadline = time.monotonic() + PATIENCE
    path = where or name
    seen = {id(obj)}
    children = _first_children(obj, name, where)
    while len(seen) < _DEPTH:
        for label, child in children:
            if id(child) in seen:
                continue
            failure = _failure(child, references, deadline)
            if time.monotonic() > deadline:
                return path, obj, error
            if failure is not None:
                path = _join(path, label)
                obj, error = child, failure
                break
        else:
            return path, obj, error
        seen.add(id(obj))
        children = _children(obj)
    return path, obj, error


class _TooLong(Exception):
    pass


class _Nowhere:
    """A file that forgets what is written, until the deadline."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def write(self, data: bytes) -> int:
        if time.monotonic() > self._deadline:
            raise _TooLong
        return len(data)


def _failure(obj: object, references: bool, deadline: float) -> Exception | None:
    """What pickling `obj` alone raises; None when it can be pickled, or takes longer than there is time."""
    try:
        Pickler(_Nowhere(deadline), lambda _: False, references=references).dump(obj)
    except _TooLong:
        return None
    except Exception as error:
        return error
    return None


def _join(path: str, label: str) -> str:
    if label[:1] in ".[":
        return path + label
    return f"{path}: {label}" if label[:1] == " " else label


def _first_children(obj: Any, name: str, where: str) -> Iterator[Child]:
    """Arguments and variables under the names that people gave them."""
    if name == "arguments" and isinstance(obj, tuple) and len(obj) == 2:
        of = f" of {where}" if where else ""
        for number, value in enumerate(obj[0], 1):
            yield f"argument {number}{of}", value
        for key, value in obj[1].items():
            yield f"argument {key!r}{of}", value
    elif name == "cell" and isinstance(getattr(obj, "inputs", None), dict):
        for key, value in obj.inputs.items():
            yield f"variable {key!r}", value
    else:
        yield from _children(obj)


def _children(obj: Any) -> Iterator[Child]:
    if isinstance(obj, dict):
        yield from ((f"[{_short(key)}]", value) for key, value in list(obj.items()))
        yield from ((f" key {_short(key)}", key) for key in list(obj))
    elif isinstance(obj, (list, tuple)):
        yield from ((f"[{index}]", value) for index, value in enumerate(obj))
    elif isinstance(obj, (set, frozenset)):
        yield from ((f" element {_short(value)}", value) for value in obj)
    elif isinstance(obj, FunctionType):
        yield from _of_function(obj)
    elif isinstance(obj, functools.partial):
        yield from ((".func", obj.func), (".args", obj.args), (".keywords", obj.keywords))
    elif isinstance(obj, (MethodType, BuiltinFunctionType)):
        yield ".__self__", obj.__self__
    elif isinstance(obj, type):
        yield from ((f" class attribute {obj.__name__}.{name}", value) for name, value in list(vars(obj).items()))
    else:
        yield from _of_instance(obj)


def _of_function(function: FunctionType) -> Iterator[Child]:
    name = function.__qualname__
    for variable, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f" closure variable {variable!r} of {name}", cell.cell_contents
        except ValueError:
            continue  # still empty
    for variable in cp._extract_code_globals(function.__code__):
        if variable in function.__globals__:
            yield f" global variable {variable!r} of {name}", function.__globals__[variable]
    defaults = itertools.chain(function.__defaults__ or (), (function.__kwdefaults__ or {}).values())
    yield from ((f" a default of {name}", value) for value in defaults)
    yield from ((f".{attribute}", value) for attribute, value in vars(function).items())


def _of_instance(obj: Any) -> Iterator[Child]:
    try:
        reduced = obj.__reduce_ex__(5)
    except Exception:
        return  # it is this object itself that refuses
    if not isinstance(reduced, tuple):
        return
    _, args, state, items, pairs = (*reduced[:5], None, None, None)[:5]
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            yield from ((f".{name}", value) for name, value in part.items())
        elif part is not None:
            yield " its state", part
    yield from ((f" what it is made from, {index}", value) for index, value in enumerate(args or (), 1))
    yield from ((f"[{index}]", value) for index, value in enumerate(items or ()))
    yield from ((f"[{_short(key)}]", value) for key, value in pairs or ())


def _type_name(obj: object) -> str:
    kind = type(obj)
    module = kind.__module__
    return kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"


def _cure(obj: object) -> str:
    module, _, name = _type_name(obj).lower().rpartition(".")
    if module == "_io":
        return _CURES["file"]
    words = {"connection": ("connection", "socket", "cursor", "engine", "session", "client")}
    for cure in ("generator", "lock", "connection"):
        if any(word in name for word in words.get(cure, (cure,))):
            return _CURES[cure]
    return _OTHERWISE


def _short(value: object) -> str:
    try:
        text = str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else text[:199] + "…"
