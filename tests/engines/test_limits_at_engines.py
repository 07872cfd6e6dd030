"""Limits, rates and named locks of tasks that an engine runs: the bridge takes the tokens, and they outlive it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, processes
from nbtasks.needs import Needs
from nbtasks.queue import members, shortage, tokens
from nbtasks.queue.check import check
from nbtasks.queue.members import Member
from tests.engines import contract_calls, limit_calls
from tests.engines.servers import Desk, HueySqlite, Place, opened, use
from tests.worker import calls
from tests.worker.tools import Worker, kill, lines, submit_cell, until

WAIT = 40
_AT_ONCE = 1.0  # seconds; whoever waits looks by itself, whether a ring was lost, after a second or more


class Wide(HueySqlite):
    """The cheapest of the engines: no server. With more threads than any limit here allows."""

    count = 4


@pytest.fixture(scope="module")
def place(home: str) -> Iterator[Place]:
    with opened(Wide, home) as place:
        yield place


@pytest.fixture
def desk(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(place, tmp_path)
    use(desk, monkeypatch)
    monkeypatch.setenv("NBTASKS_LEASE", "2")
    place.refresh()
    yield desk
    desk.close()


@pytest.fixture
def here(desk: Desk) -> Iterator[Worker]:
    """A worker with slots of its own, for the lane ``near``: it takes at once whatever may start."""
    worker = Worker(desk.queue, "-w", "2", "-l", "near").ready()
    yield worker
    worker.stop()


@pytest.fixture
def places(tmp_path: Path) -> str:
    """Where tasks note that they run."""
    path = tmp_path / "places"
    path.mkdir()
    return str(path)


def bridge(desk: Desk) -> Member:
    """The bridge that lives."""

    def look() -> Member | None:
        found = (slot for slot in members.list_slots(desk.queue) if members.is_foreign(slot))
        return next((slot for slot in found if processes.is_alive(slot.process)), None)

    return until(look, what="a bridge")


def at_engine(task: nbtasks.Task[object]) -> bool:
    """Whether a bridge has claimed it."""
    return (task.record.place.slot or "")[:1] == "b"


def test_never_more_at_once_at_the_engine_and_here_together(desk: Desk, here: Worker, places: str) -> None:
    desk.start()
    both = [nbtasks.using(limit=("a", 2), lane=lane) for lane in ("default", "near")]
    nbtasks.gather([some.submit(calls.occupy, places, 2, 0.005) for _ in range(30) for some in both])
    assert not os.path.exists(f"{places}/too-many")
    assert tokens.look(desk.queue, Needs(limits={"a": 2})) == tokens.NOW
    assert check(desk.queue) == []


@pytest.mark.torture
def test_never_more_at_once_while_bridges_are_killed(desk: Desk, here: Worker, places: str) -> None:
    desk.start()
    both = [nbtasks.using(limit=("a", 2), lane=lane) for lane in ("default", "near")]
    tasks = [some.submit(calls.occupy, places, 2, 0.1) for _ in range(15) for some in both]
    kills = 0
    while not all(task.done() for task in tasks) and kills < 4:
        found = bridge(desk)
        until(lambda: any(map(at_engine, tasks)) or all(task.done() for task in tasks), WAIT)
        kill(found.process.pid)
        kills += 1
    nbtasks.gather(tasks)
    assert kills > 1
    assert not os.path.exists(f"{places}/too-many")
    assert tokens.look(desk.queue, Needs(limits={"a": 2})) == tokens.NOW
    assert check(desk.queue) == []


def test_the_next_bridge_takes_over_the_tokens_of_one_that_died(
    desk: Desk, here: Worker, gate: str, notes: str
) -> None:
    worker = desk.start()
    one = nbtasks.using(limit=("a", 1))
    holder = one.submit(contract_calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    after = one.using(lane="near").submit(time.time)
    assert after.reason.startswith(f"for a: 1 of 1 in use by {holder.short} (note_and_wait, 00:0")
    kill(bridge(desk).process.pid)
    worker.wait_for("took over 1 tasks")
    desk.queue.ring_token_waiters()
    kill(bridge(desk).process.pid)
    until(lambda: worker.log.count("took over 1 tasks") == 2)
    until(lambda: after.reason.startswith(f"for a: 1 of 1 in use by {holder.short} (note_and_wait, 00:0"))
    assert tokens.look(desk.queue, Needs(limits={"a": 1})) == tokens.NEVER
    Path(gate).touch()
    opened_at = time.time()
    assert after.result(WAIT) - opened_at < _AT_ONCE
    assert holder.result(WAIT) == int(lines(notes)[0])
    assert holder.record.ticket.losses == 0


def test_what_runs_at_the_engine_keeps_its_token_while_there_is_no_bridge(
    desk: Desk, here: Worker, gate: str, notes: str
) -> None:
    worker = desk.start()
    one = nbtasks.using(limit=("a", 1))
    holder = one.submit(contract_calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    after = one.using(lane="near").submit(calls.pid)
    last = bridge(desk)
    worker.kill()
    kill(last.process.pid)
    desk.queue.ring_token_waiters()
    assert nbtasks.using(lane="near").submit(calls.pid).result(WAIT), "the one here has looked round"
    assert after.status is Status.QUEUED
    assert tokens.look(desk.queue, Needs(limits={"a": 1})) == tokens.NEVER
    Path(gate).touch()  # nobody hears of its end
    desk.start()
    assert after.result(WAIT)
    assert holder.result(WAIT) == int(lines(notes)[0])


def test_the_next_begins_at_once_when_one_ends(desk: Desk, here: Worker, gate: str) -> None:
    desk.start()
    far = nbtasks.using(limit=("a", 1))
    near = far.using(lane="near")
    for number, (first, second) in enumerate([(far, far), (near, far), (far, near)]):
        holder = first.submit(contract_calls.wait, f"{gate}-{number}")
        until(lambda: holder.status is Status.RUNNING)  # noqa: B023
        after = second.submit(time.time)
        time.sleep(1.1)  # whoever waits has looked, and will not for two seconds
        assert after.status is Status.QUEUED
        assert after.reason.startswith(f"for a: 1 of 1 in use by {holder.short} (wait, 00:0")
        Path(f"{gate}-{number}").touch()
        opened_at = time.time()
        assert after.result(WAIT) - opened_at < _AT_ONCE, number


def test_a_cancelled_one_gives_its_token_to_the_next(desk: Desk, place: Place, gate: str) -> None:
    desk.start()
    one = nbtasks.using(limit=("a", 1))
    running = one.submit(contract_calls.wait, gate)
    until(lambda: running.status is Status.RUNNING)
    waiting, last = one.submit(contract_calls.wait, gate), one.submit(calls.pid)
    assert waiting.cancel()
    until(lambda: waiting.status is Status.CANCELLED)
    assert running.cancel()
    assert last.result(WAIT)


def test_what_the_engine_lost_gives_its_token_back(desk: Desk, place: Place, gate: str, notes: str) -> None:
    desk.start()
    one = nbtasks.using(limit=("a", 1))
    task = one.submit(contract_calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    place.kill_workers()
    place.start_workers()
    until(lambda: len(lines(notes)) == 2, WAIT)
    Path(gate).touch()
    assert task.result(WAIT)
    assert one.submit(calls.pid).result(WAIT)
    assert task.record.ticket.losses == 1


def test_cells_and_functions_share_a_limit_at_the_engine(desk: Desk, places: str) -> None:
    desk.start()
    needs = Needs(fresh=True, limits={"a": 1})
    source = f"from tests.worker import calls; calls.occupy({places!r}, 1, 0.05); import os; os.getpid()"
    assert calls.occupy  # so that its module travels
    cells = [submit_cell(desk.queue, source, need=needs.code, needs=needs.fields) for _ in range(2)]
    functions = [nbtasks.using(limit=("a", 1)).submit(calls.occupy, places, 1, 0.05) for _ in range(4)]
    assert len({cell.result(WAIT) for cell in cells}) == 2, "each in a process of its own"
    nbtasks.gather(functions)
    assert not os.path.exists(f"{places}/too-many")


def test_one_that_waits_for_a_token_holds_up_nobody_else(desk: Desk, gate: str) -> None:
    desk.start()
    one = nbtasks.using(limit=("a", 1), priority=9)
    holder = one.submit(contract_calls.wait, gate)
    until(lambda: holder.status is Status.RUNNING)
    waiting = one.submit(calls.pid)
    others = [nbtasks.using(limit=("b", 1)).submit(calls.pid), nbtasks.submit(calls.pid)]
    nbtasks.gather(others)
    assert waiting.status is Status.QUEUED
    Path(gate).touch()
    assert waiting.result(WAIT)


def test_a_rate_holds_at_the_engine_and_over_the_death_of_a_bridge(desk: Desk, notes: str) -> None:
    desk.start()
    before = time.time()
    tasks = [nbtasks.using(rate=("api", "5/s")).submit(calls.note_now, notes) for _ in range(12)]
    until(lambda: len(lines(notes)) >= 5)
    assert "for rate api (5/s): next in " in tasks[-1].reason
    kill(bridge(desk).process.pid)
    nbtasks.gather(tasks)
    assert len(lines(notes)) == 12
    begins = sorted(map(float, lines(notes)))
    # The rate counts from the news of a beginning, which comes sooner or later after it: what lies between two beginnings
    # says little. But none counts from before the first submit, so whatever the load, five more cost a second more.
    assert begins[5] - before > 1
    assert begins[10] - before > 2


def test_the_next_bridge_knows_what_has_begun_under_a_rate(desk: Desk, notes: str) -> None:
    desk.start()
    some = nbtasks.using(rate=("api", "2/d"), priority=9)  # a day: however long the next bridge takes to be there
    nbtasks.gather([some.submit(calls.note_now, notes) for _ in range(2)])
    waiting = some.submit(calls.note_now, notes)
    kill(bridge(desk).process.pid)
    assert nbtasks.submit(calls.pid).result(WAIT), "the next one has looked round, and would have taken the other first"
    assert waiting.status is Status.QUEUED
    assert waiting.reason.startswith("for rate api (2/d): next in ")
    assert len(lines(notes)) == 2


def test_what_never_began_does_not_count_under_a_rate(desk: Desk, place: Place) -> None:
    place.kill_workers()
    desk.start()
    some = nbtasks.using(rate=("api", "1/d"))
    dropped = some.submit(calls.pid)
    until(lambda: dropped.status is Status.RUNNING)
    task = some.submit(calls.pid)
    assert dropped.cancel()
    until(lambda: dropped.status is Status.CANCELLED)
    place.start_workers()
    assert task.result(WAIT)


def test_a_burst_stays_for_what_waits_for_a_token(desk: Desk) -> None:
    taken = tokens._take_all(desk.queue, Needs(limits={"a": 1}))
    assert taken
    task = nbtasks.using(limit=("a", 1)).submit(calls.pid)
    worker = desk.start("--burst")
    assert nbtasks.submit(calls.pid).result(WAIT)
    assert worker.process.poll() is None
    for _, lease in taken:
        lease.release()
    desk.queue.ring_token_waiters()
    assert task.result(WAIT)
    assert worker.end() == 0


def test_a_named_lock_is_held_by_one_at_a_time_at_the_engine_and_here(desk: Desk, here: Worker, places: str) -> None:
    desk.start()
    both = [nbtasks.using(lane=lane) for lane in ("default", "near")]
    nbtasks.gather([some.submit(limit_calls.occupy_locked, places) for _ in range(8) for some in both])
    assert not os.path.exists(f"{places}/too-many")


def test_who_waits_at_the_engine_for_a_lock_says_for_whom_and_is_cancelled(desk: Desk, gate: str) -> None:
    desk.start()
    holder = nbtasks.submit(limit_calls.hold, gate)
    until(lambda: "held by" in shortage.of_lock(desk.queue, "db"))
    other = nbtasks.submit(limit_calls.hold, gate)
    until(lambda: other.reason.startswith(f"waits for lock db, held by {holder.short} (hold, 00:0"))
    with pytest.raises(TimeoutError, match=f"for lock db, held by {holder.short}"), nbtasks.lock("db", timeout=0):
        pass
    assert other.cancel()
    until(lambda: other.status is Status.CANCELLED)
    assert holder.reason == ""
    Path(gate).touch()
    assert holder.result(WAIT) == "held"
    with nbtasks.lock("db", timeout=0):
        pass


def test_a_lock_on_another_machine_is_refused_with_the_cure(desk: Desk, place: Place, gate: str) -> None:
    place.kill_workers()
    place.start_workers(NBTASKS_BOOT="elsewhere")
    try:
        desk.start()
        with pytest.raises(nbtasks.QueueError, match=r"lock\('db'\) cannot be had on .* Say limit=\{'db': 1\}"):
            nbtasks.submit(limit_calls.hold, gate).result(WAIT)
    finally:
        place.kill_workers()
