"""Being told that a task has ended, wherever one is."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

import nbtasks
from nbtasks import config
from nbtasks.errors import OptionError
from nbtasks.status import Status

PATIENCE = 30.0
SCRIPT = (
    "import os, sys, time; time.sleep(0.5); open(sys.argv[1], 'a').write(sys.argv[2] + os.environ['NBTASKS_TASK_ID'])"
)


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file into which the command writes; a queue without a worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    monkeypatch.setenv("NBTASKS_QUEUE", str(tmp_path))
    config.reset()
    path = tmp_path / "told"
    config.configure(notify_command=[sys.executable, "-c", SCRIPT, path.name, "{name} {status} "])  # beside the queue
    return path


def wait_for(path: Path, text: str) -> None:
    limit = time.monotonic() + PATIENCE
    while not path.exists() or path.read_text() != text:
        assert time.monotonic() < limit, path.read_text() if path.exists() else "nothing was told"
        time.sleep(0.05)


def test_the_command_outlives_slot_and_worker(told: Path) -> None:
    task = nbtasks.using(notify=True, name="pow").submit(pow, 2, 3)
    nbtasks.submit(pow, 2, 3)
    subprocess.run([sys.executable, "-m", "nbtasks", "worker", "--burst"], check=True, capture_output=True)
    assert task.status is Status.SUCCEEDED
    wait_for(told, f"pow succeeded {task.id}")


def test_a_task_that_never_started_is_told_of(told: Path) -> None:
    task = nbtasks.using(notify=True, name="; rm -rf $HOME").submit(pow, 2, 3)
    assert task.cancel()
    wait_for(told, f"; rm -rf $HOME cancelled {task.id}")


def test_a_program_that_is_not_there_is_said_at_submit(told: Path) -> None:
    config.configure(notify_command=["no-such-program"])
    with pytest.warns(UserWarning, match="no program 'no-such-program' here"):
        task = nbtasks.using(notify=True).submit(pow, 2, 3)
    assert task.cancel()


@pytest.mark.parametrize("value", ["say 'half", 3, ["say", 3], [""]])
def test_what_is_no_command_is_refused(value: object) -> None:
    with pytest.raises(OptionError, match="a program and its arguments"):
        config.configure(notify_command=value)


def test_a_command_may_be_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    config.reset()
    monkeypatch.setenv("NBTASKS_NOTIFY_COMMAND", "say --loud 'it is done'")
    assert config.settings().notify_command == ("say", "--loud", "it is done")


def test_the_terminal_rings() -> None:
    task = nbtasks.submit(pow, 2, 3)
    task.cancel()
    command = [sys.executable, "-m", "nbtasks"]
    for words in (["wait", task.id, "--notify"], ["logs", task.id, "-f", "--notify"]):
        done = subprocess.run([*command, *words], capture_output=True, text=True)
        assert "\a" in done.stderr
        assert "\a" not in done.stdout
