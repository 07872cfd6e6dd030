"""What comes back into a notebook, and what never takes the place of the notebook's own."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from nbtasks import config, payload
from nbtasks.jupyter import binding
from nbtasks.jupyter.binding import Binder, Owed
from nbtasks.outcome import Outcome, Variable
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status


class Notebook:
    """A namespace with its binder, and tasks that end when the test says so, with what it says."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.names: dict[str, Any] = {}
        self.binder = Binder(self.names)
        self._claimer = Claimer(queue, "s-test", ["default@env@c"])
        self._claimed: dict[str, Ticket] = {}

    def submit(self, reads: str = "", assigns: str = "") -> Spec:
        spec = Spec(id=self.queue.new_id(), name="cell", kind="cell", need="c", env="env", priority=9)
        self.queue.put(spec, [payload.dump("cell", None)])
        known = {name: self.names[name] for name in (*reads.split(), *assigns.split()) if name in self.names}
        digests = {name: digest for name, value in known.items() if (digest := binding.digest_of(value))}
        seen = binding.look_around(self.names, digests)
        brings = frozenset((*reads.split(), *assigns.split()))
        self.binder.expect(Owed(self.queue, spec, seen, frozenset(reads.split()), brings))
        return spec

    def end(self, spec: Spec, status: Status = Status.SUCCEEDED, changed: str = "", **values: Any) -> None:
        """End a task; it brings back `values`."""
        while claimed := self._claimer.try_claim():
            self._claimed[claimed.id] = claimed
        ticket = self._claimed.pop(spec.id)
        variables = tuple(Variable(name=name, changed=name in changed.split()) for name in values)
        outcome = Outcome(
            id=spec.id, delivery=ticket.delivery, status=status, variables=variables, has_value=True
        )  # fmt: skip
        assert self.queue.finish(spec, ticket, "s-test", outcome, [payload.dump("cell", (None, values))])

    def bind(self, spec: Spec) -> dict[str, str]:
        """Bind what has ended, as between two cells; the names of the task that were not bound, and why."""
        self.binder.bind_ended()
        return dict(self.binder.said(spec.id)[0])


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    config.configure(autostart=False)
    return Notebook(Queue.open(str(tmp_path / ".nbtasks")))


def test_an_assigned_name_comes_back(notebook: Notebook) -> None:
    task = notebook.submit(assigns="total")
    assert notebook.bind(task) == {}
    assert "total" not in notebook.names
    notebook.end(task, total=42)
    assert notebook.bind(task) == {}
    assert notebook.names["total"] == 42


def test_an_input_changed_in_place_comes_back(notebook: Notebook) -> None:
    notebook.names["scores"] = [1]
    task = notebook.submit(reads="scores")
    notebook.end(task, scores=[1, 2], changed="scores")
    assert notebook.bind(task) == {}
    assert notebook.names["scores"] == [1, 2]


def test_other_names_of_the_old_object_are_told(notebook: Notebook) -> None:
    notebook.names["scores"] = notebook.names["same"] = [1]
    task = notebook.submit(reads="scores")
    notebook.end(task, scores=[1, 2], changed="scores")
    notebook.bind(task)
    assert notebook.names["same"] == [1]
    assert notebook.binder.said(task.id)[1] == ["same still holds the scores from before"]


def test_not_over_a_name_set_meanwhile(notebook: Notebook) -> None:
    task = notebook.submit(assigns="total")
    notebook.names["total"] = "mine"
    notebook.end(task, total=42)
    assert notebook.bind(task) == {"total": "it was set in the notebook meanwhile"}
    assert notebook.names["total"] == "mine"


def test_not_over_a_name_set_anew_meanwhile(notebook: Notebook) -> None:
    notebook.names["scores"] = [1]
    task = notebook.submit(reads="scores")
    notebook.names["scores"] = [1, 2, 3]
    notebook.end(task, scores=[1, 2], changed="scores")
    assert notebook.bind(task) == {"scores": "it was set anew in the notebook meanwhile"}
    assert notebook.names["scores"] == [1, 2, 3]


