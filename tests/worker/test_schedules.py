"""Schedules with true workers: each moment runs once, whoever dies, and a worker that has schedules stays."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from datetime import UTC, datetime, timedelta

import pytest

import nbtasks
from nbtasks import Status, config
from nbtasks.queue import layout, lookup, schedules
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from tests.worker import calls
from tests.worker.tools import Worker, lines, submit_cell, until

Start = Callable[..., Worker]
EVERY = nbtasks.using(name="tick", overlap=True, tz="UTC")


def ran(notes: str) -> Counter[int]:
    """How often each moment has run."""
    return Counter(int(line) for line in lines(notes))


def show(queue: Queue, start: Start, notes: str, seconds: float, kills: int) -> None:
    """A schedule every second, while the worker that makes its tickets is killed now and then: each moment runs once."""
    tick = EVERY.every("1s", calls.note_moment, notes)
    workers = [start("-w", "2").ready() for _ in range(2)]
    first = layout.submitted_at(schedules.id_of("tick", tick.upcoming(1)[0].timestamp()))
    for _ in range(kills):
        time.sleep(seconds / (kills + 1))
        leader = until(
            lambda: [one for one in workers if "makes the tickets" in one.log and one.process.poll() is None]
        )[0]
        leader.kill()
        workers.append(start("-w", "2"))
    until(lambda: time.time() >= first + seconds, seconds * 2)
    tick.pause()
    until(lambda: next(lookup.live_tickets(queue), None) is None)
    found = ran(notes)
    assert set(found.values()) == {1}, f"twice: {[moment for moment, count in found.items() if count > 1]}"
    missing = set(range(min(found), max(found) + 1)) - set(found)
    assert not missing, f"left out: {sorted(missing)}"
    assert min(found) <= int(first) + 1
    assert max(found) >= int(first + seconds) - 1
    assert check(queue) == []
    print(f"{len(found)} moments, {kills} kills")


def test_two_workers_and_one_is_killed(queue: Queue, start: Start, notes: str) -> None:
    show(queue, start, notes, seconds=7.0, kills=1)


@pytest.mark.torture
def test_two_workers_and_many_are_killed(queue: Queue, start: Start, notes: str) -> None:
    show(queue, start, notes, seconds=60.0, kills=8)


@pytest.mark.parametrize(
    "step",
    [
        "create:half:*/tasks/*.call:1", "create:before:*/queued/*:1", "create:before:*/recurring/tick/*.made:1",
    ],
)  # fmt: skip
def test_killed_in_the_middle_of_making_a_ticket(queue: Queue, start: Start, notes: str, step: str) -> None:
    EVERY.every("1s", calls.note_moment, notes)
    broken = start("-w", "1", environ={"NBTASKS_FAULT": step})
    assert broken.end() == -signal.SIGKILL
    start("-w", "1")
    until(lambda: len(ran(notes)) >= 3)
    found = ran(notes)
    assert set(found.values()) == {1}
    assert set(found) >= set(range(min(found), min(found) + 3))


def test_a_worker_that_has_schedules_stays_and_one_without_leaves(queue: Queue, start: Start, notes: str) -> None:
    tick = nbtasks.using(name="later").every("1d", calls.note, notes, "x")
    worker = start("-w", "1", "--idle-exit", "0.2").ready()
    worker.wait_for(r"periodic on \(later\)")
    other = start("-w", "1", "--idle-exit", "0.2", "-l", "other").ready()
    assert other.end(10) == 0, "what recurs is in another lane, and another makes its tickets"
    assert worker.process.poll() is None
    tick.remove()
    assert worker.end(10) == 0


def test_no_periodic_is_respected(queue: Queue, start: Start, notes: str) -> None:
    tick = EVERY.every("1s", calls.note_moment, notes)
    worker = start("-w", "1", "--no-periodic", "--idle-exit", "1.5").ready()
    worker.wait_for("periodic off")
    assert "--no-periodic" in tick._repr_mimebundle_()["text/plain"]
    assert worker.end(10) == 0, "it has nothing to stay for"
    assert lines(notes) == []


def test_a_lane_that_nobody_serves_gets_a_worker(queue: Queue, start: Start, notes: str) -> None:
    quick = nbtasks.using(name="tick", lane="quick").every("1s", calls.note_moment, notes)
    start("-w", "1", environ={"NBTASKS_AUTOSTART": "1", "NBTASKS_IDLE_EXIT": "1s"})
    until(lambda: lines(notes))
    quick.remove()


def test_runs_fail_and_are_run_by_hand(queue: Queue, start: Start, gate: str) -> None:
    start("-w", "1").ready()
    bad = nbtasks.using(name="bad").every("1d", calls.fail)
    failed = bad.run()
    with pytest.raises(ValueError, match="no good"):
        failed.result(20)
    long = bad.run()
    long.exception(20)
    waits = nbtasks.using(name="waits").every("1d", calls.wait_for, gate)
    running = waits.run()
    until(lambda: running.status is Status.RUNNING)
    assert [moment.mark for moment in bad.history()] == ["✕", "✕"]
    assert [moment.mark for moment in waits.history()] == ["…"]
    assert [task.id for task in bad.tasks] == [failed.id, long.id]
    running.cancel()
    until(lambda: running.status is Status.CANCELLED)
    assert [moment.mark for moment in waits.history()] == ["–"]


# Later, once.


def test_delay_at_and_expires(queue: Queue, start: Start, notes: str, gate: str) -> None:
    worker = start("-w", "1", "--idle-exit", "0.3").ready()
    begun = time.time()
    delayed = nbtasks.using(delay="1s").submit(calls.pid)
    at = nbtasks.using(at=datetime.now(UTC) + timedelta(seconds=1.5)).submit(calls.pid)
    # From the beginning there is something to stay for: else it may leave between two tasks.
    blocking = nbtasks.using(delay="1.6s").submit(calls.note_and_wait, notes, "block", gate)
    assert delayed.status is Status.WAITING
    assert delayed.result(20)
    assert time.time() - begun >= 1.0
    assert at.result(20)
    assert time.time() - begun >= 1.5
    until(lambda: lines(notes))
    late = nbtasks.using(expires="0.5s").submit(calls.note, notes, "late")
    with pytest.raises(CancelledError, match="expired"):
        late.result(9)
    assert late.reason == "expired"
    assert late.started is None
    open(gate, "w").close()
    blocking.result(20)
    assert lines(notes) == ["block"]
    assert worker.end(10) == 0


def test_a_slot_does_not_start_what_came_too_late(queue: Queue, start: Start, notes: str) -> None:
    task = nbtasks.using(expires="0.01s").submit(calls.note, notes, "late")
    cell = submit_cell(queue, "open(notes, 'a').write('late')", inputs={"notes": notes}, expires=time.time())
    time.sleep(0.02)
    start("-w", "1", "--burst").end()
    assert (task.status, task.reason) == (Status.CANCELLED, "expired")
    assert (cell.status, cell.reason) == (Status.CANCELLED, "expired")
    assert lines(notes) == []


def test_a_burst_does_not_wait_for_tomorrow(queue: Queue, start: Start) -> None:
    task = nbtasks.using(delay="1h").submit(calls.pid)
    assert start("-w", "1", "--burst").end(10) == 0
    assert task.status is Status.WAITING


def test_in_place_nobody_waits(queue: Queue, start: Start) -> None:
    config.configure(engine="inline")
    assert nbtasks.using(delay="1h").submit(calls.pid).result(0)
