"""The lines of functions that stand in no file, sent with a call: a traceback in the slot then shows them.

A cell's own source travels with the cell (`cell_looks`); this is for functions of the notebook that are submitted.
"""

from __future__ import annotations

import functools
import linecache
import sys
import weakref
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any

import cloudpickle.cloudpickle as cp

from nbtasks import payload
from nbtasks.frames import Part

LINES = "lines"  # the name of the part
_MOST = 1 << 18  # characters

Listings = dict[str, tuple[int | None, int, str]]  # by file name: the number of the cell, the first line, the text

# Of functions that call none of the notebook's: what was made of them, with the code that it was made from.
_kept: weakref.WeakKeyDictionary[FunctionType, tuple[CodeType, Part | None]] = weakref.WeakKeyDictionary()


def lines_of(function: object) -> Part | None:
    """The lines of a function and of the notebook's functions that it uses; None when files have them all."""
    known = _kept.get(function) if type(function) is FunctionType else None
    if known is not None and known[0] is function.__code__:  # type: ignore[attr-defined]  # it is a function, as its type says
        return known[1]
    codes = list(_codes(function))
    found = _listings(codes)
    part = payload.dump(LINES, found) if found else None
    if type(function) is FunctionType and len(codes) == 1:
        _kept[function] = function.__code__, part
    return part


def _codes(function: object) -> Iterator[CodeType]:
    """The code of a function and of what it uses, as far as it is the notebook's."""
    todo, seen = [function], set()
    while todo:
        one: Any = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, functools.partial):
            todo.append(one.func)
        elif isinstance(one, MethodType):
            todo += [one.__func__, type(one.__self__)]
        elif isinstance(one, type):
            todo += list(vars(one).values()) if one.__module__ == "__main__" else []
        elif isinstance(one, (staticmethod, classmethod)):
            todo.append(one.__func__)
        elif isinstance(one, FunctionType):
            if one.__module__ == "__main__":
                yield one.__code__
                todo += _used(one)
            todo += [one.__dict__["__wrapped__"]] if "__wrapped__" in one.__dict__ else []
        else:
            wrapped = getattr(type(one), "__dict__", {}) and getattr(one, "__dict__", {}).get("__wrapped__")
            todo += [wrapped] if wrapped is not None else []
            todo += [type(one)] if type(one).__module__ == "__main__" else []


def _used(function: FunctionType) -> list[object]:
    """Functions and classes that a function reads from the notebook or its closure."""
    names = function.__globals__
    found = [names[name] for name in cp._extract_code_globals(function.__code__) if name in names]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # still empty
            continue
    return [one for one in found if isinstance(one, (FunctionType, type)) and one.__module__ == "__main__"]


def _listings(codes: list[CodeType]) -> Listings:
    numbers = _numbers()
    spans: dict[str, tuple[int, int]] = {}
    for code in codes:
        entry = linecache.cache.get(code.co_filename)
        if entry is not None and len(entry) == 4 and entry[1] is None:  # without a date: of no file
            first, last = spans.get(code.co_filename, (code.co_firstlineno, 0))
            spans[code.co_filename] = min(first, code.co_firstlineno), max(last, _last_line(code))
    found: Listings = {}
    room = _MOST
    for name, (first, last) in spans.items():
        text = "".join(linecache.getlines(name)[first - 1 : last])
        room -= len(text)
        if room < 0:
            break
        found[name] = numbers.get(name), first, text
    return found


def _last_line(code: CodeType) -> int:
    own = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
    return max([own, *(_last_line(one) for one in code.co_consts if isinstance(one, CodeType))])


def _numbers() -> dict[str, int]:
    """The numbers of this notebook's cells, by the file names that its code has."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    found: dict[str, int] = getattr(getattr(shell, "compile", None), "_filename_map", {})
    return found


def put_in_place(part: Part) -> dict[str, int | None]:
    """In the slot, when something was raised: let tracebacks find the lines. The cells' numbers by file name."""
    listings: Listings = payload.load(part)
    for name, (_, first, text) in listings.items():
        lines = ["\n"] * (first - 1) + text.splitlines(keepends=True)
        linecache.cache[name] = (sum(map(len, lines)), None, lines, name)
    return {name: number for name, (number, _, _) in listings.items()}