def test_not_over_a_value_changed_meanwhile(notebook: Notebook) -> None:
    notebook.names["scores"] = [1]
    task = notebook.submit(reads="scores", assigns="total")
    notebook.names["scores"].append(5)
    notebook.end(task, scores=[1, 2], total=3, changed="scores")
    assert notebook.bind(task) == {"scores": "it was changed in the notebook meanwhile"}
    assert notebook.names == {"scores": [1, 5], "total": 3}


def test_an_old_value_of_an_assigned_name_is_replaced_when_nobody_touched_it(notebook: Notebook) -> None:
    notebook.names["model"] = {"fitted": False}
    task = notebook.submit(assigns="model")
    notebook.end(task, model={"fitted": True})
    assert notebook.bind(task) == {}
    assert notebook.names["model"] == {"fitted": True}


def test_an_input_deleted_meanwhile_comes_back(notebook: Notebook) -> None:
    notebook.names["scores"] = [1]
    task = notebook.submit(reads="scores")
    del notebook.names["scores"]
    notebook.end(task, scores=[1, 2], changed="scores")
    assert notebook.bind(task) == {}
    assert notebook.names["scores"] == [1, 2]


def test_of_two_cells_the_one_submitted_last_counts(notebook: Notebook) -> None:
    first, second = notebook.submit(assigns="x"), notebook.submit(assigns="x")
    notebook.end(first, x=1)
    assert notebook.bind(first) == {}
    notebook.end(second, x=2)
    assert notebook.bind(second) == {}
    assert notebook.names["x"] == 2


def test_also_when_it_ends_first(notebook: Notebook) -> None:
    first, second = notebook.submit(assigns="x"), notebook.submit(assigns="x")
    notebook.end(second, x=2)
    notebook.bind(second)
    notebook.end(first, x=1)
    assert notebook.bind(first) == {"x": f"{second.short}, submitted later, brought it back"}
    assert notebook.names["x"] == 2


def test_not_over_what_was_bound_and_then_changed(notebook: Notebook) -> None:
    first, second = notebook.submit(assigns="x"), notebook.submit(assigns="x")
    notebook.end(first, x=[1])
    notebook.bind(first)
    notebook.names["x"].append("mine")
    notebook.end(second, x=[2])
    assert notebook.bind(second) == {"x": "it was set in the notebook meanwhile"}
    assert notebook.names["x"] == [1, "mine"]


def test_a_failed_task_binds_nothing_until_a_retry_succeeds(notebook: Notebook) -> None:
    task = notebook.submit(assigns="x")
    notebook.end(task, status=Status.FAILED, x=1)
    assert notebook.bind(task) == {}
    assert "x" not in notebook.names
    notebook.queue.retry(task.id)
    notebook.end(task, x=2)
    notebook.bind(task)
    assert notebook.names["x"] == 2


def test_what_a_cancelled_cell_still_returned_is_bound(notebook: Notebook) -> None:
    task = notebook.submit(assigns="x")
    notebook.end(task, status=Status.CANCELLED, x=1)
    notebook.bind(task)
    assert notebook.names["x"] == 1


def test_what_cannot_be_loaded_here_is_told(notebook: Notebook) -> None:
    task = notebook.submit(assigns="x")
    notebook.end(task, x=_Unloadable())
    notebook.bind(task)
    (note,) = notebook.binder.said(task.id)[1]
    assert note.startswith("nothing was bound, because it cannot be loaded here")
    assert "x" not in notebook.names


class _Unloadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_nothing_is_bound_in_a_thread(notebook: Notebook) -> None:
    task = notebook.submit(assigns="x")
    notebook.end(task, x=1)
    thread = threading.Thread(target=notebook.binder.bind_ended)
    thread.start()
    thread.join()
    assert "x" not in notebook.names


def test_a_large_input_changed_in_place_is_kept_apart(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "COMPARED", 10)
    notebook.names["big"] = list(range(100))
    task = notebook.submit(reads="big")
    notebook.end(task, big=[0], changed="big")
    assert notebook.bind(task) == {"big": "it is too large to tell whether the notebook changed it meanwhile"}
    assert len(notebook.names["big"]) == 100


def test_a_removed_queue_disturbs_nobody(notebook: Notebook) -> None:
    task = notebook.submit(assigns="x")
    notebook.end(task, x=1)
    shutil.rmtree(notebook.queue.root)
    notebook.bind(task)
    assert "x" not in notebook.names
