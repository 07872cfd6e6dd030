"""What the bridge adds: tasks of 5 ms through an engine by nbtasks, and the same engine alone with an importable function.

On both sides a program gives the calls one by one and reads all values, and there are two places to run.

``python -m tests.benchmarks.engines [NAME …] [--count N] [--rounds N]``. Both sides take turns on the same workers, so that whatever else the
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from tests.benchmarks import calls
from tests.engines.servers import PLACES, Desk, Place, opened, use
from tests.worker.tools import until

COUNT, ROUNDS = 2000, 3


def alone_rq(place: Any, count: int) -> float:
    """Seconds that RQ needs for `count` calls, from the first submit until all values are read."""
    import redis
    import rq

    with redis.Redis(unix_socket_path=place.socket) as client:
        queue = rq.Queue("nbtasks", connection=client)
        began = time.perf_counter()
        jobs = [queue.enqueue("tests.benchmarks.calls.nap_of", number) for number in range(count)]
        found = [job.latest_result(timeout=600) for job in jobs]
        took = time.perf_counter() - began
        assert [result and result.return_value for result in found] == list(range(count))
        return took


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
    results = [celery_alone.nap.delay(number) for number in range(count)]
    values = [result.get(timeout=600) for result in results]
    took = time.perf_counter() - began
    assert values == list(range(count))
    return took


_HUEY_APP = """
from huey import PriorityRedisHuey, SqliteHuey
from tests.benchmarks.calls import nap_of
huey = {made}
task = huey.task()(nap_of)
"""
_apps: dict[Place, dict[str, Any]] = {}


def alone_huey(place: Any, count: int) -> float:
    """The same with Huey as it is: a consumer of its own, which keeps the values."""
    app = _apps.get(place)
    if app is None:
        made = f"SqliteHuey('bench', filename='{place.folder}/alone.db', timeout=60)"
        if hasattr(place, "socket"):
            made = f"PriorityRedisHuey('bench', url='unix://{place.socket}')"
        text = _HUEY_APP.format(made=made)
        (place.folder / "alone.py").write_text(text)
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "alone.huey", *"-w 2 -d 0.005 -m 0.02".split()]
        place.workers.append(place.run(command, PYTHONPATH=os.getcwd()))
        app = _apps[place] = {}
        exec(text, app)  # not a module: nbtasks would send it along
    huey, task = app["huey"], app["task"]
    huey.flush()
    began = time.perf_counter()
    results = [task(number) for number in range(count)]
    until(lambda: huey.result_count() >= count, 600)  # Huey itself would look for each with longer and longer pauses
    values = [result.get() for result in results]
    took = time.perf_counter() - began
    assert values == list(range(count))
    return took


def alone_dask(place: Any, count: int) -> float:
    """The same with Dask, through its `submit`."""
    from distributed import Client

    with Client(place.address, set_as_default=False) as client:
        began = time.perf_counter()
        futures = [client.submit(calls.nap_of, number, pure=False) for number in range(count)]
        values = client.gather(futures)
        took = time.perf_counter() - began
        assert values == list(range(count))
        return took


ALONE: dict[str, Callable[[Place, int], float]] = {
    "rq": alone_rq,
    "celery": alone_celery,
    "huey-sqlite": alone_huey,
    "huey-redis": alone_huey,
    "dask": alone_dask,
}


def bridged(count: int) -> float:
    """Seconds for the same by nbtasks."""
    began = time.perf_counter()
    tasks = [nbtasks.submit(calls.nap_of, number) for number in range(count)]
    values = nbtasks.gather(*tasks)
    took = time.perf_counter() - began
    assert list(values) == list(range(count))
    return took


def _as_people_run_it(place: Any) -> None:
    """The tests let Redis flush each command, so that it may be killed: here once a second, as it does unless told."""
    if hasattr(place, "socket"):
        import redis

        with redis.Redis(unix_socket_path=place.socket) as client:
            client.config_set("appendfsync", "everysec")


def measure(kind: type[Place], count: int, rounds: int) -> list[tuple[float, float]]:
    """Seconds alone and bridged, of each round."""
    folder = Path(tempfile.mkdtemp(prefix="nbbench-"))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else what is measured is how long Python compiles
    os.environ["PYTHONPATH"] = os.getcwd()  # for the engine alone, whose workers import the function
    try:
        with opened(kind, str(folder)) as place, pytest.MonkeyPatch.context() as patch:
            desk = Desk(place, folder)
            use(desk, patch)
            desk.start()
            _as_people_run_it(place)
            for _ in range(2):  # both have loaded everything
                bridged(50)
                ALONE[kind.name](place, 50)
            found = [(ALONE[kind.name](place, count), bridged(count)) for _ in range(rounds)]
            desk.close()
            return found
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def print_table(names: Sequence[str] = (), count: int = COUNT, rounds: int = ROUNDS) -> None:
    """The table of docs/benchmarks.md."""
    print(
        f"\n{count:,} tasks of 5 ms submitted one by one and read back, two places to run; medians of {rounds} rounds, both sides by turns\n"
    )
    print("| engine | alone | with nbtasks | adds (each round) | aim |\n|---|---|---|---|---|")
    for kind in PLACES:
        if kind.name in ALONE and (not names or kind.name in names):
            try:
                found = measure(kind, count, rounds)
            except pytest.skip.Exception as missing:
                print(f"| {kind.name} | {missing} ||||", flush=True)
                continue
            alone, own = (statistics.median(column) for column in zip(*found, strict=True))
            more = [100 * (own / alone - 1) for alone, own in found]
            every = ", ".join(f"{one:+.0f}" for one in more)
            print(
                f"| {kind.name} | {alone:.1f} s | {own:.1f} s | {statistics.median(more):+.0f} % ({every}) | ≤ +15 % |",
                flush=True,
            )


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engines")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ALONE)}; all when there is none")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args()
    print_table(chosen.names, chosen.count, chosen.rounds)


if __name__ == "__main__":
    main()
