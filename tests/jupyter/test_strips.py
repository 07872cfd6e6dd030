"""Live strips through a real ipykernel, with a page that only keeps what it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks.jupyter.strips import model_id
from nbtasks.queue.directory import Queue
from tests.jupyter.conftest import Env, stop_workers
from tests.jupyter.kernel import Cell, Gate, Kernel
from tests.jupyter.widgets import Widgets

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def _attended(tmp_path_factory: pytest.TempPathFactory, env: Env) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("attended")
    with Kernel(folder, env, attended=True) as kernel:
        kernel.load()
        yield kernel
    stop_workers(folder)


@pytest.fixture
def page(_attended: Kernel) -> Widgets:
    _attended.forget()
    _attended.run("%reset -f\nimport nbtasks")
    return Widgets(_attended)


def card(cell: Cell) -> str:
    return next(str(data["text/plain"]) for data in cell.displays.values() if data.get("text/plain"))


def strip(cell: Cell) -> str | None:
    """The model of the strip that a cell shows."""
    return next((str(data[WIDGET]["model_id"]) for data in cell.displays.values() if WIDGET in data), None)


def start(page: Widgets, options: str = "") -> tuple[Cell, Gate]:
    gate = Gate(page.kernel)
    cell = page.kernel.run(f"%%background {options}\n{gate.code}print('through')")
    assert cell.status == "ok", cell.error
    page.kernel.until(lambda: "running" in page.html, "the strip")
    return cell, gate


def test_the_strip_has_the_card_and_the_static_part_one_line(page: Widgets) -> None:
    cell, gate = start(page, "-n train")
    page.kernel.until(lambda: "\n" not in card(cell) and "shows now" in card(cell), "the static part to be one line")
    model = strip(cell)
    assert model is not None
    assert page.states[model]["_model_name"] == "VBoxModel"
    short = card(cell).split()[2]
    (queue,) = {Queue.open(str(page.kernel.folder / ".nbtasks"))}
    assert model == model_id(queue.uuid, queue.find(short))
    gate.open()
    page.kernel.until(lambda: "succeeded" in card(cell) and strip(cell) is None, "the end")
    page.kernel.until(lambda: model not in page.states, "the widgets to be closed")
    assert "through" in card(cell)


def test_without_a_page_that_shows_it_the_static_part_is_the_whole_card(page: Widgets) -> None:
    page.shows = False
    cell, gate = start(page)
    page.kernel.until(lambda: "running" in card(cell) and "\n" in card(cell), "the whole card")
    gate.open()
    page.kernel.until(lambda: "succeeded" in card(cell), "the end")


def test_buttons_work_and_only_those_that_make_sense_are_there(page: Widgets) -> None:
    cell, _ = start(page, "-n train")
    assert page.button("Run ") is None
    page.press("Copy the id")
    page.kernel.until(lambda: any(s.get("value") == card(cell).split()[2] for s in page.states.values()), "the id")
    page.press("Cancel ")
    page.kernel.until(lambda: "cancelled" in card(cell), "the task to be cancelled")
    page.kernel.until(lambda: strip(cell) is None, "the strip to go")


def test_live_tasks_count_as_activity(page: Widgets) -> None:
    """An idle kernel is not stopped while its tasks live: something goes to the page each minute, if nothing changes."""
    page.kernel.run("import nbtasks.jupyter.cards as cards\nbefore, cards._MINUTE = cards._MINUTE, 0.3")
    cell, gate = start(page)
    page.kernel.until(lambda: "shows now" in card(cell), "the line")
    (display,) = {key for key in cell.displays if not key.endswith("-strip")}
    seen = page.updates.count(display)
    page.kernel.until(lambda: page.updates.count(display) > seen + 2, "the line to be sent again")
    page.kernel.run("cards._MINUTE = before")
    gate.open()
    page.kernel.until(lambda: "succeeded" in card(cell), "the end")


def test_nobody_at_the_page_means_no_strip(kernel: Kernel) -> None:
    gate = Gate(kernel)
    widgets = Widgets(kernel)
    cell = kernel.run(f"%%background\n{gate.code}")
    kernel.until(lambda: "running" in card(cell), "the task to run")
    gate.open()
    kernel.until(lambda: "succeeded" in card(cell), "the end")
    assert strip(cell) is None
    assert not widgets.states


def test_html_in_names_and_prints_is_text(page: Widgets) -> None:
    gate = Gate(page.kernel)
    evil = "<img src=x onerror=alert(1)>"
    page.kernel.run(f"%%background -n '{evil}'\nprint('{evil}')\n{gate.code}")
    page.kernel.until(lambda: page.html.count("&lt;img src=x") == 2, "name and print")
    assert evil not in page.html
    gate.open()


def test_twenty_strips_and_one_table(page: Widgets) -> None:
    kernel = page.kernel
    gate = Gate(kernel)
    shown = "get_ipython()._nbtasks.live.show(task.queue, task.id, get_ipython().display_pub.parent_header)"
    wait = f"lambda n: [__import__('time').sleep(0.05) for _ in iter(lambda: __import__('os').path.exists({str(gate.path)!r}), True)]"
    cell = kernel.run(f"for n in range(25):\n    task = nbtasks.submit({wait}, n)\n    {shown}")
    assert cell.status == "ok", cell.error
    assert sum(WIDGET in data for data in cell.displays.values()) == 20
    tables = [data for data in cell.displays.values() if "without a strip" in str(data.get("text/plain"))]
    assert len(tables) == 1
    gate.open()
    kernel.until(
        lambda: sum("succeeded" in str(data.get("text/plain")) for data in cell.displays.values()) >= 25, "the end"
    )
    kernel.until(lambda: not any(WIDGET in data for data in cell.displays.values()), "the strips to go")


def test_a_new_kernel_makes_the_strips_of_its_notebook_again(tmp_path: Path, env: Env) -> None:
    path = tmp_path / "book.ipynb"
    with Kernel(tmp_path, env | {"JPY_SESSION_NAME": str(path)}, attended=True) as kernel:
        kernel.load()
        page = Widgets(kernel)
        cell, gate = start(page)
        live = strip(cell)
        done = kernel.run("%%background\n1 + 1")
        kernel.until(lambda: "succeeded" in card(done), "the other one")
        # As the file would be, had it been saved while both ran.
        ids = [
            key.removesuffix("-strip").partition("-")[2].partition("-")[2]
            for c in (cell, done)
            for key in c.displays
            if key.endswith("-strip")
        ]
        queue = Queue.open(str(tmp_path / ".nbtasks"))
        metadata = [{"nbtasks": {"task": id, "queue": queue.uuid, "part": "strip"}} for id in ids]
        path.write_text(
            json.dumps({"cells": [{"outputs": [{"data": {WIDGET: {}}, "metadata": one}]} for one in metadata]})
        )
        kernel.kill()
        page = Widgets(kernel)
        page.shows = False
        load = kernel.run("%load_ext nbtasks")
        kernel.until(lambda: live in page.states, "the live strip")
        kernel.until(lambda: model_id(queue.uuid, ids[1]) in page.states, "the strip of the other one")
        kernel.until(lambda: strip(load) == live, "what no page shows to be shown below the cell")
        page.press("Cancel ")
        kernel.until(lambda: "cancelled" in card(load), "the end")
        del gate
    stop_workers(tmp_path)
