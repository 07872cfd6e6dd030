"""Notebooks that are run without a page: what nbclient, papermill and nbconvert write is right, and final."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

Env = dict[str, str]
Run = Callable[[Path, Env], tuple[int, str]]
WIDGET = "application/vnd.jupyter.widget-view+json"

LOAD = "%load_ext nbtasks"
FIT = """\
# fit the model
import time
import matplotlib.pyplot as plt
for epoch in range(3):
    print("epoch", epoch)
    time.sleep(0.1)
plt.figure(figsize=(2, 1))
plt.plot([1, 2, 3])
plt.show()
model = {"score": 42}
"""
RAISE = "# it fails\nrows = ['1', 'x']\nnumbers = [int(row) for row in rows]"
NEXT = "print('reached')"


def with_nbclient(path: Path, env: Env) -> tuple[int, str]:
    """Execute the notebook in place; an exit code and what was said."""
    notebook = nbformat.read(path, as_version=4)
    try:
        NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(path.parent)}}).execute(env=env)
    except CellExecutionError as error:
        return 1, str(error)
    finally:
        nbformat.write(notebook, path)
    return 0, ""


def with_papermill(path: Path, env: Env) -> tuple[int, str]:
    """The same; papermill writes the file also when a cell fails."""
    return _run(path, env, "papermill", path.name, path.name, "--no-progress-bar")


def with_nbconvert(path: Path, env: Env) -> tuple[int, str]:
    """The same; nbconvert writes the file only when all cells ran."""
    return _run(path, env, "nbconvert", "--to", "notebook", "--execute", "--inplace", path.name)


def _run(path: Path, env: Env, module: str, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=path.parent, env=env, capture_output=True, text=True, timeout=100)
    return done.returncode, done.stdout + done.stderr


RUNNERS = {"nbclient": with_nbclient, "papermill": with_papermill, "nbconvert": with_nbconvert}


def runners(*first_tier: str) -> pytest.MarkDecorator:
    """Every runner; those that are not named here, at night only: to start papermill or nbconvert takes seconds."""
    night = {name: () if name in first_tier else pytest.mark.torture for name in RUNNERS}
    return pytest.mark.parametrize("run", [pytest.param(RUNNERS[name], id=name, marks=night[name]) for name in RUNNERS])


def written(folder: Path, *sources: str) -> Path:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    path = folder / "notebook.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def cells_of(path: Path) -> list[NotebookNode]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata, "no state of widgets that nobody will see"
    return [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", ())]


def card(cell: NotebookNode) -> dict[str, Any]:
    """The one card of a cell; nothing else that could be shown is there."""
    (output,) = [output for output in cell.outputs if output.output_type != "error" and output.get("data")]
    assert output.metadata["nbtasks"]["part"] == "card"
    assert set(output.data) == {"text/html", "text/plain"}, 'nothing that would be shown as "model not found"'
    return dict(output.data)


def text_of(cell: NotebookNode) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def assert_fitted(shown: dict[str, Any]) -> None:
    assert shown["text/plain"].startswith("(v) fit the model"), shown["text/plain"]
    assert "  succeeded  " in shown["text/plain"]
    assert "epoch 2" in shown["text/plain"]
    assert "brought back" in shown["text/plain"]
    assert shown["text/html"].count('src="data:image/png;base64,') == 1, "the plot"


@runners("nbclient")
def test_without_any_option_a_later_cell_waits_for_what_it_reads(run: Run, folder: Path, env: Env) -> None:
    read = "print('score', model['score'])"
    waited = "%%background --wait\n# double it\ndoubled = 2 * model['score']"
    path = written(folder, LOAD, f"%%background --as fit\n{FIT}", read, waited, "print(doubled, fit.status)")
    code, said = run(path, env)
    assert code == 0, said
    _, fitted, score, doubled, last = cells_of(path)
    assert "score 42" in text_of(score)
    assert_fitted(card(fitted))
    assert card(doubled)["text/plain"].startswith("(v) double it")
    assert "84 succeeded" in text_of(last)


@runners("nbclient")
def test_with_the_setting_every_background_cell_is_waited_for(run: Run, folder: Path, env: Env) -> None:
    path = written(folder, LOAD, f"%%background --as fit\n{FIT}", "print(fit.status)")
    code, said = run(path, env | {"NBTASKS_WAIT": "1"})
    assert code == 0, said
    _, fitted, last = cells_of(path)
    assert_fitted(card(fitted))
    assert text_of(last) == "succeeded\n"


@runners("nbclient", "papermill")
def test_a_failure_that_is_waited_for_stops_the_run(run: Run, folder: Path, env: Env) -> None:
    path = written(folder, LOAD, f"%%background\n{RAISE}", NEXT)
    code, said = run(path, env | {"NBTASKS_WAIT": "1"})
    assert code != 0
    assert "ValueError: invalid literal for int() with base 10: 'x'" in said
    if run is with_nbconvert:
        return
    _, failed, never = [cell for cell in cells_of(path) if "papermill-error" not in str(cell.metadata.get("tags"))
                        and cell.cell_type == "code"]  # fmt: skip
    shown = card(failed)
    assert shown["text/plain"].startswith("(x) it fails")
    assert "numbers = [int(row) for row in rows]" in shown["text/plain"], "where it failed"
    assert never.outputs == []


def test_a_failed_task_rejects_the_cell_that_reads_its_names(folder: Path, env: Env) -> None:
    path = written(folder, LOAD, f"%%background\n{RAISE}", "print(len(numbers))", NEXT)
    code, said = with_nbclient(path, env)
    assert code == 1
    _, failed, reading, never = cells_of(path)
    assert (shown := card(failed)["text/plain"]).startswith("(x) it fails")
    assert "numbers was to come from" in said
    assert shown.split("  ")[1] in said, "which task it was"
    assert text_of(reading) == ""
    assert never.outputs == []


def test_what_nobody_waited_for_says_as_of_when(folder: Path, env: Env) -> None:
    """The kernel is gone when the file is written; `nbtasks refresh` brings it up to date."""
    path = written(folder, LOAD, "%%background\n# take long\nimport time\ntime.sleep(1.5)", NEXT)
    code, said = with_nbclient(path, env)
    assert code == 0, said
    shown = card(cells_of(path)[1])
    assert "as of " in shown["text/plain"]
    verbs = [["wait"], ["refresh", str(path)]]
    for verb in verbs:
        subprocess.run([sys.executable, "-m", "nbtasks", *verb], cwd=folder, env=env, check=True, timeout=60)
    assert card(cells_of(path)[1])["text/plain"].startswith("(v) take long")
