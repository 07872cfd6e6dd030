"""A cell behind is as the cell in front: names, values, output, errors; and what is special about running behind."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from nbtasks import cells
from nbtasks.cells import CellRun, pack_result
from nbtasks.payload import load
from tests.cell_corpus import CELLS, SPECIAL

Reports = dict[str, dict[str, Any]]

_TIMES = re.compile(r"(user|sys:|total:|time:) [\d.e+]+ [nμm]?s")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")


def run_cells(cases: list[tuple[Any, ...]]) -> Reports:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.cell_runner"],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert ran.returncode == 0, ran.stderr
    return {report["name"]: report for report in map(json.loads, ran.stdout.splitlines())}


@pytest.fixture(scope="module")
def compared() -> Reports:
    """Every cell of the corpus, in front and behind."""
    return run_cells([(name, setup, source, {}, True) for name, setup, source, _ in CELLS])


@pytest.fixture(scope="module")
def behind() -> Reports:
    """The cells that are something special behind."""
    return run_cells([(name, *case, False) for name, case in SPECIAL.items()])


def text_of(report: dict[str, Any]) -> str:
    return "".join(output.get("text", "") for output in report["outputs"])


def traceback_of(report: dict[str, Any]) -> str:
    return _COLOURS.sub("", report["text"])


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "gives"), [(name, gives) for name, _, _, gives in CELLS])
def test_behind_as_in_front(compared: Reports, name: str, gives: set[str]) -> None:
    report = compared[name]
    assert "crash" not in report, report["crash"]
    assert set(report["given"]) == gives
    assert report["differ"] == []
    assert report["error"] == report["front_error"]
    assert _TIMES.sub("", text_of(report)) == _TIMES.sub("", report["front"])


# ---------------------------------------------------------------------- what is shown


def test_figures_stand_where_they_were_shown(behind: Reports) -> None:
    kinds = [output.get("text") or sorted(output["data"]) for output in behind["plot"]["outputs"]]
    assert kinds == ["before\n", ["image/png", "text/plain"], "after\n", ["image/png", "text/plain"]]
    shown = behind["plot, asked for inline"]["outputs"]
    assert [output["output_type"] for output in shown] == ["execute_result", "display_data"]
    assert len(shown[1]["data"]["image/png"]) > 1000


def test_figures_are_not_brought_back(behind: Reports) -> None:
    report = behind["plot"]
    assert report["given"] == {"n": "1"}
    assert report["about"]["fig"] == report["about"]["ax"] == [False, False, "figures are shown, not brought back"]
    assert "" in behind["plot, asked for inline"]["about"], "the lines that plot() returns hold the figure"


def test_displays_updates_and_clearing_in_order(behind: Reports) -> None:
    outputs = behind["displays"]["outputs"]
    assert [output.get("text") or output["data"].get("text/html") or output["data"] for output in outputs] == [
        "<b>two</b>", "between\nraw\n", "err\n", {"text/plain": "{'a': 1}"},
    ]  # fmt: skip
    assert [output.get("name") or output["output_type"] for output in outputs] == [
        "display_data", "stdout", "stderr", "execute_result",
    ]  # fmt: skip
    assert outputs[-1]["execution_count"] == 7


def test_bars_of_tqdm_and_ours_are_progress_and_no_text(behind: Reports) -> None:
    report = behind["bars"]
    assert report["outputs"] == []
    bars = [(bar["desc"], bar["n"], bar["total"], bar["closed"]) for bar in report["progress"]["bars"]]
    assert bars == [("own", 3, 3, True), ("auto", 4, 4, True), ("notebook", 5, 5, True)]


# ---------------------------------------------------------------------- what comes back


def test_what_cannot_travel_is_left_out_by_name(behind: Reports) -> None:
    report = behind["left out"]
    assert report["error"] == "NoneType"
    assert report["given"] == {"x": "1"}
    assert "lock" in report["about"]["lock"][2]
    assert "generator" in report["about"]["gen"][2]
    assert "lock" in report["about"][""][2], "the value, which has no name"
    changed = behind["changed to what cannot travel"]
    assert changed["given"] == {"n": "1"}
    assert changed["about"]["box"][0]
    assert "lock" in changed["about"]["box"][2]


def test_outputs_by_hand_are_those_and_no_others(behind: Reports) -> None:
    report = behind["asked for"]
    assert report["given"] == {"b": "2", "i": "2"}
    assert report["about"]["nothing"] == [False, False, "the cell did not assign it"]


def test_names_of_a_failed_cell_are_kept_but_not_bound(behind: Reports) -> None:
    report = behind["in place, error"]
    assert report["given"] == {"x": "[1, 2]", "y": "1"}
    assert report["about"] == {"y": [False, False, ""], "x": [True, False, ""]}


def test_an_interrupt_is_the_error_unless_the_code_handles_it(behind: Reports) -> None:
    assert behind["interrupted"]["error"] == "KeyboardInterrupt"
    assert behind["interrupted"]["given"] == {"n": "1"}
    assert behind["interrupt caught"]["error"] == "NoneType"
    assert behind["interrupt caught"]["given"] == {"n": "2"}


def test_what_is_one_object_comes_back_as_one() -> None:
    shared = [1]
    (part,), _ = pack_result(CellRun(value=shared, assigned={"a": shared}, changed={"b": shared}))
    value, names = load(part)
    assert value is names["a"] is names["b"]


def test_too_large_is_kept_with_the_task_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_BRING_BACK_LIMIT", "1000")
    run = CellRun(assigned={"big": bytes(5000), "small": 1})
    assert {variable.name: variable.bind for variable in pack_result(run)[1]} == {"big": False, "small": True}
    assert [variable.bind for variable in pack_result(run, ("big",))[1]] == [True]


# ---------------------------------------------------------------------- no keyboard


@pytest.mark.parametrize("name", ["input", "getpass", "breakpoint", "pdb", "stdin"])
def test_no_keyboard(behind: Reports, name: str) -> None:
    report = behind[name]
    assert report["error"] == "NoKeyboard"
    assert "a background task has no keyboard" in report["text"]
    assert re.fullmatch(r"cell \[7\], line \d", report["where"])
    assert "keyboard.py" not in report["text"]


def test_a_child_process_reads_nothing(behind: Reports) -> None:
    assert text_of(behind["child without keyboard"]) == "read nothing\n"


# ---------------------------------------------------------------------- errors


def test_traceback_has_the_frames_of_the_cell_alone(behind: Reports) -> None:
    text = traceback_of(behind["in place, error"])
    assert "Cell In[7], line 3" in text
    assert "----> 3 1 / 0" in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "site-packages" not in text
    assert "nbtasks" not in text
    assert behind["in place, error"]["text"] != text, "it is in colour"


@pytest.mark.parametrize(
    ("name", "error", "where"),
    [
        ("syntax", "SyntaxError", "cell [7], line 2"),
        ("unknown magic", "UsageError", "cell [7], line 1"),
        ("below a line", "ZeroDivisionError", "cell [7], line 3"),
        ("without a number", "ZeroDivisionError", "cell, line 2"),
        ("chained", "ValueError", "cell [7], line 4"),
        ("group", "ExceptionGroup", "cell [7], line 1"),
        ("broken exception", "Bad", "cell [7], line 3"),
        ("magic that fails", "ZeroDivisionError", "cell [1], line 1"),
        ("exit", "SystemExit", "cell [7], line 2"),
        ("quit", "SystemExit", "cell [7], line 1"),
    ],
)
def test_errors_and_where_they_are(behind: Reports, name: str, error: str, where: str) -> None:
    assert "crash" not in behind[name], behind[name]["crash"]
    assert (behind[name]["error"], behind[name]["where"]) == (error, where)
    assert error in behind[name]["text"]
    assert "Traceback" not in text_of(behind[name]), "it is on the card, not in the log"


def test_functions_of_other_cells_show_their_source(behind: Reports) -> None:
    assert "def f(): 1 / 0" in traceback_of(behind["magic that fails"])


def test_a_name_that_was_not_sent_says_how_to_send_it(behind: Reports) -> None:
    assert "add `-i hidden`" in behind["name not sent"]["text"]


def test_chained_errors_show_both(behind: Reports) -> None:
    assert "direct cause" in behind["chained"]["text"]
    assert "site-packages" not in behind["chained"]["text"]


# ---------------------------------------------------------------------- looks


def test_looks_like_the_notebook(behind: Reports) -> None:
    assert behind["looks"]["given"] == {"r": "(7, 50.0, 9.0, '[0.12]', 20)"}
    assert text_of(behind["looks"]) == "", "the warning filter came along"


def test_extensions_of_the_notebook_are_there_when_needed(behind: Reports) -> None:
    assert text_of(behind["user's extension"]) == "HELLO\n"


def test_nothing_is_made_in_the_home_folder(tmp_path: Any) -> None:
    code = "from nbtasks import cells, payload; payload.make_home(); r = cells.run_cell(cells.Cell('1 + 1'), print); assert r.value == 2"
    subprocess.run([sys.executable, "-c", code], env={"HOME": str(tmp_path)}, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_sending_a_cell_does_not_need_ipython_in_the_door() -> None:
    code = "import sys; import nbtasks.cells; assert 'IPython' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_door() -> None:
    assert cells.names_assigned("a = 1\nfor i in x: pass\nimport os\n_b = 2\ndef f(): pass") == ["a", "f"]
