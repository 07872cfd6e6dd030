"""Stopping: KeyboardInterrupt, SIGTERM, SIGKILL; what the code still returns is kept; nothing of it survives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, TaskTimedOut
from nbtasks.queue.directory import Queue
from tests.worker import calls
from tests.worker.tools import Worker, is_gone, kill, lines, submit_cell, until

Start = Callable[..., Worker]


@pytest.fixture
def stubborn(notes: str) -> Iterator[Callable[[], list[int]]]:
    """The processes that tasks noted; whatever survived is ended after the test."""
    yield lambda: [int(line) for line in lines(notes)]
    for pid in map(int, lines(notes)):
        kill(pid)


def test_a_queued_task_is_cancelled_at_once_and_never_starts(queue: Queue, start: Start, notes: str) -> None:
    task, next_one = nbtasks.submit(calls.note, notes, 1), nbtasks.submit(calls.pid)
    assert task.cancel()
    assert task.cancelled()
    start("-w", "1")
    next_one.result(30)
    assert lines(notes) == []
    assert task.reason == "before it started"


def test_a_task_that_waits_for_another_is_cancelled_at_once(queue: Queue, start: Start, gate: str) -> None:
    parent = nbtasks.submit(calls.wait_for, gate)
    child = nbtasks.using(after=parent).submit(calls.pid)
    retried = nbtasks.using(retries=1, retry_delay=60).submit(calls.fail)
    start("-w", "2")
    until(lambda: retried.status is Status.WAITING)
    assert child.cancel()
    assert retried.cancel()
    assert child.cancelled()
    assert retried.cancelled()
    Path(gate).touch()
    parent.result(30)


def test_a_running_task_is_interrupted_and_its_slot_replaced(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.submit(calls.nap, notes, 3600)
    pid = int(until(lambda: lines(notes))[0])
    asked = time.monotonic()
    assert task.cancel()
    with pytest.raises(CancelledError):
        task.result(30)
    assert time.monotonic() - asked < 2
    assert nbtasks.submit(calls.pid).result(30) != pid
    assert is_gone(pid)


def test_what_the_code_returns_when_it_is_interrupted_is_kept(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.submit(calls.keep_value, notes)
    until(lambda: lines(notes))
    task.cancel()
    with pytest.raises(CancelledError):
        task.result(30)
    assert task.value == "kept"


def test_a_cancelled_cell_keeps_its_names(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    source = """
        import time
        from tests.worker import calls
        best = 0.9
        try:
            calls.nap(notes, 3600)
        except KeyboardInterrupt:
            best = 0.95
        best
    """
    lines_of = [line.removeprefix(" " * 8) for line in source.splitlines()]
    task = submit_cell(queue, "\n".join(lines_of), inputs={"notes": notes})
    until(lambda: lines(notes))
    task.cancel()
    with pytest.raises(CancelledError):
        task.result(30)
    assert (task.value, task.vars) == (0.95, {"best": 0.95})


def test_code_that_ignores_everything_is_killed_after_its_grace(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.using(grace=0.3).submit(calls.ignore_all, notes)
    pid = int(until(lambda: lines(notes))[0])
    asked = time.monotonic()
    task.cancel()
    with pytest.raises(CancelledError, match="stopped by force"):
        task.result(30)
    print(f"a stubborn task with a grace of 0.3 s ended {time.monotonic() - asked:.2f} s after its cancel")
    assert time.monotonic() - asked < 0.3 + 2
    assert is_gone(pid)


def test_terminate_does_not_wait_for_the_grace(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "2")
    soft, hard = nbtasks.submit(calls.keep_value, notes), nbtasks.submit(calls.ignore_all, notes)
    until(lambda: len(lines(notes)) == 2)
    hard.cancel()  # first the friendly way, with its 5 s of grace, then not
    asked = time.monotonic()
    soft.terminate()
    hard.terminate()
    for task in (soft, hard):
        with pytest.raises(CancelledError):
            task.result(30)
    assert time.monotonic() - asked < 3
    assert soft.value is None


def test_nothing_of_a_stubborn_task_survives(
    queue: Queue, start: Start, notes: str, stubborn: Callable[[], list[int]]
) -> None:
    start("-w", "1")
    task = nbtasks.using(grace=0.2).submit(calls.leave_children, notes)
    pids = until(lambda: pids if len(pids := stubborn()) == 4 else None)
    task.cancel()
    with pytest.raises(CancelledError):
        task.result(30)
    assert until(lambda: all(map(is_gone, pids)))


def test_a_worker_started_by_hand_finds_children_that_were_only_forked(
    queue: Queue, start: Start, notes: str, stubborn: Callable[[], list[int]]
) -> None:
    worker = start("-w", "1", environ={"NBTASKS_SLOT": ""}).ready()  # as in a terminal: without room for a mark
    assert worker.member.process.pid == worker.pid
    task = nbtasks.submit(calls.leave_children, notes)
    pids = until(lambda: pids if len(pids := stubborn()) == 4 else None)
    kill(worker.slots()[0].process.pid)
    with pytest.raises(nbtasks.TaskLost, match="signal 9"):
        task.result(30)
    assert until(lambda: all(map(is_gone, pids)))


def test_a_time_limit_ends_a_task_and_says_so(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "2")
    slow = nbtasks.using(timeout=0.2).submit(calls.nap, notes, 3600)
    kept = nbtasks.using(timeout=0.2).submit(calls.keep_value, notes)
    deaf = nbtasks.using(timeout=0.2, grace=0.2).submit(calls.ignore_all, notes)
    for task in (slow, kept, deaf):
        with pytest.raises(TaskTimedOut, match=r"timed out after 0\.2 s"):
            task.result(30)
        assert task.reason == "timed out after 0.2 s"
    assert kept.value == "kept"


def test_a_task_within_its_limit_is_left_alone(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    tasks = [nbtasks.using(timeout=0.5).submit(calls.nap, notes, 0.1) for _ in range(8)]
    assert len(set(nbtasks.gather(tasks))) == 1


def test_a_time_limit_counts_as_a_failure_that_is_retried(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.using(timeout=0.1, retries=1).submit(calls.nap, notes, 3600)
    with pytest.raises(TaskTimedOut):
        task.result(30)
    assert len(lines(notes)) == 2


def test_a_cancel_stops_the_retries(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.using(retries=5).submit(calls.nap, notes, 3600)
    until(lambda: lines(notes))
    task.cancel()
    with pytest.raises(CancelledError):
        task.result(30)
    assert len(lines(notes)) == 1


def test_a_cancel_that_meets_the_end_harms_nobody_else(queue: Queue, start: Start) -> None:
    """Cancels at random moments of short tasks: each has one end, and what was not cancelled has its value."""
    start("-w", "2")
    for _ in range(100):
        doomed, other = nbtasks.submit(calls.pid), nbtasks.submit(calls.pid)
        doomed.cancel()
        assert other.result(30) > 0
        assert nbtasks.wait(doomed, 30).done
