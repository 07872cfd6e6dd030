"""Limits, rates and resources with real workers: never more at once, whoever is killed; and the next begins at once."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

import nbtasks
from nbtasks import OptionError, Status, config
from nbtasks.needs import Needs
from nbtasks.queue import doorbells, tokens
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import WAITERS
from tests.worker import calls
from tests.worker.tools import Worker, kill, lines, live_slots, submit_cell, until

Start = Callable[..., Worker]
_AT_ONCE = 0.8  # seconds; whoever waits looks by itself, whether a ring was lost, after a second or more


@pytest.fixture
def places(queue: Queue) -> str:
    """Where tasks note that they run."""
    path = f"{queue.root}/../places"
    os.mkdir(path)
    return path


@pytest.fixture
def licence(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine has one licence."""
    monkeypatch.setenv("NBTASKS_RESOURCES", "licence=1")
    config.reset()


def slot_of(queue: Queue, task: nbtasks.Task[object]) -> int:
    """The process that runs a task."""
    name = until(lambda: queue.record(task.id).place.slot)
    return next(slot.process.pid for slot in live_slots(queue) if slot.name == name)


def test_never_more_at_once_under_a_storm_of_kills(queue: Queue, start: Start, places: str) -> None:
    """Two at most, of 200 and more, on two workers whose slots and selves are killed all the time."""
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    workers = [start("-w", "3"), start("-w", "3")]
    some = nbtasks.using(limit=("storm", 2), retries=1000)
    tasks: list[nbtasks.Task] = []
    kills = 0
    while len(tasks) < 200 or kills < 10 or not all(task.done() for task in tasks):
        if len(tasks) < 200 or (kills < 10 and sum(not task.done() for task in tasks) < 50):
            tasks += [some.submit(calls.occupy, places, 2, chance.uniform(0.001, 0.02)) for _ in range(50)]
        time.sleep(chance.uniform(0.01, 0.15))
        with contextlib.suppress(ProcessLookupError, StopIteration):  # it has just ended, or only just begins
            if kills < 40:
                kills += _strike(queue, start, workers, chance)
    print(f"{kills} kills, seed {seed}")
    assert not os.path.exists(f"{places}/too-many"), f"seed {seed}"
    assert {task.status for task in tasks} <= {Status.SUCCEEDED, Status.FAILED}, f"seed {seed}"
    assert all("lost 3 times" in task.reason for task in tasks if task.status is Status.FAILED), f"seed {seed}"
    assert sum(task.status is Status.SUCCEEDED for task in tasks) > 150
    assert kills >= 10
    assert check(queue) == []
    assert tokens.look(queue, Needs(limits={"storm": 2})) == tokens.NOW


def _strike(queue: Queue, start: Start, workers: list[Worker], chance: random.Random) -> int:
    what = chance.choice(["slot", "slot", "worker", "both"])
    if what == "slot":
        os.kill(chance.choice(live_slots(queue) or [workers[0].member]).process.pid, signal.SIGKILL)
        return 1
    number = chance.randrange(2)
    slots = workers[number].slots()
    if what == "both":
        workers[number].signal(signal.SIGSTOP)
        for slot in slots:
            os.kill(slot.process.pid, signal.SIGKILL)
    workers[number].kill()
    workers[number] = start("-w", "3")
    return 1


def test_what_a_killed_task_left_running_is_ended_before_the_next_begins(
    queue: Queue, start: Start, places: str
) -> None:
    first = start("-w", "1").ready()
    task = nbtasks.using(limit=("a", 1), at_most_once=True).submit(calls.occupy_by_child, places)
    until(lambda: lines(f"{places}/child"))
    start("-w", "1")
    nbtasks.submit(calls.pid).result(30)  # it has looked round, and will not for ten seconds
    after = nbtasks.using(limit=("a", 1)).submit(calls.occupy, places, 1, 0.0)
    pid = slot_of(queue, task)
    first.signal(signal.SIGSTOP)  # it does not see the death; its slot's child lives on
    kill(pid)
    after.result(30)
    assert not os.path.exists(f"{places}/too-many")
    first.signal(signal.SIGCONT)


