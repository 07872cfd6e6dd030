"""No-ops submitted one by one and all read back, side by side with peers in one run.

Every side keeps what it keeps: nbtasks and Huey their tasks on disk, ProcessPoolExecutor nothing.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from tests.benchmarks.calls import nothing

SLOTS = 2
Rate = float  # tasks a second


@contextmanager
def nbtasks_side(root: str) -> Iterator[Callable[[int], Rate]]:
    """A worker with two slots on a fresh queue."""
    import nbtasks

    nbtasks.configure(queue=f"{root}/.nbtasks", autostart=False)
    worker = subprocess.Popen(
        [sys.executable, "-m", "nbtasks", "worker", "-w", str(SLOTS)],
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        env=os.environ | {"NBTASKS_QUEUE": f"{root}/.nbtasks"},
    )  # fmt: skip

    def run(count: int) -> Rate:
        started = time.perf_counter()
        tasks = [nbtasks.submit(nothing, number) for number in range(count)]
        assert [task.result(timeout=120) for task in tasks] == list(range(count))
        return count / (time.perf_counter() - started)

    try:
        nbtasks.submit(nothing, 0).result(timeout=30)
        yield run
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)


@contextmanager
def pool_side(root: str) -> Iterator[Callable[[int], Rate]]:
    """The standard library's pool with two processes."""
    with ProcessPoolExecutor(SLOTS) as pool:

        def run(count: int) -> Rate:
            started = time.perf_counter()
            futures = [pool.submit(nothing, number) for number in range(count)]
            assert [future.result() for future in futures] == list(range(count))
            return count / (time.perf_counter() - started)

        run(100)
        yield run


_HUEY_APP = """
from huey import SqliteHuey
from tests.benchmarks.calls import nothing
huey = SqliteHuey("bench", filename={file!r}, timeout=60)
task = huey.task()(nothing)
"""


@contextmanager
def huey_side(root: str) -> Iterator[Callable[[int], Rate]]:
    """Huey on SQLite with two worker processes."""
    with open(f"{root}/huey_app.py", "w") as file:
        file.write(_HUEY_APP.format(file=f"{root}/huey.db"))
    sys.path.insert(0, root)
    path = os.pathsep.join([root, os.getcwd()])
    consumer = subprocess.Popen(
        [sys.executable, "-m", "huey.bin.huey_consumer", "huey_app.huey", "-k", "process", "-w", str(SLOTS),
         "-d", "0.01", "-m", "0.05", "-b", "1", "-q"],
        cwd=root, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    huey_app = importlib.import_module("huey_app")

    def run(count: int) -> Rate:
        started = time.perf_counter()
        results = [huey_app.task(number) for number in range(count)]
        got = [result.get(blocking=True, backoff=1.0, max_delay=0.005, timeout=300) for result in results]
        assert got == list(range(count))
        return count / (time.perf_counter() - started)

    try:
        huey_app.task(0).get(blocking=True, timeout=30)
        yield run
    finally:
        consumer.send_signal(signal.SIGINT)
        try:
            consumer.wait(15)
        except subprocess.TimeoutExpired:
            consumer.kill()
            consumer.wait()
        sys.path.remove(root)
        del sys.modules["huey_app"]  # the next round has a file of its own


SIDES = {"nbtasks": nbtasks_side, "ProcessPoolExecutor": pool_side, "Huey/SQLite": huey_side}


def measure(count: int, rounds: int) -> dict[str, list[Rate]]:
    """Tasks a second of every side, `rounds` times, the sides taking turns."""
    rates: dict[str, list[Rate]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, start in SIDES.items():
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root, start(root) as run:
                rates[side].append(run(count))
    return rates
