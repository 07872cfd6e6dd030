"""A cell that reads a name which a live task will bring waits for it, through a real ipykernel."""

from __future__ import annotations

import pytest

from tests.jupyter.kernel import Cell, Gate, Kernel
from tests.jupyter.test_magics import background, short_id


def sentence(cell: Cell) -> str:
    """What a waiting cell says."""
    texts = [str(bundle["text/plain"]) for bundle in cell.displays.values()]
    return next((text for text in texts if "waiting" in text or "waited" in text), "")


def start(kernel: Kernel, code: str) -> Cell:
    """Start a cell that has to wait, and see it wait."""
    cell = kernel.start(code)
    kernel.until(lambda: "waiting" in sentence(cell) or cell.over, "the cell to wait")
    assert not cell.over, cell
    return cell


def test_run_all_with_a_pending_name(kernel: Kernel) -> None:
    """The next cell never silently uses yesterday's model."""
    gate = Gate(kernel)
    kernel.run("model = 'of yesterday'")
    task = background(kernel, f"{gate.code}model = 'of today'", until="running")
    cell = start(kernel, "print(model)")
    said = f"model comes from {short_id(task)} (running): waiting; Stop ends only the waiting"
    assert sentence(cell) == said
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert cell.text == "of today\n"
    assert sentence(cell).startswith("waited 0:0")
    assert sentence(cell).endswith(f"for model from {short_id(task)}")


def test_it_says_how_far_the_task_is(kernel: Kernel) -> None:
    gate = Gate(kernel)
    source = f"from tqdm import tqdm\nfor n in tqdm(range(4), mininterval=0):\n  if n == 2:\n    {gate.code_inside(4)}model = 1"
    task = background(kernel, source, until="running")
    cell = start(kernel, "model")
    kernel.until(lambda: f"model comes from {short_id(task)} (running, 50 %)" in sentence(cell), "how far")
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert cell.text == "1"


def test_model_fit_in_the_background(kernel: Kernel) -> None:
    """`model.fit(X, y)` assigns nothing, and yet nobody sees an unfitted model."""
    gate = Gate(kernel)
    kernel.run("class Model:\n    def fit(self, X, y):\n        self.w = sum(X)\nmodel, X, y = Model(), [1, 2], [3]")
    background(kernel, f"{gate.code}model.fit(X, y)", until="running")
    assert kernel.ask("(X, y)") == "([1, 2], [3])", "what is only read does not block"
    cell = start(kernel, "print(model.w)")
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert cell.text == "3\n"


def test_a_name_read_by_a_called_function_counts_and_by_a_defined_one_does_not(kernel: Kernel) -> None:
    gate = Gate(kernel)
    background(kernel, f"{gate.code}model = 2", until="running")
    assert kernel.run("def double():\n    return 2 * model\nprint('the model')").text == "the model\n"
    assert kernel.run("model2 = 5; model2").text == "5"
    cell = start(kernel, "double()")
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert cell.text == "4"


def test_a_cell_that_assigns_the_name_does_not_wait_and_keeps_its_own(kernel: Kernel) -> None:
    gate = Gate(kernel)
    task = background(kernel, f"{gate.code}model = 'of the task'", until="running")
    assert kernel.run("model = 'my own'\nprint(model)").text == "my own\n"
    assert kernel.run("print(model)").text == "my own\n", "what the task brings will not take its place"
    gate.open()
    kernel.until(lambda: "  succeeded" in task.card, "the end")
    assert kernel.ask("model") == "'my own'"


def test_stop_ends_only_the_waiting(kernel: Kernel) -> None:
    gate = Gate(kernel)
    task = background(kernel, f"{gate.code}model = 1", "-n train", until="running")
    for code in ("model", "import asyncio\nawait asyncio.sleep(0)\nmodel"):
        cell = start(kernel, code)
        kernel.interrupt()
        kernel.until(lambda cell=cell: cell.over, "the prompt")
        message = f"only the waiting was stopped: train {short_id(task)} goes on, and this cell did not run"
        assert message in cell.error
        assert "nbtasks/" not in cell.error
    gate.open()
    kernel.until(lambda: "  succeeded" in task.card, "the end")
    assert kernel.ask("model") == "1"


