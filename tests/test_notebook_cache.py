"""Notebooks with ``cache``: what ran before is not run again, and its executed copy comes to where it was asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import nbtasks
from nbtasks import OptionError
from tests.notebook_tools import KERNEL, outputs, read, write
from tests.test_notebook_tasks import wait_for

CELLS = [
    "# Report",
    ("alpha = 0.5\nlabel = 'a'", "parameters"),
    "import helper, json\nopen('ran', 'a').write('x')",
    "def scaled(x):\n    return x * helper.FACTOR\nscaled(alpha)",
]


@pytest.fixture
def folder(queue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of report.ipynb and of the module that it imports; we are in another one."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (work / "helper.py").write_text("FACTOR = 2\n")
    write(work / "report.ipynb", *CELLS)
    yield work
    assert not list(work.rglob("*~")), "half a file was left"


@pytest.fixture
def quiet(folder: Path) -> Path:
    """The same, and no worker starts: what has the same key as a task that waits is attached to it."""
    nbtasks.configure(autostart=False)
    return folder


def submit(folder: Path, **options: Any) -> nbtasks.Task[Any]:
    parameters = options.pop("parameters", {"alpha": 3})
    return nbtasks.submit_notebook(folder / "report.ipynb", parameters, **{"cache": True, **options})


def runs(folder: Path) -> int:
    return len((folder / "ran").read_text()) if (folder / "ran").exists() else 0


def run(folder: Path, output: str) -> str:
    """What `nbtasks run` prints, from a process of its own."""
    path = str(folder / "report.ipynb")
    command = [sys.executable, "-m", "nbtasks", "run", path, "-p", "label=b", "--cache", "-o", output]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_second_run_brings_the_copy_and_executes_nothing(folder: Path) -> None:
    assert run(folder, "first.ipynb").startswith("4 cells in ")
    write(folder / "report.ipynb", "# Better words", *CELLS[1:3], f"{CELLS[3]}  # in the end")
    said = run(folder, "made/{name}-{label}.ipynb")
    assert re.match(
        r"cached: it succeeded 20\S+ \S+, with the same code and inputs; its copy is made/report-b.ipynb "
        r"\(nbtasks clean --cache -n report lets it run again\)\n$",
        said,
    )
    first, copy = read("first.ipynb"), read("made/report-b.ipynb")
    assert outputs(copy) == ["", "", "1", "1.0"]
    assert copy.cells[0].source == "# Better words"
    assert copy.cells[-1].source.endswith("# in the end")
    assert [cell.execution_count for cell in copy.cells[1:]] == [1, 2, 3, 4]
    assert copy.metadata == first.metadata
    assert [cell.metadata for cell in copy.cells] == [cell.metadata for cell in first.cells]
    assert runs(folder) == 1

    (task,) = nbtasks.tasks()
    os.unlink("first.ipynb")
    assert "its copy is page.html" in run(folder, "page.html")
    assert "Better words" in Path("page.html").read_text()
    assert outputs(read(task.result())) == outputs(copy), "what the task gives as its value is there again"
    assert runs(folder) == 1

    assert task.invalidate()
    assert run(folder, "made/{name}-{label}.ipynb").startswith("4 cells in ")
    assert runs(folder) == 2


def test_while_one_runs_a_second_attaches_to_it(folder: Path) -> None:
    gate = "import os, time, nbtasks\nwhile not os.path.exists('gate'):\n    time.sleep(0.01)\nnbtasks.return_(alpha)"
    write(folder / "report.ipynb", *CELLS[:3], gate)
    first = submit(folder, output="first.ipynb")
    wait_for(lambda: runs(folder))
    second = submit(folder, output="second.ipynb")
    assert second.id == first.id
    assert second.remark == "attached: the same call is running already; its copy comes when it has ended"
    (folder / "gate").touch()
    assert second.result(60) == 3
    assert outputs(read("second.ipynb")) == outputs(read("first.ipynb")), "it is there before the wait is over"


def test_what_ran_with_another_module_than_it_was_submitted_with_is_not_kept(folder: Path) -> None:
    gate = "import time, os\nwhile not os.path.exists('gate'):\n    time.sleep(0.01)"
    write(folder / "report.ipynb", gate, *CELLS[1:])
    first = submit(folder)
    (folder / "helper.py").write_text("FACTOR = 4\n")
    (folder / "gate").touch()
    first.result(60)
    assert f"not cached: {os.path.relpath(folder / 'helper.py')} was changed after this was submitted" in first.log
    (folder / "helper.py").write_text("FACTOR = 2\n")
    second = submit(folder)
    assert not second.cached
    assert outputs(read(second.result(60)))[-1] == "6"


def change_cells(*cells: Any) -> Callable[[Path], None]:
    return lambda folder: write(folder / "report.ipynb", *cells) and None  # type: ignore[func-returns-value]


def change_kernel(folder: Path) -> None:
    write(folder / "report.ipynb", *CELLS, kernel={**KERNEL, "name": "other"})


def note_run(folder: Path) -> None:
    """What running and saving it in an editor leaves."""
    notebook = nbformat.read(folder / "report.ipynb", as_version=4)
    for number, cell in enumerate(notebook.cells):
        cell.metadata["collapsed"] = True
        if cell.cell_type == "code":
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", text="old")]
    notebook.metadata["language_info"] = {"name": "python", "version": "3.9.1"}
    nbformat.write(notebook, folder / "report.ipynb")


def in_module(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "helper.py").write_text(text) and None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("change", "options", "is_same"),
    [
        (note_run, {}, True),
        (change_cells("# Other words", *CELLS[1:], ("1", "skip-execution")), {"output": "x.ipynb"}, True),
        (change_cells(*CELLS[:3], "# why\ndef scaled( x ):\n  return x*helper.FACTOR\nscaled(alpha)"), {}, True),
        (in_module('"""Words."""\nFACTOR = 2  # more words\n'), {}, True),
        (None, {"parameters": {"alpha": 3}, "timeout_per_cell": 60, "html": True}, True),
        (change_cells(*CELLS[:3], "def scaled(x):\n    return x * helper.FACTOR\nscaled(alpha + 1)"), {}, False),
        (change_cells(*CELLS[:2], CELLS[3], CELLS[2]), {}, False),
        (change_cells(*CELLS[:2], (CELLS[2], "raises-exception"), CELLS[3]), {}, False),
        (change_cells(*CELLS, "!ls"), {}, False),
        (in_module("FACTOR = 3\n"), {}, False),
        (None, {"parameters": {"alpha": 4}}, False),
        (None, {"parameters": {"alpha": 3, "label": "b"}}, False),
        (None, {"parameters": {}}, False),
        (change_kernel, {}, False),
        (None, {"kernel_name": "other"}, False),
        (None, {"cache": False}, False),
    ],
)  # fmt: skip
def test_what_counts(
    quiet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, options: Any, is_same: bool
) -> None:
    facts = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    add_kernel(tmp_path, monkeypatch, {**facts, "display_name": "Other"})
    first = submit(quiet)
    if change:
        change(quiet)
    second = submit(quiet, **options)
    assert (second.id == first.id) is is_same
    assert second.cached is is_same


def add_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any]) -> None:
    """Install a kernel of the name other."""
    kernel = tmp_path / "jupyter" / "kernels" / "other"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(facts))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))


def test_packages_of_a_kernel_that_is_of_another_python_count(
    quiet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path}/site exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (tmp_path / "site" / "only_there-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "only_there.py").touch()
    metadata = tmp_path / "site" / "only_there-1.0.dist-info" / "METADATA"
    metadata.write_text("Name: only_there\nVersion: 1.0\n")
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    add_kernel(tmp_path, monkeypatch, {"argv": argv, "language": "python", "display_name": "Other"})
    write(quiet / "report.ipynb", *CELLS, "import only_there, helper")
    first = submit(quiet, kernel_name="other")
    assert submit(quiet, kernel_name="other").id == first.id
    metadata.write_text("Name: only_there\nVersion: 1.1\n")
    second = submit(quiet, kernel_name="other")
    assert second.id != first.id
    (quiet / "helper.py").write_text("FACTOR = 7")
    assert submit(quiet, kernel_name="other").id != second.id
    python.unlink()
    with pytest.warns(UserWarning, match=r"report is not cached: its kernel is of another Python, .* cannot be asked"):
        submit(quiet, kernel_name="other")


def test_modules_from_folders_that_the_notebook_names(quiet: Path) -> None:
    (quiet.parent / "src").mkdir()
    (quiet.parent / "src" / "churn.py").write_text("RATE = 1")
    write(quiet / "report.ipynb", *CELLS, "import sys\nsys.path.insert(0, '../src')\nimport churn")
    first = submit(quiet)
    assert submit(quiet).id == first.id
    (quiet.parent / "src" / "churn.py").write_text("RATE = 2")
    assert submit(quiet).id != first.id


def test_what_cannot_be_looked_through_is_run(quiet: Path) -> None:
    write(quiet / "report.ipynb", *CELLS, "import os\nos.chdir('..')\nimport churn")
    with pytest.warns(UserWarning, match="report is not cached: it imports churn, which is neither beside it nor inst"):
        first = submit(quiet)
    assert not first.cached
    with pytest.warns(UserWarning, match="report is not cached"):
        assert submit(quiet).id != first.id
    write(quiet / "report.ipynb", *CELLS, "try:\n    import churn\nexcept ImportError:\n    churn = None")
    assert submit(quiet).id == submit(quiet).id


def test_a_task_as_a_parameter_counts_by_which_one_it_is(quiet: Path) -> None:
    one, other = nbtasks.submit(len, "abc"), nbtasks.submit(len, "abc")
    first = submit(quiet, parameters={"alpha": one})
    assert submit(quiet, parameters={"alpha": one}).id == first.id
    assert submit(quiet, parameters={"alpha": other}).id != first.id


def test_a_wrong_age_is_refused(quiet: Path) -> None:
    with pytest.raises(OptionError, match="cache='often' cannot be: give True, or how old a result may be"):
        submit(quiet, cache="often")
    shutil.rmtree(quiet)
    with pytest.raises(OptionError, match="there is no notebook"):
        submit(quiet)
    assert not list(nbtasks.tasks())
