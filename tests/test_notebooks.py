"""The worked examples, executed as a person would run them; what they print is what they promise."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor

from tests.source import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


Executed = Callable[[str], str]


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Executed:
    """Gives all texts of an executed notebook, html left out; each is executed once, when first asked for."""

    @functools.cache
    def run(name: str) -> str:
        output = tmp_path_factory.mktemp("executed") / f"{name}.ipynb"
        path = ROOT / "notebooks" / output.name
        command = [sys.executable, str(ROOT / "notebooks" / "run.py"), str(path), "--output", str(output)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr
        return _texts(output)

    return run


def test_each_notebook_has_a_test() -> None:
    source = Path(__file__).read_text()
    here = {path.stem for path in NOTEBOOKS if f'executed("{path.stem}")' in source}
    others = {path.stem.removeprefix("test_notebook_") for path in (ROOT / "tests").rglob("test_notebook_[0-9]*.py")}
    assert [path.stem for path in NOTEBOOKS if path.stem not in here and path.stem[:2] not in others] == []


def _texts(path: Path) -> str:
    notebook = nbformat.read(path, as_version=4)
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})  # what is printed slowly comes in pieces
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.timeout(300)
def test_background_cells(executed: Executed) -> None:
    text = executed("01-background-cells")
    assert re.search(r"forest: +0\.9\d+\n", text), "fitted in another process, and it predicts here"
    assert re.search(r"network: 0\.9\d+ after 30 epochs", text)
    assert text.count("succeeded") >= 3
    assert "(changed in place)" in text
    assert "ValueError: could not convert string to float: 'n/a'" in text
    assert "done before it failed: [12.5, 8.0]" in text
    assert "fit the network is succeeded" in text, "asked from another kernel"
    assert not re.search(r"\(\.\) |\(o\) ", text.partition("status     time")[0]), "no card is left in mid-air"


@pytest.mark.torture  # in the first tier tests/browser/test_newcomer.py runs it, on a page
@pytest.mark.timeout(300)
def test_results_errors_and_coming_back(executed: Executed) -> None:
    text = executed("02-results-errors-and-coming-back")
    assert re.search(r"waited .* for best_alpha from \w+\nbest alpha 0\.0661, R² 0\.365", text), "a pending name"
    assert "value: 0.519" in text
    assert "cell [6], line 6" in text
    assert "measured before: [27.1, 24.8]\nin the notebook: False" in text
    assert "where it failed, text is '31,2'" in text, "the debugger would stand in the frame that failed"
    assert "answered at attempt 3" in text
    assert re.search(r"cancelled; the best of \d+ models:\nR² 0\.\d+ with depth", text), "what there was came back"
    assert "failed | killed by signal 9 (SIGKILL)\nlast line: step 3000" in text
    assert text.count("3 succeeded, 1 failed") == 1
    assert " 80 trees: R² 0.228\n -1 trees: InvalidParameterError" in text
    assert "its best alpha: 0.0661" in text, "asked from another kernel"
    assert not re.search(r"\(\.\) |\(o\) ", text), "no card is left in mid-air"


@pytest.mark.timeout(300)
@pytest.mark.torture  # what it shows has tests of its own: test_notebook_tasks.py
def test_notebooks_as_tasks(executed: Executed) -> None:
    text = executed("04-notebooks-as-tasks")
    assert "{'r2': 0.473, 'rows': 442, 'path': './predictions-0.1.csv'}" in text
    assert re.search(r"6 cells in [\d.]+ s, the last one \(Hand over\): steps/report-\w+\.ipynb", text)
    assert re.search(r"alpha  1\.0: R² 0\.403\nalpha 10\.0: R² 0\.118", text)
    assert "refused: report.ipynb has no parameter 'alhpa'; did you mean 'alpha'?" in text
    assert "refused: the parameter alpha cannot be 'strong' (str), the notebook has 1.0 (float): give a number" in text
    assert "cell 6 of 6 (Hand over) failed; the notebook so far: runs/broken.ipynb" in text
    assert re.search(r"'r2': 0.447.*\nGoing on from cell 6: those before it are as they were in", text)
    assert re.search(r"alpha 0\.00\d: R² 0.475, \d{3} kB of page", text)


@pytest.mark.timeout(300)
@pytest.mark.torture  # its subject has tests of its own
def test_schedules(executed: Executed) -> None:
    text = executed("05-schedules-and-cache")
    assert "✓ ✕ | paused: True" in text, "some days were good, and then one was not"
    assert re.search(r"the first: 0\.[5-9]\d\nday \d+: the model is right in \d+% only", text)
    assert "which ran every 1s: same name, the code of now." in text
    assert "03:00 Europe/Berlin\n03:00 Europe/Berlin" in text
    assert "refused: cron line '0 25 * * *' cannot be: '25' is no hour (0 to 23)" in text
    assert re.search(r"summary +every 6h .*✓", text), "a cell recurs, too"
    assert "waiting | 1797" in text


@pytest.mark.timeout(300)
@pytest.mark.torture  # its subject has tests of its own
def test_cache(executed: Executed) -> None:
    text = executed("05-schedules-and-cache").partition("accuracy 0.973")[2]
    assert "the same task: True | cached: True" in text
    assert "| cached: [False, True, False]" in text
    assert re.search(r"gamma 0.01: 0\.\d+, cached: False\ngamma 0.001 again is the first task: True", text)
    assert re.search(r"brought back means ndarray \(10, 64\) float64\n +cached: it succeeded 20", text)
    assert "forgotten: True\nit runs again: True, 0.973 as before: True" in text
    assert "4 calls forgotten; the results stay with their tasks" in text


@pytest.mark.timeout(300)
@pytest.mark.torture  # its subject has tests of its own
def test_pipelines(executed: Executed) -> None:
    text = executed("03-pipelines")
    assert re.search(r"\(v\) pipeline classifiers  succeeded  \d+ tasks", text), "the graph of the saved file is final"
    assert re.search(r"\(v\) +score wine +\w+ +succeeded .*<- clean wine, models for wine", text)
    assert re.search(r"wine +13\.0 .* 0\.9\d+ ", text)
    assert "<Pipeline classifiers succeeded: " in text
    assert "it raised: [Errno 2] No such file or directory: 'prices.csv'" in text
    assert "<Pipeline prices failed: 2 succeeded, 2 failed>" in text
    assert re.search(r"1 +12\.28 +9\.0", text), "the retry brought what was missing"
    assert re.search(r"✓\S* +join +\w+ +succeeded", text), "asked from a terminal"
