"""A pipeline at the end of a cell, in a real kernel: its graph lives, and is final before a wait returns."""

from __future__ import annotations

from pathlib import Path

from tests.jupyter.kernel import Cell, Kernel

FLOW = """
import os, time
def first(wait):
    while not os.path.exists(wait): time.sleep(0.01)
    return 2
def twice(x): return 2 * x
with nbtasks.pipeline("flow") as p:
    a = nbtasks.submit(first, {wait!r})
    b = nbtasks.submit(twice, a)
p
"""


def shown(cell: Cell) -> str:
    (bundle,) = cell.displays.values()
    return str(bundle["text/plain"])


def test_the_graph_follows_its_tasks_without_a_cell_that_runs(kernel: Kernel, tmp_path: Path) -> None:
    go = tmp_path / "go"
    cell = kernel.run(FLOW.format(wait=str(go)))
    assert "0 of 2 tasks ended" in shown(cell)
    assert "twice" in shown(cell)
    kernel.until(lambda: "(o) first" in shown(cell), "the first that runs")
    go.touch()
    kernel.until(lambda: "(v) pipeline flow  succeeded  2 tasks" in shown(cell), "the end")
    (bundle,) = cell.displays.values()
    assert "<svg" not in bundle["text/html"]
    (message,) = [one for one in cell.messages if one["msg_type"] == "display_data"]
    marker = message["content"]["metadata"]["nbtasks"]
    assert (marker["part"], marker["group"].partition("/")[0]) == ("graph", "flow")


def test_the_graph_is_final_when_a_result_is_there(kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    cell = kernel.run(FLOW.format(wait=str(tmp_path / "go")))
    waiting = kernel.run("p.result()")
    assert waiting.text == "4"
    assert "(v) pipeline flow  succeeded" in shown(cell), "a notebook without a page takes no later update"


def test_it_is_taken_up_after_a_restart(own_kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    own_kernel.run(FLOW.format(wait=str(tmp_path / "go")))
    own_kernel.run("p.wait()")
    own_kernel.restart()
    own_kernel.load()
    cell = own_kernel.run("q = nbtasks.get_pipeline('flow')\nprint(q.result(timeout=30))\nq")
    assert cell.text.startswith("4")
    assert "(v) pipeline flow  succeeded" in shown(cell)


def test_without_the_extension_it_is_shown_once(own_kernel: Kernel, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    own_kernel.run("%unload_ext nbtasks")
    cell = own_kernel.run(FLOW.format(wait=str(tmp_path / "go")))
    assert "pipeline flow" in shown(cell)
    own_kernel.run("p.wait()")
