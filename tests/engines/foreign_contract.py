"""The contract of foreign engines: that of test_contract.py, and then far workers, the bridge and the broker die.

Each task has one outcome, none is lost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, TaskLost, cli_show, processes
from nbtasks.queue import check, members
from nbtasks.queue.members import Member
from tests.engines import contract_calls as calls
from tests.engines.servers import Desk, Place, use
from tests.engines.test_contract import *  # noqa: F403
from tests.worker.tools import kill, lines, until

WAIT = 40


@pytest.fixture
def own(place: Place, shared: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A queue of its own, whose worker soon takes a silent task for lost."""
    shared.close()
    desk = Desk(place, tmp_path)
    use(desk, monkeypatch)
    monkeypatch.setenv("NBTASKS_LEASE", "3s")
    place.refresh()
    desk.start()
    yield desk
    desk.close()


def bridge(own: Desk) -> Member:
    """The bridge that lives."""

    def find() -> Member | None:
        slots = filter(members.is_foreign, members.list_slots(own.queue))
        return next((slot for slot in slots if processes.is_alive(slot.process)), None)

    return until(find, what="a bridge")


def test_what_a_killed_far_worker_ran_is_delivered_again(own: Desk, notes: str, gate: str) -> None:
    task = nbtasks.submit(calls.note_and_wait, notes, gate)
    once = nbtasks.using(at_most_once=True).submit(calls.note_and_wait, f"{notes}-once", gate)
    until(lambda: lines(notes) and lines(f"{notes}-once"))
    own.place.kill_workers()
    until(lambda: not os.path.exists(f"/proc/{lines(notes)[0]}"), what="the end of the task's process")
    own.place.start_workers()
    with pytest.raises(TaskLost, match="does not run again unasked"):
        once.result(WAIT)
    until(lambda: len(lines(notes)) == 2)
    Path(gate).touch()
    assert task.result(WAIT) == int(lines(notes)[1])
    assert (task.record.ticket.losses, len(lines(f"{notes}-once"))) == (1, 1)


def test_a_new_bridge_finds_what_is_in_flight(own: Desk, notes: str, gate: str) -> None:
    long = nbtasks.submit(calls.say_and_wait, gate)
    short = nbtasks.submit(calls.note_and_wait, notes, f"{gate}-2")
    queued = [nbtasks.submit(calls.note, f"{notes}-{number}") for number in range(3)]
    until(lambda: lines(notes) and "to stderr" in long.log)
    old = bridge(own)
    os.kill(own.worker.pid, signal.SIGSTOP)  # it makes no other for a while
    kill(old.process.pid)
    Path(f"{gate}-2").touch()  # this one and those behind it end while nobody listens
    until(lambda: all(lines(f"{notes}-{number}") for number in range(3)))
    os.kill(own.worker.pid, signal.SIGCONT)
    assert short.result(WAIT) == int(lines(notes)[0])
    assert [task.result(WAIT) for task in queued] == [None] * 3
    assert long.status is Status.RUNNING
    Path(gate).touch()
    assert long.result(WAIT) == "done"
    assert long.log == "first line\nto stderr\nlast line\n", "what the old bridge wrote and the new one"
    assert [lines(f"{notes}-{number}") for number in range(3)] == [["ran"]] * 3
    assert long.record.ticket.losses == 0
    assert bridge(own).name != old.name


def test_a_cancel_reaches_what_a_dead_bridge_left(own: Desk, notes: str, gate: str) -> None:
    task = nbtasks.submit(calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    os.kill(own.worker.pid, signal.SIGSTOP)
    kill(bridge(own).process.pid)
    task.cancel()
    os.kill(own.worker.pid, signal.SIGCONT)
    until(task.done, WAIT)
    assert task.status is Status.CANCELLED
    assert not Path(gate).exists()


def test_another_worker_takes_over_from_one_that_died_with_its_bridge(own: Desk, notes: str, gate: str) -> None:
    once = nbtasks.using(at_most_once=True).submit(calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    pid = bridge(own).process.pid
    own.worker.kill()
    kill(pid)
    Path(gate).touch()
    own.start()
    assert once.result(WAIT) == int(lines(notes)[0])
    assert len(lines(notes)) == 1


def test_tasks_outlive_a_restart_of_the_broker(own: Desk, notes: str, gate: str) -> None:
    running = nbtasks.submit(calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    tasks = [nbtasks.submit(calls.note, f"{notes}-{number}") for number in range(20)]
    until(lambda: lines(f"{notes}-1"))
    own.place.stop_broker()
    own.worker.wait_for("does not answer")
    until(lambda: "does not answer" in running.reason, what=f"the card: {running.reason!r}")
    late = nbtasks.submit(calls.note, f"{notes}-late")
    Path(gate).touch()
    own.place.start_broker()
    own.worker.wait_for("answers again")
    assert running.result(WAIT) == int(lines(notes)[0])
    assert [task.result(WAIT) for task in [*tasks, late]] == [None] * 21
    assert "does not answer" not in running.reason
    assert len(lines(notes)) == 1


def test_a_key_that_is_not_ours_is_refused(own: Desk, notes: str, tmp_path: Path) -> None:
    own.place.kill_workers()
    other = tmp_path / "other.key"
    other.write_text("ab" * 32 + "\n")
    other.chmod(0o600)
    own.place.start_workers(1, NBTASKS_KEY_FILE=str(other))
    task = nbtasks.submit(calls.note, notes)
    with pytest.raises(nbtasks.TaskFailed, match=r"not signed with the key of this worker.*nbtasks key import FILE"):
        task.result(WAIT)
    until(lambda: "is refused: the task was not signed" in own.place.logs())  # for those who look after that worker
    assert "traceback" not in "".join(map(str, cli_show.page_of(task.record, lines=9)))  # there is none
    own.place.kill_workers()
    own.place.start_workers(1, NBTASKS_KEY_FILE=str(tmp_path / "none.key"))
    task = nbtasks.submit(calls.note, notes)
    with pytest.raises(nbtasks.TaskFailed, match=r"there is no key at .*none\.key.*nbtasks key export FILE"):
        task.result(WAIT)
    assert lines(notes) == []
    own.place.kill_workers()
    own.place.start_workers(1)
    assert task.retry().result(WAIT) is None


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_five_hundred_tasks_while_everything_dies(own: Desk, tmp_path: Path) -> None:
    """Bridge, far workers and broker are killed again and again: each task has one outcome, and ran once unless it was lost."""
    count = 500
    tasks = [nbtasks.submit(calls.sleep, f"{tmp_path}/{number}", 0.02) for number in range(count)]

    def are_done(share: float) -> bool:
        own.place.restart_ended()  # a worker of RQ ends when its Redis does
        return sum(task.done() for task in tasks) >= share * count

    def done(share: float) -> None:
        until(lambda: are_done(share), 120, "tasks that end")

    for step in range(1, 4):
        done(step * 0.2)
        kill(bridge(own).process.pid)
        done(step * 0.2 + 0.05)
        own.place.kill_workers()
        own.place.start_workers()
        done(step * 0.2 + 0.1)
        if test_tasks_outlive_a_restart_of_the_broker.__name__ in own.place.lacks:
            continue  # each restart is a loss of all that it held, and three losses end a task
        own.place.stop_broker()
        own.place.start_broker()
    done(1)
    nbtasks.gather(*tasks)
    for number, task in enumerate(tasks):
        ran, losses = len(lines(f"{tmp_path}/{number}")), task.record.ticket.losses
        assert 1 <= ran <= 1 + losses, f"{task.id} ran {ran} times and was lost {losses} times"
    assert check.check(own.queue) == []
