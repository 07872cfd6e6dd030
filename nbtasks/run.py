"""The waist: one call in, one outcome out. Knows nothing of directories, tickets on disk or engines.

A local slot, a Dask worker and an RQ worker all call exactly `execute`; they differ in the two functions they give:
`values` finds what the call refers to, `emit` takes what it shows while it runs.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from nbtasks import context as contexts
from nbtasks import listings, payload, tracebacks
from nbtasks.errors import FrameError, NbtasksError, PayloadError
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Failure, Outcome
from nbtasks.previews import preview
from nbtasks.queue import records
from nbtasks.queue.tickets import Ticket
from nbtasks.running import Emit, Running, current, here, in_user_code, try_interrupt
from nbtasks.status import Status

__all__ = [
    "Emit",
    "Ended",
    "Enter",
    "Running",
    "Values",
    "current",
    "execute",
    "in_user_code",
    "try_interrupt",
    "type_name",
]

T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT)
_HERE = os.path.dirname(__file__) + os.sep


class Values(Protocol):
    """Finds what a call refers to; the caller decides how (the slot maps files, a bridge ships bytes)."""

    def value(self, id: str) -> object:
        """The value of a task that succeeded."""
        ...

    def blob(self, hash: str) -> bytes:
        """The bytes of a blob."""
        ...

    def earlier(self, ticket: Ticket) -> Frame | None:
        """The outcome of the delivery before that of `ticket`, when there is one."""
        ...


class Ended(NamedTuple):
    """What `execute` gives: the outcome, and the parts that go beside it (value, exception)."""

    outcome: Outcome
    parts: list[Part]


def _run_user_code(code: Callable[[], T], emit: Emit) -> tuple[T | None, BaseException | None]:
    """What the code returned and what it raised."""
    place = here()
    value: T | None = None
    error: BaseException | None = None
    try:
        try:
            # The flag first, then the look for a stop: a stop that came before the flag is seen here, one that
            # comes after it is raised by the signal's handler.
            place.begin()
            if emit("start", {}):
                value = code()
            elif place.try_interrupt():
                error = KeyboardInterrupt()
            place.end()
        except BaseException as raised:  # SystemExit and KeyboardInterrupt too: they end the task, not the slot
            place.end()
            error = raised
    except KeyboardInterrupt as late:  # it hit just behind the user's code: there is no second one
        place.end()
        error = error or late
    return value, error if value is None else None  # what was returned is kept


Enter = Callable[[contexts.Context, Callable[[str], bytes]], contexts.Entered]


def execute(
    call: Frame, ticket: Ticket, values: Values, emit: Emit, enter: Enter = contexts.enter
) -> Ended:  # fmt: skip
    """Run a call to its end and give its outcome; never raises for what the user's code does.

    A stop that was asked for (`emit` answers False to "ended") makes the outcome cancelled, with the value when
    the code returned one all the same. `enter` puts on the context of the task.
    """
    place = here()
    spec = records.decode_spec(call.body)
    outer, place.current = place.current, Running(spec, ticket, emit)  # in place, a task may submit another
    started = time.time()
    leave: contexts.Entered | None = None
    try:
        if spec.context:
            leave = enter(contexts.decode(values.blob(spec.context)), values.blob)
            for note in leave.notes:  # a working directory that is gone, say
                print(f"nbtasks: {note}", file=sys.stderr)
        runner = _RUNNERS.get(spec.kind, _run_function)
        status, parts, facts = runner(call, values, emit)
    except (Exception, SystemExit) as error:  # beside the user's code: a call that cannot be loaded, say
        status, parts, facts = _failed(error, False)
        facts["kind"] = "damaged" if isinstance(error, FrameError) else ""
    finally:
        if leave is not None:
            leave()
        place.current = outer
    outcome = Outcome(
        id=spec.id, delivery=ticket.delivery, status=status, started=started, ended=time.time(),
        attempt=ticket.attempt, pid=os.getpid(), **facts,
    )  # fmt: skip
    return Ended(outcome, parts)


_Ran = tuple[Status, list[Part], dict[str, Any]]


def _run_function(call: Frame, values: Values, emit: Emit) -> _Ran:
    function = payload.load(call.parts["function"], home=True)
    args, kwargs = payload.load(call.parts["arguments"], values.value, home=True)
    value, error = _run_user_code(lambda: function(*args, **kwargs), emit)
    stopped = not emit("ended", {})
    if error is not None:
        return _failed(error, stopped, call.parts.get(listings.LINES))
    status = Status.CANCELLED if stopped else Status.SUCCEEDED
    # A map gives back the ids of the tasks of its items: their values stay where they are.
    running = current()
    name = "items" if running is not None and running.spec.kind == "map" else "value"
    part = _with_room(lambda: payload.dump(name, value, where="the value that the task returned"), emit)
    if part is None:
        return Status.CANCELLED, [], {}
    return status, [part], {"preview": preview(value), "has_value": True}


def _with_room(pack: Callable[[], T], emit: Emit) -> T | None:
    """What `pack` makes, tried again while the disk is full: finished work is kept. None: stopped meanwhile."""
    while True:
        try:
            return pack()
        except OSError as error:
            if error.errno not in FULL:
                raise
            if not emit("full", {"error": str(error)}):
                return None


def _run_cell(call: Frame, values: Values, emit: Emit) -> _Ran:
    from nbtasks import cells  # brings IPython, which functions do not need

    cell: cells.Cell = payload.load(call.parts["cell"], values.value, home=True)
    run, error = _run_user_code(lambda: cells.run_cell(cell, emit), emit)
    stopped = not emit("ended", {})
    if run is None:  # stopped before the cell began, or between two statements of ours
        return _failed(error or KeyboardInterrupt(), stopped)
    packed = _with_room(lambda: cells.pack_result(run, cell.outputs), emit)
    if packed is None:
        return Status.CANCELLED, [], {}
    parts, variables = packed
    facts: dict[str, Any] = {"variables": variables, "has_value": run.value is not None}
    if run.value is not None:
        facts["preview"] = preview(run.value)
    if run.error is None:
        return Status.CANCELLED if stopped else Status.SUCCEEDED, parts, facts
    status, exception, more = _failed(run.error, stopped)
    if more.get("failure") is not None:
        more["failure"] = Failure(
            type=more["failure"].type, message=more["failure"].message, traceback=run.traceback, where=run.where
        )
    return status, parts + exception, facts | more


def _run_notebook(call: Frame, values: Values, emit: Emit) -> _Ran:
    from nbtasks import notebook_runs  # brings jupyter_client, which functions do not need

    running = current()
    assert running is not None
    sent = payload.load(call.parts["notebook"])
    given = payload.load(call.parts["arguments"], values.value)
    earlier = values.earlier(running.ticket) if sent.resume else None
    notebook = notebook_runs.Run(sent, given, running.ticket, (earlier or call).parts, running.spec.due)
    ran, error = _run_user_code(notebook.run, emit)
    stopped = not emit("ended", {})
    if ran is None:  # stopped before it began, or it could not begin
        return _failed(error or KeyboardInterrupt(), stopped)
    facts = ran.facts()
    try:
        if not _with_room(notebook.save_all, emit):
            return Status.CANCELLED, [], {}
    except Exception as error:
        status, exception, more = _failed(error, False)
        return status, ran.parts + exception, facts | more
    if stopped:
        return Status.CANCELLED, ran.parts, facts | {"failure": None, "kind": "", "reason": ""}
    if ran.failed:
        return Status.FAILED, ran.parts, facts
    return Status.SUCCEEDED, ran.parts + notebook.for_cache(), facts


_RUNNERS = {"cell": _run_cell, "notebook": _run_notebook}


def _failed(error: BaseException, stopped: bool, lines: Part | None = None) -> _Ran:
    if stopped and isinstance(error, KeyboardInterrupt):
        return Status.CANCELLED, [], {}
    cells = listings.put_in_place(lines) if lines is not None else {}
    return Status.FAILED, _exception_part(error), {"failure": _failure(error, cells)}


def _exception_part(error: BaseException) -> list[Part]:
    try:
        return [payload.dump("exception", error, where="the exception")]
    except PayloadError:
        return []  # its text travels in the outcome


def _failure(error: BaseException, cells: Mapping[str, int | None]) -> Failure:
    """The exception as text. `cells` has the numbers of the notebook's cells by the file names of their code."""
    own = error.__traceback__
    while own is not None and own.tb_frame.f_code.co_filename.startswith(_HERE):
        own = own.tb_next  # our frames on top say nothing to the reader
    kept = own if own is not None or isinstance(error, NbtasksError) else error.__traceback__
    text = "".join(traceback.format_exception(type(error), error, kept))
    for name, number in cells.items():
        text = text.replace(f'File "{name}", line', f"Cell In[{'' if number is None else number}], line")
    return Failure(
        type=type_name(error), message=_text(error), traceback=text, where=tracebacks.where(kept, cells, error)
    )


def type_name(error: BaseException) -> str:
    """The type of an exception as Python prints it: with its module unless that is builtins or the notebook."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # a broken __str__ must not cost the outcome
        return f"(its text cannot be shown: {type(second).__name__})"
