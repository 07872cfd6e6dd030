"""What is Celery's own: lost messages and late copies of them, lanes and priorities, its pools."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

import nbtasks
from nbtasks import Status
from nbtasks.engines import registry, urls
from tests.engines import contract_calls as calls
from tests.engines.servers import Celery, Desk, Place, opened, use
from tests.worker.tools import lines, until

WAIT = 40
LIST = "nbtasks\x06\x163"  # where Celery looks for tasks of priority 5


@pytest.fixture(scope="module")
def place(home: str) -> Iterator[Place]:
    with opened(Celery, home) as place:
        yield place


@pytest.fixture
def desk(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A queue of its own, whose worker soon takes a silent task for lost."""
    desk = Desk(place, tmp_path)
    use(desk, monkeypatch)
    monkeypatch.setenv("NBTASKS_LEASE", "2s")
    place.refresh()
    yield desk
    desk.close()


@pytest.fixture
def broker(place: Place) -> Iterator[Any]:
    with redis.Redis(unix_socket_path=place.socket) as client:  # type: ignore[attr-defined]
        yield client


def messages(broker: Any, name: str = LIST) -> list[dict[str, Any]]:
    """What waits in a list, the next one first."""
    return [json.loads(text) for text in reversed(broker.lrange(name, 0, -1))]


@pytest.mark.torture
def test_a_message_that_got_lost_in_a_worker_is_made_good(desk: Desk, broker: Any, notes: str) -> None:
    """Redis gives a message to a worker, which dies before it begins: no list has it any more."""
    desk.place.kill_workers()
    desk.start(NBTASKS_LEASE="10min")  # nobody waits for that
    task = nbtasks.submit(calls.note, notes)
    taken = until(lambda: broker.rpop(LIST))
    desk.place.start_workers()
    assert task.result(WAIT) is None
    until(lambda: not broker.keys("nbtasks:*:sent:*"), what="the bridge to be done with it")
    broker.delete(*broker.keys("nbtasks:*:begun:*"))  # hours later, they have expired
    broker.lpush(LIST, taken)  # and then it turns up again
    assert nbtasks.submit(calls.nothing).result(WAIT) is None
    assert (lines(notes), task.record.ticket.losses) == (["ran"], 0)


def test_a_copy_of_a_message_does_not_run(desk: Desk, broker: Any, notes: str, gate: str) -> None:
    desk.place.kill_workers()
    desk.start()
    task = nbtasks.submit(calls.note_and_wait, notes, gate)
    (text,) = until(lambda: broker.lrange(LIST, 0, -1))
    broker.lpush(LIST, text)
    desk.place.start_workers()
    until(lambda: lines(notes) and not broker.llen(LIST))
    assert nbtasks.submit(calls.nothing).result(WAIT) is None, "the copy came before this one"
    Path(gate).touch()
    assert task.result(WAIT) == int(lines(notes)[0])
    assert len(lines(notes)) == 1


@pytest.mark.torture
def test_what_waits_behind_a_long_task_is_offered_to_others_and_runs_once(
    desk: Desk, broker: Any, notes: str, gate: str
) -> None:
    """A worker that is busy holds one message in advance for each place. Soon there is a copy for who else comes."""
    desk.start()
    first = [nbtasks.submit(calls.note_and_wait, f"{notes}-{number}", gate) for number in range(2)]
    until(lambda: all(lines(f"{notes}-{number}") for number in range(2)))
    late = nbtasks.map(calls.note, [f"{notes}-late-{number}" for number in range(5)])
    until(lambda: len(messages(broker)) == 3, what="two of them in the worker")
    until(lambda: {one["headers"]["id"].partition(".")[0] for one in messages(broker)} == {task.id for task in late})
    desk.place.start_workers()
    late.results()
    assert [lines(f"{notes}-late-{number}") for number in range(5)] == [["ran"]] * 5
    Path(gate).touch()
    assert len(nbtasks.gather(*first)) == 2
    assert nbtasks.submit(calls.nothing).result(WAIT) is None
    assert [lines(f"{notes}-late-{number}") for number in range(5)] == [["ran"]] * 5
    assert [task.record.ticket.losses for task in [*first, *late]] == [0] * 7


def test_lanes_and_priorities_are_those_of_celery(desk: Desk, broker: Any) -> None:
    desk.place.kill_workers()
    desk.start("-l", "default", "-l", "gpu")
    low = nbtasks.using(priority=1).submit(calls.nothing)
    high = nbtasks.using(priority=9).submit(calls.nothing)
    gpu = nbtasks.using(lane="gpu").submit(calls.nothing)
    until(lambda: all(messages(broker, name) for name in ("nbtasks\x06\x169", "nbtasks", "nbtasks-gpu\x06\x163")))
    (message,) = messages(broker, "nbtasks")
    assert message["headers"]["id"] == f"{high.id}.1"
    assert message["headers"]["shadow"] == f"nothing {high.short}"
    desk.place.start_workers()
    assert [low.result(WAIT), high.result(WAIT)] == [None, None]
    assert gpu.status is Status.RUNNING, "no worker serves its queue"
    assert gpu.cancel()
    until(gpu.done)
    assert gpu.status is Status.CANCELLED


def test_a_killed_process_of_the_pool_is_told_by_celery(desk: Desk, notes: str, gate: str) -> None:
    desk.start(NBTASKS_LEASE="20s")  # so that it is Celery that tells, not silence
    task = nbtasks.submit(calls.note_and_wait, notes, gate)
    runner = psutil.Process(int(until(lambda: lines(notes))[0]))
    template = runner.parent()
    pool = template.parent()
    assert "celery" in " ".join(pool.cmdline())
    os.kill(pool.pid, signal.SIGKILL)
    until(lambda: not runner.is_running(), what="the end of what it ran")
    until(lambda: len(lines(notes)) == 2, WAIT)
    Path(gate).touch()
    assert task.result(WAIT) == int(lines(notes)[1])
    assert "WorkerLostError" in desk.worker.log


@pytest.mark.torture
@pytest.mark.parametrize("pool", ["threads", "solo"])
def test_other_pools_run_tasks_too(pool: str, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(pool, (Celery,), {"pool": pool})
    with opened(kind, home) as place:
        desk = Desk(place, tmp_path)
        use(desk, monkeypatch)
        desk.start()
        assert nbtasks.map(calls.add, [1, 2, 3], [10, 10, 10]).results() == [11, 12, 13]
        task = nbtasks.submit(calls.note_and_wait, str(tmp_path / "notes"), str(tmp_path / "gate"))
        until(lambda: lines(tmp_path / "notes"))
        task.cancel()
        until(task.done)
        assert task.status is Status.CANCELLED
        assert nbtasks.submit(calls.nothing).result(WAIT) is None
        desk.close()


def test_a_worker_that_is_not_told_where_the_broker_is_says_so(place: Place) -> None:
    environ = place.environ | {"NBTASKS_ENGINE": "processes"}
    found = subprocess.run(
        place.worker_command(), env=environ, cwd=place.folder, capture_output=True, text=True, check=False
    )
    assert found.returncode
    assert "NBTASKS_ENGINE=celery+redis://HOST celery -A nbtasks.engines.celery worker" in found.stderr
    assert "Traceback" not in found.stderr


def test_how_to_start_a_worker_is_said_for_this_broker(place: Place) -> None:
    place.kill_workers()
    engine = registry.open_engine(urls.parse(place.url))
    start = f"no Celery worker yet: NBTASKS_ENGINE={place.url} celery -A nbtasks.engines.celery worker"
    until(lambda: start in engine.connect())
