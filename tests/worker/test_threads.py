"""Functions in the threads of one process: what each has for itself, what they share, and how one of them is stopped."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status, TaskLost, TaskTimedOut
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from tests.worker import calls, thread_calls
from tests.worker.tools import Worker, is_gone, lines, submit_cell, until

Start = Callable[..., Worker]


@pytest.fixture
def threads(start: Start) -> Callable[..., Worker]:
    """``threads(4)`` starts a worker with so many."""

    def make(count: int = 2, *options: str) -> Worker:
        worker = start("-e", "threads", "-w", str(count), *options)
        worker.wait_for("engine threads")
        return worker

    return make


def meet(tmp_path: Path) -> list[nbtasks.Task[tuple[int, int]]]:
    return [
        nbtasks.submit(thread_calls.meet, str(tmp_path), *names) for names in (("left", "right"), ("right", "left"))
    ]


def test_threads_of_one_process_run_side_by_side_each_with_its_own_output(
    queue: Queue, threads: Callable[..., Worker], tmp_path: Path
) -> None:
    worker = threads(2)
    tasks = meet(tmp_path)
    (pid, one), (other_pid, other) = nbtasks.gather(*tasks)
    assert pid == other_pid != worker.pid
    assert one != other
    for task, name in zip(tasks, ("left", "right"), strict=True):
        assert task.log == f"{name} begins\n{name} says so\n{name} ends\n"
        assert {event["kind"] for event in task.record.events()} == {"stderr"}
        assert [(bar["desc"], bar["n"]) for bar in task.progress["bars"]] == [(name, 3)]
    assert check(queue) == []


def test_a_childs_output_can_be_put_into_the_log(queue: Queue, threads: Callable[..., Worker]) -> None:
    worker = threads(2)
    task = nbtasks.submit(thread_calls.print_by_others)
    task.result(30)
    assert task.log == "from logging\nfrom a child\n"
    worker.wait_for("to the worker")


def test_the_worker_says_what_threads_cannot_do(threads: Callable[..., Worker]) -> None:
    worker = threads(2)
    worker.wait_for("cells have a process each")
    worker.wait_for("cancel and timeout stop Python code")


def test_each_knows_its_own_task(queue: Queue, threads: Callable[..., Worker]) -> None:
    threads(4)
    tasks = [nbtasks.using(name=f"n{number}").submit(thread_calls.here) for number in range(20)]
    assert nbtasks.gather(tasks) == [f"n{number}" for number in range(20)]


NOTEBOOK = """
import pickle, sys, time
import nbtasks

class Model:
    def scaled(self):
        return rate * self.base

def back(path):
    # What a library does with the notebook's objects within a task.
    model = pickle.loads(pickle.dumps(made))
    assert type(model) is Model, type(model)
    for _ in range(20):
        time.sleep(0.001)
        assert model.scaled() == rate * 10
    return rate, made

tasks = []
for rate in range(30):
    made = Model()
    made.base = 10
    tasks.append(nbtasks.submit(back, ""))
