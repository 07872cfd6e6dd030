"""Executor: what code written for concurrent.futures relies on."""

from __future__ import annotations

import concurrent.futures
import time
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Executor, OptionError, Status
from nbtasks.queue.directory import Queue
from tests.test_handle import die, double, fail, python, wait_for


def test_submit_and_map(queue: Queue) -> None:
    with Executor() as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        future = executor.submit(pow, 2, exp=5)
        assert isinstance(future, concurrent.futures.Future)
        assert future.result(30) == 32
        assert list(executor.map(double, range(5), timeout=30)) == [0, 2, 4, 6, 8]
        with pytest.raises(ValueError, match="bad"):
            executor.submit(fail, "bad").result(30)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(double, 1)


def test_cancel_does_nothing_once_it_runs(queue: Queue, tmp_path: Path) -> None:
    nbtasks.configure(autostart=False)
    executor = Executor()
    queued = executor.submit(double, 1)
    assert queued.cancel()
    assert queued.cancelled()
    assert queued.cancel()
    with pytest.raises(CancelledError):
        queued.result()
    nbtasks.configure(autostart=True)
    running = executor.submit(wait_for, str(tmp_path / "gate"))
    while not running.running():
        time.sleep(0.001)
    assert not running.cancel()
    (tmp_path / "gate").touch()
    assert running.result(30)
    assert not running.cancel()


def test_a_dead_process_breaks_one_future_only(queue: Queue) -> None:
    with Executor() as executor:
        dead, well = executor.submit(die), executor.submit(double, 1)
        with pytest.raises(BrokenProcessPool, match="signal 9"):
            dead.result(30)
        assert well.result(30) == 2
        assert executor.submit(double, 2).result(30) == 4


def test_max_workers_bounds_what_is_in_the_queue(queue: Queue, tmp_path: Path) -> None:
    nbtasks.configure(autostart=False)
    executor = Executor(max_workers=2)
    futures = [executor.submit(double, x) for x in range(6)]
    assert len(nbtasks.tasks()) == 2
    assert futures[5].status is Status.WAITING
    assert not futures[5].done()
    assert futures[4].cancel()
    assert futures[4].cancelled()
    nbtasks.configure(autostart=True)
    assert [future.result(30) for future in futures if not future.cancelled()] == [0, 2, 4, 6, 10]
    executor.shutdown()
    assert len(nbtasks.tasks()) == 6


def test_shutdown_cancels_what_has_not_started(queue: Queue) -> None:
    nbtasks.configure(autostart=False)
    executor = Executor(max_workers=1)
    futures = [executor.submit(double, x) for x in range(4)]
    executor.shutdown(wait=True, cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def test_what_is_kept_back_is_put_into_the_queue_when_the_process_ends(queue: Queue) -> None:
    done = python("""
        import nbtasks
        from tests.test_handle import double
        executor = nbtasks.Executor(max_workers=1)
        print(*[executor.submit(double, x).id for x in range(4)])
    """)
    ids = done.stdout.split()
    assert [nbtasks.get(id).result(30) for id in ids] == [0, 2, 4, 6], done.stderr


def test_futures_of_an_executor_are_dependencies_too(queue: Queue) -> None:
    with Executor(name="step", priority=7) as executor:
        first = executor.submit(double, 2)
        assert executor.submit(double, first).result(30) == 8
        assert nbtasks.submit(double, first).result(30) == 8
        assert (first.name, first.spec.priority) == ("step", 7)


def test_options_that_cannot_be(queue: Queue) -> None:
    for wrong in (0, -1, "two"):
        with pytest.raises(OptionError, match="max_workers"):
            Executor(wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="did you mean 'retries'"):
        Executor(retry=3)
