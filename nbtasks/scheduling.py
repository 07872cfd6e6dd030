"""Schedules as people hold them: what recurs is registered, looked at, paused, run by hand and removed."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from types import FunctionType
from typing import Any

import msgspec

from nbtasks import context, schedule_words, timing, wishes, zones
from nbtasks.errors import OptionError, PayloadError
from nbtasks.frames import Part
from nbtasks.handle import Task, attach
from nbtasks.options import Fields
from nbtasks.queue import members, schedules
from nbtasks.queue.directory import Queue
from nbtasks.queue.schedules import BY_HAND, Entry
from nbtasks.recurrence import Every, Recurrence, parse_cron, parse_every
from nbtasks.spec import Spec, check_name
from nbtasks.submitting import Call, here, name_of, pack, parts_of
from nbtasks.tasklist import TaskList

_LONGEST = 31

# Functions of ours that stand for what they submit: what each makes of its arguments to recur.
CALLS: dict[Callable[..., Any], Callable[..., tuple[Call, str, Fields]]] = {}
Recurs = Callable[[float, str], Recurrence]  # from the moment of registering, and a time zone


class Schedule:
    """Something that recurs. It is read anew whenever it is asked; two of one name are the same."""

    def __init__(self, queue: Queue, name: str) -> None:
        self.queue = queue
        self.name = name

    @property
    def entry(self) -> Entry:
        """What is stored about it. Raises OptionError when it was removed."""
        return schedules.get_entry(self.queue, self.name)

    @property
    def when(self) -> str:
        """How it recurs: ``every 10m``, ``cron 0 3 * * *``."""
        return self.entry.when

    @property
    def next(self) -> datetime | None:
        """Its next moment, in its time zone; None while it is paused, or when there is none any more."""
        entry = self.entry
        return None if entry.paused else next(iter(schedule_words.moments_of(entry, 1)), None)

    @property
    def paused(self) -> bool:
        """Whether it rests."""
        return self.entry.paused

    @property
    def registered(self) -> datetime:
        """When it was registered last: its runs have the code of that time."""
        entry = self.entry
        return zones.in_zone(entry.registered, entry.tz)

    def upcoming(self, count: int = 5) -> list[datetime]:
        """Its next moments, whether it is paused or not."""
        return schedule_words.moments_of(self.entry, count)

    def history(self, count: int = schedule_words.ROW) -> list[schedule_words.Moment]:
        """Its last moments, the latest last."""
        return schedule_words.history(self.queue, self.entry, count)

    @property
    def tasks(self) -> TaskList[Any]:
        """The tasks of its last moments that are still there, the latest last."""
        return TaskList(
            self.queue, [one.id for one in self.history(100) if one.id is not None and one.mark != schedule_words.GONE]
        )

    def pause(self) -> None:
        """Let it rest; what runs goes on. Moments that fall into the rest are not made up for."""
        schedules.set_paused(self.queue, self.name, True)

    def resume(self) -> None:
        """Let it go on."""
        schedules.set_paused(self.queue, self.name, False)

    def remove(self) -> None:
        """Take it away; tasks that it made stay."""
        schedules.remove(self.queue, self.name)

    def run(self) -> Task[Any]:
        """Run it once now, beside its moments, also while it is paused; the new task."""
        return attach(self.queue, schedules.make(self.queue, self.entry, time.time(), BY_HAND))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return (self.queue.root, self.name) == (other.queue.root, other.name)

    def __hash__(self) -> int:
        return hash((self.queue.root, self.name))

    def __repr__(self) -> str:
        try:
            return f"<Schedule {self.name}: {self.when}, {schedule_words.next_words(self.entry)}>"
        except (OptionError, PayloadError):
            return f"<Schedule {self.name}: removed>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from nbtasks.jupyter import schedule_view  # at the end of a cell it shows its history

        return schedule_view.bundle([self], sentence=schedule_words.life(self.queue, self.entry))


class ScheduleList(Sequence[Schedule]):
    """Schedules, in the order of their names; at the end of a cell it shows a table."""

    def __init__(self, found: Sequence[Schedule]) -> None:
        self._found = list(found)

    def __getitem__(self, index: Any) -> Any:
        return ScheduleList(self._found[index]) if isinstance(index, slice) else self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[Schedule]:
        return iter(self._found)

    def __repr__(self) -> str:
        return f"<schedules: {', '.join(one.name for one in self._found) or 'none'}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from nbtasks.jupyter import schedule_view  # so does a list of them

        return schedule_view.bundle(self._found)


def get_schedule(name: str) -> Schedule:
    """The schedule of that name. Raises OptionError with the nearest one."""
    queue = here().queue
    return Schedule(queue, schedules.get_entry(queue, name).name)


def find_schedules() -> ScheduleList:
    """All schedules of the queue."""
    queue = here().queue
    return ScheduleList([Schedule(queue, entry.name) for entry in schedules.entries(queue)])


# Registering.


def every(interval: float | str) -> Recurs:
    """Every so often, from now on."""
    parse_every(interval, 0.0)
    return lambda now, tz: parse_every(interval, math.floor(now))


def cron(line: str) -> Recurs:
    """By a cron line."""
    parse_cron(line, "UTC")
    return lambda now, tz: parse_cron(line, tz)


def add_call(
    recurs: Recurs, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], fields: Fields
) -> Schedule:
    """Register a function with its arguments. Raises OptionError and PayloadError; then nothing is registered."""
    check(fields)
    name = check_name("the name of a schedule", fields["name"]) if "name" in fields else None
    if type(function) is FunctionType and function in CALLS:
        call, called, own = CALLS[function](*args, **kwargs)
        own["at_most_once"] = not fields.get("retries")
    else:
        called, own = name_of(function), {}
        call = pack(parts_of(function), called, args, kwargs)
    name = name_for(name, called)
    at = here()
    kept = {key: value for key, value in fields.items() if key not in timing.NAMES}
    spec = Spec(
        id=at.queue.new_id(), env=at.env, parents=call.references, summary=call.summary,
        context=context.capture(at.queue.blobs),
        **wishes.resolve({**at.defaults, **own, **kept, "name": name, "pid": 0}, name),
    )  # fmt: skip
    return add(at.queue, recurs, spec, call.parts, fields)


def name_for(given: str | None, otherwise: str) -> str:
    """The name of a schedule: as given, which must be fit for a file, or made of what the function or cell is called."""
    if given is not None:
        return check_name("the name of a schedule", given)
    made = re.sub(r"[^a-z0-9_]+", "-", otherwise.lower()).strip("-_")[:_LONGEST].rstrip("-_")
    if not made:
        raise OptionError(f"what is called {otherwise!r} needs a name to recur under: give one, name='nightly'")
    return made


def check(fields: Mapping[str, Any]) -> None:
    """Raise OptionError for options that have no meaning for what recurs."""
    for name in ("delay", "at"):
        if name in fields:
            raise OptionError(f"{name} has no meaning for what recurs; for one run, {name} goes with submit")
    if not isinstance(fields.get("expires", 1.0), float):
        raise OptionError("expires, of what recurs, is a duration after each moment: give one such as '30m'")


def add(queue: Queue, recurs: Recurs, spec: Spec, parts: Sequence[Part], fields: Mapping[str, Any]) -> Schedule:
    """Register a call, with the spec that each run gets but for its id, and say so.

    `fields` may have tz, missed, overlap and expires. Raises OptionError, OSError; then nothing is registered.
    """
    now = time.time()
    tz = fields.get("tz") or zones.local_zone()
    entry = Entry(
        name=spec.name, recurrence=recurs(now, tz), tz=tz, call=spec.id, registered=now, since=now, kind=spec.kind,
        summary=spec.summary, lane=spec.lane, env=spec.env, missed=fields.get("missed", "once"),
        overlap=fields.get("overlap", False), expires=fields.get("expires"),
    )  # fmt: skip
    known = _known(queue, entry.name)
    if known is not None:
        entry = _continue(entry, known)
    before = schedules.register(queue, entry, msgspec.structs.replace(spec, schedule=entry.name), parts)
    _see_that_it_runs(queue, entry)
    print(schedule_words.announcement(queue, entry, before))
    return Schedule(queue, entry.name)


def _known(queue: Queue, name: str) -> Entry | None:
    try:
        return schedules.find_entry(queue, name)
    except PayloadError:
        return None


def _continue(entry: Entry, known: Entry) -> Entry:
    """What is registered again goes on as it was: a notebook that is run again must not put off its next moment."""
    entry = msgspec.structs.replace(entry, paused=known.paused)
    new, old = entry.recurrence, known.recurrence
    if isinstance(new, Every) and isinstance(old, Every) and new.seconds == old.seconds:
        new = old
    if new == old:
        return msgspec.structs.replace(entry, recurrence=new, since=min(known.since, entry.since))
    return entry


def _see_that_it_runs(queue: Queue, entry: Entry) -> None:
    there = list(members.list_workers(queue))
    served = any(schedule_words.serves(worker, entry) for worker in there) and any(worker.periodic for worker in there)
    if not served and (summon := type(queue).summon) is not None:
        summon(queue, entry.lane, entry.env)
