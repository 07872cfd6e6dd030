"""kill -9 at every named step of submit, claim, finish, retry, cancel, release and recover; then a clean worker runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import nbtasks
from nbtasks import Status
from nbtasks.queue.directory import Queue
from tests.faults import calls
from tests.faults.roles import Role, acknowledged, assert_sound, settle, worker
from tests.worker.calls import note
from tests.worker.tools import lines, until

# OPERATION:WHEN:GLOB of NBTASKS_FAULT.
SUBMITTER = """
    create:half:*.call create:after:*.call
    create:before:*/queued/* create:after:*/queued/*
    create:after:*/edges/* create:before:*/waiting/parents/* create:after:*/waiting/parents/*
    create:after:*/blobs/* move:before:*/blobs/* move:after:*/blobs/*
    create:after:*/cancel/* move:before:*.cancelled move:after:*.cancelled
    remove:after:*/cancel/* move:before:*/queued/* move:after:*/queued/*
""".split()
SLOT = """
    replace:before:*/slots/*/identity replace:after:*/slots/*/identity
    move:before:*/running/s-* move:after:*/running/s-*
    create:before:*.started create:after:*.started
    create:before:*.1.outcome create:half:*.1.outcome create:after:*.1.outcome
    move:before:*.succeeded move:after:*.succeeded move:before:*.failed move:after:*.failed
    move:before:*/waiting/until/* move:after:*/waiting/until/*
    move:before:*/queued/* move:after:*/queued/*
    move:before:*/running/s-*.2.0.0 move:after:*/running/s-*.2.0.0
""".split()
SUPERVISOR = """
    replace:after:*/workers/*/identity
    move:before:*/running/w-* move:after:*/running/w-*
    create:before:*.2.outcome create:half:*.2.outcome create:after:*.2.outcome
    move:before:*.2.*.failed move:after:*.2.*.failed
    move:before:*/queued/* move:after:*/queued/*
    replace:before:*/slots/*/stop replace:after:*/slots/*/stop
    remove:before:*/slots/*/identity remove:after:*/slots/*/identity remove_folder:after:*/running/s-*
    move:before:*.cancelled
""".split()


class Scene:
    """A queue with a little of everything, told by its files outside: who was acknowledged, who ran."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        folder = os.path.dirname(queue.root)
        self.acks, self.once, self.ran = f"{folder}/acknowledged", f"{folder}/at-most-once", f"{folder}/ran"
        self.struck, self.logs = f"{folder}/struck", folder

    def submit(self) -> None:
        """Submit, retry and cancel; what was acknowledged is noted at once."""
        submit, using, ran = self._submit, nbtasks.using, self.ran
        plain = submit(using(), calls.work, ran)
        submit(using(), calls.work, ran, 0.0, plain, bytearray(2 << 20))
        submit(using(at_most_once=True), calls.work, ran, 0.05)
        submit(using(retries=1), calls.fail_at_first, ran)
        submit(using(retries=1, retry_delay=0.05), calls.fail_at_first, ran)
        submit(using(retries=1), calls.die, ran)
        submit(using(at_most_once=True), calls.die, ran)
        parent = submit(using(), calls.fail, ran)
        submit(using(after=parent), calls.work, ran)
        submit(using(timeout=0.1, grace=0.05), calls.stay, ran)
        queued = submit(using(lane="closed"), calls.work, ran)
        queued.cancel()
        running = submit(using(grace=0.05, priority=9), calls.stay, ran)
        until(lambda: running.id in lines(ran) or running.done())
        running.cancel()
        queued = queued.retry()
        queued.cancel()
        until(parent.done)
        if parent.status is Status.FAILED:
            parent.retry()

    def _submit(self, using: nbtasks.api.Using, *call: object) -> nbtasks.Task[object]:
        task = using.submit(*call)  # type: ignore[arg-type]
        if using._options.get("at_most_once"):
            note(self.once, task.id)
        note(self.acks, task.id)
        return task

    def faults(self, step: str) -> dict[str, str]:
        """The environment of who is to be killed at that step; one of them is."""
        return {"NBTASKS_FAULT": f"{step}:1", "NBTASKS_FAULT_ONCE": self.struck}

    def settle(self) -> None:
        """Let a clean worker run, and look."""
        settle(self.queue, f"{self.logs}/clean.log", ["default", "closed"])
        assert os.path.exists(self.struck), "this step was never reached"
        counts = assert_sound(self.queue, acknowledged(self.acks), set(lines(self.once)), lines(self.ran))
        assert sum(counts.values()) >= len(lines(self.acks))


@pytest.fixture
def scene(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    nbtasks.config.reset()
    return Scene(queue)


@pytest.mark.parametrize("step", SUBMITTER)
def test_the_submitter_is_killed(scene: Scene, step: str) -> None:
    other = worker(scene.queue, f"{scene.logs}/worker.log")
    submitter = Role(scene.submit, f"{scene.logs}/submitter.log", scene.faults(step))
    try:
        assert submitter.end() == -9, submitter.said()
    finally:
        other.kill()
    scene.settle()


@pytest.mark.parametrize("step", SLOT)
def test_a_slot_is_killed(scene: Scene, step: str) -> None:
    run(scene, step)


@pytest.mark.parametrize("step", SUPERVISOR)
def test_the_supervisor_is_killed(scene: Scene, step: str) -> None:
    run(scene, step)


def run(scene: Scene, step: str) -> None:
    armed = worker(scene.queue, f"{scene.logs}/worker.log", environ=scene.faults(step))
    submitter = Role(scene.submit, f"{scene.logs}/submitter.log")
    until(lambda: os.path.exists(scene.struck), 20, f"{step} is reached: {armed.said()}")
    clean = worker(scene.queue, f"{scene.logs}/second.log")
    try:
        assert submitter.end() == 0, submitter.said()
    finally:
        armed.kill()
        clean.kill()
    scene.settle()


def test_without_a_fault_all_is_as_it_should_be(scene: Scene) -> None:
    """The scene itself: else the others would prove little."""
    other = worker(scene.queue, f"{scene.logs}/worker.log")
    submitter = Role(scene.submit, f"{scene.logs}/submitter.log")
    assert submitter.end() == 0, submitter.said()
    Path(scene.struck).touch()
    other.kill()
    scene.settle()
    statuses = [str(scene.queue.record(id).status) for id in acknowledged(scene.acks)]
    assert statuses == ["succeeded"] * 5 + ["failed"] * 5 + ["cancelled"] * 2
