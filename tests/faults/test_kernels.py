"""kill -9 of real notebook kernels while they submit, at named steps and at random moments; then a clean worker runs."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from nbtasks.queue import lookup, records
from nbtasks.queue.directory import Queue
from tests.faults.roles import acknowledged, assert_sound, settle, worker
from tests.worker.tools import lines, until

# What a notebook does all day, as fast as it can; whatever was acknowledged or ran is noted outside the queue.
NOTEBOOK = """
import os, time, nbtasks
from tests.faults import calls
from tests.worker.calls import note
get_ipython().run_line_magic("load_ext", "nbtasks")
note(READY, os.getpid())
while True:
    get_ipython().run_cell_magic("background", "--as held", f"from tests.faults import calls\\nvalue = calls.work({RAN!r}, 0.05)")
    note(ACKS, held.id)
    first = nbtasks.submit(calls.work, RAN, 0.02)
    note(ACKS, first.id)
    second = nbtasks.submit(calls.work, RAN, 0.0, first)
    note(ACKS, second.id)
    time.sleep(0.03)
"""
# In `NBTASKS_FAULT`'s form: the steps of submitting a cell, a function and a function that waits for another.
STEPS = """
    create:half:*.call create:after:*.call create:before:*/queued/* create:after:*/queued/*
    create:after:*/edges/* create:before:*/waiting/parents/* create:after:*/waiting/parents/*
    create:after:*/blobs/* move:before:*/blobs/* move:after:*/blobs/*
""".split()


class Notebooks:
    """Kernels on one queue, one after the other, each killed."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.folder = queue, os.path.dirname(queue.root)
        self.acks, self.ran, self.ready = (f"{self.folder}/{name}" for name in ("acknowledged", "ran", "ready"))

    def kernel(self, **faults: str) -> KernelManager:
        """A kernel that has begun."""
        manager = KernelManager(kernel_name="python3")
        env = (
            os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "IPYTHONDIR": f"{self.folder}/ipython"} | faults
        )
        manager.start_kernel(cwd=self.folder, env=env)
        client = manager.blocking_client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        values = {"READY": self.ready, "ACKS": self.acks, "RAN": self.ran}
        client.execute("\n".join([*(f"{name} = {value!r}" for name, value in values.items()), NOTEBOOK]))
        client.stop_channels()
        return manager

    def bury(self, manager: KernelManager) -> None:
        """Give back what the manager of a dead kernel holds."""
        manager.shutdown_kernel(now=True)

    def settle(self) -> Counter[str]:
        """Let a clean worker run, and look."""
        settle(self.queue, f"{self.folder}/clean.log", ["default"], 300)
        specs = [records.read_spec(self.queue, place.ticket.id) for place in lookup.ended_tickets(self.queue)]
        once = {spec.id for spec in specs if spec.at_most_once}
        counts = assert_sound(self.queue, acknowledged(self.acks), once, lines(self.ran))
        assert set(counts) <= {"succeeded"}, counts
        return counts


@pytest.mark.torture
def test_kernels_killed_at_random_moments(queue: Queue) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"seed {seed} (SEED={seed} repeats the choices)")
    chance, notebooks = random.Random(seed), Notebooks(queue)
    for _ in range(50):
        before = len(acknowledged(notebooks.acks))
        manager = notebooks.kernel()
        until(lambda: len(acknowledged(notebooks.acks)) > before, 60, "the first task of this kernel")  # noqa: B023
        time.sleep(chance.uniform(0, 0.2))  # the random moment
        os.kill(manager.provisioner.pid, signal.SIGKILL)
        notebooks.bury(manager)
    counts = notebooks.settle()
    print(
        f"50 kernels killed, tasks {counts.total()} ({len(acknowledged(notebooks.acks))} acknowledged), {dict(counts)}"
    )


@pytest.mark.torture
@pytest.mark.parametrize("step", STEPS)
def test_a_kernel_is_killed_at_a_step(queue: Queue, step: str) -> None:
    notebooks = Notebooks(queue)
    struck = f"{notebooks.folder}/struck"
    other = worker(queue, f"{notebooks.folder}/worker.log")  # or the kernel would start one that has its fault
    try:
        manager = notebooks.kernel(NBTASKS_FAULT=f"{step}:2", NBTASKS_FAULT_ONCE=struck)
        until(lambda: not manager.is_alive(), 60, f"{step} is reached")
    finally:
        other.kill()
    notebooks.bury(manager)
    assert os.path.exists(struck)
    notebooks.settle()
