"""What Dask's own ways of dying do to tasks; and a cluster that belongs to the worker."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import nbtasks
from nbtasks import Status, processes
from nbtasks.engines import registry, urls
from nbtasks.errors import EngineError
from tests.engines import contract_calls as calls
from tests.engines.servers import Dask, Desk, Place, opened, use
from tests.worker.tools import Worker, is_gone, kill, lines, until

WAIT = 60


@pytest.fixture(scope="module")
def place(home: str) -> Iterator[Place]:
    with opened(Dask, home) as place:
        yield place


@pytest.fixture
def desk(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(place, tmp_path)
    use(desk, monkeypatch)
    place.refresh()
    desk.start(NBTASKS_LEASE="2")
    yield desk
    desk.close()


def bridge_of(worker: Worker | None) -> int:
    assert worker is not None
    return until(worker.slots)[0].process.pid


def test_what_a_scheduler_held_is_delivered_again_by_the_next(desk: Desk, place: Place, notes: str, gate: str) -> None:
    task = nbtasks.submit(calls.note_and_wait, notes, gate)
    until(lambda: lines(notes))
    place.stop_broker(signal.SIGKILL)
    assert desk.worker is not None
    desk.worker.wait_for("does not answer")
    later = nbtasks.submit(calls.nothing)
    place.start_broker()
    desk.worker.wait_for("answers again")
    assert later.result(WAIT) is None
    until(lambda: len(lines(notes)) == 2, WAIT)
    Path(gate).touch()
    assert task.result(WAIT) == int(lines(notes)[1])


def test_a_cluster_of_the_worker_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: str, gate: str
) -> None:
    place = Local(tmp_path)
    desk = Desk(place, tmp_path)
    use(desk, monkeypatch)
    worker = desk.start()
    try:
        task = nbtasks.submit(calls.note_and_wait, notes, gate)
        until(lambda: lines(notes), WAIT)
        (path,) = (tmp_path / "host").glob("dask-*.json")
        assert path.stat().st_mode & 0o777 == 0o600, "its key is in it"
        kill(bridge_of(worker))
        Path(gate).touch()
        assert task.result(WAIT) == int(lines(notes)[0]), "it outlives the bridge"
        cluster = processes.tree(_keeper(path))
        assert len(cluster) > 1
        assert not [page for process in cluster for page in _pages(process.pid)], "Dask's pages name tasks"
        assert "8787" not in worker.log
        worker.kill()
        until(lambda: all(is_gone(process.pid) for process in cluster))
        assert not path.exists()
    finally:
        desk.close()
    assert task.status is Status.SUCCEEDED


@pytest.mark.torture  # two clusters take their time
def test_the_cluster_of_one_worker_is_not_that_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: str, gate: str
) -> None:
    desk = Desk(Local(tmp_path), tmp_path)
    use(desk, monkeypatch)
    first = desk.start()
    try:
        task = nbtasks.submit(calls.note_and_wait, notes, gate)
        until(lambda: lines(notes), WAIT)
        first.signal(signal.SIGSTOP)  # it makes no other bridge
        kill(bridge_of(first))
        second = desk.start()
        assert nbtasks.submit(calls.nothing).result(WAIT) is None  # its bridge has looked round
        assert task.record.place.slot.startswith(f"b-{first.member.name[2:]}-")
        first.signal(signal.SIGCONT)
        first.wait_for("took over 1 tasks")
        Path(gate).touch()
        assert task.result(WAIT) == int(lines(notes)[0])
        assert len(lines(notes)) == 1
        assert "took over" not in second.log
        first.stop()
    finally:
        first.kill()
        desk.close()


class Local(Place):
    """No servers at all."""

    @property
    def url(self) -> str:
        """As `Place`."""
        return "dask://local"


def _pages(pid: int) -> Iterator[str]:
    """What a process shows to whoever asks at one of its ports."""
    ports = {one.laddr.port for one in psutil.Process(pid).net_connections("tcp") if one.status == "LISTEN"}
    for port in ports:
        for page in ("info/main/workers.html", "json/counts.json", "health", "metrics"):
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(asked) as connection:
                connection.request("GET", f"/{page}")
                if connection.getresponse().status == 200:
                    yield f"{port}/{page}"


def _keeper(path: Path) -> int:
    import msgspec

    return int(msgspec.json.decode(path.read_bytes())["keeper"]["pid"])


def test_nobody_there_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(Nobody(tmp_path), tmp_path)
    use(desk, monkeypatch)
    worker = Worker(desk.queue, "-e", desk.place.url)
    assert worker.end() != 0
    assert "start `dask scheduler` there" in worker.log
    assert os.path.exists(desk.queue.root)


def test_what_is_no_scheduler_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = urls.parse(f"dask://127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(EngineError, match="does not speak as Dask does"):
            registry.open_engine(url).connect()


def test_a_running_task_that_is_cancelled_is_no_error_of_the_scheduler(desk: Desk, place: Place, gate: str) -> None:
    before = place.logs().count("Exception while handling op queue_put")
    task = nbtasks.submit(calls.say_and_wait, gate)
    until(lambda: "first line" in task.log)  # so the bridge has heard of it
    task.cancel()
    until(task.done, WAIT)
    assert task.status is Status.CANCELLED
    assert place.logs().count("Exception while handling op queue_put") == before


class Nobody(Place):
    """A port at which nobody listens."""

    @property
    def url(self) -> str:
        """As `Place`."""
        return "dask://127.0.0.1:9"
