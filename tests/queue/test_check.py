"""Whatever is wrong in a queue is found, named and has a cure; what is sound is left in peace."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from nbtasks import payload
from nbtasks.outcome import Outcome
from nbtasks.queue.check import Finding, check
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import OUTCOME
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue.open(str(tmp_path / ".nbtasks"))


def put(queue: Queue, after: tuple[str, ...] = ()) -> Spec:
    spec = Spec(id=queue.new_id(), name="train", env="env", after=after)
    big = bytearray(os.urandom(2 << 20))  # large enough for a blob
    queue.put(spec, [payload.dump("function", len), payload.dump("arguments", ((memoryview_of(big),), {}))])
    return spec


def memoryview_of(data: bytearray) -> object:
    import numpy as np

    return np.frombuffer(data, dtype=np.uint8)


def end(queue: Queue, spec: Spec, status: Status = Status.SUCCEEDED) -> Ticket:
    ticket = Claimer(queue, "s-test", ["default@env@f"]).try_claim()
    assert ticket is not None
    outcome = Outcome(id=spec.id, delivery=ticket.delivery, status=status)
    assert queue.finish(spec, ticket, "s-test", outcome, [payload.dump("value", list(range(1000)))])
    return ticket


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def test_a_queue_with_tasks_of_all_kinds_is_sound(queue: Queue) -> None:
    end(queue, put(queue))
    failed = put(queue)
    end(queue, failed, Status.FAILED)
    cancelled = put(queue)
    queue.cancel(cancelled.id)
    parent = put(queue)
    put(queue, after=(parent.id,))
    assert check(queue, full=True) == []


def test_a_ticket_in_two_places(queue: Queue) -> None:
    spec = put(queue)
    ticket = end(queue, spec)
    shutil.copy(ended(queue, ticket, "succeeded"), ended(queue, ticket, "failed"))
    kinds = {finding.kind for finding in check(queue)}
    assert "two tickets" in kinds


def ended(queue: Queue, ticket: Ticket, status: str) -> str:
    return f"{queue.layout.ended_folder(ticket.id)}/{ticket}.{status}"


def test_a_ticket_without_a_call(queue: Queue) -> None:
    spec = put(queue)
    os.remove(queue.layout.call(spec.id))
    assert only(check(queue)).kind == "no call"


def test_a_submit_that_never_got_to_its_end(queue: Queue) -> None:
    spec = put(queue)
    folder = queue.layout.queued_folder("default@env@f", spec.priority, spec.id)
    os.remove(f"{folder}/{Ticket(spec.id)}")
    assert check(queue) == [], "it may be on its way"
    old = time.time() - 3600
    os.utime(queue.layout.call(spec.id), (old, old))
    found = only(check(queue))
    assert found.kind == "no ticket"
    assert found.cure == f"rm {queue.layout.call(spec.id)}"


def test_a_call_with_a_changed_byte(queue: Queue) -> None:
    spec = put(queue)
    path = Path(queue.layout.call(spec.id))
    data = bytearray(path.read_bytes())
    data[data.index(b"train")] ^= 1
    path.write_bytes(data)
    found = only(check(queue))
    assert found.kind == "call"
    assert str(path) in found.sentence


def test_an_outcome_that_is_missing(queue: Queue) -> None:
    spec = put(queue)
    ticket = end(queue, spec)
    os.remove(queue.layout.file(spec.id, ticket.delivery, OUTCOME))
    found = only(check(queue))
    assert found.kind == "outcome"
    assert "missing" in found.sentence


def test_an_outcome_cut_short(queue: Queue) -> None:
    spec = put(queue)
    ticket = end(queue, spec)
    path = queue.layout.file(spec.id, ticket.delivery, OUTCOME)
    os.truncate(path, os.path.getsize(path) - 100)
    assert only(check(queue)).kind == "outcome"


def test_an_outcome_that_says_something_else_than_its_ticket(queue: Queue) -> None:
    spec = put(queue)
    ticket = end(queue, spec)
    os.rename(ended(queue, ticket, "succeeded"), ended(queue, ticket, "failed"))
    assert only(check(queue)).sentence.endswith("its outcome says succeeded")


def test_a_stranger_among_the_tickets(queue: Queue) -> None:
    spec = put(queue)
    stranger = Path(queue.layout.queued_folder("default@env@f", spec.priority, spec.id)) / "notes.txt"
    stranger.write_text("?")
    found = only(check(queue))
    assert found.kind == "unknown name"
    assert stranger.exists()


def test_a_changed_blob_is_found_by_a_full_check(queue: Queue) -> None:
    put(queue)
    (blob,) = [path for path in Path(queue.layout.blobs).rglob("*") if path.is_file()]
    blob.chmod(0o600)
    data = bytearray(blob.read_bytes())
    data[1000] ^= 1
    blob.write_bytes(data)
    assert check(queue) == []
    assert "blob" in {finding.kind for finding in check(queue, full=True)}


def test_what_was_set_aside_is_told(queue: Queue) -> None:
    (Path(queue.layout.damaged) / "something").write_text("?")
    assert only(check(queue)).kind == "damaged"
