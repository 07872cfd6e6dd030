"""A worker from its first line to its last: what it says, when it leaves, and what becomes of what runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nbtasks
from nbtasks import OptionError, Status, TaskLost, UpstreamFailed, config
from nbtasks.queue.directory import Queue
from nbtasks.worker.supervisor import run_worker
from tests.worker import calls
from tests.worker.tools import Worker, is_gone, lines, submit_cell, until

Start = Callable[..., Worker]


def test_it_says_who_it_is_and_what_it_runs(queue: Queue, start: Start) -> None:
    task = nbtasks.using(name="train").submit(calls.pid)
    failing = nbtasks.submit(calls.fail)
    worker = start("-w", "1", "-l", "default", "-l", "gpu", "--burst")
    assert worker.end() == 0
    name = worker.wait_for(rf"nbtasks {nbtasks.__version__} worker (w-\w+), pid {worker.pid}")[1]
    worker.wait_for(f"queue {queue.root}, lanes default, gpu, environment {config.env_tag()}")
    worker.wait_for("engine processes, 1 slot, periodic on, stays, 2 queued")
    worker.wait_for(rf"Executing train\[{task.short}\]\n.*train\[{task.short}\] succeeded in 0\.\d+s")
    worker.wait_for(rf"fail\[{failing.short}\] failed in 0\.\d+s: ValueError: .+")
    worker.wait_for("leaving")
    assert not os.path.exists(queue.layout.worker_folder(name))


def test_a_reason_takes_one_plain_line_of_the_log(queue: Queue, start: Start) -> None:
    task = nbtasks.submit(calls.fail_at_length)
    worker = start("-w", "1", "--burst")
    assert worker.end() == 0
    worker.wait_for(rf"\[{task.short}\] failed in 0\.\d+s: ValueError: {re.escape(' [31mred and on and on')}.* …\n")
    assert "\x1b" not in worker.log
    assert max(map(len, worker.log.splitlines())) < 400


def test_sigterm_lets_finish_what_runs_and_claims_nothing_more(
    queue: Queue, start: Start, notes: str, gate: str
) -> None:  # fmt: skip
    worker = start("-w", "1")
    running = nbtasks.submit(calls.note_and_wait, notes, "run", gate)
    until(lambda: lines(notes))
    queued = nbtasks.submit(calls.pid)
    worker.signal(signal.SIGTERM)
    worker.wait_for("draining: waiting for what runs")
    Path(gate).touch()
    assert worker.end() == 0
    assert running.result(5)
    assert queued.status is Status.QUEUED


def test_a_second_sigterm_ends_what_runs(queue: Queue, start: Start, notes: str, gate: str) -> None:
    worker = start("-w", "3")
    function = nbtasks.submit(calls.note_and_wait, notes, "function", gate)
    source = "from tests.worker import calls\ncalls.note_and_wait(notes, 'cell', gate)"
    cell = submit_cell(queue, source, inputs={"notes": notes, "gate": gate})
    again = submit_cell(queue, source, inputs={"notes": notes, "gate": gate}, retries=1)
    until(lambda: len(lines(notes)) == 3)
    pids = [slot.process.pid for slot in worker.slots()]
    worker.signal(signal.SIGTERM)
    worker.wait_for("draining")
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    assert all(map(is_gone, pids))
    with pytest.raises(TaskLost, match="worker stopped"):
        cell.result(5)
    for task in (function, again):
        assert task.status is Status.QUEUED
        assert task.record.ticket[1:] == (2, 0, 0)
    assert "could not start" not in worker.log
    Path(gate).touch()
    start("-w", "1")
    assert function.result(30)


def test_grace_bounds_the_waiting(queue: Queue, start: Start, notes: str) -> None:
    worker = start("-w", "1", "--grace", "0.2")
    task = nbtasks.submit(calls.ignore_all, notes)
    until(lambda: lines(notes))
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0
    assert task.status is Status.QUEUED


def test_ctrl_c_in_its_terminal_drains(queue: Queue, start: Start, notes: str, gate: str) -> None:
    worker = start("-w", "1")
    task = nbtasks.submit(calls.note_and_wait, notes, "run", gate)
    until(lambda: lines(notes))
    os.killpg(worker.pid, signal.SIGINT)  # what a terminal does: to all processes in front
    worker.wait_for("draining")
    Path(gate).touch()
    assert worker.end() == 0
    assert task.result(5)


def test_burst_ends_when_nothing_is_left(queue: Queue, start: Start, notes: str) -> None:
    retried = nbtasks.using(retries=3, retry_delay=0.3).submit(calls.fail_until, notes, 2)
    parent = nbtasks.submit(calls.pid)
    child = nbtasks.using(after=parent).submit(calls.pid)
    nbtasks.using(lane="other", after=child).submit(calls.pid)  # for another worker
    assert start("-w", "2", "--burst").end() == 0
    assert retried.status is Status.SUCCEEDED
    assert child.status is Status.SUCCEEDED
    other = nbtasks.using(lane="slow", retries=1, retry_delay=3600).submit(calls.fail)
    worker = start("-w", "1", "-l", "slow")
    until(lambda: other.status is Status.WAITING)
    worker.stop()
    assert start("-w", "1", "--burst").end(10) == 0, "a retry of another lane is none of its business"


def test_it_leaves_after_being_idle(queue: Queue, start: Start) -> None:
    worker = start("-w", "1", "--idle-exit", "0.3").ready()
    nbtasks.submit(calls.pid).result(30)
    assert worker.end(9) == 0
    assert queue.disk.list(queue.layout.slots) == []


def test_it_does_not_leave_while_something_runs_or_waits_for_a_retry(
    queue: Queue, start: Start, notes: str
) -> None:  # fmt: skip
    start("-w", "2", "--idle-exit", "0.1")
    long = nbtasks.submit(calls.nap, notes, 0.8)
    retried = nbtasks.using(retries=1, retry_delay=1.2).submit(calls.fail_until, f"{notes}2", 2)
    assert long.result(30)
    assert retried.result(30) == 2


def test_a_failed_parent_fails_what_needs_it_while_nobody_waits(queue: Queue, start: Start) -> None:
    parent = nbtasks.submit(calls.kill_self)
    child = nbtasks.submit(abs, parent)
    grandchild = nbtasks.using(after=child).submit(calls.pid)
    start("-w", "1", "--burst").end()
    for task in (child, grandchild):
        with pytest.raises(UpstreamFailed):
            task.result(0)


def test_it_leaves_when_its_queue_is_removed(queue: Queue, start: Start) -> None:
    worker = start("-w", "1").ready()
    slot = nbtasks.submit(calls.pid).result(30)
    idle = f"{queue.layout.bells_of(queue.boot, f'default@{config.env_tag()}')}/idle"
    until(lambda: any(name.startswith("s-") for name in os.listdir(idle)))
    os.rename(queue.root, away := f"{queue.root}-away")
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.end() == 0
    worker.wait_for("the queue was removed, or another is in its place")
    assert until(lambda: is_gone(slot))
    assert list(os.walk(queue.root)) == [], "nothing of it was made again"
    os.rename(away, queue.root)


def test_an_error_of_the_disk_does_not_end_it(queue: Queue, start: Start) -> None:
    worker = start("-w", "1", environ={"NBTASKS_FAULT": "list:error=EIO:*/waiting/until:1"})
    assert nbtasks.submit(calls.pid).result(30)
    worker.wait_for("cannot go on just now, trying again: .*Input/output error")


def test_options_that_cannot_be_are_refused(queue: Queue) -> None:
    with pytest.raises(OptionError, match="0 slots"):
        run_worker(queue.root, slots=0)
    with pytest.raises(OptionError, match="lane 'No Lane'"):
        run_worker(queue.root, lanes=["No Lane"])
    command = [sys.executable, "-m", "nbtasks", "worker", "-l", "No Lane"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "No Lane" in done.stderr
