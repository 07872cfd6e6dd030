"""Time zones by their names: that of this machine, and those that people give."""

from __future__ import annotations

import difflib
import os
import time
import zoneinfo
from datetime import UTC, datetime

from nbtasks.errors import OptionError

_LINK, _NAME = "/etc/localtime", "/etc/timezone"


def check_zone(tz: object) -> str:
    """`tz` if it is the name of a time zone, else OptionError with the nearest one."""
    if isinstance(tz, str) and _is_zone(tz):
        return tz
    if isinstance(tz, zoneinfo.ZoneInfo) and tz.key:
        return tz.key
    if tz is UTC:
        return "UTC"
    near = _nearest(tz) if isinstance(tz, str) else ""
    hint = f"did you mean {near!r}?" if near else "they look like 'Europe/Berlin', 'Asia/Kolkata', 'UTC'"
    raise OptionError(f"tz={tz!r} is no time zone; {hint}")


def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a folder of zones, such as "Europe"
        return False
    return bool(name)


def _nearest(name: str) -> str:
    known = {zone.lower(): zone for zone in sorted(zoneinfo.available_timezones())}
    word = name.strip().lower().replace(" ", "_")
    if word in known:
        return known[word]
    places = {zone.rpartition("/")[2]: zone for zone in known}
    for words in (known, places):
        if found := difflib.get_close_matches(word, words, 1, 0.75):
            return known[found[0]] if words is known else known[places[found[0]]]
    return ""


def local_zone() -> str:
    """The name of this machine's time zone. OptionError when it has none that could be kept."""
    named = os.environ.get("TZ")
    if named is not None and named.lstrip(":") != _LINK:
        candidates = [named.lstrip(":") or "UTC"]
    else:
        candidates = [os.path.realpath(_LINK).rpartition("zoneinfo/")[2], _first_line(_NAME)]
    for name in candidates:
        for prefix in ("", "posix/", "right/"):
            if name.startswith(prefix) and _is_zone(name.removeprefix(prefix)):
                return name.removeprefix(prefix).replace("Etc/UTC", "UTC")
    if named is None and time.timezone == 0 and not time.daylight:  # a bare container
        return "UTC"
    raise OptionError(
        f"the time zone of this machine has no name that could be kept ({named or time.tzname[0]}): "
        "say which with tz='Europe/Berlin'"
    )


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def in_zone(moment: float, tz: str) -> datetime:
    """A moment (seconds since 1970) by the clocks of a zone."""
    return datetime.fromtimestamp(moment, zoneinfo.ZoneInfo(tz))
