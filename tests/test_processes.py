"""Who lives, and how a whole tree ends: with real processes that try to get away."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nbtasks import processes
from nbtasks.config import configure
from nbtasks.processes import Identity, identify, is_alive, kill_tree, mark_environment, open_pidfd, tree

ROOT = Path(__file__).parent.parent
SLOT = f"slot-{os.getpid()}"  # other processes run these tests at the same time

# A supervisor forks a slot, which starts children of every kind. All of them tell their pid and kind.
FAMILY = """
import os, subprocess, sys, threading, time
from nbtasks.processes import mark_self

def tell(kind):
    os.write(1, f"{kind} {os.getpid()}\\n".encode())

def forked(kind, *steps):
    if os.fork() == 0:
        for step in steps:
            step()
        tell(kind)
        stay()

def again():
    if os.fork():
        os._exit(0)

def stay():
    while True:
        time.sleep(100)

def run(kind, **how):
    code = f"import os, time; os.write(1, f'{kind} {{os.getpid()}}\\\\n'.encode()); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-S", "-E", "-c", code], **how)

if os.fork() == 0:
    os.setsid()
    assert mark_self(sys.argv[1])
    tell("slot")
    forked("child")
    forked("setsid", os.setsid)
    forked("daemon", os.setsid, again)
    forked("escaped", again, os.setsid, again)
    run("executed")
    run("executed-setsid", start_new_session=True)
    threading.Thread(target=forked, args=("by-a-thread", os.setsid)).start()
    if os.fork() == 0:
        os.setsid()
        run("executed-daemon", start_new_session=True)
        os._exit(0)
    stay()
tell("supervisor")
os.wait()
print("waited", flush=True)
stay()
"""
KINDS = {
    "supervisor", "slot", "child", "setsid", "daemon", "escaped", "executed", "executed-setsid", "by-a-thread",
    "executed-daemon",
}  # fmt: skip


class Family:
    """The processes of FAMILY by their kind, and the pipe on which they speak."""

    def __init__(self, slot: str) -> None:
        environment = {**os.environ, **mark_environment()}
        command = [sys.executable, "-c", FAMILY, slot]
        self.supervisor = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        lines = [self.next_line() for _ in KINDS]
        self.pids = {kind: int(pid) for kind, pid in map(str.split, lines)}
        self.identities = {kind: identify(pid) for kind, pid in self.pids.items()}

    def next_line(self) -> str:
        assert self.supervisor.stdout
        return self.supervisor.stdout.readline()

    def alive(self) -> set[str]:
        return {kind for kind, identity in self.identities.items() if is_alive(identity)}


@pytest.fixture
def family() -> Iterator[Family]:
    started = Family(SLOT)
    assert set(started.pids) == KINDS
    yield started
    for pid in started.pids.values():
        if pid in {process.pid for process in tree(started.supervisor.pid, SLOT)}:
            os.kill(pid, signal.SIGKILL)
    started.supervisor.kill()
    started.supervisor.wait()
    assert started.supervisor.stdout
    started.supervisor.stdout.close()


def wait_for_end(pidfd: int | None) -> None:
    assert pidfd is not None
    assert select.select([pidfd], [], [], 10)[0], "the process has not ended"
    os.close(pidfd)


# -- identity --


def test_we_live() -> None:
    assert is_alive(identify()) is True
    assert identify().pid == os.getpid()
    assert msgspec.json.decode(msgspec.json.encode(identify()), type=Identity) == identify()


def test_a_zombie_is_dead_and_so_is_the_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    who, pidfd = identify(child.pid), open_pidfd(child.pid)
    assert is_alive(who) is True
    child.kill()
    wait_for_end(pidfd)
    assert is_alive(who) is False, "a zombie"
    with pytest.raises(ProcessLookupError):
        identify(child.pid)
    child.communicate()
    assert is_alive(who) is False
    with pytest.raises(ProcessLookupError):
        open_pidfd(child.pid)


def test_the_same_number_is_not_the_same_process() -> None:
    assert is_alive(msgspec.structs.replace(identify(), start=identify().start - 1)) is False


def test_what_can_be_told_from_here() -> None:
    me = identify()
    elsewhere = msgspec.structs.replace(me, boot="another", host="another-host")
    assert is_alive(elsewhere) is None
    assert is_alive(msgspec.structs.replace(me, pidns="pid:[1]")) is None, "another container"
    same_name = msgspec.structs.replace(me, boot="another", machine="another")
    assert is_alive(same_name) is None, "two machines may have the same name"
    configure(boot="after-restart")
    assert is_alive(me) is False, "this host was restarted"


def test_a_process_whose_first_thread_has_ended_lives() -> None:
    code = """
