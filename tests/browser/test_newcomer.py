"""A newcomer with the second worked example: run all, close the tab, come back, restart the kernel, fetch by id.

What is asserted is what the notebook's text says will be seen.
"""

from __future__ import annotations

import re

import nbformat
import pytest
from nbformat import NotebookNode

from tests.browser.conftest import Opener
from tests.browser.pages import NotebookPage
from tests.source import ROOT

NOTEBOOK = ROOT / "notebooks" / "02-results-errors-and-coming-back.ipynb"
LONG = 90.0  # seconds: a machine that is busy with other things imports scikit-learn slowly


@pytest.fixture(scope="module")
def notebook() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def cell(notebook: NotebookNode, beginning: str) -> int:
    """The number of the cell whose code has a line that begins so."""
    (number,) = (
        number
        for number, one in enumerate(notebook.cells)
        if one.cell_type == "code" and re.search(f"^{re.escape(beginning)}", one.source, re.M)
    )
    return number


def seen_after_run_all(page: NotebookPage, notebook: NotebookNode) -> None:
    """What the text promises of each step."""
    for beginning, text in {
        "# tune the ridge": "succeeded",
        "ridge = ": "waited",
        "# read the measurements": "ValueError: could not convert string to float: '31,2'",
        "%task parsing here": "could not convert string to float",
        "frame, line = ": "text is '31,2'",
        "# fetch from a server": "attempt 3 of 4",
        "# search at random": "with what it had",
        'print(f"{search.status}': "cancelled; the best of",
        "# a cell that is killed": "signal 9",
        "fits = ": "InvalidParameterError",
        "with run_kernel(": "tune the ridge is succeeded",
        "%tasks": "score_of",
    }.items():
        page.wait_text(cell(notebook, beginning), text, within=LONG)


@pytest.mark.torture  # test_notebooks.py executes it at night too; this one comes back to it as a person would
@pytest.mark.timeout(300)
def test_every_step_does_what_its_text_says(open_notebook: Opener, notebook: NotebookNode) -> None:
    page = open_notebook(notebook, height=4000)
    page.run_all(within=LONG)
    seen_after_run_all(page, notebook)
    page.shot("after-run-all")
    tuning = cell(notebook, "# tune the ridge")
    found = re.search(r'nbtasks\.get\("(\w+)"\)', page.text(tuning))
    assert found, page.text(tuning)
    page.save()

    page.close()
    page = open_notebook(page.path, height=4000)
    page.wait_text(tuning, "best alpha 0.0661")
    page.wait_no_text(tuning, "not found")
    page.shot("reopened")

    page.restart_kernel()
    assert page.execute(f"import nbtasks\nprint({found[0]}.result())") == "0.519"
    for number in range(tuning + 1):
        if notebook.cells[number].cell_type == "code":
            page.run(number)
    page.wait_text(tuning, "not run again")
    assert page.execute("print(round(float(best_alpha), 4))") == "0.0661"
    assert "search at random" in page.execute("%tasks")
    page.shot("run-again")
