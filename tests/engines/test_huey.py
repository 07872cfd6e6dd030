"""Huey: what its consumers, its files and a Redis may do to it. That tasks mean the same there is in test_contract.py."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbtasks
from nbtasks.engines import channel_sqlite
from nbtasks.engines.foreign import EngineDown, Shipment, State
from nbtasks.engines.registry import open_engine
from nbtasks.engines.urls import parse
from nbtasks.errors import EngineError
from tests.engines import contract_calls as calls
from tests.engines.servers import Desk, HueyRedis, HueySqlite, Place, opened, use
from tests.worker.tools import Worker, lines, until

WAIT = 40


@pytest.fixture(scope="module", params=[HueySqlite, HueyRedis], ids=lambda kind: kind.name)
def place(request: pytest.FixtureRequest, home: str) -> Iterator[Place]:
    with opened(request.param, home) as place:
        yield place


@pytest.fixture(scope="module")
def shared(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    desk = Desk(place, tmp_path_factory.mktemp(place.name))
    with pytest.MonkeyPatch.context() as patch:
        use(desk, patch)
        desk.start()
    yield desk
    desk.close()


@pytest.fixture
def desk(shared: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    use(shared, monkeypatch)
    return shared


def table(path: Path, statement: str) -> list[tuple[object, ...]]:
    """What a statement gives on a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
    return found


def test_priorities_are_those_of_huey(desk: Desk, notes: str, gate: str) -> None:
    gates = [gate, f"{gate}-2"]
    blocking = [nbtasks.submit(calls.note_and_wait, f"{notes}-{number}", gates[number]) for number in range(2)]
    until(lambda: all(lines(f"{notes}-{number}") for number in range(2)))
    order = [nbtasks.using(priority=level).submit(calls.note, notes, str(level)) for level in (1, 9, 5)]
    assert desk.worker
    for one in order:
        desk.worker.wait_for(rf"Executing note\[{one.short}\]")  # Huey has it
    Path(gates[0]).touch()  # one place is free, so they run one after the other
    nbtasks.gather(*order)
    Path(gates[1]).touch()
    assert lines(notes) == ["9", "5", "1"]
    nbtasks.gather(*blocking)


def test_a_lane_is_a_queue_with_consumers_of_its_own(desk: Desk) -> None:
    """``huey-gpu`` is the Huey of the lane gpu."""
    place = desk.place
    worker = Worker(desk.queue, "-e", place.url, "-l", "gpu-a")
    consumer = place.run(
        [word.replace("engines.huey.huey", "engines.huey.huey-gpu-a") for word in place.worker_command()]
    )
    try:
        assert nbtasks.using(lane="gpu-a").submit(calls.add, 1, 2).result(WAIT) == 3
        consumer.send_signal(signal.SIGINT)
        assert consumer.wait(20) == 0
    finally:
        consumer.kill()
        consumer.wait()
        worker.stop()


def test_its_log_names_tasks_as_the_queue_does(desk: Desk) -> None:
    task = nbtasks.submit(calls.add, 1, 2)
    task.result(WAIT)
    assert f"Executing add {task.short} ({task.id}.1)" in desk.place.logs()
    assert "Traceback" not in desk.place.logs().rpartition("Executing add")[2]


# Consumers.


def test_a_dead_consumer_is_seen_by_its_process(tmp_path: Path, home: str, notes: str, gate: str) -> None:
    """On a file nobody waits for the lease: the process that ran the task is of this machine."""
    with opened(HueySqlite, home) as place, pytest.MonkeyPatch.context() as patch:
        desk = Desk(place, tmp_path)
        use(desk, patch)
        desk.start(NBTASKS_LEASE="10m")
        task = nbtasks.submit(calls.note_and_wait, notes, gate)
        until(lambda: lines(notes))
        place.kill_workers()
        place.start_workers()
        until(lambda: len(lines(notes)) == 2, WAIT)
        Path(gate).touch()
        assert task.result(WAIT) == int(lines(notes)[1])
        assert re.search(r"was lost at .*: the process \d+ that ran it died", desk.worker.log)  # type: ignore[union-attr]
        desk.close()


