"""From one moment of a schedule to the next: every so often, or by a cron line. Pure: a moment in, a moment out.

Moments are seconds since 1970 (UTC). Where a cron line and daylight saving meet, it is as in Debian's cron: what falls
into the hour that is left out runs right after it, what falls into the hour that comes twice runs once, and lines
that begin with ``*`` in minute or hour follow the time that passes.
"""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import msgspec

from nbtasks.errors import OptionError
from nbtasks.spec import seconds

SHORTEST, LONGEST = 1.0, 3660 * 86400.0  # seconds between two moments
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of the month", 1, 31), ("month", 1, 12), ("day of the week", 0, 7))
_NICKNAMES = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_EXAMPLE = "'0 3 * * *' is every day at 03:00, '*/10 8-17 * * 1-5' every ten minutes of a working day"
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_WINDOWS = (3600.0, 86400.0, 31 * 86400.0)  # seconds
_DAY, _YEAR = 86400.0, 366 * 86400.0
_AROUND, _STEP = 7200, 600  # seconds after a change of clocks, and between two looks in them


class Every(msgspec.Struct, frozen=True, kw_only=True, tag_field="recurs", tag="every"):
    """The same time from each moment to the next. `start` is one of the moments; it says where the others lie."""

    seconds: float
    start: float = 0.0

    def after(self, moment: float) -> float:
        """The first moment later than `moment`."""
        # In whole microseconds, as the ids of tasks have them: sums of fractions would drift.
        step, start = _microseconds(self.seconds), _microseconds(self.start)
        return (start + ((_microseconds(moment) - start) // step + 1) * step) / 1e6

    def __str__(self) -> str:
        for unit, size in _UNITS:
            if self.seconds >= size and self.seconds % size == 0:
                return f"every {self.seconds / size:g}{unit}"
        return f"every {self.seconds:g}s"


class Cron(msgspec.Struct, frozen=True, kw_only=True, tag_field="recurs", tag="cron"):
    """The moments of a cron line, by the clocks of a time zone."""

    line: str
    tz: str

    def after(self, moment: float) -> float | None:
        """The first moment later than `moment`; None when there will be none in the next 50 years."""
        found = self._seek(moment, moment)
        if found is not None and not self._has_fixed_hours:
            # It goes by hours, and so may pass over moments behind a change of half an hour.
            for change in _changes(_zone(self.tz), moment, found):
                for start in range(round(change) - 1, round(change) + _AROUND, _STEP):
                    found = min(found, self._seek(start, moment) or found)
        return found

    @property
    def _has_fixed_hours(self) -> bool:
        """Whether its moments are times of the day, which follow the clocks when those change."""
        parts = self.line.split()
        return len(parts) == 5 and "*" not in (parts[0][0], parts[1][0])

    def _seek(self, start: float, moment: float) -> float | None:
        """The first moment later than `moment`, looked for from `start` on."""
        from cronsim import CronSim  # only what recurs needs it

        zone = _zone(self.tz)
        for found in CronSim(self.line, datetime.fromtimestamp(math.floor(start), zone)):
            at = found.timestamp()
            # In the hour that comes twice it names moments of the first one again, which have passed; and now and
            # then one of an hour that is left out.
            if at > moment and datetime.fromtimestamp(at, zone).replace(tzinfo=None) == found.replace(tzinfo=None):
                return at
        return None

    def __str__(self) -> str:
        return f"cron {self.line}"


Recurrence = Every | Cron


def parse_every(interval: object, start: float) -> Every:
    """Every `interval`: seconds, or text such as ``"10m"``. OptionError when it is none, or below a second."""
    length = seconds("every", interval)  # type: ignore[arg-type]  # it refuses what it cannot read
    if length is None or not SHORTEST <= length <= LONGEST:
        raise OptionError(f"every {interval!r} cannot be: give 1 second to 10 years, such as '10s', '10m', '6h', '1d'")
    return Every(seconds=length, start=start)


def parse_cron(line: object, tz: str) -> Cron:
    """A cron line of five fields, or six with the second first, or ``@daily`` and its kin, in a time zone that exists.

    OptionError names the field that cannot be.
    """
    from cronsim import CronSim, CronSimError

    if not isinstance(line, str):
        raise OptionError(f"cron line {line!r} cannot be: give a text; {_EXAMPLE}")
    plain = " ".join(_NICKNAMES.get(line.strip().lower(), line).split())
    try:
        next(CronSim(plain, datetime(2000, 1, 1)))
    except StopIteration:
        raise OptionError(f"cron line {line!r} cannot be: there is no such day in any year; {_EXAMPLE}") from None
    except (CronSimError, AssertionError, ValueError, TypeError) as error:
        raise OptionError(f"cron line {line!r} cannot be: {_fault(plain, str(error))}; {_EXAMPLE}") from None
    return Cron(line=plain, tz=tz)


def _fault(line: str, error: str) -> str:
    """Which field it is, and what it may hold."""
    parts = line.split()
    if len(parts) not in (5, 6):
        return f"it has {len(parts)} field{'s' * (len(parts) != 1)} instead of 5 (minute, hour, day of the month, month, day of the week)"
    fields = [("second", 0, 59), *_FIELDS] if len(parts) == 6 else list(_FIELDS)
    said = (
        error.removeprefix("Bad ").replace("day-of-month", "day of the month").replace("day-of-week", "day of the week")
    )
    for part, (name, low, high) in zip(parts, fields, strict=True):
        if name == said:
            if part.isdigit() and low <= int(part) <= high:
                return f"none of its months has a day {part}"
            return f"{part!r} is no {name} ({low} to {high})"
    return error or "it cannot be read"


def _changes(zone: ZoneInfo, after: float, until: float) -> Iterator[float]:
    """When the clocks of a zone change between two moments, to the second; in the first year."""
    sooner = after
    while sooner < min(until, after + _YEAR):
        later = min(sooner + _DAY, until)
        if _offset(zone, sooner) != (new := _offset(zone, later)):
            low, high = sooner, later
            while high - low > 0.5:
                middle = (low + high) / 2
                low, high = (low, middle) if _offset(zone, middle) == new else (middle, high)
            yield high
        sooner = later


def _offset(zone: ZoneInfo, moment: float) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).utcoffset()


@functools.lru_cache(maxsize=32)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _microseconds(moment: float) -> int:
    return round(moment * 1e6)


def between(recurrence: Recurrence, after: float, until: float) -> Iterator[float]:
    """The moments later than `after`, up to and with `until`."""
    moment = recurrence.after(after)
    while moment is not None and moment <= until:
        yield moment
        moment = recurrence.after(moment)


def latest(recurrence: Recurrence, after: float, until: float, count: int) -> list[float]:
    """The last `count` moments later than `after`, up to and with `until`; however long that time is, it is found soon."""
    for window in _WINDOWS:
        if until - window <= after:
            break
        found = deque(between(recurrence, until - window, until), count)
        if len(found) == count:
            return list(found)
    return list(deque(between(recurrence, after, until), count))


def upcoming(recurrence: Recurrence, after: float, count: int) -> list[float]:
    """The next `count` moments later than `after`."""
    return list(islice(between(recurrence, after, math.inf), count))
