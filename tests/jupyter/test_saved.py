"""`nbtasks refresh`: final cards in saved files, and not a byte elsewhere."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nbtasks import api, cli, config
from nbtasks.handle import Task
from nbtasks.queue.directory import Queue
from nbtasks.status import Status

WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGETS = "application/vnd.jupyter.widget-state+json"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a queue and without a worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    (tmp_path / ".nbtasks").mkdir(mode=0o700)
    config.reset()
    return tmp_path


def ended(function: Callable[..., Any] = sum, *args: Any) -> Task[Any]:
    config.configure(engine="inline")
    task = api.submit(function, *(args or ([1, 2],)))
    config.configure(engine="processes")
    return task


def fail(text: str) -> None:
    raise ValueError(text)


def marker(task: Task[Any], part: str) -> dict[str, Any]:
    return {"nbtasks": {"task": task.id, "queue": task.queue.uuid, "part": part}}


def card(of: Task[Any], text: str = "", **marks: str) -> dict[str, Any]:
    """A card as it was saved while the task ran, or one that shows `text`."""
    data = {"text/html": ["<div>\n", "as of 22:06 ü"], "text/plain": [text or f"(o) sum  {of.short}  running"]}
    metadata = marker(of, "card")
    metadata["nbtasks"] |= marks
    return {"data": data, "metadata": metadata, "output_type": "display_data"}


def strip(task: Task[Any], model: str) -> dict[str, Any]:
    data = {WIDGET: {"model_id": model, "version_major": 2, "version_minor": 0}, "text/plain": ["VBox()"]}
    return {"data": data, "metadata": marker(task, "strip"), "output_type": "display_data"}


def notebook(*outputs: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A notebook as JupyterLab saves it."""
    printed = {"name": "stdout", "output_type": "stream", "text": ["ünïcode 😀 \u2028\n", "1e-07\n"]}
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "id": "a1", "metadata": {}, "source": ["# Title"]},
        {"cell_type": "code", "execution_count": 3, "id": "b2", "metadata": {"zoom": 1.50, "x": 1e-7},
         "outputs": [printed, *outputs], "source": ["%%background\n", "pass"]},
    ]  # fmt: skip
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def saved(path: Path, content: dict[str, Any], **style: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, **({"indent": 1, "ensure_ascii": False} | style)) + "\n", encoding="utf-8")
    return path


def outputs_of(path: Path) -> list[dict[str, Any]]:
    """Its outputs without what was printed; that it is a valid notebook is made sure."""
    nbformat.validate(nbformat.read(path, as_version=4))
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["cells"][1]["outputs"]
    return found[1:]


def refresh(*arguments: object) -> int:
    return cli.run(["refresh", *map(str, arguments)])


def test_a_card_that_was_saved_while_its_task_ran_becomes_final(here: Path) -> None:
    good, bad = ended(), ended(fail, "no good")
    path = saved(here / "report.ipynb", notebook(card(good), card(bad)))
    assert refresh(path) == 0
    first, second = outputs_of(path)
    assert "".join(first["data"]["text/plain"]).startswith(f"(v) sum  {good.short}  succeeded")
    assert "ValueError: no good" in "".join(second["data"]["text/plain"])
    assert "as of" not in path.read_text("utf-8")
    assert first["metadata"] == marker(good, "card"), "so that it is found again"
    nbformat.validate(nbformat.read(path, as_version=4))


def test_what_was_done_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task), strip(task, "m1")))
    refresh(path)
    assert capsys.readouterr().out == f"{path}: 1 card brought up to date, 1 dead strip removed\n"
    refresh(path)
    assert capsys.readouterr().out == f"{path}: nothing to do\n"


