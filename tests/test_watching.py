"""Waiting: hints that get lost, many tasks at once, callbacks that wait themselves."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import nbtasks
from nbtasks.queue import doorbells
from nbtasks.queue.directory import Queue
from nbtasks.watching import watcher_of
from tests.test_handle import double, python, wait_for


def test_a_lone_wait_starts_no_thread(queue: Queue) -> None:
    done = python("""
        import nbtasks, threading
        from tests.test_handle import double
        assert nbtasks.submit(double, 1).result(30) == 2
        assert nbtasks.gather(nbtasks.map(double, range(20))) == [2 * x for x in range(20)]
        print(threading.active_count())
    """)
    assert done.stdout == "1\n", done.stderr


def test_a_lost_hint_costs_a_second_and_not_the_result(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = nbtasks.submit(wait_for, str(gate))
    os.remove(f"{queue.layout.bells_of(queue.boot, 'clients')}/{watcher_of(queue).name}")
    gate.touch()
    assert task.result(30) == str(gate)


def test_a_flood_of_hints_loses_nothing(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = nbtasks.submit(wait_for, str(gate))
    path = f"{queue.layout.bells_of(queue.boot, 'clients')}/{watcher_of(queue).name}"
    for _ in range(3000):
        assert doorbells.ring(path, "20261120-220611-482913-k7q2.1.0.0.succeeded")
    gate.touch()
    assert task.result(30) == str(gate)


def test_false_hints_are_no_ends(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = nbtasks.submit(wait_for, str(gate))
    path = f"{queue.layout.bells_of(queue.boot, 'clients')}/{watcher_of(queue).name}"
    for hint in (f"{task.id}.1.0.0.succeeded", f"{task.id}", "../../etc.1.0.0.failed", "", "\x00"):
        doorbells.ring(path, hint)
    try:
        task.result(0.1)
    except TimeoutError:
        assert not task.done()
    gate.touch()
    assert task.result(30) == str(gate)


def test_a_callback_may_wait_for_another_task(queue: Queue, tmp_path: Path) -> None:
    gates = tmp_path / "one", tmp_path / "two"
    one, two = (nbtasks.submit(wait_for, str(gate)) for gate in gates)
    results: list[str] = []
    finished = threading.Event()

    def then(_: object) -> None:
        results.append(two.result(30))
        finished.set()

    one.add_done_callback(then)
    gates[0].touch()
    assert one.result(30)
    gates[1].touch()
    assert finished.wait(30)
    assert results == [str(gates[1])]


def test_the_bell_of_others_hangs_only_while_it_is_needed(queue: Queue, tmp_path: Path) -> None:
    watch = queue.layout.bells_of(queue.boot, "watch")
    gate = tmp_path / "gate"
    task = nbtasks.submit(wait_for, str(gate))
    task.bell = "somebody else's"
    waiting = threading.Thread(target=task.result, args=(30,))
    waiting.start()
    deadline = time.monotonic() + 10
    while not queue.disk.list(watch) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert queue.disk.list(watch)
    gate.touch()
    waiting.join(30)
    other = tmp_path / "other"
    last = nbtasks.submit(wait_for, str(other))
    last.add_done_callback(lambda _: None)
    other.touch()
    last.result(30)
    assert not queue.disk.list(watch)


def test_hundreds_of_awaited_tasks(queue: Queue) -> None:
    tasks = [nbtasks.submit(double, x) for x in range(300)]
    done, pending = nbtasks.wait(tasks, timeout=60)
    assert done == set(tasks)
    assert not pending
    assert [task.result() for task in tasks] == [2 * x for x in range(300)]
