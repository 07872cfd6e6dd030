"""What holds for all tests: nothing of the person's own settings or key is read or written, and under CI nothing is skipped."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from nbtasks import config, processes
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.worker import autostart
from tests import reaper

Report = pytest.TestReport | pytest.CollectReport


# What takes longest begins first, so that no process is still busy when the others are done. A file runs in one process.
LONGEST = """
    test_howto test_notebooks browser/test_strips test_notebook_tasks jupyter/test_headless
    engines/test_contract_dask browser/test_dashboard faults/test_steps browser/test_life jupyter/test_thirty_cells
    engines/test_contract_celery browser/test_newcomer engines/test_contract_rq browser/test_hostile
    engines/test_limits_at_engines jupyter/test_again queue/test_directory engines/test_celery faults/test_pipelines
    engines/test_notebook_06 browser/test_graph test_cells test_graph engines/test_contract_huey_redis
    jupyter/test_kernel engines/test_contract_huey_sqlite engines/test_bridging worker/test_schedules
    test_architecture worker/test_tokens engines/test_huey worker/test_slot engines/test_dask test_cache_keys
    test_api faults/test_random jupyter/test_strips worker/test_crew jupyter/test_dashboard test_handle
    browser/test_harness queue/test_recovery test_cache
""".split()


def pytest_configure() -> None:
    """No server and no worker outlives the tests, even when they are killed."""
    reaper.watch_this_process()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest files first."""
    order = {f"{Path(__file__).parent}/{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(str(item.path), len(order)))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for key and settings, in place of the person's own."""
    return str(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def _own_settings(home: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("NBTASKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", f"{home}/state")
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{home}/config")
    config.reset()
    yield
    config.reset()


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A fresh queue, found by this process and its children; its workers start by themselves and are gone afterwards."""
    root = tmp_path / ".nbtasks"
    monkeypatch.setenv("NBTASKS_QUEUE", str(root))
    monkeypatch.setenv("NBTASKS_HOST_DIR", str(tmp_path / "host"))
    monkeypatch.setenv("NBTASKS_IDLE_EXIT", "60")
    config.reset()
    queue = Queue.open(str(root))
    yield queue
    stop_workers(queue)


def stop_workers(queue: Queue) -> None:
    """End every worker and slot of a queue, whatever they do, and wait until they are gone."""
    queue.disk.replace(queue.layout.paused, b"")  # so that nobody starts another one now
    for child in list(autostart._children):  # one that has just been started is not in the list of members yet
        if child.poll() is None and queue.root in child.args:  # type: ignore[operator]
            child.terminate()
    deadline = time.monotonic() + 5
    while left := _alive(queue):
        for member in left:
            if not member.name.startswith("w-"):
                _signal(member, signal.SIGKILL, os.killpg)  # a slot leads a session with all that it started
            else:
                _signal(member, signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL, os.kill)
        time.sleep(0.01)
    for child in [child for child in autostart._children if queue.root in child.args]:  # type: ignore[operator]
        child.wait(10)
        autostart._children.remove(child)


def _alive(queue: Queue) -> list[Member]:
    found = [*members.list_slots(queue), *members.list_workers(queue)]
    return [one for one in found if one.process.pid != os.getpid() and processes.is_alive(one.process)]


def _signal(member: Member, number: int, send: Callable[[int, int], None]) -> None:
    with contextlib.suppress(ProcessLookupError):
        send(member.process.pid, number)


def _refuse_skip(report: Report) -> Report:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}: under CI nothing is skipped"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Report, Report]:
    return _refuse_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Report, Report]:
    return _refuse_skip((yield))
