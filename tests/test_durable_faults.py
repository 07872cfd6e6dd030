"""NBTASKS_FAULT, in processes that really die of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nbtasks.config import configure
from nbtasks.durable import RealDisk, open_disk
from nbtasks.durable_faults import OPERATIONS, FaultyDisk, arm
from nbtasks.errors import OptionError

ROOT = Path(__file__).parent.parent

# Five calls are written and moved; each step that was survived is told.
SCRIPT = """
import sys
from nbtasks.durable import open_disk
disk, root = open_disk(), sys.argv[1]
for n in range(5):
    try:
        disk.create(f"{root}/{n}.call", (b"0123456789",))
        print("created", n, flush=True)
        disk.move(f"{root}/{n}.call", f"{root}/running/slot/{n}.call")
        print("moved", n, flush=True)
    except OSError as error:
        print("error", n, error.errno, flush=True)
"""


def run(root: Path, fault: str, once: str = "") -> tuple[int, list[str]]:
    environment = {**os.environ, "NBTASKS_FAULT": fault, "NBTASKS_FAULT_ONCE": once}
    command = [sys.executable, "-c", SCRIPT, str(root)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def test_killed_after_the_third_move(tmp_path: Path) -> None:
    code, told = run(tmp_path, "move:after:*/running/*:3")
    assert (code, told[-1]) == (-signal.SIGKILL, "created 2")
    assert sorted(RealDisk().list(f"{tmp_path}/running/slot")) == ["0.call", "1.call", "2.call"]


def test_killed_before_the_third_move(tmp_path: Path) -> None:
    code, told = run(tmp_path, "move:before:*:3")
    assert (code, told[-1]) == (-signal.SIGKILL, "created 2")
    assert sorted(RealDisk().list(f"{tmp_path}/running/slot")) == ["0.call", "1.call"]
    assert (tmp_path / "2.call").exists()


def test_killed_with_half_a_file(tmp_path: Path) -> None:
    code, told = run(tmp_path, "create:half:*.call:2")
    assert (code, told) == (-signal.SIGKILL, ["created 0", "moved 0"])
    assert (tmp_path / "1.call").read_bytes() == b"01234"


def test_first_creation_fails(tmp_path: Path) -> None:
    code, told = run(tmp_path, "create:error=ENOSPC:*.call")
    assert (code, told[0], len(told)) == (0, "error 0 28", 9)
    assert not (tmp_path / "0.call").exists()


def test_every_creation_from_the_fourth_on_fails(tmp_path: Path) -> None:
    _, told = run(tmp_path, "create:error=ENOSPC:*.call:4+")
    assert told[-2:] == ["error 3 28", "error 4 28"]
    assert len(told) == 8


def test_a_lost_reply_inside_and_outside_of_move(tmp_path: Path) -> None:
    """Inside, `move` finds out that it has moved; outside, its caller sees the error."""
    _, told = run(tmp_path, "rename:late=EIO:*/1.call; move:late=EIO:*/3.call")
    assert "moved 1" in told
    assert "error 3 5" in told
    assert len(RealDisk().list(f"{tmp_path}/running/slot")) == 5


def test_another_signal(tmp_path: Path) -> None:
    assert run(tmp_path, "move:before=SIGTERM:*")[0] == -signal.SIGTERM


def test_once_among_all_processes(tmp_path: Path) -> None:
    once = str(tmp_path / "struck")
    assert run(tmp_path / "a", "move:after:*:1", once)[0] == -signal.SIGKILL
    code, told = run(tmp_path / "b", "move:after:*:1", once)
    assert (code, len(told)) == (0, 10)


@pytest.mark.parametrize(
    "text", ["move", "move:later:*:1", "jump:after:*:1", "move:error:*:1", "move:error=ENOTHING:*:1", "move:after"]
)
def test_a_fault_that_cannot_be(text: str) -> None:
    configure(fault=text)
    with pytest.raises(OptionError, match="NBTASKS_FAULT"):
        open_disk()


def test_every_operation_has_its_steps(tmp_path: Path) -> None:
    """A plan sees each operation before and after, and every operation does what the disk under it does."""
    steps: list[str] = []
    disk = FaultyDisk(RealDisk(), lambda step, path: steps.append(step))
    root = str(tmp_path)
    disk.make_folder(f"{root}/folder")
    disk.create(f"{root}/folder/a", (b"1",))
    assert disk.move(f"{root}/folder/a", f"{root}/b")
    disk.replace(f"{root}/b", b"2")
    assert (disk.read(f"{root}/b"), disk.list(root).count("b"), disk.exists(f"{root}/b")) == (b"2", 1, True)
    disk.flush(f"{root}/b")
    disk.flush_all(root)
    assert disk.remove(f"{root}/b")
    assert disk.remove_folder(f"{root}/folder")
    assert {step.partition(":")[0] for step in steps} == set(OPERATIONS)
    for operation in OPERATIONS:
        assert steps.count(f"{operation}:before") == steps.count(f"{operation}:after") == 1


def test_faults_count_by_themselves(tmp_path: Path) -> None:
    disk = arm("create:error=ENOSPC:*/a:1; create:error=EIO:*/b:2")
    with pytest.raises(OSError, match="No space left"):
        disk.create(f"{tmp_path}/a", ())
    disk.create(f"{tmp_path}/a", ())
    disk.create(f"{tmp_path}/1/b", ())
    with pytest.raises(OSError, match="Input/output"):
        disk.create(f"{tmp_path}/2/b", ())
