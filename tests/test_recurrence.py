"""From one moment to the next: across the days on which clocks change, in odd zones, and for lines that are none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from nbtasks import zones
from nbtasks.errors import OptionError
from nbtasks.recurrence import Cron, Every, between, latest, parse_cron, parse_every, upcoming

BERLIN, HOWE, KOLKATA = "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"


def at(text: str, tz: str = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz), fold=fold).timestamp()


def shown(line: str, start: str, count: int, tz: str = BERLIN) -> list[str]:
    """The next moments, by the clocks of the zone and with their offset."""
    found = upcoming(parse_cron(line, tz), at(start, tz), count)
    return [datetime.fromtimestamp(moment, ZoneInfo(tz)).strftime("%d %H:%M %z") for moment in found]


# Every.


def test_every_counts_from_its_start() -> None:
    every = parse_every("10m", 1000.0)
    assert upcoming(every, 1000.0, 3) == [1600.0, 2200.0, 2800.0]
    assert every.after(1599.999999) == 1600.0
    assert every.after(1600.0) == 2200.0
    assert every.after(-1.0) == 400.0, "also before its start: a clock may be set back"


def test_every_does_not_drift() -> None:
    every = parse_every("1.1s", 1_795_000_000.123456)
    moment = every.start
    for _ in range(10_000):
        moment = every.after(moment)
    assert moment == pytest.approx(every.start + 11_000, abs=2e-6)


def test_every_in_words() -> None:
    given = {"90": "every 90s", "10m": "every 10m", "1.5h": "every 90m", "1d": "every 1d", "1.5": "every 1.5s"}
    assert {text: str(parse_every(text, 0)) for text in given} == given


@pytest.mark.parametrize("interval", ["0.5", 0, 0.999, "10 parsecs", None, True, "99999d", float("nan")])
def test_an_interval_that_cannot_be(interval: object) -> None:
    with pytest.raises(OptionError, match="every"):
        parse_every(interval, 0.0)


# When clocks change.


def test_the_hour_that_is_left_out() -> None:
    assert shown("30 2 * * *", "2026-03-28 00:00", 3) == ["28 02:30 +0100", "29 03:00 +0200", "30 02:30 +0200"]
    assert shown("0 3 * * *", "2026-03-28 12:00", 2) == ["29 03:00 +0200", "30 03:00 +0200"]


def test_the_hour_that_comes_twice() -> None:
    assert shown("30 2 * * *", "2026-10-24 12:00", 3) == ["25 02:30 +0200", "26 02:30 +0100", "27 02:30 +0100"]
    again = Cron(line="30 2 * * *", tz=BERLIN).after(at("2026-10-25 02:10", fold=1))
    assert again == at("2026-10-26 02:30"), "seen from the second time, the moment has passed"


def test_what_follows_the_time_that_passes_runs_through() -> None:
    assert shown("0 * * * *", "2026-03-29 00:30", 3) == ["29 01:00 +0100", "29 03:00 +0200", "29 04:00 +0200"]
    assert shown("0 * * * *", "2026-10-25 01:30", 3) == ["25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"]
    quarter = upcoming(parse_cron("*/15 * * * *", BERLIN), at("2026-10-25 00:00"), 24)
    assert {later - sooner for sooner, later in pairwise(quarter)} == {900.0}


def test_zones_of_half_an_hour() -> None:
    assert shown("0 3 * * *", "2026-11-20 12:00", 1, KOLKATA) == ["21 03:00 +0530"]
    assert upcoming(parse_cron("0 3 * * *", KOLKATA), at("2026-11-20 12:00", KOLKATA), 1) == [
        datetime(2026, 11, 20, 21, 30, tzinfo=UTC).timestamp()
    ]
    # Here clocks change by half an hour.
    assert shown("15 2 * * *", "2026-10-03 12:00", 2, HOWE) == ["04 02:30 +1100", "05 02:15 +1100"]
    assert shown("45 1 * * *", "2026-04-04 12:00", 2, HOWE) == ["05 01:45 +1100", "06 01:45 +1030"]
    assert shown("*/30 * * * *", "2026-04-05 01:00", 3, HOWE) == ["05 01:30 +1100", "05 01:30 +1030", "05 02:00 +1030"]


@pytest.mark.parametrize("tz", [BERLIN, HOWE])
@pytest.mark.parametrize(
    "line", ["30 2 * * *", "15,45 1-2 * * *", "*/20 * * * *", "0 */2 * * *", "*/10 2 * * *", "*/60 2 * * *"]
)
@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24", "2026-04-04", "2026-10-03"])
def test_the_moments_are_the_same_from_wherever_one_looks(line: str, tz: str, day: str) -> None:
    # Or two workers, of which one was started later, would make different tickets.
    cron, start = parse_cron(line, tz), at(day, tz)
    walked = list(between(cron, start, start + 3 * 86400))
    assert walked == sorted(set(walked))
    looked = {cron.after(start + minutes * 60 + 17) for minutes in range(1320, 2000, 7)}
    assert {moment for moment in looked if moment is not None and moment <= start + 3 * 86400} <= set(walked)
    for moment in walked:
        assert cron.after(moment - 0.5) == moment


def test_the_last_moments_of_a_long_time_are_found_soon() -> None:
    until = at("2026-11-20 12:00")
    seconds = latest(parse_cron("* * * * * *", BERLIN), 0.0, until, 20)
    assert seconds == [until - 19 + n for n in range(20)]
    yearly = latest(parse_cron("@yearly", BERLIN), at("2020-06-01"), until, 20)
    assert [datetime.fromtimestamp(moment, ZoneInfo(BERLIN)).year for moment in yearly] == [
        2021,
        2022,
        2023,
        2024,
        2025,
        2026,
    ]
    assert latest(Every(seconds=1.0), 0.0, until, 3) == [until - 2, until - 1, until]
    assert latest(Every(seconds=3600.0), until - 10, until - 5, 3) == []


# Lines and zones that are none.


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("61 * * * *", "'61' is no minute .0 to 59."),
        ("0 25 * * *", "'25' is no hour .0 to 23."),
        ("0 3 32 * *", "'32' is no day of the month .1 to 31."),
        ("0 3 * foo *", "'foo' is no month .1 to 12."),
        ("0 3 * * 8", "'8' is no day of the week .0 to 7."),
        ("* * * * * 9", "'9' is no day of the week"),
        ("75 * * * * *", "'75' is no second .0 to 59."),
        ("0 0 30 2 *", "none of its months has a day 30"),
        ("0 3 * *", "4 fields instead of 5 .minute, hour, day of the month, month, day of the week."),
        ("@often", "1 field instead of 5"),
        ("L/2 * * * *", "'L/2' is no minute"),
        (7, "give a text"),
    ],
)
def test_a_line_that_is_none_names_the_field(line: str, words: str) -> None:
    with pytest.raises(OptionError, match=f"{words}.*'0 3 \\* \\* \\*' is every day at 03:00"):
        parse_cron(line, "UTC")


def test_nicknames() -> None:
    assert shown("@daily", "2026-11-20 12:00", 1) == ["21 00:00 +0100"]
    assert shown(" @Weekly ", "2026-11-20 12:00", 1) == ["22 00:00 +0100"]


@pytest.mark.parametrize(
    ("given", "near"),
    [("Berlin", BERLIN), ("europe/berlin", BERLIN), ("Europe/Berln", BERLIN), ("New York", "America/New_York")],
)
def test_a_zone_that_is_none_has_a_nearest(given: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"is no time zone; did you mean '{near}'"):
        zones.check_zone(given)


@pytest.mark.parametrize("given", ["", "Europe", "../../etc/passwd", None, 3, "Middle of nowhere"])
def test_a_zone_that_is_none(given: object) -> None:
    with pytest.raises(OptionError, match="is no time zone; they look like"):
        zones.check_zone(given)


def test_zones_may_be_objects() -> None:
    assert zones.check_zone(ZoneInfo(BERLIN)) == BERLIN
    assert zones.check_zone(UTC) == "UTC"
    with pytest.raises(OptionError):
        zones.check_zone(timezone(timedelta(hours=1)))


@pytest.mark.parametrize(("named", "zone"), [(BERLIN, BERLIN), (f":{KOLKATA}", KOLKATA), ("", "UTC")])
def test_the_zone_of_this_machine(named: str, zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", named)
    assert zones.local_zone() == zone


def test_a_zone_without_a_name_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    with pytest.raises(OptionError, match="say which with tz="):
        zones.local_zone()
