"""The shows of a background cell, through a real ipykernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tests.jupyter.kernel import Cell, Gate, Kernel


def short_id(cell: Cell) -> str:
    """The id on the card of a background cell."""
    match = re.search(r"%task (\w+)|get\(\"(\w+)\"", cell.card)
    assert match is not None, cell.card
    return match[1] or match[2]


def start(kernel: Kernel, source: str, options: str = "") -> Cell:
    """Run a background cell and wait until its task runs."""
    cell = kernel.run(f"%%background {options}\n{source}")
    assert cell.status == "ok", cell.error + cell.text
    kernel.until(lambda: "  running" in cell.card, "the task to run")
    return cell


def wait_for_end(kernel: Kernel, cell: Cell, status: str = "succeeded") -> None:
    kernel.until(lambda: f"  {status}" in cell.card, f"the task to be {status}")


def test_the_prompt_is_back_while_the_task_runs(kernel: Kernel) -> None:
    gate = Gate(kernel)
    cell = start(kernel, f"{gate.code}total = 42")
    other = kernel.run("print(6 * 7)")
    assert other.text == "42\n"
    assert "  running" in cell.card
    assert kernel.ask("'total' in globals()") == "False"
    gate.open()
    wait_for_end(kernel, cell)
    assert "brought back total" in cell.card
    assert kernel.ask("total") == "42"


def test_updates_reach_the_card_of_the_task_and_end_with_it(kernel: Kernel) -> None:
    gate = Gate(kernel)
    cell = start(kernel, f"print('line 1')\n{gate.code}print('line 2')")
    later = kernel.run("print('later')")
    kernel.until(lambda: "line 1" in cell.card, "what was printed")
    gate.open()
    wait_for_end(kernel, cell)
    assert "line 2" in cell.card
    assert later.text == "later\n"
    assert not later.displays, "an update changes the card that there is, and shows no other"
    names = "[thread.name for thread in threading.enumerate()]"
    kernel.run("import threading")
    kernel.until(lambda: "nbtasks-cards" not in kernel.ask(names), "the refresher to end")


def test_a_fitted_model_comes_back_fitted(kernel: Kernel) -> None:
    kernel.run(
        "from sklearn.linear_model import LinearRegression\nmodel = LinearRegression()\nX, y = [[0], [1]], [1, 3]"
    )
    cell = kernel.run("%%background\nmodel.fit(X, y)")
    wait_for_end(kernel, cell)
    assert "changed in place" in cell.card
    assert kernel.ask("model.predict([[2]]).round(3).tolist()") == "[5.0]"


def test_objects_of_the_notebooks_own_classes_come_back(kernel: Kernel) -> None:
    kernel.run(
        "class Model:\n    def fit(self, x):\n        self.w = sum(x)\n        return self\nmodel = Model(); log = []"
    )
    cell = kernel.run("%%background\nmodel.fit([1, 2])\nlog.append(model.w)\nother = Model()")
    wait_for_end(kernel, cell)
    assert kernel.ask("(model.w, log, isinstance(model, Model), isinstance(other, Model))") == "(3, [3], True, True)"


def test_interrupting_the_kernel_leaves_the_task_alone(kernel: Kernel) -> None:
    gate = Gate(kernel)
    cell = start(kernel, f"{gate.code}x = 1")
    busy = kernel.start("import time\nprint('busy')\ntime.sleep(600)")
    kernel.until(lambda: "busy" in busy.text, "the kernel to be busy")
    kernel.interrupt()
    kernel.until(lambda: busy.over, "the interrupt")
    assert busy.status == "error"
    gate.open()
    wait_for_end(kernel, cell)
    assert kernel.ask("x") == "1"


def test_a_restarted_kernel_gets_the_value(own_kernel: Kernel) -> None:
    kernel = own_kernel
    gate = Gate(kernel)
    cell = start(kernel, f"{gate.code}x = 1\n'the value'")
    kernel.restart()
    gate.open()
    task = f"nbtasks.get({short_id(cell)!r})"
    kernel.load()
    assert kernel.ask(f"{task}.result(60)") == "'the value'"
    assert kernel.ask(f"{task}.vars") == "{'x': 1}"


def test_a_killed_kernel_leaves_the_task_alone(own_kernel: Kernel) -> None:
    kernel = own_kernel
    gate = Gate(kernel)
    cell = start(kernel, f"{gate.code}x = 1\n'the value'")
    kernel.kill()
    gate.open()
    kernel.load()
    assert kernel.ask(f"nbtasks.get({short_id(cell)!r}).result(60)") == "'the value'"


def test_what_the_notebook_set_meanwhile_stays(kernel: Kernel) -> None:
    gate = Gate(kernel)
    kernel.run("scores = [1]; best = None; alias = scores")
    cell = start(kernel, f"scores.append(2)\nbest = 2\nworst = 1\n{gate.code}")
    kernel.run("alias.append(99); worst = 'mine'")  # by another name: a cell that reads scores waits for it
    gate.open()
    wait_for_end(kernel, cell)
    assert kernel.ask("(scores, best, worst)") == "([1, 99], 2, 'mine')"
    assert "brought back best" in cell.card
    assert "it was changed in the notebook meanwhile" in cell.card
    assert "it was set in the notebook meanwhile" in cell.card


def test_an_input_that_cannot_travel_is_named_and_nothing_is_queued(kernel: Kernel) -> None:
    before = kernel.ask("len(nbtasks.tasks())")
    kernel.run("import threading\nstate = {'lock': threading.Lock()}")
    cell = kernel.run("%%background\nprint(state)")
    assert cell.status == "error"
    assert "PayloadError" in cell.error
    assert "state" in cell.error
    assert "lock" in cell.error
    assert "magics.py" not in cell.error, "one sentence, not our own frames"
    assert kernel.ask("len(nbtasks.tasks())") == before


def test_an_output_that_cannot_travel_is_left_out_by_name(kernel: Kernel) -> None:
    cell = kernel.run("%%background\nimport threading\nlock = threading.Lock()\nx = 1")
    wait_for_end(kernel, cell)
    assert "left out lock because" in cell.card
    assert kernel.ask("('lock' in globals(), x)") == "(False, 1)"


def test_input_says_a_sentence(kernel: Kernel) -> None:
    cell = kernel.run("%%background\nname = input('who? ')")
    wait_for_end(kernel, cell, "failed")
    assert "no keyboard" in cell.card


def test_a_plot_is_on_the_card_and_among_the_outputs(kernel: Kernel) -> None:
    kernel.run("%matplotlib inline\nimport matplotlib.pyplot as plt")
    cell = kernel.run("%%background\nplt.plot([1, 2, 3])\nplt.show()")
    wait_for_end(kernel, cell)
    assert "data:image/png;base64," in cell.html
    assert "image/png" in kernel.ask(
        f"[list(o['data']) for o in nbtasks.get({short_id(cell)!r}).outputs if 'data' in o]"
    )


def test_the_executed_notebook_has_the_final_card(folder: Path, env: dict[str, str]) -> None:
    cells = ["%load_ext nbtasks", "%%background\n# add up\ntotal = sum(range(10))\nprint('working')", "print(total)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}})
    client.execute(env={**env, "NBTASKS_WAIT": "1"})
    (card,) = notebook.cells[1].outputs
    assert card.output_type == "display_data"
    assert "add up" in card.data["text/plain"]
    assert "succeeded" in card.data["text/plain"]
    assert "brought back total" in card.data["text/plain"]
    assert "working" in card.data["text/html"]
    assert notebook.cells[2].outputs[0].text == "45\n"


def test_a_cell_that_was_waited_for_fails_as_a_plain_one(kernel: Kernel) -> None:
    cell = kernel.run("%%background --wait\n1 / 0")
    assert cell.status == "error"
    assert "ZeroDivisionError: division by zero" in cell.error
    assert "nbtasks/" not in cell.error, "no traceback through our own code"
    assert "  failed" in cell.card


def test_the_name_of_a_handle_goes_before_a_part_of_an_id(kernel: Kernel) -> None:
    gate = Gate(kernel)
    cell = start(kernel, f"{gate.code}x = 1", "--as first")
    kernel.run("%%background --as second --after first\ny = 2")
    assert kernel.ask("second.status") == "'waiting'"
    kernel.run("%task second cancel")
    assert kernel.ask("(first.status, second.status)") == "('running', 'cancelled')"
    gate.open()
    wait_for_end(kernel, cell)


def test_a_function_that_comes_back_uses_the_names_of_the_notebook(kernel: Kernel) -> None:
    kernel.run("scale = 2")
    kernel.run("%%background --wait\noffset = [1]\ndef shift(x):\n    return x * scale + offset[0]")
    assert kernel.ask("(offset, shift(10))") == "([1], 21)"
    kernel.run("scale = 3")
    assert kernel.ask("shift(10)") == "31"


def test_a_value_that_cannot_travel_is_an_error_and_not_none(kernel: Kernel) -> None:
    kernel.run("%%background --wait --as made\nkept = 5\n(number for number in range(3))")
    answer = kernel.run("made.result()")
    assert "the value of its last line was left out" in answer.error
    assert kernel.ask("kept") == "5"
