"""One delivery: calls that cannot be trusted, the mark before what must not run twice, results that find no room."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import nbtasks
from nbtasks import Status, config, frames, keys, payload
from nbtasks.errors import FrameDamaged, TaskLost
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import STARTED
from nbtasks.spec import Spec
from tests.engines import calls
from tests.worker.calls import nap, pid, wait_for
from tests.worker.tools import Worker, is_gone, lines, submit_cell, until

Start = Callable[..., Worker]


def rewrite(path: str, old: bytes, new: bytes) -> None:
    data = Path(path).read_bytes()
    assert old in data
    Path(path).write_bytes(data.replace(old, new))


def test_a_call_that_cannot_be_trusted_ends_failed_and_the_worker_goes_on(
    queue: Queue, start: Start, tmp_path: Path
) -> None:  # fmt: skip
    tasks = {what: nbtasks.submit(pid) for what in ("cut", "altered", "newer", "empty", "another's", "a link")}
    path = {what: queue.layout.call(task.id) for what, task in tasks.items()}
    os.truncate(path["cut"], 300)
    rewrite(path["altered"], b'"name":"pid"', b'"name":"pad"')
    rewrite(path["newer"], b'"nbtasks":1', b'"nbtasks":9')
    os.truncate(path["empty"], 0)
    Path(path["another's"]).write_bytes(Path(queue.layout.call(nbtasks.submit(pid).id)).read_bytes())
    os.unlink(path["a link"])
    os.symlink("/etc/passwd", path["a link"])
    evil = forge(queue, tmp_path / "evil")
    good = nbtasks.submit(pid)
    worker = start("-w", "1")
    assert good.result(30) > 0
    for what, task in tasks.items():
        record = queue.record(task.id)
        assert record.status is Status.FAILED
        assert record.outcome is not None
        assert (record.outcome.kind, bool(record.reason)) == ("damaged", True), what
        assert path[what] in record.reason or task.id in record.reason, record.reason
    assert queue.record(evil).status is Status.FAILED
    assert not (tmp_path / "evil").exists(), "nothing of it was unpickled"
    assert "has format 9" in queue.record(tasks["newer"].id).reason
    assert len(worker.slots()) == 1
    assert worker.log.count("died") == 0


def forge(queue: Queue, path: Path) -> str:
    """A call that runs code when it is unpickled, signed with another key."""
    spec = Spec(id=queue.new_id(), name="evil", env=config.env_tag())
    parts = [payload.dump("function", calls.Evil(str(path))), payload.dump("arguments", ((), {}))]
    frame = frames.Frame("call", queue.uuid, spec.id, 0, msgspec.json.encode(spec), {part.name: part for part in parts})
    frames.write_frame(queue.disk, queue.layout.call(spec.id), frame, b"x" * 32, queue.blobs)
    assert keys.load_key() != b"x" * 32
    folder = queue.layout.queued_folder(f"default@{spec.env}@f", spec.priority, spec.id)
    queue.disk.create(f"{folder}/{spec.id}.1.0.0", [])
    return spec.id


def test_a_context_that_is_gone_fails_its_task_only(queue: Queue, start: Start) -> None:
    task = nbtasks.submit(pid)
    os.unlink(queue.blobs.path(task.spec.context))
    start("-w", "1")
    with pytest.raises(FrameDamaged, match="was removed or damaged"):
        task.result(30)


def test_the_mark_is_there_before_code_that_must_not_run_twice(
    queue: Queue, start: Start, gate: str, notes: str
) -> None:  # fmt: skip
    start("-w", "3")
    once = nbtasks.using(at_most_once=True).submit(wait_for, gate)
    cell = submit_cell(queue, "from tests.worker.calls import wait_for\nwait_for(gate)", inputs={"gate": gate})
    often = nbtasks.submit(wait_for, gate)
    until(lambda: all(task.status is Status.RUNNING for task in (once, cell, often)))
    marks = [queue.layout.file(task.id, 1, STARTED) for task in (once, cell, often)]
    until(lambda: all(map(os.path.exists, marks[:2])))
    Path(gate).touch()
    assert all(task.result(60) for task in (once, cell, often))
    assert not os.path.exists(marks[2])


def test_results_wait_for_room_on_a_full_disk(queue: Queue, tmp_path: Path) -> None:
    root = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    command = [*root, sys.executable, "-m", "tests.engines.full_disk", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all as promised" in done.stdout
    assert re.search(r"the disk is full. What it made is kept in memory and needs 6.3 MB", done.stdout)


@pytest.mark.parametrize("step", ["create:error=ENOSPC:*.outcome:1", "create:error=EDQUOT:*.started:1"])
def test_a_disk_that_was_full_for_a_moment_costs_nothing(queue: Queue, start: Start, step: str) -> None:
    start("-w", "1", environ={"NBTASKS_FAULT": step})
    task = nbtasks.using(at_most_once=True).submit(pid)
    assert task.result(30) > 0


def test_a_result_is_kept_when_no_file_can_be_opened_any_more(queue: Queue, start: Start) -> None:
    start("-w", "1")
    assert nbtasks.submit(calls.leave_no_descriptor, 1000).result(30) == bytes(1000)


def test_a_slot_whose_claim_was_taken_commits_nothing(
    queue: Queue, start: Start, gate: str, notes: str
) -> None:  # fmt: skip
    worker = start("-w", "1")
    task = nbtasks.submit(nap, notes, 0.3)
    until(lambda: lines(notes))
    place = task.record.place
    mine = f"{queue.layout.running_folder('s-thief')}/{place.ticket.lost()}"
    assert queue.disk.move(place.path, mine)
    worker.wait_for("was given to another meanwhile")
    assert os.path.exists(mine)
    assert not task.done()
    slot = worker.slots()[0].process.pid
    assert nbtasks.submit(pid).result(30) == slot
    assert not is_gone(slot)


def test_a_mark_that_outlived_its_claim_ends_the_task(queue: Queue, start: Start) -> None:
    task = nbtasks.using(at_most_once=True).submit(pid)
    queue.disk.create(queue.layout.file(task.id, 1, STARTED), [])
    start("-w", "1")
    with pytest.raises(TaskLost, match="had started when the power failed"):
        task.result(30)
