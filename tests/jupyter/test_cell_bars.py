"""Bars of any library, nested, live on the card without a change of the user's code; and still there after a failure."""

from __future__ import annotations

import re

import pytest

from tests.jupyter.kernel import Gate, Kernel

BARS = {
    "tqdm.auto": "from tqdm.auto import tqdm\nfor i in tqdm(range(3), desc='epoch'):\n    for j in tqdm(range(4), desc='batch', leave=False):\n        {stop}",
    "tqdm.notebook": "from tqdm.notebook import tqdm\nfor i in tqdm(range(3), desc='epoch'):\n    for j in tqdm(range(4), desc='batch', leave=False):\n        {stop}",
    "rich": "from rich.progress import Progress\nwith Progress() as progress:\n    a = progress.add_task('[red]epoch', total=3)\n"
    "    for i in range(3):\n        b = progress.add_task('batch', total=4)\n        for j in range(4):\n            {stop}\n            progress.advance(b)\n"
    "        progress.remove_task(b)\n        progress.advance(a)",
    "nbtasks": "import nbtasks\nfor i in nbtasks.progress(range(3), desc='epoch'):\n    for j in nbtasks.progress(range(4), desc='batch'):\n        {stop}",
}  # fmt: skip


TICK = """
import os as _os, time as _time
def tick(i, j):
    _time.sleep(0.11)  # tqdm looks at its counts every tenth of a second
    if (i, j) == (1, 2):
        while not _os.path.exists({gate!r}): _time.sleep(0.01)
        raise ValueError("stopped")
"""


@pytest.mark.parametrize("library", BARS)
def test_nested_bars_live_and_after_a_failure(kernel: Kernel, library: str) -> None:
    gate = Gate(kernel)
    code = TICK.format(gate=str(gate.path)) + BARS[library].format(stop="tick(i, j)")
    cell = kernel.run(f"%%background --as held\n{code}")
    assert cell.status == "ok", cell.error

    def shown() -> str:
        return kernel.ask("held._repr_mimebundle_()['text/plain']")

    kernel.until(lambda: re.search("(?s)epoch 1/3.*batch 2/4", shown()), "both bars, the outer one first")
    gate.open()
    kernel.run("%wait held")
    kernel.until(lambda: "  failed" in cell.card, "the failure")
    assert "epoch 1/3" in cell.card
    assert "ValueError: stopped" in cell.card
    assert kernel.ask("held.outputs") == "[]", "no bar is text"
