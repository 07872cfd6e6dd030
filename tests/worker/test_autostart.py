"""Workers that start by themselves: one for each lane, detached, and there whenever somebody needs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, config
from nbtasks.process_table import environment_of
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.worker import autostart
from tests.worker import calls
from tests.worker.tools import Worker, is_gone, kill, lines, live_slots, until

SUBMIT = """
import nbtasks, sys
from tests.worker import calls
sys.stdin.readline()
print(nbtasks.submit(calls.pid).result(30))
"""


def workers(queue: Queue) -> list[members.Member]:
    return list(members.list_workers(queue))


def forget_what_was_seen(queue: Queue) -> None:
    """As in a process that submits for the first time."""
    autostart._started.clear()
    queue._seen.clear()


def test_the_first_submit_starts_a_worker_of_its_own_session(queue: Queue) -> None:
    pid = nbtasks.submit(calls.pid).result(30)
    (worker,) = workers(queue)
    assert worker.auto
    assert os.getsid(worker.process.pid) not in (os.getsid(0), worker.process.pid)
    assert os.getsid(pid) == pid
    assert nbtasks.submit(calls.pid).result(30)
    assert workers(queue) == [worker]
    log = Path(queue.layout.auto_log(f"default@{config.env_tag()}")).read_text()
    assert f"worker {worker.name}, pid {worker.process.pid}" in log
    assert "leaves after 60 s idle" in log


def test_several_submitters_at_once_start_one(queue: Queue) -> None:
    command = [sys.executable, "-c", SUBMIT]
    pipe = subprocess.PIPE
    found = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(3)]
    for process in found:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0] for process in found]
    assert all(int(answer) > 0 for answer in answers)
    assert len(workers(queue)) == 1


def test_of_two_that_start_by_themselves_one_stays(queue: Queue, start: Callable[..., Worker]) -> None:
    found = [start("--auto", "-w", "1") for _ in range(2)]
    gone = until(lambda: next((one for one in found if one.process.poll() is not None), None))
    found.remove(gone)
    assert gone.end() == 0
    assert workers(queue) == [found[0].ready().member]
    by_hand = start("-w", "1").ready()
    assert len(workers(queue)) == 2, "any number may be started by hand"
    other = start("--auto", "-l", "gpu", "-w", "1").ready()
    assert {member.process.pid for member in workers(queue)} == {found[0].pid, by_hand.pid, other.pid}


def test_switched_off_nothing_starts(queue: Queue, start: Callable[..., Worker]) -> None:
    task = nbtasks.submit(calls.pid)
    assert not autostart.ensure_worker(queue, "default", config.env_tag())
    assert task.status is Status.QUEUED
    assert workers(queue) == []


def test_an_orphan_sees_to_it_that_a_worker_is_there(
    queue: Queue, notes: str, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_NOTEBOOK", "1")
    monkeypatch.setenv("NBTASKS_SLOTS", "1")
    config.reset()
    task = nbtasks.submit(change_environment_and_wait, notes, gate)
    until(lambda: lines(notes))
    (first,) = workers(queue)
    kill(first.process.pid)
    (second,) = until(lambda: workers(queue))
    log = Path(queue.layout.auto_log(f"default@{config.env_tag()}"))
    until(lambda: "adopted slot" in log.read_text())
    environ = environment_of(second.process.pid).split(b"\0")
    assert b"OF_THE_TASK=1" not in environ
    assert b"OF_THE_NOTEBOOK=1" in environ
    assert not any(one.startswith(b"NBTASKS_SLOT=s-") for one in environ), "it must not end with the slot"
    Path(gate).touch()
    slot = task.result(30)
    assert until(lambda: is_gone(slot))
    assert workers(queue) == [second]


def change_environment_and_wait(notes: str, gate: str) -> int:
    os.environ["OF_THE_TASK"] = "1"
    return calls.note_and_wait(notes, "run", gate)


def test_a_submit_while_the_worker_leaves_is_served(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It leaves for idleness, has taken its bells away, and still holds the lock: there it is stopped for a while."""
    monkeypatch.setenv("NBTASKS_IDLE_EXIT", "0.2")
    monkeypatch.setenv("NBTASKS_FAULT", "remove:before=SIGSTOP:*/workers/w-*/identity:1")
    monkeypatch.setenv("NBTASKS_FAULT_ONCE", str(tmp_path / "stopped"))  # not the worker that it starts
    config.reset()
    nbtasks.submit(calls.pid).result(30)
    (first,) = workers(queue)
    until(lambda: _is_stopped(first.process.pid))
    monkeypatch.delenv("NBTASKS_FAULT")
    monkeypatch.setenv("NBTASKS_IDLE_EXIT", "60")
    config.reset()
    forget_what_was_seen(queue)
    task = nbtasks.submit(calls.pid)  # nobody waits for it
    log = Path(queue.layout.auto_log(f"default@{config.env_tag()}"))
    until(lambda: "is not needed" in log.read_text())
    assert queue.record(task.id).status is Status.QUEUED
    os.kill(first.process.pid, signal.SIGCONT)
    assert until(lambda: queue.record(task.id).status is Status.SUCCEEDED), log.read_text()


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0] == "T"