STYLES: dict[str, dict[str, Any]] = {
    "jupyter": {}, "four": {"indent": 4}, "tab": {"indent": "\t"}, "ascii": {"ensure_ascii": True, "indent": 4},
    "line": {"indent": None}, "sorted": {"sort_keys": True},
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("end", ["\n", "", "\n\n"], ids=["newline", "none", "two"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_nothing_else_changes_by_a_byte(here: Path, style: dict[str, Any], end: str, newline: str) -> None:
    task = ended()
    old = notebook(
        card(task), kernelspec={"name": "python3", "display_name": "Python 3"}, custom={"z": 1, "a": [1.0, 2]}
    )
    path = saved(here / "report.ipynb", old, **style)
    text = path.read_text("utf-8").rstrip("\n") + end
    path.write_bytes(text.replace("\n", newline).encode())
    assert refresh(path) == 0
    new = json.loads(json.dumps(old))
    new["cells"][1]["outputs"][1]["data"] = outputs_of(path)[0]["data"]
    expected = saved(here / "expected.ipynb", new, **style).read_text("utf-8").rstrip("\n") + end
    assert path.read_bytes() == expected.replace("\n", newline).encode()


def test_a_file_that_no_program_wrote_comes_out_as_jupyter_writes(here: Path) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task)))
    path.write_text(path.read_text("utf-8").replace("1.5,", "1.50000,"), "utf-8")
    expected = path.read_text("utf-8").replace("1.50000,", "1.5,")
    assert refresh(path) == 0
    before, after = (
        [line for line in text.splitlines() if "zoom" in line] for text in (expected, path.read_text("utf-8"))
    )
    assert before == after == ['    "zoom": 1.5,']


def test_a_file_without_anything_to_do_is_not_written(here: Path) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task)))
    odd = saved(here / "odd.ipynb", notebook()).with_name("odd.ipynb")
    odd.write_text(odd.read_text("utf-8").replace("1.5", "1.50000"), "utf-8")
    refresh(path)
    before = {one: (one.read_bytes(), one.stat().st_mtime_ns, one.stat().st_ino) for one in (path, odd)}
    assert refresh(path, odd) == 0
    assert {one: (one.read_bytes(), one.stat().st_mtime_ns, one.stat().st_ino) for one in (path, odd)} == before


def test_a_final_card_keeps_what_it_says_of_the_notebook(here: Path) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task)))
    refresh(path)
    content = json.loads(path.read_text("utf-8"))
    content["cells"][1]["outputs"][1]["data"]["text/plain"].append("\n    brought back model")
    saved(path, content)
    assert refresh("--check", path) == 0
    refresh(path)
    assert "brought back model" in path.read_text("utf-8")


def test_a_card_of_an_earlier_end_is_brought_up_to_date(here: Path) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task, f"(x) sum  {task.short}  failed  after 2 s")))
    refresh(path)
    assert "  succeeded" in "".join(outputs_of(path)[0]["data"]["text/plain"])


# What is left as it is.


def test_a_task_that_lives_keeps_its_card_and_its_strip(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = api.submit(sum, [1])
    assert task.status is Status.QUEUED
    path = saved(here / "report.ipynb", notebook(card(task), strip(task, "m1")))
    before = path.read_bytes()
    assert refresh("--check", path) == 0
    assert refresh(path) == 0
    assert path.read_bytes() == before
    assert f"{task.short} sum is queued: its card stays as it was saved" in capsys.readouterr().out


def test_a_task_of_another_queue_is_named_and_left(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task, queue="no-such-queue"), strip(task, "m1")))
    assert refresh(path) == 0
    (left,) = outputs_of(path)
    assert "running" in left["data"]["text/plain"][0]
    assert f"{task.short} is a task of another queue: its card is all there is here" in capsys.readouterr().out


def test_a_task_that_is_gone_is_named_and_its_strip_removed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task, task="20200101-000000-000000-zzzz"), strip(task, "m1")))
    content = json.loads(path.read_text("utf-8"))
    content["cells"][1]["outputs"][2]["metadata"]["nbtasks"]["task"] = "20200101-000000-000000-zzzz"
    saved(path, content)
    assert refresh(path) == 0
    (left,) = outputs_of(path)
    assert "running" in left["data"]["text/plain"][0]
    assert f"zzzz is gone from {here}/.nbtasks: its card stays as it was saved" in capsys.readouterr().out


@pytest.mark.parametrize("metadata", [{}, {"nbtasks": 3}, {"nbtasks": {"task": 1, "queue": [], "part": "card"}}, None])
def test_outputs_of_others_are_left(here: Path, metadata: Any) -> None:
    foreign = {"data": {"text/plain": ["x"], WIDGET: {"model_id": "theirs"}}, "metadata": metadata}
    path = saved(here / "report.ipynb", notebook({**foreign, "output_type": "display_data"}))
    before = path.read_bytes()
    assert refresh(path) == 0
    assert path.read_bytes() == before


def test_an_id_that_is_a_path_is_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task, task="../../../../etc/-pass\x1b[2Jwd")))
    assert refresh(path) == 0
    assert "running" in outputs_of(path)[0]["data"]["text/plain"][0]
    assert "\x1b" not in capsys.readouterr().out