found = nbtasks.gather(tasks)
assert [number for number, _ in found] == list(range(30)), found
assert all(type(one) is Model for _, one in found)
print("all right")
"""


def test_each_has_the_notebooks_names_as_they_were_at_its_submit(
    queue: Queue, threads: Callable[..., Worker], tmp_path: Path
) -> None:
    """The same function and class with other globals, side by side in one process."""
    threads(4)
    script = tmp_path / "notebook.py"
    script.write_text(NOTEBOOK)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, cwd=os.getcwd())
    assert done.stdout == "all right\n", done.stderr


def test_a_cell_has_a_process_of_its_own(queue: Queue, threads: Callable[..., Worker]) -> None:
    worker = threads(2)
    pid = nbtasks.submit(calls.pid).result(30)
    cells = [submit_cell(queue, "import os\nos.getpid()") for _ in range(3)]
    found = {cell.result(60) for cell in cells}
    assert len(found) == 3
    assert not found & {pid, worker.pid}
    assert nbtasks.submit(calls.pid).result(30) == pid


def test_inline_runs_one_after_the_other_in_one_process(queue: Queue, start: Start, notes: str) -> None:
    worker = start("-e", "inline", "-w", "4")
    worker.wait_for("one task at a time, in one process")
    pids = nbtasks.gather([nbtasks.submit(calls.note, notes, number) for number in range(10)])
    assert len(set(pids)) == 1
    assert lines(notes) == [str(number) for number in range(10)]


# Stopping.


def test_an_interrupted_loop_keeps_what_it_gives(queue: Queue, threads: Callable[..., Worker], notes: str) -> None:
    threads(2)
    task = nbtasks.submit(thread_calls.count_until_stopped, notes)
    pid = int(until(lambda: lines(notes))[0])
    task.cancel()
    until(task.done)
    assert task.status is Status.CANCELLED
    assert task.record.outcome.has_value
    assert nbtasks.submit(calls.pid).result(30) == pid, "the process goes on"


def test_a_time_limit_interrupts_only_its_own_thread(
    queue: Queue, threads: Callable[..., Worker], notes: str, gate: str
) -> None:
    threads(2)
    other = nbtasks.submit(calls.note_and_wait, notes, "other", gate)
    task = nbtasks.using(timeout=0.2).submit(thread_calls.loop, notes)
    with pytest.raises(TaskTimedOut, match=r"timed out after 0\.2 s"):
        task.result(30)
    assert other.status is Status.RUNNING
    Path(gate).touch()
    assert other.result(30) == nbtasks.submit(calls.pid).result(30)


def test_a_cancel_never_hits_another_task(queue: Queue, threads: Callable[..., Worker]) -> None:
    """Cancels come at any moment of very short tasks; whatever was not cancelled gives its value."""
    threads(4)
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    tasks = [nbtasks.submit(thread_calls.brief, chance.choice([10, 10_000, 300_000])) for _ in range(150)]
    chosen = set()
    for task in tasks:
        if chance.random() < 0.4:
            chosen.add(task.id)
            task.cancel()
    until(lambda: all(task.done() for task in tasks), 60)
    for task in tasks:
        allowed = {Status.SUCCEEDED, Status.CANCELLED} if task.id in chosen else {Status.SUCCEEDED}
        assert task.status in allowed, f"seed {seed}: {task.status} {task.traceback}"
    assert nbtasks.submit(thread_calls.brief, 3).result(30) == 3


def test_what_waits_in_c_is_ended_when_it_is_alone(
    queue: Queue, threads: Callable[..., Worker], notes: str, gate: str
) -> None:
    worker = threads(2)
    other = nbtasks.submit(calls.note_and_wait, notes, "other", gate)
    task = nbtasks.using(grace=0.1).submit(thread_calls.block, f"{notes}-2", 3600)
    pid = int(until(lambda: lines(f"{notes}-2"))[0])
    until(lambda: lines(notes))
    task.cancel()
    until(lambda: "its process ends when another task in it has ended" in task.reason, what=task.reason)
    late = nbtasks.submit(calls.pid)
    assert late.result(30) != pid, "what comes meanwhile runs in another process"
    assert other.status is Status.RUNNING
    Path(gate).touch()
    assert other.result(30) == pid
    until(task.done)
    assert task.status is Status.CANCELLED
    until(lambda: is_gone(pid))
    worker.wait_for("a thread did not stop, so its process was ended")


def test_of_tasks_that_crash_together_only_the_cause_fails(
    queue: Queue, threads: Callable[..., Worker], notes: str, tmp_path: Path, gate: str
) -> None:
    worker = threads(3)
    partner = tmp_path / "partner"
    others = [nbtasks.submit(calls.note_and_wait, f"{notes}-{number}", "ran", gate) for number in range(2)]
    task = nbtasks.submit(thread_calls.crash, notes, str(partner))
    until(lambda: all(lines(path) for path in (notes, f"{notes}-0", f"{notes}-1")))
    partner.touch()
    Path(gate).touch()
    with pytest.raises(TaskLost, match=r"signal 11 \(SIGSEGV\)"):
        task.result(60)
    assert len({other.result(60) for other in others}) >= 1
    worker.wait_for(r"a process of threads died with \d tasks: killed by signal 11")
    worker.wait_for("thread_calls.py")


# What is shared.


def test_each_runs_in_the_folder_and_with_the_variables_of_its_submit(
    queue: Queue, threads: Callable[..., Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(3)
    expected, tasks = [], []
    for number in range(6):
        folder = tmp_path / f"folder-{number % 2}"
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("THREADS_TEST", str(number % 3))
        tasks.append(nbtasks.submit(thread_calls.folder_and_variable, "THREADS_TEST"))
        expected.append((str(folder), str(number % 3)))
    assert nbtasks.gather(tasks) == expected


def test_one_that_needs_another_folder_waits_and_says_so(
    queue: Queue, threads: Callable[..., Worker], notes: str, gate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(2)
    first = nbtasks.submit(calls.note_and_wait, notes, "first", gate)
    until(lambda: lines(notes))
    monkeypatch.chdir(tmp_path)
    second, third = (nbtasks.submit(thread_calls.folder_and_variable, "HOME") for _ in range(2))
    until(lambda: "threads share folder" in second.reason, what=second.reason)
    third.cancel()
    until(third.done)
    Path(gate).touch()
    first.result(30)
    assert second.result(30)[0] == str(tmp_path)
    assert second.reason == ""


def test_tasks_that_wait_for_others_do_not_block_them(queue: Queue, threads: Callable[..., Worker]) -> None:
    threads(2)
    assert nbtasks.gather([nbtasks.submit(thread_calls.ask, 4) for _ in range(3)]) == [4, 4, 4]


def test_one_that_waits_for_another_is_cancelled(
    queue: Queue, threads: Callable[..., Worker], notes: str, gate: str
) -> None:
    threads(2)
    task = nbtasks.submit(thread_calls.wait_for_another, notes, gate)
    until(lambda: lines(notes))
    task.cancel()
    until(task.done, 10)
    assert task.status is Status.CANCELLED
    assert nbtasks.submit(calls.pid).result(30)
    Path(gate).touch()


# Ends.


def test_the_process_is_renewed_after_so_many_tasks(
    queue: Queue, threads: Callable[..., Worker], notes: str, gate: str
) -> None:
    threads(2, "--max-tasks-per-slot", "5")
    slow = nbtasks.submit(calls.note_and_wait, notes, "slow", gate)
    pids = nbtasks.gather([nbtasks.submit(calls.pid) for _ in range(25)])
    assert len(set(pids)) > 1, "and a task that goes on does not hold up the next process"
    Path(gate).touch()
    assert slow.result(30) == pids[0]


def test_what_a_thread_cannot_keep_is_said_at_submit(queue: Queue) -> None:
    nbtasks.configure(engine="threads", autostart=False)
    with pytest.warns(UserWarning, match="a time limit stops Python code only"):
        nbtasks.using(timeout="1h").submit(abs, 1)


def test_a_worker_that_is_killed_leaves_its_threads_to_their_end(
    queue: Queue, threads: Callable[..., Worker], notes: str, gate: str
) -> None:
    worker = threads(2)
    task = nbtasks.submit(calls.note_and_wait, notes, "ran", gate)
    until(lambda: lines(notes))
    worker.kill()
    threads(2)
    Path(gate).touch()
    pid = task.result(30)
    assert lines(notes) == ["ran"]
    until(lambda: is_gone(pid))
    assert nbtasks.submit(calls.pid).result(30) != pid


def test_a_worker_that_must_stop_now_puts_back_what_runs(
    queue: Queue, threads: Callable[..., Worker], notes: str, gate: str
) -> None:
    worker = threads(2)
    tasks = [nbtasks.submit(calls.note_and_wait, notes, number, gate) for number in range(2)]
    until(lambda: len(lines(notes)) == 2)
    for _ in range(2):
        worker.signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(0.5)
    worker.end()
    assert {task.status for task in tasks} == {Status.QUEUED}
    Path(gate).touch()
    threads(2, "--burst").end(60)
    assert {task.status for task in tasks} == {Status.SUCCEEDED}
    assert check(queue) == []
