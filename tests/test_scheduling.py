"""Later and again, as people ask for it: what is refused, what is said, and what is stored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

import nbtasks
from nbtasks import OptionError, PayloadError, api, config, timing
from nbtasks.queue import schedules
from nbtasks.queue.directory import Queue

Capture = pytest.CaptureFixture[str]
BERLIN = "Europe/Berlin"
NOW = datetime(2026, 11, 20, 22, 6, tzinfo=ZoneInfo(BERLIN)).timestamp()


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A queue of its own, where no worker starts by itself."""
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    monkeypatch.setenv("NBTASKS_QUEUE", str(tmp_path))
    config.reset()
    yield Queue.open()
    config.reset()


def train(x: int, name: str = "", tz: str = "", delay: int = 0, missed: str = "") -> tuple[object, ...]:
    return x, name, tz, delay, missed


# Once, later.


def resolved(**options: object) -> dict[str, object]:
    return timing.resolve(api.Using(options)._fields, NOW)


def moment(text: str, tz: str = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)).timestamp()


def test_when_a_task_may_start() -> None:
    assert resolved(delay="10m") == {"due": NOW + 600}
    assert resolved(delay=90) == {"due": NOW + 90}
    assert resolved(at="03:00", tz=BERLIN) == {"due": moment("2026-11-21 03:00")}
    assert resolved(at="22:07", tz=BERLIN) == {"due": moment("2026-11-20 22:07")}
    assert resolved(at="03:00", tz="Asia/Kolkata") == {"due": moment("2026-11-21 03:00", "Asia/Kolkata")}
    assert resolved(at="2026-12-24 18:00", tz=BERLIN) == {"due": moment("2026-12-24 18:00")}
    assert resolved(at=datetime(2026, 12, 24, 17, tzinfo=UTC)) == {"due": moment("2026-12-24 18:00")}
    assert resolved(at=datetime(2026, 12, 24, 18), tz=BERLIN) == {"due": moment("2026-12-24 18:00")}
    assert resolved(delay=0, lane="gpu") == {"lane": "gpu"}


def test_a_datetime_without_zone_is_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        assert resolved(at=datetime(2026, 12, 24, 18)) == {"due": moment("2026-12-24 18:00", "Asia/Kolkata")}
        assert resolved(at="18:00") == {"due": moment("2026-11-21 18:00", "Asia/Kolkata")}
    finally:
        monkeypatch.undo()
        time.tzset()


