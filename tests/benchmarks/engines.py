"""What the bridge adds: tasks of 5 ms through an engine by nbtasks, and the same engine alone with an importable function.

``python -m tests.benchmarks.engines [NAME …] [--count 2000]``. Both sides take turns on the same workers, so that whatever else the
machine does hits both.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from tests.benchmarks import calls
from tests.engines.servers import PLACES, Desk, Place, opened, use
from tests.worker.tools import until

ROUNDS = 4


def alone_rq(place: Any, count: int) -> float:
    """Seconds that RQ needs for `count` calls, from the first submit until all results are there."""
    import redis
    import rq

    with redis.Redis(unix_socket_path=place.socket) as client:
        queue = rq.Queue("nbtasks", connection=client)
        before = queue.finished_job_registry.get_job_count(cleanup=False)
        began = time.perf_counter()
        queue.enqueue_many([rq.Queue.prepare_data("tests.benchmarks.calls.nap") for _ in range(count)])
        until(lambda: queue.finished_job_registry.get_job_count(cleanup=False) - before >= count, 600)
        return time.perf_counter() - began


def alone_celery(place: Any, count: int) -> float:
    """The same for Celery. Its application is another, and so is its worker, which has two processes too."""
    os.environ["ALONE"] = f"redis+socket://{place.socket}"
    from tests.benchmarks import celery_alone

    if len(place.workers) < 2:
        command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.benchmarks.celery_alone",
            "worker",
            "-c",
            "2",
            "-n",
            "alone@%h",
        ]
        place.workers.append(place.run(command, ALONE=os.environ["ALONE"]))
    began = time.perf_counter()
    for result in [celery_alone.nap.delay() for _ in range(count)]:
        result.get(timeout=600)
    return time.perf_counter() - began


_HUEY_APP = """
from huey import PriorityRedisHuey, SqliteHuey
from tests.benchmarks.calls import nap
huey = {made}
task = huey.task()(nap)
"""
_apps: dict[Place, dict[str, Any]] = {}


def alone_huey(place: Any, count: int) -> float:
    """The same with Huey as it is: a consumer of its own, which keeps that each task has ended."""
    app = _apps.get(place)
    if app is None:
        made = f"SqliteHuey('bench', filename='{place.folder}/alone.db', timeout=60, store_none=True)"
        if hasattr(place, "socket"):
            made = f"PriorityRedisHuey('bench', url='unix://{place.socket}', store_none=True)"
        text = _HUEY_APP.format(made=made)
        (place.folder / "alone.py").write_text(text)
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "alone.huey", *"-w 2 -d 0.005 -m 0.02".split()]
        place.workers.append(place.run(command, PYTHONPATH=os.getcwd()))
        app = _apps[place] = {}
        exec(text, app)  # not a module: nbtasks would send it along
    huey, task = app["huey"], app["task"]
    huey.flush()
    began = time.perf_counter()
    for _ in range(count):
        task()
    while huey.result_count() < count:
        time.sleep(0.01)
    return time.perf_counter() - began


def alone_dask(place: Any, count: int) -> float:
    """Seconds that Dask needs for `count` calls, given to it as one map."""
    from distributed import Client

    with Client(place.address, set_as_default=False) as client:
        began = time.perf_counter()
        client.gather(client.map(calls.nap_of, range(count), pure=False))
        return time.perf_counter() - began


ALONE: dict[str, Callable[[Place, int], float]] = {
    "rq": alone_rq,
    "celery": alone_celery,
    "huey-sqlite": alone_huey,
    "huey-redis": alone_huey,
    "dask": alone_dask,
}


def bridged(count: int) -> float:
    """Seconds for the same by nbtasks, all values read back."""
    began = time.perf_counter()
    tasks = [nbtasks.submit(calls.nap) for _ in range(count)]
    nbtasks.gather(*tasks)
    return time.perf_counter() - began


def _as_people_run_it(place: Any) -> None:
    """The tests let Redis flush each command, so that it may be killed: here once a second, as it does unless told."""
    if hasattr(place, "socket"):
        import redis

        with redis.Redis(unix_socket_path=place.socket) as client:
            client.config_set("appendfsync", "everysec")


def measure(kind: type[Place], count: int) -> list[tuple[float, float]]:
    """Seconds alone and bridged, of each round."""
    folder = Path(tempfile.mkdtemp(prefix="nbbench-"))
    os.environ["PYTHONPATH"] = os.getcwd()  # for the engine alone, whose workers import the function
    try:
        with opened(kind, str(folder)) as place, pytest.MonkeyPatch.context() as patch:
            desk = Desk(place, folder)
            use(desk, patch)
            desk.start()
            _as_people_run_it(place)
            bridged(20)
            ALONE[kind.name](place, 20)
            found = []
            for _ in range(ROUNDS):
                alone = ALONE[kind.name](place, count // ROUNDS)
                found.append((alone, bridged(count // ROUNDS)))
            desk.close()
            return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def print_table(names: list[str], count: int) -> None:
    """The table of docs/benchmarks.md."""
    print(f"\n{count:,} tasks of 5 ms, two places to run; both sides by turns, {ROUNDS} rounds\n")
    print("| engine | alone | with nbtasks | adds (each round) | aim |\n|---|---|---|---|---|")
    for kind in PLACES:
        if kind.name in ALONE and (not names or kind.name in names):
            found = measure(kind, count)
            alone, own = (sum(column) for column in zip(*found, strict=True))
            every = ", ".join(f"{100 * (own / alone - 1):+.0f} %" for alone, own in found)
            median = statistics.median(own / alone - 1 for alone, own in found)
            print(f"| {kind.name} | {alone:.1f} s | {own:.1f} s | {100 * median:+.0f} % ({every}) | ≤ +15 % |")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engines")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--count", type=int, default=2000)
    chosen = parser.parse_args()
    print_table(chosen.names, chosen.count)


if __name__ == "__main__":
    main()
