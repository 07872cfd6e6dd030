"""Bells wake who sleeps, never block who rings, and fall silent with their owner."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nbtasks.queue.doorbells import Bell, bells_in, hears, ring, ring_all
from tests.queue.tools import Child, Gate


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return str(tmp_path / "bells")


def left_by_the_dead(folder: str, name: str) -> str:
    """The path of a bell whose owner was killed."""

    def hang_and_stay() -> None:
        bell = Bell(folder, name)
        gate.tell("hangs")
        gate.pass_through()
        bell.close()

    with Gate() as gate:
        child = Child(hang_and_stay)
        assert gate.hear() == ["hangs"]
        assert hears(f"{folder}/{name}")
        child.kill()
    return f"{folder}/{name}"


def test_hints_come_in_the_order_they_were_rung(folder: str) -> None:
    bell = Bell(folder, "s-1")
    assert bell.drain() == []
    for number in range(100):
        assert ring(bell.path, f"work {number}")
    assert bell.drain() == [f"work {number}" for number in range(100)]
    assert bell.drain() == []
    bell.close()


def test_a_ring_wakes_a_sleeper_in_another_process(folder: str) -> None:
    bell = Bell(folder, "s-1")
    child = Child(lambda: ring(bell.path, "work"))
    assert bell.wait(10.0)
    assert child.result() is True
    assert bell.drain() == ["work"]
    bell.close()


def test_nobody_rings_nobody_wakes(folder: str) -> None:
    bell = Bell(folder, "s-1")
    began = time.monotonic()
    assert not bell.wait(0.05)
    assert time.monotonic() - began >= 0.05
    bell.close()


def test_another_descriptor_wakes_too(folder: str) -> None:
    bell = Bell(folder, "s-1")
    read, write = os.pipe()
    os.write(write, b"x")
    assert bell.wait(None, read)
    assert bell.drain() == []
    for fd in (read, write):
        os.close(fd)
    bell.close()


def test_only_its_user_reaches_a_bell(folder: str) -> None:
    old = os.umask(0)
    try:
        bell = Bell(f"{folder}/boot/lane", "s-1")
        bell.hang(f"{folder}/boot/lane/idle")
    finally:
        os.umask(old)
    for path in (folder, f"{folder}/boot", f"{folder}/boot/lane", f"{folder}/boot/lane/idle"):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(bell.path).st_mode) == 0o600
    bell.close()


def test_only_the_bells_asked_for(folder: str) -> None:
    bells = [Bell(folder, name) for name in ("w-1", "s-1", "w-2")]
    assert bells_in(folder, "w") == [f"{folder}/w-1", f"{folder}/w-2"]
    for bell in bells:
        bell.close()


def test_nothing_to_ring(folder: str) -> None:
    assert not ring(f"{folder}/s-1", "work")
    assert not hears(f"{folder}/s-1")
    assert bells_in(folder) == []
    assert ring_all(folder, "work") == 0


def test_a_closed_bell_is_gone(folder: str) -> None:
    bell = Bell(folder, "s-1")
    bell.close()
    assert bells_in(folder) == []
    assert not ring(bell.path)
    bell.close()  # twice does no harm


def test_the_bell_of_a_dead_process_is_taken_away(folder: str) -> None:
    path = left_by_the_dead(folder, "s-dead")
    assert not ring(path, "work")
    assert not os.path.exists(path)


def test_asking_takes_a_dead_bell_away_too(folder: str) -> None:
    path = left_by_the_dead(folder, "s-dead")
    assert not hears(path)
    assert not os.path.exists(path)


def test_ring_all_tells_how_many_live(folder: str) -> None:
    left_by_the_dead(folder, "s-2")
    bells = [Bell(folder, "s-1"), Bell(folder, "s-3")]
    assert ring_all(folder, "dirty") == 2
    assert [bell.drain() for bell in bells] == [["dirty"], ["dirty"]]
    for bell in bells:
        bell.close()


def test_a_reader_that_goes_between_open_and_write_did_not_hear(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bell = Bell(folder, "s-1")
    write = os.write

    def write_late(fd: int, data: bytes) -> int:
        bell.close()
        return write(fd, data)

    monkeypatch.setattr(os, "write", write_late)
    assert not ring(bell.path, "work")


def test_a_full_bell_does_not_block_and_loses_nothing_it_took(folder: str) -> None:
    bell = Bell(folder, "s-1")
    hint = "x" * 100
    began = time.monotonic()
    for _ in range(20_000):  # 2 MB into a pipe of 64 kB
        assert ring(bell.path, hint), "the owner lives, so it has heard"
    assert time.monotonic() - began < 30
    hints = bell.drain()
    assert 100 < len(hints) < 20_000
    assert set(hints) == {hint}, "no half hints"
    assert ring(bell.path, "again")
    assert bell.drain() == ["again"]
    bell.close()


def test_hanging_idle_and_back_keeps_what_was_rung(folder: str) -> None:
    bell = Bell(folder, "s-1")
    ring(bell.path, "one")
    bell.hang(f"{folder}/idle")
    assert bells_in(folder) == []
    assert bells_in(f"{folder}/idle") == [f"{folder}/idle/s-1"]
    ring(bell.path, "two")
    bell.hang(folder)
    bell.hang(folder)
    assert bells_in(folder) == [f"{folder}/s-1"]
    assert bell.drain() == ["one", "two"]
    bell.close()


def test_a_bell_that_was_taken_away_is_made_anew(folder: str) -> None:
    bell = Bell(folder, "s-1")
    os.unlink(bell.path)
    bell.hang(f"{folder}/idle")
    assert ring(f"{folder}/idle/s-1", "work")
    assert bell.wait(10.0)
    assert bell.drain() == ["work"]
    bell.close()


def test_bells_being_made_do_not_count(folder: str) -> None:
    bells = [Bell(folder, name) for name in ("w-1", "s-2", "s-1")]
    os.mkfifo(f"{folder}/.s-9")
    os.mkdir(f"{folder}/idle")
    assert bells_in(folder) == [f"{folder}/{name}" for name in ("s-1", "s-2", "w-1")]
    for bell in bells:
        bell.close()


def test_a_link_is_not_followed(folder: str, tmp_path: Path) -> None:
    bell = Bell(folder, "s-1")
    (tmp_path / "link").symlink_to(bell.path)
    assert not ring(str(tmp_path / "link"), "work")
    assert bell.drain() == []
    bell.close()


def test_a_program_that_the_owner_started_keeps_no_bell_alive(folder: str) -> None:
    def start_and_stay() -> None:
        bell = Bell(folder, "s-1")
        code = "import sys; print('up', flush=True); sys.stdin.read()"
        pipes = {"stdin": stay, "stdout": subprocess.PIPE, "close_fds": False}
        keeper = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], **pipes)
        assert keeper.stdout.readline() == b"up\n"
        gate.tell(keeper.pid)
        gate.pass_through()
        bell.close()

    stay, hold = os.pipe()  # the program ends when we close our side
    with Gate() as gate:
        child = Child(start_and_stay)
        (pid,) = gate.hear()
        child.kill()
        assert os.path.exists(f"/proc/{pid}")
        heard = hears(f"{folder}/s-1")
        os.close(hold)
        os.close(stay)
    assert not heard


def test_a_fork_of_the_owner_keeps_no_bell_alive(folder: str) -> None:
    def fork_and_stay() -> None:
        bell = Bell(folder, "s-1")
        if os.fork() == 0:
            gate.tell(os.getpid())
            gate.pass_through()
            os._exit(0)
        gate.pass_through()
        bell.close()

    with Gate() as gate:
        child = Child(fork_and_stay)
        (pid,) = gate.hear()
        child.kill()
        assert os.path.exists(f"/proc/{pid}")
        assert not hears(f"{folder}/s-1")


def test_a_fork_leaves_its_parent_the_bell(folder: str) -> None:
    bell = Bell(folder, "s-1")
    Child(bell.close).result()
    assert bells_in(folder) == [bell.path], "a child that cleans up does not take the parent's bell away"
    assert ring(bell.path, "work")
    assert bell.drain() == ["work"]
    bell.close()
