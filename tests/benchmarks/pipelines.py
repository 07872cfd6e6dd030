"""What tasks that hang on each other cost: a chain, a parent of many, a child of many."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import nbtasks
from nbtasks.queue.directory import Queue
from tests.benchmarks.calls import count, nothing
from tests.benchmarks.noops import nbtasks_side


def rounds(number: int) -> float:
    """Seconds for so many tasks, each submitted when the one before has given its value."""
    started = time.perf_counter()
    value = 0
    for _ in range(number):
        value = nbtasks.submit(nothing, value).result(timeout=60)
    return time.perf_counter() - started


def chain(number: int) -> float:
    """Seconds for so many tasks, each with the one before as its argument."""
    started = time.perf_counter()
    last = nbtasks.submit(nothing, 0)
    for _ in range(number - 1):
        last = nbtasks.submit(nothing, last)
    assert last.result(timeout=120) == 0
    return time.perf_counter() - started


@contextmanager
def _held(queue: Queue) -> Iterator[None]:
    """Nothing is claimed meanwhile."""
    queue.disk.replace(queue.layout.paused, b"")
    yield
    queue.disk.remove(queue.layout.paused)


def fan_out(queue: Queue, number: int) -> float:
    """Seconds from the end of a parent to that of all its children."""
    with _held(queue):
        parent = nbtasks.submit(nothing, 1)
        children = [nbtasks.submit(nothing, parent) for _ in range(number)]
    started = time.perf_counter()
    queue.wake(parent.spec)
    assert sum(child.result(timeout=120) for child in children) == number
    return time.perf_counter() - started


def fan_in(queue: Queue, number: int) -> float:
    """Seconds for so many parents and a child that needs all their values."""
    with _held(queue):
        parents = [nbtasks.submit(nothing, at) for at in range(number)]
        child = nbtasks.submit(count, parents)
    started = time.perf_counter()
    queue.wake(child.spec)
    assert child.result(timeout=120) == number
    return time.perf_counter() - started


def lone(queue: Queue, number: int) -> float:
    """Seconds for so many tasks that hang on nothing."""
    with _held(queue):
        tasks = [nbtasks.submit(nothing, at) for at in range(number)]
    started = time.perf_counter()
    queue.wake(tasks[0].spec)
    assert [task.result(timeout=120) for task in tasks] == list(range(number))
    return time.perf_counter() - started


def measure(number: int = 1000, many: int = 2000) -> dict[str, float]:
    """Seconds of each, by its name."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, nbtasks_side(root):
        queue = Queue.open(f"{root}/.nbtasks")
        found = {
            "rounds": rounds(number),
            "chain": chain(number),
            "again": rounds(number),
            "chain again": chain(number),
        }
        return found | {"out": fan_out(queue, many), "in": fan_in(queue, many), "lone": lone(queue, many)}
