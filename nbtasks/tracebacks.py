"""The traceback of a cell as its author would see it: frames of the cell and what it calls, without the machinery."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from types import TracebackType

_OURS = os.path.dirname(__file__) + os.sep


def prune(error: BaseException, machinery: Collection[str] = ()) -> None:
    """Take the frames of nbtasks and of `machinery` (folders) out of an exception and those that led to it.

    An exception that was raised by the machinery alone keeps its frames.
    """
    hidden = (_OURS, *machinery)
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        kept = _kept(one.__traceback__, hidden)
        if kept is not None or all(name.startswith(_OURS) for name in _files(one.__traceback__)):
            one.__traceback__ = kept
        rest += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _kept(trace: TracebackType | None, hidden: tuple[str, ...]) -> TracebackType | None:
    steps = []
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith(hidden):
            steps.append(trace)
        trace = trace.tb_next
    result: TracebackType | None = None
    for step in reversed(steps):
        result = TracebackType(result, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return result


def _files(trace: TracebackType | None) -> list[str]:
    names = []
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_filename)
        trace = trace.tb_next
    return names


def where(trace: TracebackType | None, cells: Mapping[str, int | None], error: BaseException | None = None) -> str:
    """Where it happened, in words: ``cell [12], line 3``, the innermost line of a cell; else ``helper.py, line 40``.

    `cells` has the numbers of cells by their file names; `error` is what was raised, for it may be a syntax error of
    the cell itself. "" when there is nothing to tell.
    """
    place: tuple[str, int] | None = None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name in cells or place is None or place[0] not in cells:
            place = name, trace.tb_lineno
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename and error.filename in cells and error.lineno:
        place = error.filename, error.lineno
    if place is None:
        return ""
    name, line = place
    if name not in cells:
        return f"{os.path.basename(name)}, line {line}"
    number = cells[name]
    return f"cell, line {line}" if number is None else f"cell [{number}], line {line}"