def test_the_next_begins_when_the_holder_ends_however_it_ends(queue: Queue, start: Start, gate: str) -> None:
    start("-w", "2").ready()
    one = nbtasks.using(limit=("a", 1))
    for end in ("returns", "cancelled", "killed"):
        holder = one.submit(calls.wait_for, gate)
        until(lambda: holder.status is Status.RUNNING)  # noqa: B023
        after = one.submit(time.time)
        time.sleep(1.1)  # the worker has looked once, and will not for two seconds
        assert after.status is Status.QUEUED
        assert after.reason.startswith(f"for a: 1 of 1 in use by {holder.short} (wait_for, 00:0")
        begin = time.time()
        if end == "returns":
            Path(gate).touch()
        elif end == "cancelled":
            holder.cancel()
        else:
            kill(slot_of(queue, holder))
        assert after.result(30) - begin < _AT_ONCE, end
        Path(gate).unlink(missing_ok=True)


def test_cells_and_functions_share_a_limit(queue: Queue, start: Start, places: str) -> None:
    start("-w", "3")
    needs = Needs(fresh=True, limits={"a": 1})
    source = (
        f"import nbtasks; from tests.worker import calls; calls.occupy({places!r}, 1, 0.05); import os; os.getpid()"
    )
    cells = [submit_cell(queue, source, need=needs.code, needs=needs.fields) for _ in range(3)]
    functions = [nbtasks.using(limit=("a", 1)).submit(calls.occupy, places, 1, 0.05) for _ in range(5)]
    assert len({cell.result(60) for cell in cells}) == 3, "each in a process of its own"
    nbtasks.gather(functions)
    assert not os.path.exists(f"{places}/too-many")


def test_one_that_waits_for_a_token_holds_up_nobody_else_and_is_cancelled_at_once(
    queue: Queue, start: Start, gate: str
) -> None:
    start("-w", "2").ready()
    one = nbtasks.using(limit=("a", 1), priority=9)
    holder = one.submit(calls.wait_for, gate)
    until(lambda: holder.status is Status.RUNNING)
    waiting = one.submit(calls.pid)
    others = [nbtasks.using(limit=("b", 1)).submit(calls.pid), nbtasks.submit(calls.pid), submit_cell(queue, "1")]
    nbtasks.gather(others)
    assert waiting.status is Status.QUEUED
    assert waiting.cancel()
    with pytest.raises(CancelledError):
        waiting.result(0)
    Path(gate).touch()
    holder.result(30)


def test_queues_share_the_resources_of_the_machine(
    queue: Queue, start: Start, licence: None, places: str, gate: str, tmp_path: Path
) -> None:
    start("-w", "2").ready()
    other = Queue.open(str(tmp_path / "other" / ".nbtasks"))
    elsewhere = Worker(other, "-w", "2").ready()
    some = nbtasks.using(resources={"licence": 1})
    try:
        holder = some.submit(calls.wait_for, gate)
        until(lambda: holder.status is Status.RUNNING)
        nbtasks.configure(queue=other.root)
        after = some.submit(time.time)
        time.sleep(1.1)  # its worker has looked once, and will not for two seconds
        assert after.reason.startswith(f"for licence: 1 of 1 in use by {holder.short} (wait_for, 00:01)")
        Path(gate).touch()
        opened = time.time()
        assert after.result(30) - opened < _AT_ONCE
        tasks = [some.submit(calls.occupy, places, 1, 0.02) for _ in range(6)]
        nbtasks.configure(queue=queue.root)
        nbtasks.gather(*tasks, *(some.submit(calls.occupy, places, 1, 0.02) for _ in range(6)))
    finally:
        elsewhere.stop()
    assert not os.path.exists(f"{places}/too-many")


