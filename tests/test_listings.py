"""A function of the notebook that fails in a slot: its traceback shows its lines, and says which cell they are of."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

NOTEBOOK = """
import os, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.hist_file = ":memory:"
shell = InteractiveShell.instance(config=config)
sys.modules["__main__"] = shell.user_module
import nbtasks
from nbtasks import listings
shell.user_ns.update(nbtasks=nbtasks, listings=listings)
nbtasks.configure(autostart=False)
for cell in %r:
    assert shell.run_cell(cell, store_history=True).success
"""
HELPER = "def helper(x):\n    y = x - 1\n    return 1 / y\nclass Box:\n    def get(self):\n        return helper(1)\n"
FAILING = "import functools\ndef f(x):\n    # a comment\n    return helper(x) + 1\n"
SUBMIT = """
tasks = [nbtasks.submit(f, 1), nbtasks.submit(functools.partial(f, x=1)), nbtasks.submit(Box().get), nbtasks.submit(nbtasks.task(f), 1),
         nbtasks.submit(lambda: f(1)), nbtasks.map(f, [1])[0]]
"""
SHOW = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "nbtasks", "worker", "--burst", "-w", "1"], stderr=subprocess.DEVNULL, check=True)
for task in tasks:
    task.exception(20)
    print(task.traceback, task.record.outcome.failure.where, sep="@", end="@@")
"""


def run(tmp_path: Path, *cells: str) -> str:
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "NBTASKS_QUEUE": str(tmp_path / "q"),
        "IPYTHONDIR": str(tmp_path),
    }
    ran = subprocess.run(
        [sys.executable, "-c", NOTEBOOK % (cells,)], capture_output=True, text=True, timeout=60, env=env, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_tracebacks_of_submitted_functions_show_their_lines(tmp_path: Path) -> None:
    told = run(tmp_path, HELPER, FAILING, SUBMIT, SHOW).split("@@")
    traces = [entry.partition("@") for entry in told if "@" in entry]
    assert len(traces) == 6
    for trace, _, where in traces:
        assert where == "cell [1], line 3"
        assert re.search(r"  Cell In\[1\], line 3, in helper\n    return 1 / y\n", trace)
        assert trace.rstrip().endswith("ZeroDivisionError: division by zero")
    for trace, _, _ in [*traces[:2], *traces[3:]]:
        assert "  Cell In[2], line 4, in f\n    return helper(x) + 1\n" in trace
    assert "  Cell In[1], line 6, in get\n    return helper(1)\n" in traces[2][0]


def test_only_the_lines_of_what_is_used_travel_and_are_made_once(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        "secret = 'not sent'\ndef alone(x):\n    return x\ndef other():\n    return 5\n",
        "import nbtasks.payload as payload\npart = listings.lines_of(alone)\nprint(list(payload.load(part).values()), listings.lines_of(alone) is part)",
        "def alone(x):\n    return x + 1\nprint(list(payload.load(listings.lines_of(alone)).values()))",
        "from pathlib import Path\nprint(listings.lines_of(Path.exists), listings.lines_of(print), listings.lines_of(None))",
    )
    assert told.splitlines() == [
        r"[(1, 2, 'def alone(x):\n    return x\n')] True",
        r"[(3, 1, 'def alone(x):\n    return x + 1\n')]",
        "None None None",
    ]
