"""How tasks ended: their places found without scanning, their values and exceptions read."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from nbtasks import payload
from nbtasks.errors import (
    FrameDamaged,
    NbtasksError,
    PayloadError,
    TaskFailed,
    TaskLost,
    TaskTimedOut,
    UpstreamFailed,
)
from nbtasks.frames import Frame
from nbtasks.outcome import Outcome
from nbtasks.queue import dependencies, lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import SECOND
from nbtasks.queue.lookup import Place
from nbtasks.queue.tickets import Ticket, parse_ended
from nbtasks.spec import Spec
from nbtasks.status import Status

_CHEAP = 0.0002  # a folder listed faster than this (seconds) is listed at every look
_RARELY = 20  # a dearer one after this many times what its listing took
_LIKELY = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")

# Finding.


class _Listing(NamedTuple):
    at: float
    cost: float
    names: dict[str, str]  # id: name in ended/


_listings: dict[str, _Listing] = {}


def find_end(queue: Queue, id: str, generation: int = 1) -> Place | None:
    """The place of a task that has ended with delivery `generation` or a later one, or None. Costs microseconds."""
    folder = queue.layout.ended_folder(id)
    if generation == 1:
        ticket = Ticket(id)
        for status in _LIKELY:
            path = f"{folder}/{id}.1.0.0.{status}"
            if queue.disk.exists(path):
                return Place(status, ticket, path)
    # In the folder of a burst there are thousands of names: it is not listed for each of them.
    known = _listings.get(folder)
    now = time.monotonic()
    if known is None or known.cost < _CHEAP or now - known.at > known.cost * _RARELY:
        known = _list(queue, folder)
    return _parse(folder, known.names.get(id), generation)


def find_ends(queue: Queue, ids: Iterable[str]) -> dict[str, Place]:
    """The places of those of `ids` that have ended; each folder is listed once."""
    listings: dict[str, dict[str, str]] = {}
    found: dict[str, Place] = {}
    for id in ids:
        # A notebook asks for a thousand at each cell: what has not ended must cost a look into a dict, no more.
        names = listings.get(second := id[:SECOND])
        if names is None:
            names = listings[second] = _list(queue, queue.layout.ended_folder(id)).names
        if (name := names.get(id)) and (place := _parse(queue.layout.ended_folder(id), name, 1)):
            found[id] = place
    return found


def _list(queue: Queue, folder: str) -> _Listing:
    if len(_listings) > 64:
        _listings.clear()
    start = time.monotonic()
    names = {name.partition(".")[0]: name for name in queue.disk.list(folder)}
    listing = _listings[folder] = _Listing(start, time.monotonic() - start, names)
    return listing


def _parse(folder: str, name: str | None, generation: int) -> Place | None:
    parsed = parse_ended(name) if name else None
    if parsed is None or parsed[0].delivery < generation:
        return None
    return Place(parsed[1], parsed[0], f"{folder}/{name}")


# Reading.


class Ending(NamedTuple):
    """What an ended task left: its outcome, and the frame with value and exception if there is one."""

    place: Place
    outcome: Outcome | None
    frame: Frame | None


def read_value(queue: Queue, place: Place) -> Any:
    """The value of a task that succeeded, freshly unpickled. Raises PayloadError, FrameError."""
    try:
        frame = records.read_outcome_frame(queue, place.ticket)
    except FileNotFoundError as error:
        raise FrameDamaged(
            f"the outcome of {place.ticket.id} is gone ({error.filename}): somebody removed it; submit the task again"
        ) from None
    if part := frame.parts.get("items"):
        return [read_value(queue, _get_end(queue, id)) for id in payload.load(part)]
    return value_in(frame)


def _get_end(queue: Queue, id: str) -> Place:
    place = lookup.find_ended_id(queue, id)
    if place is None or place.status is not Status.SUCCEEDED:
        raise FrameDamaged(
            f"the task {id}, one of the items of a map, is gone: somebody removed it; submit the map again"
        )
    return place


def value_in(frame: Frame) -> Any:
    """The value in an outcome's frame; None when it has none."""
    if part := frame.parts.get("cell"):
        if why := _left_out(frame).get(""):
            raise PayloadError(f"the value of its last line was left out, because {why}. Its names are in task.vars")
        return payload.load(part)[0]
    return payload.load(frame.parts["value"]) if "value" in frame.parts else None


