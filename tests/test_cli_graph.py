"""Pipelines on the command line: a script or a function that is run and waited for, the graph, cancel and retry by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nbtasks import cli
from nbtasks.queue.directory import Queue

Capture = pytest.CaptureFixture[str]

FLOW = """
import os
import nbtasks

def load(n):
    return list(range(n))

def add(numbers):
    if not os.path.exists("sound"): raise ValueError("no sound")
    return sum(numbers)

def flow(n=3, name="flow"):
    with nbtasks.pipeline(name):
        nbtasks.submit(add, nbtasks.map(abs, nbtasks.submit(load, n)))

if __name__ == "__main__":
    flow()
"""


@pytest.fixture
def here(queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "pipeline_of_today.py").write_text(FLOW)
    return tmp_path


def test_a_script_is_run_and_waited_for(here: Path, capsys: Capture) -> None:
    assert cli.run(["run", "pipeline_of_today.py"]) == 1
    said = capsys.readouterr()
    assert "flow  failed  6 tasks  1 failed" in said.out
    assert "add" in said.err
    assert "ValueError: no sound\n`nbtasks retry flow` runs again what failed" in said.err

    (here / "sound").touch()
    assert cli.run(["retry", "flow"]) == 0
    assert capsys.readouterr().out.startswith("add ")
    assert cli.run(["wait", "flow", "--timeout", "20"]) == 0
    capsys.readouterr()
    assert cli.run(["show", "flow"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("flow  succeeded  6 tasks")
    assert lines[1].startswith("  ✓ load ")
    assert lines[2].startswith("  ✓   abs ")
    assert lines[2].endswith("<- load")
    assert lines[-1].startswith("  ✓     add ")
    assert lines[-1].endswith("<- abs")

    assert cli.run(["run", "pipeline_of_today.py"]) == 0
    capsys.readouterr()
    cli.run(["show", "flow"])
    assert ": succeeded" in capsys.readouterr().out.splitlines()[-1], "and how the run before it ended"


def test_a_function_with_parameters(here: Path, capsys: Capture) -> None:
    (here / "sound").touch()
    assert cli.run(["run", "pipeline_of_today:flow", "-p", "n=2", "-p", "name=other", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pipeline"], told["status"], len(told["tasks"])) == ("other", "succeeded", 5)
    assert cli.run(["show", "other", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"succeeded": 5}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.py"], "there is no script nowhere.py"),
        (["pipeline_of_today:flop"], "the module 'pipeline_of_today' has no 'flop'"),
        (["nowhere:flow"], "there is no module 'nowhere'"),
        (["pipeline_of_today.py", "-p", "n=2"], "give a function instead, pipeline_of_today:"),
        (["pipeline_of_today.py", "--resume"], "--resume cannot be given with pipeline_of_today.py"),
    ],
)
def test_what_cannot_be_run_is_named(here: Path, capsys: Capture, arguments: list[str], said: str) -> None:
    assert cli.run(["run", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_cancel_by_name(here: Path, queue: Queue, capsys: Capture) -> None:
    queue.disk.replace(queue.layout.paused, b"")
    assert cli.run(["run", "--detach", "pipeline_of_today.py"]) == 0
    assert capsys.readouterr().out.startswith("flow  ")
    assert cli.run(["cancel", "flow"]) == 0
    assert capsys.readouterr().out.count("cancelled") == 3
