"""Slots die, and their supervisors too: each task has one end that says how, and the others are not harmed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, TaskFailed, TaskLost, TaskTimedOut
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from tests.worker import calls
from tests.worker.tools import Worker, is_gone, kill, lines, submit_cell, until

Start = Callable[..., Worker]


def kill_all(worker: Worker) -> None:
    """kill -9 of the supervisor and its slots, which it does not see die."""
    worker.signal(signal.SIGSTOP)
    for slot in worker.slots():
        kill(slot.process.pid)
    worker.kill()


def test_what_dies_takes_down_its_own_task_only(queue: Queue, start: Start) -> None:
    start("-w", "2")
    deaths = {
        nbtasks.submit(calls.exit_now, 0): "ended with exit code 0",
        nbtasks.submit(calls.exit_now, 3): "ended with exit code 3",
        nbtasks.submit(calls.segfault): "signal 11",
        nbtasks.submit(calls.kill_self): "signal 9",
        nbtasks.submit(calls.overflow_stack): "signal 11",
        submit_cell(queue, "import os; os._exit(4)"): "ended with exit code 4",
    }
    good = [nbtasks.submit(calls.pid) for _ in range(20)]
    leaves, memory, deep = nbtasks.submit(calls.sys_exit), nbtasks.submit(calls.narrow), nbtasks.submit(calls.recurse)
    good += [nbtasks.submit(calls.pid) for _ in range(20)]
    assert all(nbtasks.gather(good))
    for task, words in deaths.items():
        with pytest.raises(TaskLost, match=words):
            task.result(30)
    with pytest.raises(TaskFailed, match="SystemExit: enough"):
        leaves.result(30)
    with pytest.raises(MemoryError):
        memory.result(30)
    with pytest.raises(RecursionError):
        deep.result(30)
    assert "Fatal Python error: Segmentation fault" in list(deaths)[2].log
    assert check(queue) == []


def test_a_death_is_a_failure_that_is_retried(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.using(retries=2).submit(note_and_die, notes)
    with pytest.raises(TaskLost, match="signal 9"):
        task.result(30)
    assert len(lines(notes)) == 3
    assert (task.attempt, task.record.ticket.losses) == (3, 0)


def note_and_die(path: str) -> None:
    calls.note(path, "try")
    calls.kill_self()


def test_a_death_is_seen_at_once(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    took = []
    for _ in range(10):
        task = nbtasks.submit(note_time_and_die, notes)
        with pytest.raises(TaskLost):
            task.result(30)
        assert task.ended is not None
        took.append(task.ended.timestamp() - float(lines(notes)[-1]))
    print(f"deaths of slots were seen after {min(took) * 1000:.0f} to {max(took) * 1000:.0f} ms")
    assert sorted(took)[5] < 0.1


def note_time_and_die(path: str) -> None:
    calls.note(path, repr(time.time()))
    calls.kill_self()


def test_what_nobody_saw_die_runs_again_unless_it_must_not(
    queue: Queue, start: Start, notes: str, gate: str
) -> None:  # fmt: skip
    first = start("-w", "3")
    often = nbtasks.submit(calls.note_and_wait, notes, "often", gate)
    once = nbtasks.using(at_most_once=True).submit(calls.note_and_wait, notes, "once", gate)
    source = "from tests.worker import calls\ncalls.note_and_wait(notes, 'cell', gate)"
    cell = submit_cell(queue, source, inputs={"notes": notes, "gate": gate})
    until(lambda: len(lines(notes)) == 3)
    kill_all(first)
    assert often.status is Status.RUNNING, "nobody has looked yet"
    start("-w", "3")
    Path(gate).touch()
    assert often.result(30)
    assert often.record.ticket[1:] == (2, 0, 1)
    for task in (once, cell):
        with pytest.raises(TaskLost, match="It had started, so it does not run again unasked"):
            task.result(30)
    assert sorted(lines(notes)) == ["cell", "often", "often", "once"]


def test_the_third_loss_is_the_last(queue: Queue, start: Start, notes: str, gate: str) -> None:
    task = nbtasks.submit(calls.note_and_wait, notes, "try", gate)
    for count in range(3):
        worker = start("-w", "1")
        until(lambda: len(lines(notes)) == count + 1)  # noqa: B023
        kill_all(worker)
    start("-w", "1")
    with pytest.raises(TaskLost, match="lost 3 times"):
        task.result(30)
    assert len(lines(notes)) == 3


def test_a_task_outlives_its_supervisor(queue: Queue, start: Start, notes: str, gate: str) -> None:
    worker = start("-w", "1")
    task = nbtasks.submit(calls.note_and_wait, notes, "run", gate)
    until(lambda: lines(notes))
    pid = worker.slots()[0].process.pid
    worker.kill()
    Path(gate).touch()
    assert task.result(30) == pid
    assert until(lambda: is_gone(pid)), "it leaves when its task has ended"
    assert task.record.ticket[1:] == (1, 0, 0)


def test_an_orphan_is_adopted_and_can_be_stopped(queue: Queue, start: Start, notes: str) -> None:
    first = start("-w", "2")
    cancelled = nbtasks.using(grace=0.2).submit(calls.ignore_all, notes)
    limited = nbtasks.using(timeout=1.5).submit(calls.keep_value, notes)
    until(lambda: len(lines(notes)) == 2)
    slots = {slot.name for slot in first.slots()}
    first.kill()
    second = start("-w", "1")
    for slot in slots:
        second.wait_for(f"adopted slot {slot}")
    assert nbtasks.submit(calls.pid).result(30), "its own slots are free"
    cancelled.cancel()
    with pytest.raises(CancelledError):
        cancelled.result(10)
    with pytest.raises(TaskTimedOut):
        limited.result(10)
    assert limited.value == "kept"
    assert len(lines(notes)) == 2


def test_an_adopted_slot_that_dies_is_a_loss(queue: Queue, start: Start, notes: str, gate: str) -> None:
    first = start("-w", "1")
    task = nbtasks.submit(calls.note_and_wait, notes, "run", gate)
    until(lambda: lines(notes))
    pid = first.slots()[0].process.pid
    first.kill()
    start("-w", "1").wait_for("adopted slot")
    kill(pid)
    Path(gate).touch()
    assert task.result(30) != pid
    assert task.record.ticket[1:] == (2, 0, 1)


def test_a_result_that_was_written_is_not_computed_again(
    queue: Queue, start: Start, notes: str, tmp_path: Path
) -> None:  # fmt: skip
    """The slot dies between its outcome and the commit."""
    environ = {"NBTASKS_FAULT": "move:before:*/ended/*:1", "NBTASKS_FAULT_ONCE": str(tmp_path / "once")}
    start("-w", "1", environ=environ).ready()
    task = nbtasks.submit(calls.note, notes, "run")
    assert task.result(30)
    assert len(lines(notes)) == 1
    assert task.record.ticket[1:] == (1, 0, 0)
    assert (tmp_path / "once").exists()


def test_slots_that_die_at_birth_are_made_again_with_a_pause(
    queue: Queue, start: Start, tmp_path: Path
) -> None:  # fmt: skip
    environ = {"NBTASKS_FAULT": "replace:error=EIO:*/slots/*/identity:1", "NBTASKS_FAULT_ONCE": str(tmp_path / "once")}
    worker = start("-w", "1", environ=environ)
    assert nbtasks.submit(calls.pid).result(30)
    assert worker.log.count("could not start") == 1
    broken = start("-w", "1", "-l", "bad", environ={"NBTASKS_FAULT": "replace:error=EIO:*/slots/*/identity:1+"})
    nbtasks.using(lane="bad").submit(calls.pid)
    broken.wait_for("(?s)could not start.*could not start.*could not start")
    assert broken.process.poll() is None
    assert broken.log.count("could not start") < 6
