"""nbtasks.lock: one at a time, by name, for tasks and scripts; free when its holder ends; who waits says for whom."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import nbtasks
from nbtasks import OptionError, Status
from nbtasks.queue import doorbells, shortage
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import WAITERS
from tests.worker import calls
from tests.worker.fixtures import gate, start
from tests.worker.tools import Worker, kill, live_slots, until

__all__ = ["gate", "start"]

Start = Callable[..., Worker]
SCRIPT = "import nbtasks, time\nwith nbtasks.lock('db'): print('held', flush=True); time.sleep(3600)"


def load(folder: str) -> float:
    with nbtasks.lock("db"):
        return calls.occupy(folder, 1, 0.02)


def load_and_wait(gate: str) -> None:
    with nbtasks.lock("db", timeout="1m"):
        calls.wait_for(gate)


def load_and_fork(gate: str) -> None:
    """A child of a holder lives on, and has no lock."""
    with nbtasks.lock("db"):
        if os.fork() == 0:
            os.setsid()
            calls.wait_for(gate)
            os._exit(0)
        calls.wait_for(gate)


def test_one_at_a_time_has_it(queue: Queue, start: Start, tmp_path: Path) -> None:
    start("-w", "4")
    tasks = nbtasks.map(load, [str(tmp_path)] * 12)
    with nbtasks.lock("db"):
        calls.occupy(str(tmp_path), 1, 0.02)
    assert len(tasks.results()) == 12
    assert not (tmp_path / "too-many").exists()


def test_who_waits_says_for_whom(queue: Queue, start: Start, gate: str) -> None:
    start("-w", "2")
    holder = nbtasks.submit(load_and_wait, gate)
    until(lambda: "held by" in shortage.of_lock(queue, "db"))
    other = nbtasks.submit(load_and_wait, gate)
    until(lambda: "lock" in other.reason)
    assert other.status is Status.RUNNING
    assert other.reason.startswith(f"waits for lock db, held by {holder.short} (load_and_wait, 00:0")
    with pytest.raises(TimeoutError, match=rf"waited 0.05 s for lock db, held by {holder.short} \(load_and_wait"):
        nbtasks.lock("db", timeout=0.05).__enter__()
    Path(gate).touch()
    nbtasks.gather([holder, other])
    with nbtasks.lock("db", timeout=0):
        assert repr(nbtasks.lock("db")) == "<lock 'db': not held here>"
    assert doorbells.bells_in(queue.layout.bells_of(queue.boot, WAITERS)) == []


def test_it_is_free_when_its_holder_is_killed(queue: Queue, start: Start, gate: str) -> None:
    worker = start("-w", "2")
    task = nbtasks.submit(load_and_fork, gate)
    until(lambda: "held by" in shortage.of_lock(queue, "db"))
    name = queue.record(task.id).place.slot
    worker.kill()  # nobody ends the child of the task
    kill(next(slot.process.pid for slot in live_slots(queue) if slot.name == name))
    with nbtasks.lock("db", timeout=2):
        pass
    Path(gate).touch()


def test_a_script_has_it_and_who_waits_goes_on_at_once(queue: Queue) -> None:
    script = subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True)
    assert script.stdout is not None
    assert script.stdout.readline() == "held\n"
    with pytest.raises(TimeoutError, match=rf"held by -c, pid {script.pid} \(00:00\)"):
        nbtasks.lock("db", timeout="10ms").__enter__()
    waiter = threading.Thread(target=lambda: nbtasks.lock("db").__enter__())
    waiter.start()
    until(lambda: doorbells.bells_in(queue.layout.bells_of(queue.boot, WAITERS)))
    script.kill()
    script.wait()
    script.stdout.close()
    waiter.join(2)
    assert not waiter.is_alive()


def test_a_thread_that_asks_twice_is_told_and_another_one_waits(queue: Queue) -> None:
    order: list[str] = []

    def other() -> None:
        with nbtasks.lock("db"):
            order.append("other")

    with nbtasks.lock("db"):
        with pytest.raises(OptionError, match="held here already"), nbtasks.lock("db"):
            pass
        with nbtasks.lock("another"):
            thread = threading.Thread(target=other)
            thread.start()
            until(lambda: doorbells.bells_in(queue.layout.bells_of(queue.boot, WAITERS)))
            time.sleep(0.01)
            order.append("first")
    thread.join(5)
    assert order == ["first", "other"]
    with nbtasks.lock("db"):
        pass


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, None])
def test_what_is_no_name_is_refused(queue: Queue, name: str) -> None:
    with pytest.raises(OptionError, match="give a name"):
        nbtasks.lock(name)
    with pytest.raises(OptionError, match="is no duration"):
        nbtasks.lock("db", timeout="soon")
