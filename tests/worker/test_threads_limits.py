"""Limits, rates and named locks where functions run in threads: each thread holds what its task needs, and no other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, config
from nbtasks.needs import Needs
from nbtasks.queue import members, shortage, tokens
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from tests.worker import calls, thread_calls
from tests.worker.tools import Worker, lines, submit_cell, until

Start = Callable[..., Worker]


def pid_of(queue: Queue, task: nbtasks.Task[object]) -> int:
    """The process in which a task runs."""
    name = until(lambda: queue.record(task.id).place.slot)
    member = members.find_member(queue, name)
    assert member is not None
    return member.process.pid


def test_never_more_at_once_with_threads_and_processes(queue: Queue, start: Start, tmp_path: Path) -> None:
    start("-e", "threads", "-w", "4")
    start("-w", "2")
    tasks = [nbtasks.using(limit=("a", 2)).submit(calls.occupy, str(tmp_path), 2, 0.005) for _ in range(60)]
    nbtasks.gather(tasks)
    assert not os.path.exists(tmp_path / "too-many")
    assert tokens.look(queue, Needs(limits={"a": 2})) == tokens.NOW
    assert check(queue) == []


def test_other_threads_go_on_while_one_waits_for_a_token(queue: Queue, start: Start, gate: str) -> None:
    start("-e", "threads", "-w", "2")
    one = nbtasks.using(limit=("a", 1), priority=9)
    holder = one.submit(calls.wait_for, gate)
    until(lambda: holder.status is Status.RUNNING)
    after = one.submit(calls.pid)
    assert nbtasks.submit(calls.pid).result(30) == pid_of(queue, holder)
    assert after.reason.startswith(f"for a: 1 of 1 in use by {holder.short} (wait_for, 00:0")
    Path(gate).touch()
    assert after.result(30)


def test_a_cell_and_functions_share_a_limit(queue: Queue, start: Start, tmp_path: Path) -> None:
    worker = start("-e", "threads", "-w", "3")
    needs = Needs(fresh=True, limits={"a": 1})
    source = f"from tests.worker import calls; calls.occupy({str(tmp_path)!r}, 1, 0.05); import os; os.getpid()"
    cells = [submit_cell(queue, source, need=needs.code, needs=needs.fields) for _ in range(2)]
    functions = [nbtasks.using(limit=("a", 1)).submit(thread_calls.occupy, str(tmp_path)) for _ in range(5)]
    apart = {cell.result(60) for cell in cells}
    shared = set(nbtasks.gather(functions))
    assert (len(apart), len(shared)) == (2, 1)
    assert not (apart | shared) & {worker.pid}
    assert not os.path.exists(tmp_path / "too-many")


def test_what_a_killed_process_of_threads_held_is_free_at_once(
    queue: Queue, start: Start, gate: str, notes: str
) -> None:
    start("-e", "threads", "-w", "3").wait_for("engine threads")
    some = nbtasks.using(limit=("a", 2), at_most_once=True)
    holders = [some.submit(calls.note_and_wait, notes, "begun", gate) for _ in range(2)]
    until(lambda: len(lines(notes)) == 2)  # else they would be put back, for they did not begin
    after = nbtasks.using(limit=("a", 2)).submit(time.time)
    begin = time.time()
    os.kill(pid_of(queue, holders[0]), signal.SIGKILL)
    assert after.result(30) - begin < 3
    until(lambda: [task.status for task in holders] == [Status.FAILED] * 2)


def test_a_burst_of_threads_stays_for_what_waits(queue: Queue, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_RESOURCES", "licence=1")
    config.reset()
    taken = tokens._take_all(queue, Needs(resources={"licence": (1, 1)}))
    assert taken
    task = nbtasks.using(resources={"licence": 1}).submit(calls.pid)
    worker = start("-e", "threads", "--burst", "-w", "2")
    worker.wait_for("engine threads")
    assert nbtasks.submit(calls.pid).result(30)
    assert worker.process.poll() is None
    for _, lease in taken:
        lease.release()
    queue.ring_token_waiters()
    assert task.result(20)
    assert worker.end() == 0


def test_a_rate_holds_for_threads(queue: Queue, start: Start, notes: str) -> None:
    start("-e", "threads", "-w", "4")
    tasks = [nbtasks.using(rate=("api", "5/s")).submit(calls.note_now, notes) for _ in range(12)]
    nbtasks.gather(tasks)
    begins = sorted(task.record.outcome.started for task in tasks)
    assert all(later - earlier > 0.999 for earlier, later in zip(begins, begins[5:], strict=False))


def test_a_lock_is_held_by_one_thread_at_a_time(queue: Queue, start: Start, tmp_path: Path) -> None:
    start("-e", "threads", "-w", "4")
    nbtasks.gather([nbtasks.submit(thread_calls.occupy_locked, str(tmp_path)) for _ in range(12)])
    assert not os.path.exists(tmp_path / "too-many")


def test_who_waits_for_a_lock_says_for_whom_and_is_cancelled(queue: Queue, start: Start, gate: str) -> None:
    start("-e", "threads", "-w", "2")
    holder = nbtasks.submit(thread_calls.hold, gate)
    until(lambda: "held by" in shortage.of_lock(queue, "db"))
    other = nbtasks.submit(thread_calls.hold, gate)
    until(lambda: "lock" in other.reason)
    assert other.reason.startswith(f"waits for lock db, held by {holder.short} (hold, 00:0")
    assert other.cancel()
    until(lambda: other.status is Status.CANCELLED)
    assert holder.reason == ""
    Path(gate).touch()
    assert holder.result(30) is None
    with nbtasks.lock("db", timeout=0):
        pass


def test_who_waits_for_a_lock_makes_way_for_what_its_holder_waits_for(
    queue: Queue, start: Start, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two have other environments, so they are never in the process at one time; a third belongs to the first."""
    start("-e", "threads", "-w", "2")
    start("-l", "elsewhere", "-w", "1")
    monkeypatch.setenv("COLOUR", "red")
    holder = nbtasks.submit(thread_calls.hold_and_submit, gate)
    until(lambda: "held by" in shortage.of_lock(queue, "db"))
    monkeypatch.setenv("COLOUR", "blue")
    other = nbtasks.submit(thread_calls.hold, gate)
    until(lambda: "lock" in other.reason)
    Path(gate).touch()
    assert holder.result(30) == "red"
    other.result(30)
