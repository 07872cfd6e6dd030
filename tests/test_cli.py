"""The command line, as a person and as a script meet it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtasks import api, cli, cli_doctor, config
from nbtasks.handle import Task
from nbtasks.queue.directory import Queue
from nbtasks.status import Status

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a queue of its own, where no worker starts by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    monkeypatch.setenv("NBTASKS_QUEUE", str(tmp_path))
    config.reset()
    return tmp_path


def in_place(function: Callable[..., Any], *args: Any) -> Task[Any]:
    """Submit a task and run it at once."""
    config.configure(engine="inline")
    task = api.submit(function, *args)
    config.configure(engine="processes")
    return task


def fail() -> None:
    raise ValueError("no good\x1b[2J")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "nbtasks", *arguments]


@pytest.fixture
def worker(here: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker that was started by hand."""
    with open(here / "worker.log", "w") as log:
        process = subprocess.Popen(command("worker", "-w", "1"), stdout=log, stderr=log, text=True)
    yield process
    process.terminate()
    try:
        process.wait(20)
    finally:
        process.kill()
        process.wait()


# Looking.


def test_a_queue_that_was_named_and_is_not_there(here: Path, capsys: Capture) -> None:
    assert cli.run(["-q", f"{here}/misspelt", "status"]) == 2
    assert cli.run(["-q", f"{here}/misspelt", "doctor"]) == 2
    assert "misspelt" in capsys.readouterr().err


def test_status_where_nothing_was_ever_submitted(here: Path, capsys: Capture) -> None:
    assert cli.run(["status"]) == 0
    assert capsys.readouterr().out == f"no tasks yet and no queue: the first submit makes {here}/.nbtasks\n"
    assert not (here / ".nbtasks").exists()


def test_status_lists_tasks_and_counts_them(capsys: Capture) -> None:
    first, second = in_place(sum, [1, 2]), api.submit(len, "abc")
    assert cli.run(["status"]) == 0
    out = capsys.readouterr().out
    assert out.index(second.short) < out.index(first.short), "the newest first"
    assert "-> 3" in out
    assert "next in line" in out
    assert "1 queued, 1 succeeded in" in out


def test_status_can_be_narrowed(capsys: Capture) -> None:
    in_place(sum, [1])
    failed = in_place(fail)
    assert cli.run(["status", "-s", "failed", "--json"]) == 0
    assert [task["id"] for task in json.loads(capsys.readouterr().out)["tasks"]] == [failed.id]
    cli.run(["status", "--limit", "1", "--json"])
    assert len(json.loads(capsys.readouterr().out)["tasks"]) == 1
    cli.run(["status", "-n", "sum", "--json"])
    assert [task["name"] for task in json.loads(capsys.readouterr().out)["tasks"]] == ["sum"]