def variables_in(frame: Frame) -> dict[str, Any]:
    """The names and values that a cell left; none of a function."""
    part = frame.parts.get("cell")
    return Names(payload.load_cell(part)[1], _left_out(frame)) if part else {}


class Names(dict[str, Any]):
    """Names and values; asked for a name that was left out, it says why."""

    def __init__(self, values: Mapping[str, Any], left_out: Mapping[str, str]) -> None:
        super().__init__(values)
        self.left_out = left_out

    def __missing__(self, name: str) -> Any:
        why = self.left_out.get(name)
        raise KeyError(f"{name}: left out, because {why}" if why else name)


def _left_out(frame: Frame) -> dict[str, str]:
    variables = records.decode_outcome(frame.body).variables
    return {one.name: one.left_out.removeprefix("because ") for one in variables if one.left_out}


def read_ending(queue: Queue, place: Place) -> Ending:
    """All that an ended task left. A task cancelled before it started has neither outcome nor frame."""
    try:
        frame = records.read_outcome_frame(queue, place.ticket)
    except FileNotFoundError:
        return Ending(place, None, None)
    return Ending(place, records.decode_outcome(frame.body), frame)


def error_of(queue: Queue, spec: Spec, ending: Ending) -> BaseException:
    """The exception that stands for a failed task: what it raised, with the remote traceback as its cause."""
    outcome = ending.outcome
    if outcome is None:
        return TaskFailed(f"{_title(spec)} failed, and its outcome is gone", id=spec.id)
    if outcome.kind in _KINDS:
        return _own_error(queue, spec, outcome)
    raised = _load_exception(ending)
    if not isinstance(raised, Exception):  # also SystemExit: it must not end the process that asks for the result
        return _failed(spec, outcome, why=str(raised) if isinstance(raised, str) else "")
    if raised.__cause__ is None:
        raised.__cause__ = _failed(spec, outcome)
    return raised


_KINDS = {"lost": TaskLost, "killed": TaskLost, "timed out": TaskTimedOut, "upstream": UpstreamFailed}


def _own_error(queue: Queue, spec: Spec, outcome: Outcome) -> TaskFailed:
    kind = _KINDS[outcome.kind]
    error = kind(f"{_title(spec)} failed: {outcome.reason or outcome.kind}", id=spec.id)
    error.remote_traceback = _traceback(outcome)
    if isinstance(error, UpstreamFailed):
        error.parent = dependencies.judge(queue, spec).culprit or ""
    return error


def _load_exception(ending: Ending) -> BaseException | str:
    """What the task raised, or in words why it cannot be had here."""
    part = ending.frame.parts.get("exception") if ending.frame is not None else None
    if part is None:
        return ""
    try:
        raised = payload.load(part)
    except (NbtasksError, OSError) as error:
        return f"the exception itself cannot be loaded here: {error}"
    return raised if isinstance(raised, BaseException) else ""


def _failed(spec: Spec, outcome: Outcome, why: str = "") -> TaskFailed:
    failure = outcome.failure
    text = _traceback(outcome)
    what = f"{failure.type}: {failure.message}" if failure else outcome.reason
    lines = [f"{_title(spec)} failed: {what}" if not text else f"in the task {_title(spec)}:", *([why] if why else [])]
    if text:
        lines += ["", text.rstrip()]
    return TaskFailed("\n".join(lines), id=spec.id, remote_traceback=text)


def _traceback(outcome: Outcome) -> str:
    return _COLOURS.sub("", outcome.failure.traceback) if outcome.failure else ""


def _title(spec: Spec) -> str:
    return f"{spec.name} ({spec.short})"
