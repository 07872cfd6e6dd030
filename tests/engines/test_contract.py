"""The contract: a task means the same on every engine. Against real servers; see servers.py for how to add one.

Here it runs on `processes`. There is a file for each other engine, ``test_contract_NAME.py``, so that they run side by side: it
has all tests of this file (and those of foreign_contract.py) and says its own `KIND`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbtasks
from nbtasks import PayloadError, Status, TaskLost, TaskTimedOut
from tests.engines import contract_calls as calls
from tests.engines.servers import Desk, Place, Processes, opened, use
from tests.worker.tools import lines, submit_cell, until

KIND: type[Place] = Processes
WAIT = 30


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, home: str) -> Iterator[Place]:
    """The servers of the file's engine; they start once."""
    with opened(request.module.KIND, home) as place:
        yield place


@pytest.fixture(scope="module")
def shared(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(place, tmp_path_factory.mktemp(place.name))
    yield desk
    desk.close()


@pytest.fixture
def desk(shared: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A queue that all tests of the contract share, with a worker that lives."""
    use(shared, monkeypatch)
    if not shared.is_open():
        shared.place.refresh()
        shared.start()
    return shared


@pytest.fixture(autouse=True)
def expects_what_it_lacks(request: pytest.FixtureRequest) -> None:
    """What an engine says it cannot do is expected to fail: then the table would be wrong if it could."""
    why = request.module.KIND.lacks.get(request.node.originalname)
    if why:
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))


def test_a_value_comes_back(desk: Desk) -> None:
    assert nbtasks.submit(calls.add, [1], other=["two"]).result(WAIT) == [1, "two"]
    task = nbtasks.submit(calls.nothing)
    assert task.result(WAIT) is None
    assert task.status is Status.SUCCEEDED


def test_a_function_of_the_notebook_runs(desk: Desk) -> None:
    base = 40

    def shift(number: int) -> int:
        return base + number

    assert nbtasks.submit(shift, 2).result(WAIT) == 42


def test_an_exception_keeps_its_type_and_its_traceback(desk: Desk) -> None:
    task = nbtasks.submit(calls.raise_odd, 3)
    with pytest.raises(calls.Odd, match="3 is odd") as caught:
        task.result(WAIT)
    assert caught.value.number == 3
    assert "contract_calls.py" in str(caught.value.__cause__)
    assert "raise_odd" in task.traceback


def test_output_and_progress_are_there_while_it_runs(desk: Desk, gate: str) -> None:
    task = nbtasks.submit(calls.say_and_wait, gate)
    until(lambda: "to stderr" in task.log, what=f"the log: {task.log!r}")
    assert task.status is Status.RUNNING
    assert "last line" not in task.log
    until(lambda: task.progress and task.progress["bars"][0]["n"] == 4)
    Path(gate).touch()
    assert task.result(WAIT) == "done"
    assert task.log == "first line\nto stderr\nlast line\n"
    assert task.progress["bars"][0]["n"] == 4
    assert [event["kind"] for event in task.record.events()][:1] == ["stderr"]


def test_what_is_printed_below_python_is_in_the_log(desk: Desk) -> None:
    task = nbtasks.submit(calls.print_below)
    task.result(WAIT)
    assert task.log == "from below\n"


def test_a_cell_runs_and_shows(desk: Desk) -> None:
    task = submit_cell(
        desk.queue, "from IPython.display import HTML\nx = 20 + y\ndisplay(HTML('<b>hi</b>'))\nx", inputs={"y": 3}
    )
    assert task.result(WAIT) == 23
    assert task.vars["x"] == 23
    assert any("<b>hi</b>" in str(event) for event in task.record.events())


def test_values_go_from_parents_to_children(desk: Desk) -> None:
    first = nbtasks.submit(calls.add, 1, 2)
    second = nbtasks.submit(calls.add, first, 10)
    third = nbtasks.submit(calls.add, [first], [second])
    assert third.result(WAIT) == [3, 13]


def test_a_running_task_is_cancelled(desk: Desk, notes: str, gate: str) -> None:
    task = nbtasks.submit(calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    assert task.cancel()
    until(task.done)
    assert task.status is Status.CANCELLED
    assert not Path(gate).exists()


def test_a_task_that_ignores_it_is_stopped_by_force(desk: Desk, notes: str) -> None:
    task = nbtasks.using(grace="100ms").submit(calls.stubborn, notes)
    until(lambda: lines(notes))
    task.cancel()
    until(task.done)
    assert task.status is Status.CANCELLED
    pid, *rest = lines(notes)
    assert rest[:1] == ["interrupted"]
    until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_what_was_cancelled_before_it_began_never_runs(desk: Desk, notes: str, gate: str, tmp_path: Path) -> None:
    """All places to run are taken; another task waits for one of them, wherever it waits."""
    room = range(desk.place.room)
    first = [nbtasks.submit(calls.note_and_wait, f"{notes}-{number}", gate) for number in room]
    until(lambda: all(lines(f"{notes}-{number}") for number in room))
    third = nbtasks.submit(calls.note, notes)
    assert third.cancel()
    until(third.done)
    assert third.status is Status.CANCELLED
    Path(gate).touch()
    assert len(nbtasks.gather(*first)) == len(room)
    assert nbtasks.submit(calls.nothing).result(WAIT) is None
    assert lines(notes) == []


def test_a_time_limit_ends_a_task(desk: Desk, notes: str) -> None:
    task = nbtasks.using(timeout=0.3, grace=0.3).submit(calls.sleep, notes, 60)
    with pytest.raises(TaskTimedOut, match=r"timed out after 0\.3 s"):
        task.result(WAIT)
    assert lines(notes) == ["ran"]


def test_a_failed_task_is_tried_again(desk: Desk, notes: str) -> None:
    task = nbtasks.using(retries=2).submit(calls.fail_until, notes, 3)
    assert task.result(WAIT) == 3
    assert task.record.attempt == 3
    assert [outcome.failure and outcome.failure.message for outcome in task.record.earlier] == ["try 1", "try 2"]


def test_a_failed_parent_fails_its_children(desk: Desk) -> None:
    child = nbtasks.submit(calls.add, nbtasks.submit(calls.raise_odd, 1), 2)
    with pytest.raises(nbtasks.UpstreamFailed, match="raise_odd"):
        child.result(WAIT)


def test_what_is_in_the_cache_does_not_run_again(desk: Desk, notes: str) -> None:
    first = nbtasks.using(cache=True).submit(calls.fail_until, notes, 1)
    assert first.result(WAIT) == 1
    assert nbtasks.using(cache=True).submit(calls.fail_until, notes, 1).result(WAIT) == 1
    assert lines(notes) == ["ran"]


def test_a_large_value_goes_there_and_back(desk: Desk) -> None:
    data = calls.large(20 << 20)
    task = nbtasks.submit(calls.add, data, data)
    assert task.result(WAIT) == data + data
    assert nbtasks.submit(calls.length, task).result(WAIT) == 2 * len(data)


def test_a_value_that_cannot_be_pickled_is_named(desk: Desk) -> None:
    with pytest.raises(PayloadError, match="the value that the task returned"):
        nbtasks.submit(calls.not_to_be_pickled).result(WAIT)


def test_an_exit_is_told_from_an_end(desk: Desk) -> None:
    task = nbtasks.submit(calls.leave, 7)
    with pytest.raises(TaskLost, match="exit code 7"):
        task.result(WAIT)
    assert (task.record.outcome.exit_code, task.log) == (7, "about to leave\n")


def test_a_crash_is_named(desk: Desk) -> None:
    task = nbtasks.submit(calls.crash)
    with pytest.raises(TaskLost, match=r"signal 11 \(SIGSEGV\)"):
        task.result(WAIT)


def test_a_crash_says_where_it_was(desk: Desk) -> None:
    task = nbtasks.submit(calls.crash)
    until(task.done)
    assert "contract_calls.py" in task.log, "faulthandler says where"


def test_a_task_whose_process_was_killed_has_attempts_left(desk: Desk, notes: str, gate: str) -> None:
    task = nbtasks.using(retries=1).submit(calls.note_and_wait, notes, gate)
    os.kill(int(until(lambda: lines(notes))[0]), signal.SIGKILL)
    until(lambda: len(lines(notes)) == 2)
    Path(gate).touch()
    assert task.result(WAIT) == int(lines(notes)[1])


def test_a_missing_module_is_named(desk: Desk) -> None:
    task = nbtasks.submit(calls.import_missing)
    with pytest.raises(ModuleNotFoundError, match="nbtasks_no_such_module"):
        task.result(WAIT)
    if desk.place.is_foreign:
        assert "has no module 'nbtasks_no_such_module': pip install nbtasks_no_such_module there" in task.reason
        assert f"nbtasks {nbtasks.__version__}" in task.reason


def test_many_tasks_each_end_once(desk: Desk, tmp_path: Path) -> None:
    tasks = nbtasks.map(calls.fail_until, [f"{tmp_path}/{number}" for number in range(40)], [1] * 40)
    assert tasks.results() == [1] * 40
    assert [lines(f"{tmp_path}/{number}") for number in range(40)] == [["ran"]] * 40


def test_one_that_takes_longer_holds_up_no_other(desk: Desk, notes: str, gate: str) -> None:
    """Short tasks in numbers may be given to an engine together."""
    if not desk.place.is_foreign:  # nor are they here, where there may be one place to run
        Path(gate).touch()
    tasks = [nbtasks.submit(calls.pass_by, notes, number, gate if number == 70 else "") for number in range(120)]
    assert list(nbtasks.gather(*tasks[:70], *tasks[71:])) == [*range(70), *range(71, 120)]
    Path(gate).touch()
    assert tasks[70].result(WAIT) == 70
    assert sorted(map(int, lines(notes))) == list(range(120))


def test_a_map_over_the_value_of_a_task_spreads(desk: Desk) -> None:
    spread = nbtasks.map(calls.add, nbtasks.submit(calls.add, [1], [2]), [10, 20])
    assert spread.result(WAIT) == [11, 22]