def test_the_json_of_a_task(capsys: Capture) -> None:
    task = in_place(fail)
    assert cli.run(["show", task.short, "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["id"] == task.id
    assert shown["status"] == "failed"
    assert shown["failure"]["type"] == "ValueError"
    assert shown["submitted"].endswith("+00:00")
    assert shown["seconds"] >= 0


def test_show_has_facts_and_traceback_and_cannot_move_the_cursor(capsys: Capture) -> None:
    task = in_place(fail)
    assert cli.run(["show", task.short]) == 0
    out = capsys.readouterr().out
    assert task.id in out
    assert "ValueError: no good" in out
    assert "test_cli.py" in out
    assert "\x1b[2J" not in out


def test_result_prints_the_value(capsys: Capture) -> None:
    task = in_place(sum, [1, 2])
    assert cli.run(["result", task.short]) == 0
    assert capsys.readouterr().out == "3\n"
    assert cli.run(["result", task.short, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == 3


def test_result_of_a_failed_task_is_its_traceback(capsys: Capture) -> None:
    task = in_place(fail)
    assert cli.run(["result", task.short]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ValueError: no good" in captured.err


def test_a_value_that_json_cannot_hold(capsys: Capture) -> None:
    task = in_place(complex, 1, 2)
    assert cli.run(["result", task.short, "--json"]) == 2
    assert "which JSON cannot hold" in capsys.readouterr().err


# Mistakes.


@pytest.mark.parametrize("verb", ["show", "logs", "result", "cancel", "retry", "wait"])
def test_an_unknown_id_is_a_sentence(verb: str, capsys: Capture) -> None:
    task = api.submit(len, "abc")
    wrong = task.short[:-1] + ("x" if task.short[-1] != "x" else "y")
    assert cli.run([verb, wrong]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nbtasks: no task '{wrong}'")
    assert task.short in error, "the one that is close"


def test_an_ambiguous_id_lists_what_it_may_be(capsys: Capture) -> None:
    tasks = [api.submit(len, "abc") for _ in range(2)]
    assert cli.run(["show", tasks[0].id[:6]]) == 2
    error = capsys.readouterr().err
    assert all(task.id in error for task in tasks)


def test_one_wrong_id_changes_nothing() -> None:
    task = api.submit(len, "abc")
    assert cli.run(["cancel", task.short, "nonesuch"]) == 2
    assert task.status is Status.QUEUED


def test_misspelt_commands_and_options(capsys: Capture) -> None:
    assert cli.run(["stauts"]) == 2
    assert "status" in capsys.readouterr().err
    assert cli.run(["status", "--jsn"]) == 2
    assert "--json" in capsys.readouterr().err


def test_a_duration_that_is_none(capsys: Capture) -> None:
    task = api.submit(len, "abc")
    assert cli.run(["wait", task.short, "--timeout", "soon"]) == 2
    assert "'soon' is no duration" in capsys.readouterr().err


def test_no_queue_here(here: Path, capsys: Capture) -> None:
    assert cli.run(["show", "k7q2"]) == 2
    assert "is no queue" in capsys.readouterr().err
    assert not (here / ".nbtasks").exists(), "looking makes nothing"


def test_a_queue_that_others_may_write_to_is_refused(here: Path, capsys: Capture) -> None:
    api.submit(len, "abc")
    root = here / ".nbtasks"
    root.chmod(0o770)
    Queue._opened.clear()
    assert cli.run(["show", "k7q2"]) == 2
    assert f"chmod go-w {root}" in capsys.readouterr().err


def test_another_queue_by_option(here: Path, capsys: Capture) -> None:
    task = in_place(sum, [1, 2])
    shutil.copytree(here / ".nbtasks", here / "elsewhere" / ".nbtasks", ignore=shutil.ignore_patterns("bells"))
    shutil.rmtree(here / ".nbtasks")
    assert cli.run(["-q", str(here / "elsewhere"), "result", task.short]) == 0
    assert capsys.readouterr().out == "3\n"


# Changing.


def test_cancel_and_retry(capsys: Capture) -> None:
    task = api.submit(len, "abc")
    assert cli.run(["cancel", task.short]) == 0
    assert cli.run(["cancel", task.short]) == 0
    assert cli.run(["retry", task.short]) == 0
    assert cli.run(["retry", task.short]) == 2
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        f"len {task.short} cancelled",
        f"len {task.short} had ended before: cancelled",
        f"len {task.short} again queued",
    ]
    assert "only what failed or was cancelled runs again" in captured.err


def test_wait_tells_by_its_exit_code(capsys: Capture) -> None:
    good, bad = in_place(sum, [1]), in_place(fail)
    assert cli.run(["wait", good.short]) == 0
    assert cli.run(["wait", good.short, bad.short]) == 1
    assert cli.run(["wait"]) == 0, "nothing lives"
    live = api.submit(len, "abc")
    assert cli.run(["wait", "--timeout", "0.01"]) == 124
    assert f"still there: len {live.short} (queued)" in capsys.readouterr().err


# With a worker.


def talk(gate: str) -> str:
    print("first", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)
    print("second")
    return "done"


def test_logs_follow_a_task_to_its_end(here: Path, worker: subprocess.Popen[str]) -> None:
    task = api.submit(talk, str(here / "gate"))
    with subprocess.Popen(command("logs", "-f", task.short), stdout=subprocess.PIPE, text=True) as logs:
        assert logs.stdout is not None
        assert logs.stdout.readline() == "first\n", "while the task runs"
        (here / "gate").touch()
        assert logs.stdout.read() == "second\n"
    assert logs.returncode == 0


def test_logs_of_an_ended_task(worker: subprocess.Popen[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    task = api.submit(print, "a\nb\nc")
    task.result(30)
    assert cli.run(["logs", task.short]) == 0
    assert capfdbinary.readouterr().out == b"a\nb\nc\n"
    assert cli.run(["logs", "-n", "1", task.short]) == 0
    assert capfdbinary.readouterr().out == b"c\n"
    assert cli.run(["logs", "-f", "-n", "2", task.short]) == 0
    assert capfdbinary.readouterr().out == b"b\nc\n"


def test_following_a_task_that_fails_is_told_by_the_exit_code(
    worker: subprocess.Popen[str], capsys: Capture
) -> None:  # fmt: skip
    task = api.submit(fail)
    assert cli.run(["logs", "-f", task.short]) == 1
    assert "ValueError: no good" in capsys.readouterr().err


def test_workers_are_listed_and_stopped(here: Path, worker: subprocess.Popen[str], capsys: Capture) -> None:
    task = api.submit(talk, str(here / "gate"))
    while task.status is not Status.RUNNING:
        time.sleep(0.01)
    assert cli.run(["workers", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert listed["pid"] == worker.pid
    assert listed["runs"] == [task.id]
    assert cli.run(["workers"]) == 0
    shown = capsys.readouterr().out
    assert listed["name"] in shown
    assert "processes" in shown
    assert cli.run(["stop", "nonesuch"]) == 2
    assert cli.run(["stop", "--wait", "--timeout", "0.1"]) == 124, "it ends what it runs"
    (here / "gate").touch()
    assert worker.wait(30) == 0
    assert task.result(1) == "done"
    assert cli.run(["workers"]) == 0
    assert "no worker lives" in capsys.readouterr().out


def test_a_burst_runs_what_is_queued_and_leaves() -> None:
    task = api.submit(len, "abc")
    done = subprocess.run(command("worker", "--burst"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert task.result(0) == 3


# The doctor.


def test_a_sound_queue(capsys: Capture) -> None:
    in_place(sum, [1])
    assert cli.run(["doctor", "--full"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_the_doctor_names_what_is_wrong_and_the_cure(here: Path, capsys: Capture) -> None:
    task = in_place(sum, [1])
    root = here / ".nbtasks"
    os.truncate(task.queue.layout.call(task.id), 10)
    (root / "tasks").chmod(0o777)
    assert cli.run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert task.id in out
    assert f"chmod go-w {root}/tasks" in out
    assert cli.run(["doctor", "--json"]) == 1
    kinds = {finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert kinds == {"call", "safety"}


def test_the_doctor_sees_tasks_that_nobody_serves(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    api.using(lane="gpu").submit(len, "abc")
    assert cli.run(["doctor"]) == 0, "a worker may be on its way"
    monkeypatch.setattr(cli_doctor, "_PATIENCE", 0)
    capsys.readouterr()
    assert cli.run(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "1 task waits in lane gpu" in out
    assert "nbtasks worker -l gpu" in out


def test_the_doctor_does_not_flood_a_terminal(here: Path, capsys: Capture) -> None:
    tasks = [in_place(sum, [1]) for _ in range(12)]
    for task in tasks:
        os.truncate(task.queue.layout.call(task.id), 10)
    assert cli.run(["doctor"]) == 1
    assert "call: 2 more; --json lists all" in capsys.readouterr().out
