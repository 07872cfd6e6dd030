"""Tasks that run at once and in place: the same way through the queue, without any other process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import nbtasks
from nbtasks import OptionError, Status, TaskFailed, UpstreamFailed
from nbtasks.needs import Needs
from nbtasks.queue import doorbells, members, tokens
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import WAITERS
from tests.worker import calls
from tests.worker.tools import until


@pytest.fixture(autouse=True)
def _inline(queue: Queue) -> None:
    nbtasks.configure(engine="inline")


def test_it_has_run_when_submit_returns(queue: Queue) -> None:
    task = nbtasks.submit(calls.pid)
    assert task.done()
    assert task.result() == os.getpid()
    assert list(members.list_workers(queue)) == []
    assert check(queue) == []


def test_its_output_goes_where_the_callers_goes(queue: Queue, capsys: pytest.CaptureFixture[str]) -> None:
    task = nbtasks.submit(print, "hello")
    assert capsys.readouterr().out == "hello\n"
    assert task.log == ""


def test_errors_and_exits_are_outcomes_and_end_nothing_here(queue: Queue) -> None:
    with pytest.raises(ValueError, match="no good"):
        nbtasks.submit(calls.fail).result()
    with pytest.raises(TaskFailed, match="SystemExit"):
        nbtasks.submit(calls.sys_exit).result()


def test_retries_and_parents(queue: Queue, notes: str) -> None:
    task = nbtasks.using(retries=3, retry_delay=0.01).submit(calls.fail_until, notes, 3)
    assert task.result() == 3
    assert nbtasks.submit(abs, task).result() == 3
    failed = nbtasks.submit(calls.fail)
    with pytest.raises(UpstreamFailed):
        nbtasks.submit(abs, failed).result(1)


def test_a_task_may_submit_others(queue: Queue) -> None:
    assert nbtasks.submit(calls.ask_another, 3).result() == 3


def test_it_leaves_the_process_as_it_was(queue: Queue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    nbtasks.submit(os.chdir, "/").result()
    assert os.getcwd() == str(tmp_path)


def test_an_interrupt_by_the_person_is_theirs(queue: Queue) -> None:
    """Nobody asked that the task be stopped: it failed, and the queue is not left with one that runs."""
    task = nbtasks.submit(interrupt)
    assert task.status is Status.FAILED


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_process_that_dies_within_a_task_leaves_a_loss(queue: Queue, notes: str) -> None:
    code = "import nbtasks; from tests.worker import calls; nbtasks.configure(engine='inline')\n"
    code += f"nbtasks.submit(calls.note, {notes!r}, 1); nbtasks.submit(calls.exit_now, 0)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0
    (running,) = nbtasks.tasks(status="running")
    nbtasks.configure(engine="processes", slots=1)
    with pytest.raises(nbtasks.TaskLost, match="exit code 0"):
        running.result(60)  # it is lost, runs again in a slot, and there its death is seen
    assert running.record.ticket.losses == 1


def test_in_place_it_waits_for_its_tokens(queue: Queue, tmp_path: Path) -> None:
    held = tokens._take_all(queue, Needs(limits={"a": 1}))
    assert held

    def give_back() -> None:
        until(lambda: doorbells.bells_in(queue.layout.bells_of(queue.boot, WAITERS)))
        for _, lease in held:
            lease.release()
        queue.ring_token_waiters()

    thread = threading.Thread(target=give_back)
    thread.start()
    nbtasks.using(limit=("a", 1)).submit(calls.pid)
    task = nbtasks.using(limit=("a", 1), rate=("a", "5/s")).submit(calls.occupy, str(tmp_path), 1, 0.0)
    thread.join()
    assert task.result()
    assert tokens.look(queue, Needs(limits={"a": 1})) == tokens.NOW
    assert not doorbells.bells_in(queue.layout.bells_of(queue.boot, WAITERS))


def test_in_place_one_that_would_wait_for_itself_is_told(queue: Queue) -> None:
    one = nbtasks.using(limit=("a", 1))

    def outer() -> None:
        one.submit(calls.pid)

    with pytest.raises(OptionError, match="would wait for ever for a: 1 of 1 in use by"):
        one.submit(outer).result()
    assert {task.name: task.status for task in nbtasks.tasks()} == {"outer": Status.FAILED, "pid": Status.CANCELLED}
