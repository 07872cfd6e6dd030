"""Forking a slot: a session of its own, nothing inherited but what it needs, and marked with all that descends from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from nbtasks import processes
from nbtasks.process_table import has_mark
from tests.worker.tools import is_gone, kill, until

SCRIPT = """
import os, signal, subprocess, sys, time
from nbtasks.engines import local

kept, other = os.pipe(), os.pipe()

pipes = [os.stat(kept[1]), os.stat(other[0])]

def is_open(pipe):
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.path.samestat(os.fstat(int(name)), pipe):
                return True
        except OSError:
            pass
    return False

def main():
    with open(sys.argv[1] + "/said", "w") as file:
        file.write(f"{os.getpid()} {os.getsid(0)} {is_open(pipes[0])} {is_open(pipes[1])}\\n")
    if os.fork() == 0:
        os.setsid()
        open(sys.argv[1] + "/forked", "w").write(str(os.getpid()))
        time.sleep(600)
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    open(sys.argv[1] + "/started", "w").write(str(child.pid))
    signal.signal(local.ORPHANED, lambda *_: open(sys.argv[1] + "/orphaned", "w").write("now"))
    open(sys.argv[1] + "/ready", "w").close()
    while not os.path.exists(sys.argv[1] + "/gate"):
        time.sleep(0.01)
    return 7

slot = local.fork_slot(main, "s-test", keep=kept[1])
open(sys.argv[1] + "/slot", "w").write(str(slot))
pid, status = os.waitpid(slot, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def begin(folder: Path) -> subprocess.Popen[bytes]:
    environ = os.environ | processes.mark_environment()
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(folder)], env=environ)


def number(path: Path) -> int:
    return int(until(lambda: path.exists() and path.read_text()))


def test_a_slot_stands_alone_and_its_exit_code_is_seen(tmp_path: Path) -> None:
    supervisor = begin(tmp_path)
    slot, started, forked = (number(tmp_path / name) for name in ("slot", "started", "forked"))
    assert (tmp_path / "said").read_text() == f"{slot} {slot} True False\n"
    # A program that has just begun has no environment yet, though whoever started it goes on already.
    until(lambda: all(has_mark(pid, "s-test") for pid in (slot, started, forked)))
    assert not has_mark(supervisor.pid, "s-test")
    (tmp_path / "gate").touch()
    assert supervisor.wait(20) == 7
    assert {one.pid for one in processes.tree(0, "s-test")} == {started, forked}
    assert processes.kill_tree(0, "s-test") == []
    assert is_gone(started)
    assert is_gone(forked)


def test_a_slot_is_told_when_its_supervisor_dies(tmp_path: Path) -> None:
    supervisor = begin(tmp_path)
    slot = number(tmp_path / "slot")
    until((tmp_path / "ready").exists)
    supervisor.kill()
    supervisor.wait()
    assert until((tmp_path / "orphaned").exists)
    assert not is_gone(slot)
    kill(slot)
    assert processes.kill_tree(0, "s-test") == []


def test_a_slot_whose_code_raises_never_becomes_a_supervisor(tmp_path: Path) -> None:
    code = "import os\nfrom nbtasks.engines import local\npid = local.fork_slot(lambda: 1 / 0, 's-test')\n"
    code += "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout == "1\n"
    assert "ZeroDivisionError" in done.stderr


def test_a_drain_is_no_signal_that_user_code_knows() -> None:
    from nbtasks.engines import local

    assert local.DRAIN not in {signal.SIGTERM, signal.SIGINT, local.ORPHANED}
