"""How long the prompt is away: an empty cell, a background cell, and one that reads a large DataFrame, in one kernel."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from tests.jupyter.conftest import stop_workers
from tests.jupyter.kernel import Kernel

_LARGE = (
    "import numpy, pandas\ndf = pandas.DataFrame(numpy.random.rand(1_250_000, 10)); df.columns = list('abcdefghij')"
)
_CELLS = {
    "an empty cell": "pass",
    "a background cell": "%%background --fresh\nvalue = 1 + 1",
    "a background cell that reads a DataFrame of 100 MB": "%%background --fresh\nvalue = df['a'].sum()",
    "the same DataFrame once more": "%%background --fresh\nvalue = df['b'].sum()",
}


def _prompt(kernel: Kernel, source: str) -> float:
    """Milliseconds from sending a cell to the prompt; what it started has ended when this returns."""
    started = time.perf_counter()
    cell = kernel.start(source)
    kernel.until(lambda: cell.over, "the prompt")
    took = (time.perf_counter() - started) * 1000
    assert cell.status == "ok", cell.error
    if source != "pass":
        kernel.until(lambda: any("succeeded" in str(shown) for shown in cell.displays.values()), "its end")
    kernel.forget()
    return took


def measure(rounds: int = 9) -> dict[str, float]:
    """Milliseconds to the prompt of each kind of cell: medians. Every round has another DataFrame."""
    found: dict[str, list[float]] = {name: [] for name in _CELLS}
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        env = {name: value for name, value in os.environ.items() if not name.startswith("NBTASKS_")}
        env |= {"XDG_STATE_HOME": f"{root}/state", "IPYTHONDIR": f"{root}/ipython"}
        with Kernel(folder, env, attended=True) as kernel:
            kernel.load()
            for _ in range(rounds + 1):
                assert kernel.run(_LARGE).status == "ok"
                for name, source in _CELLS.items():
                    found[name].append(_prompt(kernel, source))
        stop_workers(folder)
    return {name: statistics.median(times[1:]) for name, times in found.items()}  # the first round loads modules


def print_prompt() -> None:
    """The table."""
    found = measure()
    empty, small, large, again = found.values()
    print("\n| from sending a cell to the prompt | ms | more | aim |\n|---|---|---|---|")
    more = (
        "",
        f"{small - empty:.0f} over an empty cell",
        f"{large - small:.0f} over a small one",
        f"{again - small:.0f}",
    )
    for (name, took), extra, aim in zip(found.items(), more, ("", "≤ 50", "≤ 250", ""), strict=True):
        print(f"| {name} | {took:.0f} | {extra} | {aim} |")


if __name__ == "__main__":
    print_prompt()