def test_by_when_it_must_have_started() -> None:
    assert resolved(expires="2h") == {"expires": NOW + 7200}
    assert resolved(delay="1h", expires="2h") == {"due": NOW + 3600, "expires": NOW + 7200}
    assert resolved(at="03:00", expires="02:00", tz=BERLIN)["expires"] == moment("2026-11-22 02:00")
    assert resolved(expires=datetime(2026, 12, 24, 17, tzinfo=UTC)) == {"expires": moment("2026-12-24 18:00")}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delay": "soon"}, "delay='soon' is no duration"),
        ({"delay": -1}, "delay=-1 is no duration"),
        ({"at": "25:00"}, "at='25:00' cannot be: give a datetime, or text such as '03:00'"),
        ({"at": 3}, "at=3 cannot be"),
        ({"at": "tomorrow"}, "at='tomorrow' cannot be"),
        ({"at": "2026-11-19 22:06", "tz": BERLIN}, "has passed, 1440 minutes ago: leave it out to run the task now"),
        ({"at": "03:00", "delay": 1}, "delay and at cannot stand together"),
        ({"at": "03:00", "tz": "Berlin"}, "tz='Berlin' is no time zone; did you mean 'Europe/Berlin'"),
        ({"expires": "never"}, "expires='never' cannot be: give a duration such as '2h', a datetime"),
        ({"expires": 0}, "expires=0 cannot be"),
        ({"delay": "2h", "expires": "1h"}, "comes before the task may start"),
        ({"missed": "all"}, "missed is an option of what recurs"),
        ({"overlap": True}, "overlap is an option of what recurs"),
        ({"dely": 3}, "there is no option 'dely'; did you mean 'delay'"),
    ],
)
def test_a_later_that_cannot_be(options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        resolved(**options)


def test_a_delay_counts_from_the_submit(queue: Queue) -> None:
    later = nbtasks.using(delay="1h").task(train)
    first = later.submit(1)
    assert (first.spec.due or 0) - first.submitted.timestamp() == pytest.approx(3600, abs=1)
    assert first.reason.startswith("until ")
    assert [task.status for task in later.map([1, 2])] == ["waiting", "waiting"]
    nbtasks.using(at=datetime.now(UTC) - timedelta(seconds=1)).submit(train, 1)
    assert len(nbtasks.tasks("queued")) == 1


# Again.


def test_the_keyword_arguments_are_all_the_functions_own(queue: Queue) -> None:
    made = nbtasks.every("10m", train, 1, name="n", tz="t", delay=3, missed="m")
    assert made.name == "train"
    assert made.when == "every 10m"
    task = made.run()
    config.configure(engine="inline")
    from nbtasks.engines.inline import run_inline

    run_inline(queue, task.spec)
    assert task.result(0) == (1, "n", "t", 3, "m")
    assert [moment.mark for moment in made.history()] == ["✓"]


def test_registering_says_when_next_and_on_what_it_hangs(queue: Queue, capsys: Capture) -> None:
    made = nbtasks.using(name="nightly", tz=BERLIN).cron("0 3 * * *", train, 1)
    said = capsys.readouterr().out
    next_one = made.next
    assert next_one is not None
    assert said == (
        f"nightly: next {next_one:%Y-%m-%d} 03:00 Europe/Berlin. It runs while a worker lives, and none does: start one with "
        "`nbtasks worker`.\n"
    )
    assert (next_one.hour, next_one.minute) == (3, 0)
    assert next_one > datetime.now(UTC)
    nbtasks.using(name="gpu-job", lane="gpu").every("1h", train, 1)
    assert "`nbtasks worker -l gpu`" in capsys.readouterr().out


def test_what_starts_by_itself_does_not_survive_a_reboot(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    made = nbtasks.every("1d", train, 1)
    monkeypatch.setenv("NBTASKS_AUTOSTART", "1")
    config.reset()
    shown = made._repr_mimebundle_()["text/plain"]
    assert "does not survive a reboot: `nbtasks service install`" in shown


def test_registering_again_replaces_by_name_and_puts_nothing_off(queue: Queue, capsys: Capture) -> None:
    first = nbtasks.using(name="nightly").every("1h", train, 1)
    before, soon = first.entry, first.next
    capsys.readouterr()
    again = nbtasks.using(name="nightly").every("1h", train, 2)
    assert "It replaces the nightly of 20" in capsys.readouterr().out
    assert again == first
    assert first.entry.summary == "train(2)"
    assert first.next == soon
    assert (first.entry.since, first.entry.call != before.call) == (before.since, True)
    nbtasks.using(name="nightly").every("2h", train, 2)
    assert "which ran every 1h: same name, the code of now" in capsys.readouterr().out
    assert len(nbtasks.schedules()) == 1


def test_one_that_rests_goes_on_resting_when_it_is_registered_again(queue: Queue, capsys: Capture) -> None:
    made = nbtasks.every("1h", train, 1)
    made.pause()
    assert (made.paused, made.next, len(made.upcoming(3))) == (True, None, 3)
    nbtasks.every("1h", train, 2)
    assert "train: paused, as it was; nbtasks schedule resume train" in capsys.readouterr().out
    made.resume()
    assert made.next is not None


def test_what_cannot_be_pickled_registers_nothing(queue: Queue) -> None:
    lock = threading.Lock()
    for function, args in ((train, (lock,)), (lambda: lock, ())):
        with pytest.raises(PayloadError, match="lock"):
            nbtasks.using(name="nightly").every("1h", function, *args)
    assert os.listdir(queue.layout.recurring) == []
    assert list(nbtasks.schedules()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "No Good"}, "the name of a schedule 'No Good' cannot be: use 1 to 31 characters of a-z"),
        ({"delay": 3}, "delay has no meaning for what recurs"),
        ({"at": "03:00"}, "at has no meaning for what recurs"),
        ({"expires": "03:00"}, "is a duration after each moment"),
        ({"missed": "twice"}, "missed='twice' cannot be: give 'once'"),
        ({"overlap": "yes"}, "overlap='yes' cannot be: give True or False"),
        ({"tz": "Europe/Berln"}, "did you mean 'Europe/Berlin'"),
    ],
)
def test_options_that_cannot_be(queue: Queue, options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        nbtasks.using(**options).every("1h", train, 1)
    assert os.listdir(queue.layout.recurring) == []


def test_intervals_lines_and_functions_that_are_none(queue: Queue) -> None:
    with pytest.raises(OptionError, match=r"every 0.5 cannot be: give 1 second to 10 years"):
        nbtasks.every(0.5, train, 1)
    with pytest.raises(OptionError, match="'61' is no minute"):
        nbtasks.cron("61 * * * *", train, 1)
    with pytest.raises(OptionError, match="an int cannot be called"):
        nbtasks.every("1h", 3)  # type: ignore[arg-type]
    assert os.listdir(queue.layout.recurring) == []


def test_a_name_is_of_a_schedule_or_of_a_pipeline(queue: Queue) -> None:
    nbtasks.configure(autostart=False)
    with nbtasks.pipeline("nightly"):
        nbtasks.submit(train, 1)
    with pytest.raises(OptionError, match="'nightly' is in use by a pipeline: give the schedule another one"):
        nbtasks.using(name="nightly").every("1h", train, 1)
    nbtasks.using(name="daily").every("1d", train, 1)
    with (
        pytest.raises(OptionError, match="'daily' is in use by a schedule: give the pipeline another one"),
        nbtasks.pipeline("daily"),
    ):
        nbtasks.submit(train, 2)
    with pytest.raises(OptionError, match="pipeline 3 cannot be: use 1 to 31 characters"):
        nbtasks.pipeline(3)  # type: ignore[arg-type]
    assert [one.name for one in nbtasks.schedules()] == ["daily"]
    assert len(nbtasks.tasks()) == 1


def test_names_are_made_of_functions(queue: Queue) -> None:
    class Nightly_Job:
        def __call__(self) -> None: ...

    assert nbtasks.every("1h", lambda: 1).name == "lambda"
    assert nbtasks.every("1h", Nightly_Job()).name == "nightly_job"


def test_what_is_stored_with_it(queue: Queue) -> None:
    options = nbtasks.using(name="etl", lane="slow", retries=2, missed="all", overlap=True, expires="30m", tz=BERLIN)
    entry = options.cron("*/5 * * * *", train, 7).entry
    assert (entry.missed, entry.overlap, entry.expires, entry.lane, entry.tz) == ("all", True, 1800.0, "slow", BERLIN)
    id = schedules.make(queue, entry, 1_795_212_300.0)
    spec = queue.record(id).spec
    assert (spec.retries, spec.lane, spec.summary, spec.schedule) == (2, "slow", "train(7)", "etl")
    assert (spec.due, spec.expires) == (1_795_212_300.0, 1_795_214_100.0)
    assert spec.pid == 0, "nbtasks.wait() waits for what this process submitted, not for what recurs"


def test_a_schedule_that_is_asked_for(queue: Queue) -> None:
    made = nbtasks.every("1h", train, 1)
    assert nbtasks.get_schedule("train") == made
    assert repr(made).startswith("<Schedule train: every 1h, next 20")
    with pytest.raises(OptionError, match=r"no schedule 'trian' in .*did you mean 'train'"):
        nbtasks.get_schedule("trian")
    made.remove()
    assert repr(made) == "<Schedule train: removed>"
    with pytest.raises(OptionError, match="there is none"):
        made.pause()


def test_how_it_shows(queue: Queue) -> None:
    assert nbtasks.schedules()._repr_mimebundle_()["text/plain"].startswith("no schedules")
    made = nbtasks.using(name="nightly").every("1h", train, "<b>")
    for n, fate in enumerate((schedules.MISSED, schedules.OVERLAP, schedules.MADE)):
        schedules.note_fate(queue, "nightly", schedules.id_of("nightly", NOW + n), fate)
    made.run()
    shown = nbtasks.schedules()._repr_mimebundle_()
    assert shown["text/plain"].splitlines()[0].split() == ["schedule", "when", "next", "code", "of", "history"]
    assert shown["text/plain"].endswith("– – · …")
    assert "no worker lived" in shown["text/html"]
    assert "the run before had not ended" in shown["text/html"]
    assert "<script" not in shown["text/html"]
    assert "<style" not in shown["text/html"]


NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "id": "a", "metadata": {"tags": ["parameters"]}, "source": "rate = 1.0", "outputs": [], "execution_count": None},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "print(rate * 2)", "outputs": [], "execution_count": None},
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}  # fmt: skip


def test_a_notebook_recurs(queue: Queue, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "Daily Report.ipynb"
    path.write_text(json.dumps(NOTEBOOK))
    made = nbtasks.every(
        "1d", nbtasks.submit_notebook, str(path), {"rate": 2.5}, output=f"{tmp_path}/{{name}}-{{date}}.ipynb"
    )
    assert made.name == "daily-report"
    path.unlink()  # it was frozen
    task = made.run()
    assert (task.spec.kind, task.spec.need, task.spec.at_most_once) == ("notebook", "c", True)
    command = [sys.executable, "-m", "nbtasks", "worker", "--burst", "-w", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (copy,) = tmp_path.glob("Daily*Report-20*.ipynb")
    assert "5.0" in copy.read_text()
    assert [moment.mark for moment in made.history()] == ["✓"]
    with pytest.raises(OptionError, match="resume has no meaning"):
        nbtasks.every("1d", nbtasks.submit_notebook, str(path), resume=True)
    with pytest.raises(OptionError):
        nbtasks.using(name="other").every("1d", nbtasks.submit_notebook, str(path))
    assert len(nbtasks.schedules()) == 1
