"""Templates at the far side end with those whom they serve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from tests.worker.tools import until

# A job of RQ whose worker was killed before it could ask for a template.
ORPHAN = """
import os, sys, time
worker = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == worker:
    time.sleep(0.01)
from nbtasks.engines.runners import SharedRunners
runners = SharedRunners()
runners._ask("f")
print(runners._process.pid, flush=True)
"""


def test_the_template_of_an_orphan_ends_with_it() -> None:
    """Its parent is now the first process of the machine, which lives for ever."""
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN],
        cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True, timeout=60, start_new_session=True,
    )  # fmt: skip
    template = int(done.stdout)
    until(lambda: not psutil.pid_exists(template), what="the end of the template")