import ctypes, os, threading
threading.Thread(target=lambda: (os.write(1, b"ready\\n"), os.read(0, 1), os._exit(0))).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    who = identify(child.pid)
    assert child.stdout
    assert child.stdout.readline()
    assert is_alive(who) is True
    child.communicate(b"x")
    assert is_alive(who) is False


# -- trees --


def test_tree_finds_all_that_belong_to_a_slot(family: Family) -> None:
    found = {process.pid for process in tree(family.pids["slot"], SLOT)}
    assert found == set(family.pids.values()) - {family.pids["supervisor"]}
    assert os.getpid() not in {process.pid for process in tree(os.getpid())}


def test_tree_without_a_mark_is_family_and_session(family: Family) -> None:
    found = {kind for kind, pid in family.pids.items() if pid in {p.pid for p in tree(family.pids["slot"])}}
    assert found >= {"slot", "child", "setsid", "executed", "executed-setsid", "by-a-thread"}
    assert "supervisor" not in found


def test_nothing_of_a_slot_survives_its_killing(family: Family) -> None:
    assert kill_tree(family.pids["slot"], SLOT, timeout=20) == []
    assert family.alive() == {"supervisor"}
    assert family.next_line() == "waited\n"


def test_what_a_dead_slot_left_is_killed(family: Family) -> None:
    """The slot is gone and was waited for; nothing but session and mark lead to its children."""
    slot = family.identities["slot"]
    os.kill(slot.pid, signal.SIGKILL)
    assert family.next_line() == "waited\n"
    assert is_alive(slot) is False
    assert len(tree(slot, SLOT)) == len(KINDS) - 2
    assert kill_tree(slot, SLOT, timeout=20) == []
    assert family.alive() == {"supervisor"}


def test_what_was_killed_has_let_go_of_its_locks(tmp_path: Path) -> None:
    """One that dies gives its memory back first, and shows no mark meanwhile; its files are closed after that."""
    lock = tmp_path / "lock"
    code = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
much = b"x" * 300_000_000
print("held", flush=True)
time.sleep(3600)
"""
    command = [sys.executable, "-S", "-c", code, str(lock)]
    child = subprocess.Popen(command, env={**os.environ, **mark_environment(SLOT)}, stdout=subprocess.PIPE)
    with child, lock.open("w") as file:
        assert child.stdout
        assert child.stdout.readline() == b"held\n"
        assert kill_tree(Identity(0, 0, "", ""), SLOT, timeout=20) == []
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_number_that_was_given_to_another_is_left_alone(family: Family) -> None:
    """Recovery has the pid of a slot that died long ago; by now somebody else has it."""
    long_gone = msgspec.structs.replace(family.identities["slot"], start=family.identities["slot"].start - 1)
    assert kill_tree(long_gone, "another-slot") == []
    assert family.alive() == KINDS
    foreign = msgspec.structs.replace(long_gone, boot="another", host="another-host")
    assert tree(foreign) == []


def test_end_tree_asks_first(family: Family) -> None:
    assert processes.end_tree(family.pids["slot"], SLOT, term=True) == len(KINDS) - 1
    assert family.next_line() == "waited\n"
    assert processes.end_tree(family.identities["slot"], SLOT, term=False) >= 0
    assert kill_tree(family.identities["slot"], SLOT, timeout=20) == []
    assert family.alive() == {"supervisor"}


def test_a_worker_started_by_a_slot_is_not_of_the_slot() -> None:
    """The mark of the slot gives way to the room for marks of its own."""
    assert mark_environment("slot-1") == {processes.MARK: "slot-1"}
    environment = {**os.environ, **mark_environment("slot-1"), **mark_environment()}
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, env=environment)
    assert child.pid not in {process.pid for process in tree(Identity(0, 0, "", ""), "slot-1")}
    child.kill()
    child.communicate()


def test_without_room_only_what_is_executed_is_marked() -> None:
    code = """