def test_a_cancel_starts_a_worker_when_none_lives_that_could_stop_the_task(queue: Queue, notes: str) -> None:
    task = nbtasks.submit(calls.nap, notes, 3600)
    until(lambda: lines(notes))
    (first,) = workers(queue)
    os.kill(first.process.pid, signal.SIGSTOP)
    for slot in live_slots(queue):
        kill(slot.process.pid)
    kill(first.process.pid)
    forget_what_was_seen(queue)
    assert task.cancel()
    assert until(lambda: queue.record(task.id).status is Status.CANCELLED)


def test_a_draining_worker_does_not_keep_others_from_starting(queue: Queue, notes: str, gate: str) -> None:
    running = nbtasks.submit(calls.note_and_wait, notes, "run", gate)
    until(lambda: lines(notes))
    (first,) = workers(queue)
    os.kill(first.process.pid, signal.SIGTERM)
    log = Path(queue.layout.auto_log(f"default@{config.env_tag()}"))
    until(lambda: "draining" in log.read_text())
    forget_what_was_seen(queue)
    assert nbtasks.submit(calls.pid).result(30)
    assert not running.done()
    Path(gate).touch()
    assert running.result(30)


def test_tasks_submit_to_the_queue_that_they_came_from(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.delenv("NBTASKS_QUEUE")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("NBTASKS_SLOTS", "1")
    config.reset()
    nbtasks.configure(queue=queue.root)
    assert nbtasks.submit(calls.ask_another, 2).result(60) == 2
    assert len(nbtasks.tasks()) == 3
    assert os.listdir(elsewhere) == []
    assert until(lambda: len(live_slots(queue)) == 1)


def test_an_engine_that_was_configured_is_that_of_the_worker_that_starts(queue: Queue) -> None:
    nbtasks.configure(engine="threads", slots=3)
    one, other = nbtasks.submit(calls.pid), nbtasks.submit(calls.pid)
    assert one.result(30) == other.result(30)
    (worker,) = workers(queue)
    assert (worker.engine, worker.slots, worker.auto) == ("threads", 3, True)


def test_a_task_says_that_its_worker_uses_another_engine(queue: Queue, start: Callable[..., Worker], gate: str) -> None:
    start("-w", "1").ready()
    running = nbtasks.submit(calls.wait_for, gate)
    until(lambda: running.status is Status.RUNNING)
    nbtasks.configure(engine=["rq+redis://:secret@127.0.0.1:1", "threads"])
    waiting = nbtasks.submit(calls.pid)
    assert waiting.reason == (
        "next in line; its worker uses processes, not rq+redis://127.0.0.1:1 or threads: nbtasks stop lets another start"
    )
    Path(gate).touch()
    assert waiting.result(30)


def test_why_no_worker_could_start_stands_on_the_card(queue: Queue, tmp_path: Path) -> None:
    nbtasks.configure(engine=f"rq+unix://{tmp_path}/none.sock")
    task = nbtasks.submit(calls.pid)
    until(lambda: "no worker could start" in task.reason)
    assert f"no worker could start: no engine answers: rq+unix://{tmp_path}/none.sock does not answer" in task.reason
    assert "start a redis-server there" in task.reason
    log = Path(queue.layout.auto_log(f"default@{config.env_tag()}")).read_text()
    assert "error: no engine answers" in log
    assert "Traceback" not in log
    nbtasks.configure(engine="processes")
    forget_what_was_seen(queue)
    later = nbtasks.submit(calls.pid)
    assert later.result(30)
    assert task.result(30)
    assert not os.path.exists(queue.layout.auto_refused(f"default@{config.env_tag()}"))
