"""Later: ``delay``, ``at`` and ``expires``, checked where they are said, and made moments when a task is submitted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from nbtasks import recurrence, zones
from nbtasks.errors import OptionError
from nbtasks.spec import seconds

RECURRING = ("tz", "missed", "overlap")  # options that only what recurs has; but for tz, which `at` has, too
NAMES = ("delay", "at", "expires", *RECURRING)
_NAMES = frozenset(NAMES)
_CLOCK = "a datetime, or text such as '03:00' or '2026-11-21 03:00'"
_AGO = 60.0  # seconds by which `at` may have passed
_DAY = 86400.0

Fields = dict[str, Any]


def delay(option: str, value: Any) -> float | None:
    """A duration in seconds."""
    return seconds(option, value)


def at(option: str, value: Any) -> Any:
    """What may stand for a moment: a datetime, the time of a day, or both as text. OptionError for anything else."""
    if isinstance(value, datetime) or (isinstance(value, str) and (_time_of_day(value) or _datetime(value))):
        return value
    raise OptionError(f"{option}={value!r} cannot be: give {_CLOCK}")


def expires(option: str, value: Any) -> Any:
    """A duration, or what `at` takes."""
    if isinstance(value, datetime) or (isinstance(value, str) and (_time_of_day(value) or _datetime(value))):
        return value
    try:
        length = seconds(option, value)
    except OptionError:
        raise OptionError(f"{option}={value!r} cannot be: give a duration such as '2h', {_CLOCK}") from None
    if not length:
        raise OptionError(f"{option}={value!r} cannot be: give a duration above zero")
    return length


def zone(option: str, value: Any) -> str:
    """The name of a time zone."""
    return zones.check_zone(value)


def missed(option: str, value: Any) -> str:
    """What is done about moments at which no worker lived."""
    if value not in ("once", "skip", "all"):
        raise OptionError(f"{option}={value!r} cannot be: give 'once' (one run for all of them), 'skip' or 'all'")
    return str(value)


def overlap(option: str, value: Any) -> bool:
    """Whether a run may begin while the one before goes on."""
    if not isinstance(value, bool):
        raise OptionError(f"{option}={value!r} cannot be: give True or False")
    return value


PARSERS = {"delay": delay, "at": at, "expires": expires, "tz": zone, "missed": missed, "overlap": overlap}


def check(fields: Mapping[str, Any]) -> None:
    """Raise OptionError for options that cannot stand together."""
    if "delay" in fields and "at" in fields:
        raise OptionError("delay and at cannot stand together: give one of them")


def resolve(fields: Fields, now: float | None = None) -> Fields:
    """Fields of a Spec, with the moments `due` and `expires` (seconds since 1970) in place of delay, at, tz and expires.

    OptionError when they cannot be: a moment that has passed, an end before the beginning, an option of schedules.
    """
    if _NAMES.isdisjoint(fields):
        return fields
    for name in ("missed", "overlap"):
        if name in fields:
            raise OptionError(f"{name} is an option of what recurs: using({name}=…).every(…) or .cron(…)")
    check(fields)
    now = time.time() if now is None else now
    found = {name: value for name, value in fields.items() if name not in NAMES}
    tz = fields.get("tz")
    if fields.get("delay"):
        found["due"] = now + fields["delay"]
    if "at" in fields:
        found["due"] = _not_long_ago(_moment(fields["at"], tz, now), fields["at"], now)
    if "expires" in fields:
        found["expires"] = _end(fields["expires"], tz, now, found.get("due") or now)
    return found


def _end(value: Any, tz: str | None, now: float, due: float) -> float:
    moment = now + value if isinstance(value, float) else _moment(value, tz, due)
    if moment <= due:
        raise OptionError(f"expires={_said(value)} comes before the task may start: give a later one")
    return moment


def _moment(value: Any, tz: str | None, after: float) -> float:
    """The moment that a datetime, or the next time of day after a moment, stands for."""
    if isinstance(value, str) and (clock := _time_of_day(value)):
        line = f"{clock[1]} {clock[0]} * * *"  # as a schedule would take it on the days when clocks change
        found = recurrence.parse_cron(line, tz or zones.local_zone()).after(after)
        assert found is not None
        return found
    moment = _datetime(value) if isinstance(value, str) else value
    assert isinstance(moment, datetime)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=ZoneInfo(tz)) if tz else moment.astimezone()
    return moment.timestamp()


def _not_long_ago(moment: float, value: Any, now: float) -> float:
    if moment < now - _AGO:
        ago = now - moment
        words = f"{ago / _DAY:.0f} days" if ago > 2 * _DAY else f"{ago / 60:.0f} minutes"
        raise OptionError(f"at={_said(value)} has passed, {words} ago: leave it out to run the task now")
    return moment


def _said(value: Any) -> str:
    return f"'{value}'" if isinstance(value, datetime) else repr(value)


def _time_of_day(text: str) -> tuple[int, int] | None:
    """Hour and minute of ``03:00``, or None."""
    hour, _, minute = text.strip().partition(":")
    if not (hour.isdecimal() and minute.isdecimal() and len(hour) <= 2 and len(minute) == 2):
        return None
    return (int(hour), int(minute)) if int(hour) < 24 and int(minute) < 60 else None


def _datetime(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip()) if len(text.strip()) > 10 else None
    except ValueError:
        return None
