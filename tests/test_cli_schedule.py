"""``nbtasks schedule``, as a person and as a script meet it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nbtasks import cli, config
from nbtasks.queue.directory import Queue
from nbtasks.status import Status

Capture = pytest.CaptureFixture[str]
MODULE = """
RATE = 3

def report(*names, rate=RATE):
    print("reporting", names, rate)
    return rate

def broken():
    raise ValueError("no good")

text = "no function"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a queue of its own, where no worker starts by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    monkeypatch.setenv("NBTASKS_QUEUE", str(tmp_path))
    # A name of its own for each test: modules stay loaded.
    (tmp_path / f"reports_{tmp_path.name}.py").write_text(MODULE)
    config.reset()
    return tmp_path


@pytest.fixture
def module(here: Path) -> str:
    return f"reports_{here.name}"


def burst() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nbtasks", "worker", "--burst", "-w", "1"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def listed(capsys: Capture) -> list[dict[str, object]]:
    capsys.readouterr()
    assert cli.run(["schedule", "list", "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_where_nothing_recurs(here: Path, capsys: Capture) -> None:
    assert cli.run(["schedule", "list"]) == 0
    assert capsys.readouterr().out == (
        f"no schedules in {here}/.nbtasks; nbtasks schedule add MODULE:FUNCTION --every 10m makes one\n"
    )
    assert not (here / ".nbtasks").exists()
    assert listed(capsys) == []


def test_from_adding_to_removing(module: str, capsys: Capture) -> None:
    add = ["schedule", "add", f"{module}:report", "north", "2", "-p", "rate=4.5", "--cron", "0 3 * * *"]
    assert cli.run([*add, "--tz", "Europe/Berlin", "-n", "nightly", "--missed", "skip", "--retries", "1"]) == 0
    assert "03:00 Europe/Berlin. It runs while a worker lives" in capsys.readouterr().out
    (one,) = listed(capsys)
    assert (one["name"], one["when"], one["tz"]) == ("nightly", "cron 0 3 * * *", "Europe/Berlin")
    assert (one["summary"], one["missed"], one["overlap"]) == ("report('north', 2, rate=4.5)", "skip", False)
    assert str(one["next"]).endswith(("03:00:00+01:00", "03:00:00+02:00"))
    assert cli.run(["schedule", "pause", "nightly"]) == 0
    assert listed(capsys)[0]["next"] is None
    assert cli.run(["schedule", "resume", "nightly"]) == 0
    assert "nightly: next 20" in capsys.readouterr().out
    assert cli.run(["schedule", "run", "nightly"]) == 0
    assert " queued: nbtasks wait " in capsys.readouterr().out
    burst()
    (task,) = Queue.open().records()
    assert task.status is Status.SUCCEEDED
    assert task.read_log() == b"reporting ('north', 2) 4.5\n"
    assert cli.run(["schedule", "list"]) == 0
    shown = capsys.readouterr().out
    assert "✓" in shown
    assert "nightly" in shown
    assert "start one with `nbtasks worker`" in shown
    assert cli.run(["schedule", "rm", "nightly"]) == 0
    assert listed(capsys) == []
    assert len(list(Queue.open().records())) == 1


def test_the_code_is_that_of_the_time_of_adding(here: Path, module: str, capsys: Capture) -> None:
    cli.run(["schedule", "add", f"{module}:report", "--every", "1d"])
    (here / f"{module}.py").write_text(MODULE.replace("RATE = 3", "RATE = 7"))
    cli.run(["schedule", "run", "report"])
    burst()
    (task,) = Queue.open().records()
    assert task.read_log() == b"reporting () 3\n"
    del sys.modules[module]
    cli.run(["schedule", "add", f"{module}:report", "--every", "1d"])
    assert "It replaces the report of" in capsys.readouterr().out
    cli.run(["schedule", "run", "report"])
    burst()
    assert next(iter(Queue.open().records())).read_log() == b"reporting () 7\n"


def test_a_run_that_fails_has_its_mark(module: str, capsys: Capture) -> None:
    cli.run(["schedule", "add", f"{module}:broken", "--every", "1d"])
    cli.run(["schedule", "run", "broken"])
    burst()
    history = listed(capsys)[0]["history"]
    assert isinstance(history, list)
    assert [(one["mark"], one["why"]) for one in history] == [("✕", "failed")]


def test_removing_tells_of_what_still_lives(module: str, capsys: Capture) -> None:
    cli.run(["schedule", "add", f"{module}:report", "--every", "1d"])
    cli.run(["schedule", "run", "report"])
    capsys.readouterr()
    cli.run(["schedule", "rm", "report"])
    assert capsys.readouterr().out == "report is removed; 1 of its tasks still live: nbtasks status -n report\n"


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        ("report", ["--every", "1h"], "names no function: give MODULE:FUNCTION"),
        ("nonesuch:report", ["--every", "1h"], "there is no module 'nonesuch'"),
        ("{}:reprot", ["--every", "1h"], "has no 'reprot'; did you mean 'report'?"),
        ("{}:text", ["--every", "1h"], "is a str, no function"),
        ("{}:report", ["--every", "0.5"], "every '0.5' cannot be: give 1 second to 10 years"),
        ("{}:report", ["--cron", "0 25 * * *"], "'25' is no hour (0 to 23)"),
        ("{}:report", ["--cron", "0 3 * * *", "--tz", "Berlin"], "did you mean 'Europe/Berlin'?"),
        ("{}:report", ["--every", "1h", "-n", "No Good"], "the name of a schedule 'No Good' cannot be"),
        ("{}:report", ["--every", "1h", "-p", "3"], "-p '3' cannot be: give NAME=VALUE"),
        ("{}:report", [], "say when: --every TIME or --cron LINE"),
        ("{}:report", ["--every", "1h", "--cron", "@daily"], "say when"),
    ],
)
def test_what_cannot_be_adds_nothing(
    module: str, capsys: Capture, function: str, options: list[str], words: str
) -> None:
    assert cli.run(["schedule", "add", function.format(module), *options]) == 2
    assert words in capsys.readouterr().err
    assert listed(capsys) == []


@pytest.mark.parametrize("verb", ["pause", "resume", "run", "rm"])
def test_a_name_that_is_not_there(module: str, capsys: Capture, verb: str) -> None:
    cli.run(["schedule", "add", f"{module}:report", "--every", "1d"])
    assert cli.run(["schedule", verb, "reprot"]) == 2
    assert "no schedule 'reprot'" in (said := capsys.readouterr().err)
    assert "did you mean 'report'?" in said
