"""Two submitting processes and four workers on one queue: each task runs once, and all end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from nbtasks.queue import lookup
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from nbtasks.status import Status
from tests.worker.tools import Worker, lines, until

SUBMIT = """
import sys
import nbtasks
from tests.faults import calls
values = nbtasks.gather([nbtasks.submit(calls.work, sys.argv[1]) for _ in range(int(sys.argv[2]))])
print(sum(values))
"""


@pytest.mark.parametrize("many", [1_500, pytest.param(5_000, marks=pytest.mark.torture)])
def test_each_of_many_runs_once(queue: Queue, start: Callable[..., Worker], notes: str, many: int) -> None:
    workers = [start("-w", "1").ready() for _ in range(4)]
    begun = time.monotonic()
    command = [sys.executable, "-c", SUBMIT, notes, str(many // 2)]
    submitters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=100)[0] for process in submitters] == [f"{many // 2}\n"] * 2
    took = time.monotonic() - begun
    ran = Counter(lines(notes))
    assert len(ran) == many
    assert set(ran.values()) == {1}
    until(lambda: next(lookup.live_tickets(queue), None) is None)
    assert {status: count for status, count in lookup.counts(queue).items() if count} == {Status.SUCCEEDED: many}
    assert {place.ticket[1:] for place in lookup.ended_tickets(queue)} == {(1, 0, 0)}
    assert check(queue) == []
    shares = Counter(record.outcome.slot for record in queue.records() if record.outcome is not None)
    print(f"{many} tasks in {took:.1f} s by {len(shares)} slots: {sorted(shares.values())}")
    assert len(shares) == 4
    assert all(worker.process.poll() is None for worker in workers)
