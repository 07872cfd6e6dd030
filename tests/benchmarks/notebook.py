"""What a thousand live tasks cost a notebook: the time of a cell ``1+1``, and the bytes on the wire.

A real kernel, spoken to as a page would: it tells that it shows every strip.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.jupyter.conftest import stop_workers
from tests.jupyter.kernel import Kernel
from tests.jupyter.widgets import Widgets

_SUBMIT = """
shell = get_ipython()
for number in range({count}):
    shell.run_cell_magic("background", "--fresh", f"import time\\ntime.sleep(600)\\nvalue_{{number}} = 1")
"""


def _listen(kernel: Kernel, seconds: float) -> None:
    limit = time.monotonic() + seconds
    with suppress(AssertionError):
        kernel.until(lambda: time.monotonic() > limit, "the time to pass")


def _cell(kernel: Kernel) -> float:
    """Milliseconds from sending ``1+1`` to the prompt."""
    started = time.perf_counter()
    cell = kernel.start("1+1")
    kernel.until(lambda: cell.over, "the prompt")
    return (time.perf_counter() - started) * 1000


def _cells(kernel: Kernel, count: int) -> list[float]:
    """The same, `count` times, with pauses."""
    found = []
    for _ in range(count):
        _listen(kernel, 0.05)
        found.append(_cell(kernel))
        kernel.forget()
    return found


def measure(count: int = 1000, rounds: int = 60, watched: float = 15.0) -> dict[str, float]:
    """Milliseconds of a cell without and with `count` live tasks, and bytes a second on the wire."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        env = {name: value for name, value in os.environ.items() if not name.startswith("NBTASKS_")}
        env |= {"XDG_STATE_HOME": f"{root}/state", "IPYTHONDIR": f"{root}/ipython", "NBTASKS_SLOTS": "2"}
        with Kernel(folder, env, attended=True) as kernel:
            widgets = Widgets(kernel)
            kernel.load()
            _cells(kernel, 10)
            before = _cells(kernel, rounds)
            for start in range(0, count, 50):
                cell = kernel.run(_SUBMIT.format(count=min(50, count - start)))
                assert cell.status == "ok", cell.error
                kernel.forget()
            _listen(kernel, 5)
            widgets.bytes = 0
            _listen(kernel, watched)
            rate = widgets.bytes / watched
            after = _cells(kernel, rounds)
        stop_workers(folder)
    found = {"without": statistics.median(before), "with": statistics.median(after), "rate": rate}
    return found | {"worst of ten": statistics.quantiles(after, n=10)[-1]}
