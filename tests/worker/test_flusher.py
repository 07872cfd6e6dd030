"""The helper that flushes the disk: it marks how far it got, and lives exactly as long as its worker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import nbtasks
from nbtasks import processes
from nbtasks.process_table import has_mark
from nbtasks.queue.directory import Queue
from tests.worker import calls
from tests.worker.tools import Worker, is_gone, kill, until

Start = Callable[..., Worker]


def flushed(queue: Queue) -> float:
    """Until when everything is on the disk."""
    try:
        moment, boot = queue.disk.read(queue.layout.flushed).decode().split()
    except FileNotFoundError:
        return 0.0
    assert boot == queue.boot
    return float(moment)


def flusher_of(worker: Worker) -> int:
    mark = f"f{worker.member.name}"
    return next((one.pid for one in processes.tree(worker.pid) if has_mark(one.pid, mark)), 0)


def test_what_was_written_is_flushed_soon(queue: Queue, start: Start) -> None:
    start("-w", "1").ready()
    until(lambda: flushed(queue))
    task = nbtasks.submit(calls.pid)
    task.result(30)
    ended = time.time()
    until(lambda: flushed(queue) >= ended)
    print(f"what had ended was flushed {time.time() - ended:.1f} s later")


def test_a_submit_flushes_by_itself_only_while_no_worker_does(queue: Queue, start: Start) -> None:
    assert queue.nobody_flushes()
    start("-w", "1").ready()
    assert until(lambda: not queue.nobody_flushes())


def test_it_is_started_again_when_it_died(queue: Queue, start: Start) -> None:
    worker = start("-w", "1").ready()
    first = until(lambda: flusher_of(worker))
    until(lambda: flushed(queue))
    kill(first)
    queue._flusher_seen = float("-inf")
    assert queue.nobody_flushes()
    until(lambda: queue.ring_workers("look") and not queue.nobody_flushes())
    assert until(lambda: flusher_of(worker)) != first


def test_it_ends_with_its_worker(queue: Queue, start: Start) -> None:
    for end in (signal.SIGTERM, signal.SIGKILL):
        worker = start("-w", "1").ready()
        pid = until(lambda: flusher_of(worker))  # noqa: B023
        os.kill(worker.pid, end)
        assert until(lambda: is_gone(pid))  # noqa: B023
        assert until(queue.nobody_flushes)