def test_one_that_gives_back_two_lets_two_begin(
    queue: Queue, start: Start, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbtasks.configure(resources={"licence": 2})
    start("-w", "3").ready()
    holder = nbtasks.using(resources={"licence": 2}).submit(calls.wait_for, gate)
    until(lambda: holder.status is Status.RUNNING)
    two = [nbtasks.using(resources={"licence": 1}).submit(calls.wait_for, f"{gate}-2") for _ in range(2)]
    time.sleep(1.1)
    assert [task.status for task in two] == [Status.QUEUED] * 2
    Path(gate).touch()
    until(lambda: all(task.status is Status.RUNNING for task in two), _AT_ONCE)
    Path(f"{gate}-2").touch()
    nbtasks.gather(two)


def test_a_rate_holds_for_two_workers_and_over_their_death(queue: Queue, start: Start, notes: str) -> None:
    workers = [start("-w", "2").ready(), start("-w", "2").ready()]
    tasks = [nbtasks.using(rate=("api", "6/s")).submit(calls.note_now, notes) for _ in range(15)]
    until(lambda: len(lines(notes)) >= 6)
    assert re.search(r"for rate api \(6/s\): next in [01]\.\d s", tasks[-1].reason)
    for worker in workers:
        worker.kill()
    start("-w", "2")
    nbtasks.gather(tasks)
    # By the slots' own word, before the rate counts: what the code itself can note comes later, how much depends on the load.
    begins = sorted(task.record.outcome.started for task in tasks)
    assert all(later - earlier > 0.999 for earlier, later in zip(begins, begins[6:], strict=False))


def test_a_worker_stays_for_what_waits_for_a_token(queue: Queue, start: Start, licence: None) -> None:
    taken = tokens._take_all(queue, Needs(resources={"licence": (1, 1)}))
    assert taken
    task = nbtasks.using(resources={"licence": 1}).submit(calls.pid)
    worker = start("--burst", "-w", "1").ready()
    folder = queue.layout.bells_of(queue.boot, WAITERS)
    until(lambda: doorbells.bells_in(folder))
    assert worker.process.poll() is None
    for _, lease in taken:
        lease.release()
    queue.ring_token_waiters()
    assert task.result(10)
    assert worker.end() == 0
    assert doorbells.bells_in(folder) == []


def test_a_child_waits_for_its_parent_first_and_a_retry_takes_its_token_again(
    queue: Queue, start: Start, notes: str, places: str
) -> None:
    start("-w", "3")
    some = nbtasks.using(limit=("a", 1))
    flaky = some.using(retries=2).submit(calls.fail_until, notes, 3)
    child = some.using(after=flaky).submit(calls.occupy, places, 1, 0.0)
    assert child.status is Status.WAITING
    assert child.result(30)
    assert flaky.result() == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 0}, "limit=0 cannot be: give a whole number of at least 1"),
        ({"limit": {"api": "two"}}, r"limit\['api'\]='two' cannot be"),
        ({"limit": {}}, "says nothing: leave it out"),
        ({"limit": {"": 2}}, "'' is no name"),
        ({"rate": "30/week"}, "rate='30/week' is no rate: give starts a minute, or text such as '30/m'"),
        ({"rate": {"api": 0}}, r"rate\['api'\]=0 is no rate"),
        ({"rate": "100000/h"}, "say it for a shorter time, as '5/s'"),
        ({"resources": 2}, "give what is needed and how many of it"),
        ({"resources": {"licence": 0}}, "cannot be: give a whole number"),
        ({"resources": {"licence": 2}}, r"licence=2 was asked, this machine has 1 \(environment\): refused"),
        ({"resources": {"licens": 1}}, "did you mean 'licence'\\? Say it in pyproject.toml"),
        ({"limits": 2}, "did you mean 'limit'"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_queued(
    queue: Queue, start: Start, licence: None, options: dict[str, object], says: str
) -> None:
    with pytest.raises(OptionError, match=says):
        nbtasks.using(**options).submit(calls.pid)
    assert list(queue.records()) == []


def test_a_limit_counts_by_name_and_options_add_up(queue: Queue, start: Start, licence: None) -> None:
    known = nbtasks.task(limit=2, resources={"licence": 1})(calls.pid)
    task = known.using(rate="30/m", name="nightly").submit()
    expected = Needs(limits={"nightly": 2}, rates={"nightly": (30, 60.0)}, resources={"licence": (1, 1)})
    assert (task.spec.needs, task.spec.need) == (expected.fields, expected.code)
    assert [one.spec.needs for one in known.map([], [])] == []
    assert nbtasks.submit(calls.pid).spec.need == "f"
