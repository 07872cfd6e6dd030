"""What a process of the tests has started ends with it, even when both are killed or hide."""

from __future__ import annotations

import subprocess
import sys

from tests.source import ROOT
from tests.worker.tools import is_gone, until

CODE = """
import os, signal, subprocess
from tests import reaper

reaper.watch_this_process()
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
marked, bare = (subprocess.Popen([*words, "sleep", "600"], **quiet).pid for words in ([], ["env", "-i"]))
reaper.note(bare)
print(marked, bare, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_servers_end_with_a_killed_test_process() -> None:
    killed = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr
    pids = list(map(int, killed.stdout.split()))
    assert len(pids) == 2
    until(lambda: all(map(is_gone, pids)), what="the end of what it has started")
