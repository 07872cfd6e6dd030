"""What a running task takes is seen for the whole tree, and floods that no Python code sees are kept within bounds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import nbtasks
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Usage
from tests.worker.tools import Worker, live_slots, submit_cell, until

Start = Callable[..., Worker]

MB = 1_000_000
CHILD = """
import subprocess, sys
code = 'import os, sys, time\\nheld = bytearray(90_000_000)\\nwhile not os.path.exists(sys.argv[1]): sum(range(1000))'
child = subprocess.Popen([sys.executable, '-c', code, gate])
"""


def usage_of(task: nbtasks.Task[object]) -> Usage | None:
    return task.record.usage


def test_processor_and_memory_of_children_are_seen_while_it_runs_and_in_the_outcome(
    queue: Queue, start: Start, gate: str
) -> None:
    start("-w", "1")
    task = submit_cell(queue, CHILD + "child.wait()", inputs={"gate": gate})
    seen = until(lambda: (found := usage_of(task)) and found.cores is not None and found)
    assert seen.memory > 90 * MB
    assert seen.cores is not None
    assert seen.cores > 0.05, "the child is busy, the task itself sleeps"
    assert f"{seen.cores:.1f}"[0] in task._repr_mimebundle_()["text/plain"].split("\n")[0]
    open(gate, "w").close()
    task.result(20)
    outcome = task.record.outcome
    assert outcome is not None
    assert outcome.peak_memory > 90 * MB
    assert outcome.cpu >= seen.cpu
    assert task.record.usage is None, "nothing runs any more"


def test_a_short_task_counts_the_children_that_it_waited_for(queue: Queue, start: Start) -> None:
    start("-w", "1")
    code = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'held = b\"x\" * 90_000_000; sum(range(3_000_000))'])"
    task = submit_cell(queue, code)
    task.result(20)
    outcome = task.record.outcome
    assert outcome is not None
    assert outcome.peak_memory > 90 * MB
    assert outcome.cpu > 0.02


def test_who_is_killed_had_the_memory_of_its_children(queue: Queue, start: Start, gate: str) -> None:
    start("-w", "1")
    task = submit_cell(queue, CHILD + "child.wait()", inputs={"gate": gate})
    until(lambda: usage_of(task))
    slot = task.record.slot
    assert slot
    os.kill(next(one.process.pid for one in live_slots(queue) if one.name == slot), 9)
    until(task.done)
    outcome = task.record.outcome
    assert outcome is not None
    assert outcome.peak_memory > 90 * MB
    until(lambda: not os.path.exists(f"{queue.layout.slots}/{slot}"))


def test_a_flood_of_a_child_process_does_not_fill_the_disk(queue: Queue, start: Start, gate: str) -> None:
    start("-w", "1", environ={"NBTASKS_LOG_LIMIT": "1MB"})
    flood = f"while [ ! -e {gate} ]; do head -c 200000 /dev/zero | tr '\\\\0' 'x'; echo; sleep 0.02; done; echo the end"
    task = submit_cell(queue, f"import subprocess\nsubprocess.run(['sh', '-c', {flood!r}])")

    def is_trimmed() -> bool:
        path = task.record.log_path
        info = os.stat(path) if path else None
        return info is not None and info.st_size > 4 * MB and info.st_blocks * 512 < info.st_size // 2

    until(is_trimmed)
    assert "left out" in task.log
    open(gate, "w").close()
    task.result(20)
    assert task.log.rstrip().endswith("the end")
    assert len(task._repr_mimebundle_()["text/html"]) < 200_000


def test_an_idle_worker_does_not_look(queue: Queue, start: Start) -> None:
    worker = start("-w", "1")
    submit_cell(queue, "1").result(20)
    until(lambda: not worker.slots())

    def switches() -> int:
        with open(f"/proc/{worker.pid}/status") as file:
            return sum(int(line.split()[1]) for line in file if line.startswith("voluntary_ctxt"))

    def is_quiet() -> bool:
        before = switches()
        time.sleep(3)  # one look of the gauges would fall into it
        return switches() - before <= 1

    until(is_quiet, timeout=15)
