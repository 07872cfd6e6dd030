"""What a slot claims and when: lanes, priorities, cells before functions; retries; waits within a task."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, config, processes
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import LOG
from tests.worker import calls
from tests.worker.tools import Worker, lines, live_slots, submit_cell, until

Start = Callable[..., Worker]


def test_a_worker_serves_its_lanes_and_no_other(queue: Queue, start: Start) -> None:
    gpu, cpu, other = (nbtasks.using(lane=lane).submit(calls.pid) for lane in ("gpu", "cpu", "other"))
    start("-w", "1", "-l", "gpu", "-l", "cpu")
    assert gpu.result(30) == cpu.result(30)
    late = nbtasks.using(lane="cpu").submit(calls.pid)
    assert late.result(30) == cpu.result()
    assert other.status is Status.QUEUED


def test_higher_priority_runs_first_and_equals_in_order(queue: Queue, start: Start, notes: str) -> None:
    for number, priority in enumerate([5, 0, 9, 5, 9]):
        nbtasks.using(priority=priority).submit(calls.note, notes, number)
    start("-w", "1", "--burst").end()
    assert lines(notes) == ["2", "4", "0", "3", "1"]


def test_a_higher_priority_that_comes_later_is_next(queue: Queue, start: Start, notes: str, gate: str) -> None:
    start("-w", "1")
    nbtasks.submit(calls.note_and_wait, notes, "first", gate)
    until(lambda: lines(notes))
    tasks = [nbtasks.submit(calls.note, notes, number) for number in range(3)]
    tasks.append(nbtasks.using(priority=9).submit(calls.note, notes, "urgent"))
    Path(gate).touch()
    nbtasks.gather(tasks)
    assert lines(notes) == ["first", "urgent", "0", "1", "2"]


def test_an_urgent_cell_does_not_wait_for_all_functions(queue: Queue, start: Start, notes: str, gate: str) -> None:
    start("-w", "1")
    nbtasks.submit(calls.note_and_wait, notes, "first", gate)
    until(lambda: lines(notes))
    tasks = [nbtasks.submit(calls.nap, notes, 0.05) for _ in range(20)]
    cell = submit_cell(queue, "1 + 1", priority=9)
    Path(gate).touch()
    assert cell.result(60) == 2
    assert sum(task.done() for task in tasks) < 10
    nbtasks.gather(tasks)


def test_retries_back_off_and_each_try_keeps_its_log(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.using(retries=3, retry_delay=0.2).submit(calls.fail_until, notes, 3)
    assert until(lambda: task.status is Status.WAITING)
    assert "attempt 2 of 4 in" in task.reason
    assert task.result(30) == 3
    assert task.attempt == 3
    first, second, third = (float(line) for line in lines(notes))
    assert second - first >= 0.2
    assert third - second >= 0.4
    assert task.record.ticket[1:] == (3, 2, 0)
    logs = [Path(queue.layout.file(task.id, delivery, LOG)).read_text() for delivery in (1, 2, 3)]
    assert logs == ["try\n"] * 3


def test_retries_end_with_the_last_error(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1")
    task = nbtasks.using(retries=2).submit(calls.fail_until, notes, 9)
    with pytest.raises(ValueError, match="try 3"):
        task.result(30)
    assert task.attempt == 3


def test_tasks_that_wait_for_their_own_tasks_do_not_block_the_only_slot(queue: Queue, start: Start) -> None:
    worker = start("-w", "1").ready()
    assert nbtasks.submit(calls.ask_another, 4).result(60) == 4
    assert until(lambda: len(worker.slots()) == 1), "the slots that were lent are gone again"


def test_a_slot_is_woken_for_each_of_a_burst(queue: Queue, start: Start, notes: str, gate: str) -> None:
    worker = start("-w", "2").ready()
    nbtasks.gather([nbtasks.submit(calls.nap, notes, 0.2) for _ in range(2)])
    assert until(lambda: len(worker.slots()) == 2)
    tasks = [nbtasks.submit(calls.note_and_wait, notes, number, gate) for number in range(2)]
    assert until(lambda: len(lines(notes)) == 4), "both run at once"
    Path(gate).touch()
    nbtasks.gather(tasks)


def test_tasks_that_begin_together_share_the_cores(queue: Queue, start: Start, notes: str, gate: str) -> None:
    """Which is not known when their slots are made: nobody has claimed yet."""
    cores = processes.usable_cores()
    tasks = [nbtasks.submit(calls.note_threads_and_wait, notes, gate) for _ in range(cores)]
    start("-w", str(cores))
    until(lambda: len(lines(notes)) == cores)
    Path(gate).touch()
    nbtasks.gather(tasks)
    assert min(map(int, lines(notes))) == 1, "whoever came last"


def test_rings_that_were_lost_are_made_good(queue: Queue, start: Start, notes: str) -> None:
    start("-w", "1").ready()
    start("-w", "1", "-l", "other").ready()
    cancelled = nbtasks.using(lane="other").submit(calls.nap, notes, 3600)
    nbtasks.submit(calls.pid).result(30)
    bells = f"{queue.layout.bells_of(queue.boot, f'default@{config.env_tag()}')}/idle"
    until(lambda: lines(notes) and os.listdir(bells))
    hidden = f"{queue.root}/hidden"
    os.rename(bells, hidden)  # nobody can ring them: as if the submitter died before it could
    task = nbtasks.submit(calls.pid)
    os.rename(hidden, bells)
    queue.disk.create(queue.layout.cancel_file(cancelled.id), [])  # and nobody told the worker
    assert until(lambda: queue.record(task.id).status.ended and queue.record(cancelled.id).status.ended, 15)


def test_an_idle_worker_does_nothing(queue: Queue, start: Start) -> None:
    """Counted by cause: whoever sleeps in one system call is not scheduled."""
    tasks = [nbtasks.submit(calls.pid) for _ in range(200)]
    worker = start("-w", "2").ready()
    nbtasks.gather(tasks)
    slots = until(worker.slots)
    pids = [worker.pid, *(slot.process.pid for slot in slots)]
    until(lambda: _settled(pids))
    before = _turns_of(pids)
    time.sleep(2.0)  # the time over which is counted
    assert _turns_of(pids) - before <= 20


def _turns(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)


def _turns_of(pids: list[int]) -> int:
    return sum(map(_turns, pids))


def _settled(pids: list[int]) -> bool:
    before = _turns_of(pids)
    time.sleep(0.3)
    return _turns_of(pids) == before


def test_a_paused_queue_wakes_nobody(queue: Queue, start: Start, notes: str) -> None:
    worker = start("-w", "1").ready()
    nbtasks.submit(calls.pid).result(30)
    queue.disk.create(queue.layout.paused, [])
    task = nbtasks.submit(calls.pid)
    pids = [worker.pid, *(slot.process.pid for slot in live_slots(queue))]
    until(lambda: _settled(pids))
    assert task.status is Status.QUEUED
    queue.disk.remove(queue.layout.paused)
    assert task.result(30)


def test_who_asks_for_a_keyboard_is_told_where_there_is_one(start: Start) -> None:
    start("-w", "1")
    task = nbtasks.submit(input, "how many? ")
    error = task.exception(30)
    assert "input('how many? ') cannot be answered" in str(error)
    assert str(error).endswith(f"run this in the notebook itself: %task {task.short} here")