# Where the queue is.


def test_the_queue_is_looked_for_from_the_notebook_upwards(here: Path) -> None:
    task = ended()
    deep = here / "a" / "b"
    (deep / ".nbtasks").mkdir(parents=True, mode=0o700)
    Queue.open(str(deep / ".nbtasks"))
    path = saved(deep / "report.ipynb", notebook(card(task)))
    os.chdir("/")
    config.reset()
    assert refresh(path) == 0
    assert "  succeeded" in "".join(outputs_of(path)[0]["data"]["text/plain"])


def test_a_notebook_where_no_queue_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    task = ended()
    path = saved(tmp_path_factory.mktemp("elsewhere") / "report.ipynb", notebook(card(task)))
    assert refresh(path) == 0
    assert "running" in outputs_of(path)[0]["data"]["text/plain"][0]
    assert not (path.parent / ".nbtasks").exists()
    assert cli.run(["-q", str(task.queue.root), "refresh", str(path)]) == 0
    assert "  succeeded" in "".join(outputs_of(path)[0]["data"]["text/plain"])


# Strips.


def test_a_dead_strip_goes_with_the_state_of_its_widgets(here: Path) -> None:
    task = ended()
    state = {
        "m1": {"state": {"children": ["IPY_MODEL_m2", "IPY_MODEL_shared"]}},
        "m2": {"state": {"layout": "IPY_MODEL_m3"}},
        "m3": {"state": {}},
        "shared": {"state": {}},
        "theirs": {"state": {"children": ["IPY_MODEL_shared"]}},
    }
    theirs = {"data": {WIDGET: {"model_id": "theirs"}}, "metadata": {}, "output_type": "display_data"}
    widgets = {WIDGETS: {"state": state, "version_major": 2, "version_minor": 0}}
    path = saved(here / "report.ipynb", notebook(strip(task, "m1"), theirs, widgets=widgets))
    assert refresh(path) == 0
    content = json.loads(path.read_text("utf-8"))
    assert len(content["cells"][1]["outputs"]) == 2
    assert set(content["metadata"]["widgets"][WIDGETS]["state"]) == {"theirs", "shared"}


def test_no_state_of_widgets_is_left_when_all_was_ours(here: Path) -> None:
    task = ended()
    widgets = {WIDGETS: {"state": {"m1": {"state": {}}}, "version_major": 2, "version_minor": 0}}
    path = saved(here / "report.ipynb", notebook(strip(task, "m1"), widgets=widgets))
    assert refresh(path) == 0
    assert json.loads(path.read_text("utf-8"))["metadata"] == {}


# As a hook.


def test_check_writes_nothing_and_tells_by_its_exit_code(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task)))
    before = path.read_bytes()
    assert refresh("--check", path) == 1
    assert path.read_bytes() == before
    assert f"{path}: would have 1 card brought up to date" in capsys.readouterr().out
    assert refresh(path) == 0
    assert refresh("--check", path) == 0


def test_the_json_of_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task), strip(task, "m1")))
    refresh("--json", path)
    (told,) = json.loads(capsys.readouterr().out)
    assert told == {"path": str(path), "cards": 1, "strips": 1, "notes": [], "changed": True}


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "is no notebook"), ("[]", "is no notebook"), ('{"nbformat": 3}', "of format 3"), (None, "cannot be read")],
)
def test_one_file_that_cannot_be_does_not_keep_the_others_back(
    here: Path, text: str | None, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ended()
    path = saved(here / "report.ipynb", notebook(card(task)))
    wrong = here / "wrong.ipynb"
    if text is not None:
        wrong.write_text(text)
    assert refresh(wrong, path) == 2
    assert "  succeeded" in "".join(outputs_of(path)[0]["data"]["text/plain"])
    assert f"{wrong}" in (error := capsys.readouterr().err)
    assert why in error


def test_mode_and_link_stay(here: Path) -> None:
    task = ended()
    path = saved(here / "real.ipynb", notebook(card(task)))
    path.chmod(0o640)
    (here / "link.ipynb").symlink_to(path)
    assert refresh(here / "link.ipynb") == 0
    assert (here / "link.ipynb").is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert "  succeeded" in "".join(outputs_of(path)[0]["data"]["text/plain"])
    assert [one.name for one in here.glob("*.ipynb")].count(".ipynb") == 0
    assert {one.name for one in here.iterdir()} == {".nbtasks", "real.ipynb", "link.ipynb"}
