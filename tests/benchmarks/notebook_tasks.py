"""What a notebook costs as a task, over nbclient alone in a process that has everything loaded, side by side."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

_CELLS = 5


def _write(path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(f"{number} + 1") for number in range(_CELLS)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)


def _alone(path: Path) -> float:
    started = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}).execute()
    nbformat.write(notebook, path.with_name("alone.ipynb"))
    return time.perf_counter() - started


def _as_task(path: Path) -> float:
    import nbtasks

    started = time.perf_counter()
    nbtasks.submit_notebook(path, output=path.with_name("task.ipynb")).result(60)
    return time.perf_counter() - started


def measure(rounds: int = 7) -> dict[str, list[float]]:
    """Seconds of each round: nbclient alone, and the same as a task, with a worker that is there."""
    import nbtasks
    from nbtasks import config

    with tempfile.TemporaryDirectory() as root:
        os.environ |= {"NBTASKS_QUEUE": f"{root}/.nbtasks", "XDG_STATE_HOME": f"{root}/state"}
        config.reset()
        path = Path(root) / "report.ipynb"
        _write(path)
        nbtasks.submit(abs, -1).result(60)
        found: dict[str, list[float]] = {"nbclient alone": [], "as a task": []}
        _alone(path), _as_task(path)
        for _ in range(rounds):
            found["nbclient alone"].append(_alone(path))
            found["as a task"].append(_as_task(path))
        subprocess.run([sys.executable, "-m", "nbtasks", "stop"], check=True, capture_output=True)
    return found


def print_table(rounds: int = 7) -> None:
    """The table of docs/benchmarks.md."""
    found = measure(rounds)
    alone, task = (statistics.median(times) * 1000 for times in found.values())
    print(f"\nA notebook of {_CELLS} small cells, median of {rounds} rounds\n")
    print("| | ms (each round) |\n|---|---|")
    for side, times in found.items():
        print(
            f"| {side} | {statistics.median(times) * 1000:,.0f} ({', '.join(f'{one * 1000:,.0f}' for one in times)}) |"
        )
    print(f"\nAs a task it takes {task - alone:+,.0f} ms (aim ≤ 300 ms)")


if __name__ == "__main__":
    print_table()