@pytest.mark.parametrize("before", ["", "model = 'old'"])
def test_a_cell_whose_name_does_not_come_is_rejected(kernel: Kernel, before: str) -> None:
    gate = Gate(kernel)
    kernel.run(before)
    task = background(kernel, f"{gate.code}model = 1 / 0", until="running")
    cell = start(kernel, "print('ran')\nprint(model)")
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert cell.status == "error"
    assert "ran" not in cell.text
    said = f"model was to come from {short_id(task)}, which failed (ZeroDivisionError: division by zero)"
    assert said in cell.error
    assert len(cell.error.splitlines()) == 1
    again = kernel.run("print(model)")
    assert again.text == "old\n" if before else "NameError" in again.error, "who runs it again knows"


def test_a_task_that_failed_before_the_cell_ran_rejects_it_too(kernel: Kernel) -> None:
    kernel.run("model = 'of yesterday'")
    task = background(kernel, "1 / 0\nmodel = 1", until="failed")
    cell = kernel.run("print(model)")
    assert f"model was to come from {short_id(task)}, which failed" in cell.error
    assert "run it again to run it all the same, with the model from before" in cell.error
    assert kernel.run("print(model)").text == "of yesterday\n"


def test_a_name_that_is_left_out_rejects_the_cell(kernel: Kernel) -> None:
    task = background(kernel, "import threading\nlock = threading.Lock()\nx = 1", until="succeeded")
    cell = kernel.run("print(lock)")
    assert f"lock was to come from {short_id(task)}, which left it out because" in cell.error


def test_a_background_cell_that_reads_a_pending_name_takes_it_from_the_task(kernel: Kernel) -> None:
    gate = Gate(kernel)
    kernel.run("numbers = [1]")
    first = background(kernel, f"{gate.code}numbers.append(2)\nfactor = 10", until="running")
    second = background(kernel, "result = [factor * n for n in numbers]")
    assert "  waiting" in second.card, "the prompt is back, and the task waits for the other one"
    assert short_id(first) in second.card
    assert kernel.run("print('free')").text == "free\n"
    cell = start(kernel, "print(result)")
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert cell.text == "[10, 20]\n"


def test_a_chain_whose_first_task_fails_rejects_the_cell(kernel: Kernel) -> None:
    gate = Gate(kernel)
    background(kernel, f"{gate.code}x = 1 / 0", until="running")
    second = short_id(background(kernel, "y = x + 1", until="waiting"))
    cell = start(kernel, "y")
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert f"y was to come from {second}, which failed (x (" in cell.error


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_the_setting(kernel: Kernel, mode: str) -> None:
    gate = Gate(kernel)
    kernel.run(f"model = 'old'\nnbtasks.configure(pending={mode!r})")
    task = background(kernel, f"{gate.code}model = 'new'", until="running")
    cell = kernel.run("print(model)")
    assert cell.text == "old\n"
    said = [str(bundle["text/plain"]) for bundle in cell.displays.values()]
    warning = f"model comes from {short_id(task)} (running): this cell uses what is there now"
    assert said == ([warning] if mode == "warn" else [])
    gate.open()
    kernel.run("nbtasks.configure(pending='wait')\n%wait")


def test_silent_code_of_the_front_end_does_not_wait(kernel: Kernel) -> None:
    gate = Gate(kernel)
    kernel.run("model = 0")
    background(kernel, f"{gate.code}model = 1", until="running")
    assert not kernel.run_silently("model"), "it answers at once"
    gate.open()
    kernel.run("%wait")


def test_what_our_own_magics_are_told_is_not_read(kernel: Kernel) -> None:
    gate = Gate(kernel)
    task = background(kernel, f"{gate.code}model = 1", until="running")
    assert "  running" in kernel.run(f"%task {short_id(task)}  # model").card
    kernel.run(f"%task {short_id(task)} cancel\n%wait")
