"""A hundred megabytes of output: the notebook neither waits for it nor keeps it."""

from __future__ import annotations

import json

import pytest

from tests.jupyter.kernel import Gate, Kernel

FLOODS = {
    "Python": "for i in range(100_000): print(f'{i:01000d}')",
    "a child": "!yes 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' | head -c 100000000",
    "C": "import ctypes\n_line = b'c' * 99_999 + b'\\n'\nfor _ in range(1000): _n = ctypes.CDLL(None).write(1, _line, 100_000)",
}  # fmt: skip


@pytest.mark.parametrize("who", FLOODS)
def test_a_flood_neither_fills_the_notebook_nor_holds_it_up(kernel: Kernel, who: str) -> None:
    gate = Gate(kernel)
    cell = kernel.run(f"%%background --as flood\n{FLOODS[who]}\n{gate.code}print('the end')")
    assert cell.status == "ok", cell.error
    kernel.until(
        lambda: int(kernel.ask("sum(len(part) for _, part in flood.record.log_pieces())")) > 1_000_000, "output"
    )
    assert kernel.run("print(1 + 1)").text == "2\n", "the prompt is back while it runs"
    gate.open()
    assert kernel.run("%wait flood").status == "ok"
    kernel.until(lambda: "  succeeded" in cell.card, "the end")
    assert "the end" in cell.card
    # What a page gets and a file keeps: all that was ever sent for this cell, and the last state.
    sent = sum(len(json.dumps(message["content"])) for message in cell.messages)
    assert sent < 2_000_000
    assert len(cell.html) < 200_000
    kept = json.loads(kernel.ask("[len(str(flood.outputs)), len(flood.log), flood.record.log_path]").replace("'", '"'))
    assert kept[0] < 1_500_000, "the outputs of a task say what they leave out"
    assert kept[1] < 70_000_000