def consumer(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A consumer that ends by itself."""
    command = [sys.executable, "-m", "huey.bin.huey_consumer", "nbtasks.engines.huey.huey", *options]
    environ = {name: value for name, value in os.environ.items() if name != "NBTASKS_ENGINE"} | (
        {"NBTASKS_ENGINE": url} if url else {}
    )
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_consumer_says_what_it_lacks(tmp_path: Path) -> None:
    said = consumer("")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("set NBTASKS_ENGINE to what the worker was given by -e, such as huey+sqlite:///PATH")
    said = consumer(f"huey+sqlite://{tmp_path}/huey.db", "-k", "greenlet")
    assert said.returncode == 1
    assert said.stderr.startswith("tasks of nbtasks run in processes of their own, for which greenlets cannot wait")
    said = consumer(f"huey+sqlite://{tmp_path}/none/huey.db")
    assert said.returncode == 1
    assert f"{tmp_path}/none/huey.db does not answer (No such file or directory)" in said.stderr


class HueyProcesses(HueySqlite):
    """Consumers whose workers are processes."""

    def worker_command(self) -> list[str]:
        return [*super().worker_command(), "-k", "process"]


def test_its_workers_may_be_processes(tmp_path: Path, home: str, notes: str, gate: str) -> None:
    with opened(HueyProcesses, home) as place, pytest.MonkeyPatch.context() as patch:
        desk = Desk(place, tmp_path)
        use(desk, patch)
        desk.start()
        tasks = [nbtasks.submit(calls.note_and_wait, notes, gate) for _ in range(2)]
        until(lambda: len(lines(notes)) == 2)
        Path(gate).touch()
        assert sorted(task.result(WAIT) for task in tasks) == sorted(map(int, lines(notes)))
        desk.close()


# The file.


def test_a_file_that_is_removed_is_made_anew(tmp_path: Path, home: str, notes: str, gate: str) -> None:
    """What ran goes on, and what waited in the file is sent again."""
    with opened(HueySqlite, home) as place, pytest.MonkeyPatch.context() as patch:
        desk = Desk(place, tmp_path)
        use(desk, patch)
        desk.start()
        running = [nbtasks.submit(calls.note_and_wait, notes, gate) for _ in range(2)]
        until(lambda: len(lines(notes)) == 2)
        waiting = nbtasks.submit(calls.add, 1, 2)
        until(lambda: table(place.folder / "huey.db", "select count(*) from task") == [(1,)])
        for path in place.folder.glob("huey.db*"):
            path.unlink()
        desk.worker.wait_for("was removed, or another file put in its place")  # type: ignore[union-attr]
        Path(gate).touch()
        assert waiting.result(WAIT) == 3
        assert sorted(task.result(WAIT) for task in running) == sorted(map(int, lines(notes)))
        desk.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[object]:
    """The bridge's side of a file, of the queue "q1" and the channel "b-1"."""
    engine = open_engine(parse(f"huey+sqlite://{tmp_path}/my%20huey.db"))
    engine.connect()
    engine.listen("q1", ["b-1"])
    yield engine
    engine.close()


def shipment(key: str, size: int = 10) -> Shipment:
    return Shipment(key, "default", 5, f"add {key}", b"b" * size)


def test_the_file_is_for_nobody_else(engine: channel_sqlite.SqliteChannel, tmp_path: Path) -> None:
    assert [oct(path.stat().st_mode & 0o777) for path in tmp_path.glob("my huey.db*")] == ["0o600"] * 3


def test_what_is_sent_twice_is_there_once(engine: channel_sqlite.SqliteChannel, tmp_path: Path) -> None:
    engine.send([shipment("k1.1"), shipment("k2.1")])
    engine.send([shipment("k2.1"), shipment("k3.1")])
    assert table(tmp_path / "my huey.db", "select count(*) from task") == [(3,)]
    (message,) = table(tmp_path / "my huey.db", "select data from task limit 1")[0]
    assert not bytes(message).startswith(b"\x80\x05"), "no pickle lies there"


def test_one_run_begins(engine: channel_sqlite.SqliteChannel) -> None:
    engine.send([shipment("k1.1"), shipment("k2.1")])
    far = channel_sqlite.FarSqlite(channel_sqlite.open_file(engine.url))
    assert engine.in_flight(["k1.1", "k3.1"]) == {"k1.1": (State.QUEUED, ""), "k3.1": (State.UNKNOWN, "")}
    assert far.begin("q1", "k1.1", "one")
    assert far.begin("q1", "k1.1", "one"), "asked again with the same token"
    assert not far.begin("q1", "k1.1", "two")
    assert engine.in_flight(["k1.1"])["k1.1"].state is State.RUNNING
    assert engine.stop({"k1.1": "cancel", "k2.1": "cancel"}) == {"k2.1"}
    assert (far.find_stop("q1", "k1.1"), far.begin("q1", "k2.1", "one")) == ("cancel", False)
    assert engine.in_flight(["k2.1"])["k2.1"].state is State.ENDED
    far.file.close()


def test_packets_stay_until_they_are_acknowledged(engine: channel_sqlite.SqliteChannel, tmp_path: Path) -> None:
    far = channel_sqlite.FarSqlite(channel_sqlite.open_file(engine.url))
    for number in range(3):
        far.send("q1", "b-1", b"%d" % number)
    far.send("q1", "b-2", b"for another")
    got = engine.poll()
    assert [one.data for one in got] == [b"0", b"1", b"2"]
    assert engine.poll() == []
    engine.acknowledge([got[1].receipt])
    later = open_engine(engine.url)
    later.listen("q1", ["b-2", "b-1"])
    assert sorted(one.data for one in later.poll()) == [b"0", b"2", b"for another"]
    later.close()
    far.file.close()


def test_blobs_go_after_a_day(engine: channel_sqlite.SqliteChannel, tmp_path: Path) -> None:
    far = channel_sqlite.FarSqlite(channel_sqlite.open_file(engine.url))
    engine.offer_blobs(["h1", "h2"], lambda hash: hash.encode())
    assert far.fetch_blob("q1", "h1") == b"h1"
    table(tmp_path / "my huey.db", "update nbtasks_blob set made = made - 90000 where hash = 'h1'")
    engine.forget(["k1.1"], ended=True)
    assert far.fetch_blob("q1", "h2") == b"h2"
    with pytest.raises(LookupError):
        far.fetch_blob("q1", "h1")
    far.file.close()


def test_a_locked_file_is_an_engine_that_is_away(engine: channel_sqlite.SqliteChannel, tmp_path: Path) -> None:
    engine.file.close()
    engine.file.waits = 0.1
    with contextlib.closing(sqlite3.connect(tmp_path / "my huey.db", isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises(EngineDown, match="does not answer: another program has locked it"):
            engine.send([shipment("k1.1")])
    engine.send([shipment("k1.1")])
    assert engine.in_flight(["k1.1"])["k1.1"].state is State.QUEUED


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database at all" * 100)
    with pytest.raises(EngineError, match=r"notes\.txt: file is not a database"):
        open_engine(parse(f"huey+sqlite://{tmp_path}/notes.txt")).connect()
    with pytest.raises(EngineError, match=r"there is no folder .*none: make it"):
        open_engine(parse(f"huey+sqlite://{tmp_path}/none/huey.db")).connect()
