"""Functions share a process, and find nothing that the one before left in it; cells have one of their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import nbtasks
from nbtasks.queue.directory import Queue
from tests.worker import calls
from tests.worker.tools import Worker, is_gone, submit_cell, until

Start = Callable[..., Worker]


def test_functions_run_in_the_same_process(queue: Queue, start: Start) -> None:
    start("-w", "1")
    tasks = [nbtasks.submit(calls.pid) for _ in range(5)]
    assert len({task.result(30) for task in tasks}) == 1


def test_nothing_that_a_function_changed_is_there_for_the_next(queue: Queue, start: Start) -> None:
    start("-w", "1")
    before = nbtasks.submit(calls.look)
    spoilt = nbtasks.submit(calls.spoil)
    after = nbtasks.submit(calls.look)
    pid = nbtasks.submit(calls.pid)
    assert spoilt.result(60) == pid.result(30), "all of it can be put back, and the process kept"
    assert after.result() == before.result()
    assert after.log == "here\n"


@pytest.mark.parametrize("spoil", [calls.leave_thread, calls.close_input, calls.close_all, calls.open_many, calls.grow])
def test_what_cannot_be_put_back_gets_a_new_process(queue: Queue, start: Start, spoil: Callable[[], int]) -> None:
    start("-w", "1")
    task, after = nbtasks.submit(spoil), nbtasks.submit(calls.pid)
    pid = task.result(30)
    assert after.result(30) != pid
    assert until(lambda: is_gone(pid))


def test_running_out_of_memory_fails_one_task_only(queue: Queue, start: Start) -> None:
    start("-w", "1")
    task, after = nbtasks.submit(calls.narrow), nbtasks.submit(calls.reserve, 5 << 30)
    with pytest.raises(MemoryError):
        task.result(30)
    assert after.result(30) == 5 << 30


def test_each_cell_has_a_process_of_its_own_that_is_gone_afterwards(queue: Queue, start: Start) -> None:
    start("-w", "1")
    source = "import os, sys\npid = os.getpid()\nnames = [n for n in dir(sys.modules['__main__']) if n == 'leaked']\n"
    cells = [submit_cell(queue, source + "leaked = 1") for _ in range(2)]
    pids = [cell.result(60) or cell.vars["pid"] for cell in cells]
    assert len(set(pids)) == 2
    assert [cell.vars["names"] for cell in cells] == [[], []]
    assert until(lambda: all(map(is_gone, pids)))


def test_a_cell_after_a_function_gets_a_fresh_process(queue: Queue, start: Start) -> None:
    start("-w", "1")
    pid = nbtasks.submit(calls.pid).result(30)
    cell = submit_cell(queue, "import os; os.getpid()")
    assert cell.result(60) != pid
    again = nbtasks.submit(calls.pid).result(30)
    assert again not in (pid, cell.result())


def test_a_slot_is_renewed_after_so_many_tasks(queue: Queue, start: Start) -> None:
    tasks = [nbtasks.submit(calls.pid) for _ in range(5)]
    start("-w", "1", "--max-tasks-per-slot", "2")
    pids = [task.result(30) for task in tasks]
    assert [len(set(pids)), pids[0], pids[2]] == [3, pids[1], pids[3]]
