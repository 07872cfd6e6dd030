"""The contract: a task means the same on every engine. Against real servers; see servers.py for how to add one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status
from tests.engines import contract_calls as calls
from tests.engines.servers import Desk, Place, opened, params, use
from tests.worker.tools import submit_cell, until

WAIT = 30


@pytest.fixture(scope="module", params=params())
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with opened(request.param) as place:
        yield place


@pytest.fixture(scope="module")
def shared(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(place, tmp_path_factory.mktemp(place.name))
    with pytest.MonkeyPatch.context() as patch:
        use(desk, patch)
        desk.start()
    yield desk
    desk.close()


@pytest.fixture
def desk(shared: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    use(shared, monkeypatch)
    return shared


@pytest.fixture
def notes(tmp_path: Path) -> str:
    return str(tmp_path / "notes")


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """A file that is not there yet; tasks wait for it. It is there at the end, so that none waits on."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()


@pytest.fixture(autouse=True)
def _lacks(request: pytest.FixtureRequest) -> None:
    """What an engine says it cannot do is expected to fail: then the table would be wrong if it could."""
    place = request.getfixturevalue("place")
    why = place.lacks.get(request.node.originalname)
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
    until(lambda: "from below" in task.log, what=f"the log: {task.log!r}")
    assert task.status is Status.RUNNING
    assert "last line" not in task.log
    until(lambda: task.progress and task.progress["bars"][0]["n"] == 4)
    Path(gate).touch()
    assert task.result(WAIT) == "done"
    assert task.log == "first line\nto stderr\nfrom below\nlast line\n"
    assert task.progress["bars"][0]["n"] == 4
    assert [event["kind"] for event in task.record.events()][:1] == ["stderr"]


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