import os, subprocess, sys
from nbtasks.processes import mark_self
assert not mark_self("slot-8")
assert os.environ["NBTASKS_SLOT"] == "slot-8"
subprocess.Popen([sys.executable, "-S", "-c", "print('ready', flush=True); input()"], start_new_session=True).wait()
"""
    environment = {name: value for name, value in os.environ.items() if name != processes.MARK}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, **pipes)  # type: ignore[call-overload]
    assert child.stdout.readline() == b"ready\n"
    nobody = Identity(0, 0, "", "")
    assert len(tree(nobody, "slot-8")) == 1
    child.communicate(b"\n")


# -- what a tree uses --


def test_memory_and_time_of_a_tree() -> None:
    """A parent that does nothing, and a child that fills 80 MB and works for half a second."""
    worker = (
        "import time\n"
        "data = bytearray(b'x') * (80 << 20)\n"
        "while time.process_time() < 0.5: pass\n"
        "print('ready', flush=True)\n"
        "input()\n"
    )
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {worker!r}])"
    parent = subprocess.Popen([sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout
    assert parent.stdout.readline() == b"ready\n"
    assert 80 << 20 < processes.memory_of_tree(parent.pid) < 160 << 20
    assert 0.4 < processes.cpu_of_tree(parent.pid) < 30
    pidfd = open_pidfd(parent.pid)
    parent.stdin.write(b"\n")  # type: ignore[union-attr]
    parent.stdin.close()  # type: ignore[union-attr]
    wait_for_end(pidfd)
    assert processes.cpu_of_tree(parent.pid) > 0.4, "what ended children used still counts, until it is waited for"
    assert processes.memory_of_tree(parent.pid) == 0
    parent.stdout.close()
    parent.wait()
    assert processes.memory_of_tree(parent.pid) == 0


def test_orphans_come_to_a_subreaper() -> None:
    code = """
import os, sys, time
from nbtasks.processes import become_subreaper
assert become_subreaper()
me = os.getpid()
if os.fork() == 0:
    parent = os.getpid()
    if os.fork() == 0:
        while os.getppid() == parent:
            time.sleep(0.001)
        os._exit(0 if os.getppid() == me else 1)
    os._exit(0)
print(sorted(os.wait()[1] for _ in range(2)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "[0, 0]\n", done.stderr


def test_other_systems_are_served_by_psutil() -> None:
    """The way that macOS and Windows go, tried where we are: the same processes are seen."""
    code = """
import os, subprocess, sys
from nbtasks import process_table
process_table.LINUX = False
from nbtasks import processes
assert not processes.LINUX
me = processes.identify()
assert processes.is_alive(me)
child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE,
                         env={**os.environ, **processes.mark_environment("slot-9")}, start_new_session=True)
assert child.pid in {process.pid for process in processes.tree(child.pid)}
assert [process.pid for process in processes.tree(processes.Identity(0, 0, "", ""), "slot-9")] == [child.pid]
assert processes.memory_of_tree(child.pid) > 0 and processes.cpu_of_tree(child.pid) >= 0
assert not processes.mark_self("x") and not processes.become_subreaper()
assert processes.kill_tree(child.pid, "slot-9", timeout=10) == []
assert child.wait() == -9
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert not done.returncode, done.stderr
