"""What one refresh of the dashboard costs the kernel with ten thousand tasks on show, and what it sends.

Processor time of the refreshing thread is the time for which it can hold the interpreter, and so the most by which it
delays a cell. One task a second is submitted and ends meanwhile, as in a busy notebook.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import nbtasks
from nbtasks import payload
from nbtasks.jupyter.dashboard_board import Dashboard
from nbtasks.jupyter.dashboard_filters import Filters, Order
from nbtasks.jupyter.dashboard_view import Contents
from nbtasks.jupyter.live import Live
from nbtasks.outcome import Outcome
from nbtasks.queue.catalogue import Catalogue
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.spec import Spec
from nbtasks.status import Status

ROUND = 0.2  # seconds between two refreshes, as in the notebook
_PARTS = [payload.dump("function", sum), payload.dump("arguments", (([1, 2],), {}))]
_LINE = "default@env@f"


class Tasks:
    """A queue whose tasks are put and ended by hand."""

    def __init__(self, root: str) -> None:
        self.queue = Queue(root)
        self._flush = self.queue.bell("flush", "bench")  # so that nobody waits for the disk
        self._claimer = Claimer(self.queue, "s-bench", [_LINE])

    def put(self, name: str) -> Spec:
        """One more task."""
        spec = Spec(id=self.queue.new_id(), name=name, env="env")
        self.queue.put(spec, _PARTS)
        return spec

    def end(self, spec: Spec) -> None:
        """Claim the next task, and end it."""
        ticket = self._claimer.try_claim()
        assert ticket is not None
        now = time.time()
        outcome = Outcome(
            id=ticket.id, delivery=1, status=Status.SUCCEEDED, started=now - 1, ended=now, peak_memory=now_digits()
        )
        self.queue.finish(spec, ticket, "s-bench", outcome)


def now_digits() -> int:
    """A number that looks random, for a memory to sort by."""
    return time.time_ns() % 1_000_003


def measure(count: int, rounds: int) -> Mapping[str, tuple[list[float], float]]:
    """For each view: milliseconds of every refresh, and bytes a second on the wire."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        tasks = Tasks(f"{root}/.nbtasks")
        for number in range(count):
            spec = tasks.put(f"fit {number % 50}")
            if number < count * 9 // 10:
                tasks.end(spec)
        return {
            "running first": _refresh(tasks, rounds, lambda controls: None),
            "name contains 7, most memory first": _refresh(tasks, rounds, _sort_and_filter),
            "timeline": _refresh(tasks, rounds, _timeline),
        }


def _sort_and_filter(controls: Any) -> None:
    controls.order.value = Order.MEMORY
    controls.name.value = "7"


def _timeline(controls: Any) -> None:
    controls.pane.value = "Timeline"


def _refresh(tasks: Tasks, rounds: int, choose: Callable[[Any], None]) -> tuple[list[float], float]:
    live = Live(lambda sent: None, lambda id: ({}, []))
    live.cell = {"msg_id": "bench"}
    catalogue = Catalogue(tasks.queue)
    catalogue.look_at_all()
    board = Dashboard(live, Contents(tasks.queue, catalogue, live.bundle), Filters())
    controls = board._controls
    sent = 0

    def count(change: Any) -> None:
        nonlocal sent
        sent += len(change["new"]) + 500  # with what is around it

    for part in (controls.summary, controls.rows, controls.where, controls.said, controls.below):
        part.observe(count, "value")
    choose(controls)
    spent, started = [], time.perf_counter()
    for number in range(rounds):
        ended: set[str] = set()
        if number % 5 == 0:
            spec = tasks.put("one more")
            tasks.end(spec)
            ended.add(spec.id)
        before = time.thread_time()
        board.look(ended)
        spent.append((time.thread_time() - before) * 1000)
        time.sleep(ROUND)
    seconds = time.perf_counter() - started
    controls.shut()
    return spent, sent / seconds


def print_dashboard(count: int = 10_000, rounds: int = 100) -> None:
    """The table of refreshes."""
    nbtasks.configure(autostart=False)
    print(f"\nOne refresh of `%tasks` with {count:,} tasks, {rounds} of them (aim ≤ 20 ms, ≤ 50 kB/s)\n")
    print("| shown | median | 95 % | most | on the wire |\n|---|---|---|---|---|")
    for view, (spent, rate) in measure(count, rounds).items():
        late = statistics.quantiles(spent, n=20)[-1]
        print(
            f"| {view} | {statistics.median(spent):.1f} ms | {late:.1f} ms | {max(spent):.1f} ms | {rate / 1000:.0f} kB/s |"
        )


if __name__ == "__main__":
    print_dashboard()
