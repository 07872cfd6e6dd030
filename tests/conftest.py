"""What holds for all tests: nothing of the person's own settings or key is read or written, and under CI nothing is skipped."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from nbtasks import config, processes
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.worker import autostart
from tests import reaper

Report = pytest.TestReport | pytest.CollectReport

# nbformat brings jsonschema, and that, where it is installed, this package, which takes two seconds to make its grammars: for
# a check of which nobody here asks. Each process that collects tests would spend them.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

# What takes longest begins first, so that no process is still busy when the others are done. See `_together`.
LONGEST = """
    browser test_howto test_notebooks test_notebook_tasks engines/test_contract_dask faults/test_steps
    jupyter/test_thirty_cells jupyter/test_headless engines/test_contract_celery engines/test_contract_rq
    engines/test_limits_at_engines jupyter/test_again engines/test_celery faults/test_pipelines
    engines/test_notebook_06 queue/test_directory test_cells test_graph engines/test_contract_huey_redis
    jupyter/test_kernel engines/test_contract_huey_sqlite engines/test_bridging worker/test_schedules
    test_architecture worker/test_tokens engines/test_huey worker/test_slot engines/test_dask test_cache_keys
    test_api faults/test_random jupyter/test_strips worker/test_crew jupyter/test_dashboard test_handle
    queue/test_recovery test_cache
""".split()


def pytest_configure() -> None:
    """No server and no worker outlives the tests, even when they are killed."""
    reaper.watch_this_process()


def _together(file: str) -> str:
    """What one process runs: the tests of a file (``tests/….py``), and all that share Chromium and the Jupyter servers."""
    name = file.removeprefix("tests/").removesuffix(".py")
    return "browser" if name.startswith("browser/") else name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longest first."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(_together(item.nodeid.partition("::")[0]), len(order)))


class Together(LoadFileScheduling):
    """``--dist loadfile``, with all browser tests in one process: so servers and Chromium start once, and not in each."""

    def _split_scope(self, nodeid: str) -> str:
        return _together(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling | None:
    """Who gives the tests to the processes."""
    return Together(config, log) if config.getvalue("dist") == "loadfile" else None


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
