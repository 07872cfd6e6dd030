"""What must not take a bridge down, and when it must not stay."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import nbtasks
from nbtasks import Status, processes
from nbtasks.queue import members
from tests.engines import contract_calls as calls
from tests.engines.servers import Desk, HueySqlite, Place, Rq, opened, use
from tests.worker.tools import Worker, is_gone, kill, lines, until

WAIT = 40


@pytest.fixture(scope="module")
def place(home: str) -> Iterator[Place]:
    with opened(HueySqlite, home) as place:
        yield place


@pytest.fixture
def desk(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(place, tmp_path)
    use(desk, monkeypatch)
    place.refresh()
    yield desk
    desk.close()


def bridge_of(desk: Desk) -> int:
    """The process of the bridge."""

    def look() -> int:
        found = (slot for slot in members.list_slots(desk.queue) if members.is_foreign(slot))
        return next((slot.process.pid for slot in found if processes.is_alive(slot.process)), 0)

    return until(look, what="a bridge")


def test_a_blob_that_is_missing_or_damaged_fails_only_what_needs_it(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    others = [nbtasks.submit(calls.add, number, 1) for number in range(20)]
    data = np.random.default_rng(1).random(200_000)
    before = set(Path(desk.queue.layout.blobs).rglob("*"))
    altered = nbtasks.submit(calls.total, data, 1)
    (blob,) = (path for path in set(Path(desk.queue.layout.blobs).rglob("*")) - before if path.is_file())
    content = bytearray(blob.read_bytes())
    content[1000] ^= 1
    blob.write_bytes(content)

    (tmp_path / "spare_part.py").write_text(f"# {'long enough ' * 100}\ndef give():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    import spare_part  # type: ignore[import-not-found]

    missing = nbtasks.submit(spare_part.give)
    (tmp_path / "spare_part.py").unlink()
    frozen = next(
        path
        for path in Path(desk.queue.layout.blobs).rglob("*")
        if path.is_file() and b"long enough " * 3 in path.read_bytes()  # this file is frozen too, and has it once
    )
    frozen.unlink()
    del sys.modules["spare_part"]

    worker = desk.start()
    assert [task.result(WAIT) for task in others] == [number + 1 for number in range(20)]
    assert {task.record.ticket.losses for task in others} == {0}
    for task, path in ((altered, blob), (missing, frozen)):
        with pytest.raises(nbtasks.NbtasksError, match=str(path)):
            task.result(WAIT)
        assert task.status is Status.FAILED
        assert str(path) in task.reason
    assert "died" not in worker.log


class OnlyRedis(Rq):
    """A broker, and nobody who takes anything from it."""

    def worker_command(self) -> list[str]:
        """As `Place`."""
        return []


@pytest.fixture
def broker(home: str) -> Iterator[Place]:
    with opened(OnlyRedis, home) as place:
        yield place


@pytest.fixture
def away(broker: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Desk, nbtasks.Task[None]]]:
    """A queue with one task in flight, and its broker has gone."""
    desk = Desk(broker, tmp_path)
    use(desk, monkeypatch)
    worker = desk.start()
    task = nbtasks.submit(calls.nothing)
    until(lambda: task.status is Status.RUNNING)
    broker.stop_broker()
    worker.wait_for("it is tried again until it answers")
    yield desk, task
    desk.close()


def test_a_bridge_whose_engine_is_away_does_not_burn_time(away: tuple[Desk, nbtasks.Task[None]], broker: Place) -> None:
    desk, task = away
    process, begin = psutil.Process(bridge_of(desk)), time.monotonic()
    before = process.cpu_times()
    until(lambda: time.monotonic() - begin > 3)  # longer than what is in flight is asked for
    after = process.cpu_times()
    assert after.user + after.system - before.user - before.system < 0.3
    assert "does not answer" in task.reason
    broker.start_broker()
    assert task.cancel()
    until(lambda: task.status is Status.CANCELLED)


def test_an_orphaned_bridge_leaves_when_its_queue_was_removed(away: tuple[Desk, nbtasks.Task[None]]) -> None:
    desk, _ = away
    pid = bridge_of(desk)
    assert desk.worker is not None
    desk.worker.kill()
    assert not is_gone(pid)
    os.rename(desk.queue.root, f"{desk.queue.root}-away")
    try:
        until(lambda: is_gone(pid), 10)
        assert not os.path.exists(desk.queue.root), "nothing of it was made again"
    finally:
        kill(pid)
        os.rename(f"{desk.queue.root}-away", desk.queue.root)


def test_a_schedule_runs_at_the_engine(desk: Desk, tmp_path: Path) -> None:
    """No engine here keeps schedules: the worker does."""
    desk.start()
    schedule = nbtasks.every("1s", calls.note, f"{tmp_path}/notes")
    until(lambda: len(lines(f"{tmp_path}/notes")) >= 2, WAIT)
    schedule.remove()
    (*_, task) = nbtasks.tasks(name="note")
    outcome = task.record.outcome
    assert outcome is not None
    assert outcome.slot[:1] == "b"


def test_a_library_that_is_not_installed_is_said_in_the_banner_and_the_next_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "rq.py").write_text("raise ModuleNotFoundError('No module named rq', name='rq')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/without")
    desk = Desk(Place(tmp_path), tmp_path)
    use(desk, monkeypatch)
    worker = Worker(desk.queue, "-e", "rq+redis://127.0.0.1:1", "-e", "threads")
    try:
        worker.wait_for("engine threads")
        assert (
            "not used: rq+redis://127.0.0.1:1 needs the module 'rq', which is not installed: pip install" in worker.log
        )
        assert "'nbtasks[rq]'" in worker.log
        assert nbtasks.submit(calls.add, 1, 1).result(WAIT) == 2
    finally:
        worker.stop()
        desk.close()
