"""A worker that is given engines: the first that answers, what it says of it, what it does without."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import Status, cli_doctor, config
from nbtasks.engines import registry, urls
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from tests.engines import contract_calls as calls
from tests.engines.servers import Desk, OnRedis, Rq, opened, use
from tests.worker.tools import Worker, lines, until

Start = Callable[..., Worker]


def test_an_engine_that_does_not_answer_is_named_with_the_cure(queue: Queue, start: Start, tmp_path: Path) -> None:
    worker = start("-e", f"rq+unix://{tmp_path}/none.sock")
    assert worker.end() == 2
    assert f"no engine answers: rq+unix://{tmp_path}/none.sock does not answer" in worker.log
    assert "start a redis-server there" in worker.log
    assert "Traceback" not in worker.log
    assert list(members.list_workers(queue, alive=False)) == []


def test_the_next_is_tried_and_the_banner_says_why(queue: Queue, start: Start, tmp_path: Path) -> None:
    task = nbtasks.submit(calls.add, 1, 2)
    worker = start("-e", f"rq+unix://:secret@{tmp_path}/none.sock".replace(":secret@", ""), "-e", "processes")
    assert task.result(30) == 3
    assert "engine processes, " in worker.log
    assert f"not used: rq+unix://{tmp_path}/none.sock does not answer" in worker.log


def test_a_password_is_never_shown(queue: Queue, start: Start) -> None:
    worker = start("-e", "rq+redis://:verysecret@127.0.0.1:1/0", "-e", "processes")
    worker.wait_for("engine processes")
    assert "not used: rq+redis://127.0.0.1:1/0" in worker.log
    assert "verysecret" not in worker.log
    assert "verysecret" not in "".join(path.read_text() for path in Path(queue.root).rglob("identity"))


@pytest.mark.parametrize(("missing", "engine"), [("rq", "rq"), ("redis", "celery")])
def test_a_library_that_is_not_installed_is_named(missing: str, engine: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from nbtasks.engines import registry, urls\n"
        f"try: registry.open_engine(urls.parse('{engine}+redis://h'))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    named = f"needs the module {missing!r}, which is not installed: pip install 'nbtasks[{engine}]'"
    assert said == f"EngineError {engine}+redis://h {named}\n"


def test_the_inline_engine_has_one_slot(queue: Queue, start: Start) -> None:
    worker = start("-w", "3", "-e", "inline")
    worker.wait_for("engine inline, 1 slot,")
    assert [member.slots for member in members.list_workers(queue)] == [1]


def test_a_name_that_is_none_is_refused(queue: Queue, start: Start) -> None:
    worker = start("-e", "rq://localhost")
    assert worker.end() == 2
    assert "rq needs rq+redis://" in worker.log


@pytest.fixture(scope="module")
def place(home: str) -> Iterator[Rq]:
    with opened(Rq, home) as place:
        assert isinstance(place, Rq)
        yield place


def test_how_to_start_a_worker_is_said_for_this_broker(place: Rq) -> None:
    url = f"{place.url}?db=9"  # where no worker is
    said = registry.open_engine(urls.parse(url)).connect()
    assert f"no RQ worker yet: rq worker nbtasks --url {url.removeprefix('rq+')}" in said


@pytest.fixture
def desk(place: Rq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk(place, tmp_path)
    use(desk, monkeypatch)
    yield desk
    desk.close()


def command(place: OnRedis, *words: Any) -> Any:
    """What Redis answers."""
    import redis

    with redis.Redis(unix_socket_path=place.socket) as client:
        return client.execute_command(*words)


def test_what_waits_at_the_engine_says_so(desk: Desk, place: Rq, notes: str, gate: str) -> None:
    place.kill_workers()
    desk.start()
    task = nbtasks.submit(calls.note_and_wait, notes, gate)
    until(lambda: task.reason == f"not begun: it waits for a worker at {place.url}", what=f"the card: {task.reason!r}")
    assert task.status is Status.RUNNING, "so the queue sees it: it is not here any more"
    place.start_workers()
    until(lambda: lines(notes))
    until(lambda: task.reason == "")
    Path(gate).touch()
    assert task.result(30) == int(lines(notes)[0])


def test_tasks_stay_queued_while_redis_is_full(desk: Desk, place: Rq, tmp_path: Path) -> None:
    desk.start()
    assert nbtasks.submit(calls.add, 1, 1).result(30) == 2
    try:
        command(place, "CONFIG", "SET", "maxmemory", "1mb")
        tasks = [nbtasks.using(at_most_once=True).submit(calls.note, f"{tmp_path}/{number}") for number in range(5)]
        desk.worker.wait_for(r"is full: .* its tasks are queued again")
        until(lambda: all(task.status is Status.QUEUED for task in tasks))
        until(lambda: "is full: it takes nothing" in tasks[0].reason)
        assert "is full" in " ".join(one.sentence for one in cli_doctor.examine(desk.queue.root))
    finally:
        command(place, "CONFIG", "SET", "maxmemory", "0")
    nbtasks.gather(*tasks)
    assert cli_doctor.examine(desk.queue.root) == []
    assert [lines(f"{tmp_path}/{number}") for number in range(5)] == [["ran"]] * 5
    assert {task.record.ticket.losses for task in tasks} == {0}


def test_what_redis_has_forgotten_is_delivered_again(desk: Desk, place: Rq, tmp_path: Path) -> None:
    desk.start()
    place.kill_workers()  # so that nothing has begun
    tasks = [nbtasks.submit(calls.note, f"{tmp_path}/{number}") for number in range(5)]
    until(lambda: command(place, "LLEN", "rq:queue:nbtasks") == 5)
    command(place, "FLUSHALL")
    until(lambda: command(place, "LLEN", "rq:queue:nbtasks") == 5)
    place.start_workers()
    nbtasks.gather(*tasks)
    assert [lines(f"{tmp_path}/{number}") for number in range(5)] == [["ran"]] * 5
    assert {task.record.ticket.losses for task in tasks} == {1}


def test_lanes_and_priorities_become_queues_and_order(desk: Desk, place: Rq, tmp_path: Path) -> None:
    desk.start("-l", "default", "-l", "gpu")
    place.kill_workers()
    gpu = nbtasks.using(lane="gpu").submit(calls.note, f"{tmp_path}/order", "gpu")
    until(lambda: command(place, "LLEN", "rq:queue:nbtasks-gpu") == 1)
    low = [nbtasks.submit(calls.note, f"{tmp_path}/order", "low") for _ in range(2)]
    until(lambda: command(place, "LLEN", "rq:queue:nbtasks") == 2)
    high = nbtasks.using(priority=9).submit(calls.note, f"{tmp_path}/order", "high")
    until(lambda: command(place, "LLEN", "rq:queue:nbtasks") == 3)
    place.start_workers(1)
    nbtasks.gather(*low, high)
    assert lines(tmp_path / "order") == ["high", "low", "low"]
    gpu.cancel()
    until(gpu.done)


def test_a_bridge_holds_no_more_than_its_capacity(desk: Desk, place: Rq, tmp_path: Path) -> None:
    place.kill_workers()
    desk.start("--capacity", "3")
    tasks = [nbtasks.submit(calls.note, f"{tmp_path}/{number}") for number in range(8)]
    until(lambda: [task.status for task in tasks].count(Status.RUNNING) == 3)
    assert [task.status for task in tasks].count(Status.QUEUED) == 5
    place.start_workers()
    nbtasks.gather(*tasks)


def test_a_task_elsewhere_cannot_submit_and_says_where_to(desk: Desk) -> None:
    desk.start()
    with pytest.raises(nbtasks.QueueError, match=r"cannot reach the queue: .* Submit from there"):
        nbtasks.submit(calls.submit_another).result(30)


def test_the_workers_of_this_queue_show_the_bridge(desk: Desk, place: Rq) -> None:
    desk.start()
    until(lambda: any(members.is_foreign(slot) for slot in members.list_slots(desk.queue)))
    worker = next(iter(members.list_workers(desk.queue)))
    assert worker.engine == place.url
    assert config.settings().capacity == 100


def test_a_worker_that_drains_waits_for_what_is_elsewhere(desk: Desk, place: Rq, tmp_path: Path) -> None:
    place.refresh()
    worker = desk.start()
    task = nbtasks.submit(calls.note_and_wait, f"{tmp_path}/notes", f"{tmp_path}/gate")
    until(lambda: lines(tmp_path / "notes"))
    worker.process.terminate()
    worker.wait_for("draining")
    late = nbtasks.submit(calls.nothing)
    (tmp_path / "gate").touch()
    assert task.result(30) == int(lines(tmp_path / "notes")[0])
    assert worker.end() == 0
    assert late.status is Status.QUEUED


def test_a_shared_array_travels_once(desk: Desk, place: Rq) -> None:
    import numpy as np

    place.refresh()
    desk.start()
    data = np.arange(1_000_000.0)
    tasks = nbtasks.map(calls.total, [data] * 6, range(6))
    assert tasks.results() == [data.sum() + number for number in range(6)]
    blobs = list(command(place, "KEYS", f"nbtasks:{desk.queue.uuid}:blob:*"))
    sizes = sorted(command(place, "STRLEN", key) for key in blobs)
    assert sizes[-1] == data.nbytes
    assert sizes.count(data.nbytes) == 1
    assert command(place, "KEYS", f"nbtasks:{desk.queue.uuid}:bundle:*") == [], "the rest is small"


def test_a_burst_ends_when_all_is_done(desk: Desk, place: Rq, tmp_path: Path) -> None:
    place.refresh()
    tasks = [nbtasks.submit(calls.note, f"{tmp_path}/{number}") for number in range(3)]
    tasks.append(nbtasks.using(retries=1).submit(calls.fail_until, f"{tmp_path}/again", 2))
    assert desk.start("--burst").end(60) == 0
    assert [task.status for task in tasks] == [Status.SUCCEEDED] * 4
