"""A record tells what the files of a task say, and goes on telling when some of them are broken."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from nbtasks import payload
from nbtasks.errors import FrameDamaged, FrameForged, FrameNewer, PayloadError, TaskNotFound
from nbtasks.frames import Frame, write_frame
from nbtasks.outcome import Failure
from nbtasks.queue import records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import EVENTS, LOG, OUTCOME, PROGRESS
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import ADD, ENV, LINE, claim, end, finish, outcome, put


def write(queue: Queue, ticket: Ticket, kind: str, data: bytes) -> None:
    Path(queue.layout.file(ticket.id, ticket.delivery, kind)).write_bytes(data)


def test_what_a_record_tells(queue: Queue) -> None:
    before = time.time()
    spec = put(queue, "train_model", retries=2, summary="train(1)")
    record = queue.record(spec.id)
    assert record.spec == spec
    assert (record.id, record.short, record.name) == (spec.id, spec.id[-4:], "train_model")
    assert (record.status, record.attempt, record.slot, record.outcome) == (Status.QUEUED, 1, None, None)
    assert before - 1 <= record.submitted <= time.time()
    assert (record.started, record.ended) == (None, None)

    ticket = claim(queue, "s-7")
    record = queue.record(spec.id)
    assert (record.status, record.slot, record.reason) == (Status.RUNNING, "s-7", "attempt 1 of 3")
    assert record.started == pytest.approx(time.time(), abs=5)
    assert record.ended is None

    assert finish(queue, spec, ticket, slot="s-7", preview="3", has_value=True, reason="cached")
    record = queue.record(spec.id)
    assert (record.status, record.slot, record.reason) == (Status.SUCCEEDED, None, "cached")
    assert record.outcome is not None
    assert record.outcome.preview == "3"
    assert (record.started, record.ended) == (record.outcome.started, record.outcome.ended)


def test_the_value_of_an_outcome(queue: Queue) -> None:
    spec = put(queue)
    ticket = end(queue, spec)
    assert payload.load(records.read_outcome_frame(queue, ticket).parts["value"]) == 3


def test_reasons_of_those_that_wait(queue: Queue) -> None:
    parent = put(queue, "clean")
    child = put(queue, "train", after=(parent.id,))
    others = [put(queue, "other") for _ in range(3)]
    assert queue.record(parent.id).reason.startswith("next in line")
    assert queue.record(others[0].id).reason.startswith("2nd in line")
    assert queue.record(others[2].id).reason.startswith("4th in line")
    assert queue.record(child.id).reason == f"for clean {parent.short} (queued)"
    ticket = claim(queue)
    assert queue.record(child.id).reason == f"for clean {parent.short} (running)"
    finish(queue, parent, ticket)
    assert queue.record(child.id).reason.startswith("next in line"), "it is older than the others"
    queue.cancel(child.id)
    assert queue.record(child.id).reason == "before it started"


def test_the_reason_of_a_retry_that_is_not_due(queue: Queue) -> None:
    spec = put(queue, retries=2, retry_delay=100.0)
    finish(queue, spec, claim(queue), Status.FAILED)
    record = queue.record(spec.id)
    assert record.status is Status.WAITING
    assert record.reason in ("attempt 2 of 3 in 100 s", "attempt 2 of 3 in 99 s")


def test_the_reason_when_a_parent_is_gone(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    os.remove(queue.layout.call(parent.id))
    assert queue.record(child.id).reason == f"for {parent.id} (not there)"


def test_a_failure_is_told_in_text(queue: Queue) -> None:
    spec = put(queue)
    failure = Failure(type="ValueError", message="no", traceback="Traceback …", where="cell [3], line 1")
    finish(queue, spec, claim(queue), Status.FAILED, failure=failure)
    found = queue.record(spec.id).outcome
    assert found is not None
    assert found.failure == failure


def test_logs(queue: Queue) -> None:
    spec = put(queue, retries=1)
    assert queue.record(spec.id).log_path is None
    assert queue.record(spec.id).read_log() == b""
    assert queue.record(spec.id).log_tail() == ""
    ticket = claim(queue)
    text = "".join(f"line {number}\n" for number in range(1000))
    write(queue, ticket, LOG, text.encode())
    record = queue.record(spec.id)
    assert record.read_log() == text.encode()
    assert record.log_tail(lines=2) == "line 998\nline 999\n"
    assert len(record.log_tail(lines=10_000, size=500)) <= 500
    assert record.log_tail(lines=10_000, size=500).endswith("line 999\n")
    finish(queue, spec, ticket, Status.FAILED)
    assert queue.record(spec.id).read_log() == text.encode(), "while it waits for the next attempt"
    again = claim(queue)
    write(queue, again, LOG, b"second\n")
    assert queue.record(spec.id).read_log() == b"second\n"


def test_half_an_event_spoils_none(queue: Queue) -> None:
    spec = put(queue)
    whole = {"at": 0, "kind": "display", "data": {"text/plain": "a"}}
    line = json.dumps(whole).encode()
    write(queue, claim(queue), EVENTS, line + b"\n" + line[:20] + b"\n\0\0\0\n[1]\n" + line + b"\n" + line[:30])
    assert queue.record(spec.id).events() == [whole, whole]


def test_progress(queue: Queue) -> None:
    spec = put(queue)
    assert queue.record(spec.id).progress() is None
    ticket = claim(queue)
    for data, expected in ((b'{"bars":[]}', {"bars": []}), (b'{"bars"', None), (b"", None), (b"[1]", None)):
        write(queue, ticket, PROGRESS, data)
        assert queue.record(spec.id).progress() == expected
    finish(queue, spec, ticket, progress={"bars": [1]})
    assert queue.record(spec.id).progress() == {"bars": [1]}, "it outlives its file"


# Broken files.


def cut_short(queue: Queue, spec: Spec) -> None:
    os.truncate(queue.layout.call(spec.id), 40)


def forge(queue: Queue, spec: Spec) -> None:
    path = Path(queue.layout.call(spec.id))
    path.write_bytes(path.read_bytes().replace(b'"name":"train"', b'"name":"drain"'))


def make_newer(queue: Queue, spec: Spec) -> None:
    path = Path(queue.layout.call(spec.id))
    path.write_bytes(path.read_bytes().replace(b'{"nbtasks":1', b'{"nbtasks":2'))


def copy_another(queue: Queue, spec: Spec) -> None:
    other = Spec(id=queue.new_id(), name="evil", env=ENV)
    write_frame(
        queue.disk, queue.layout.call(other.id), Frame("call", queue.uuid, other.id, 0, msgspec.json.encode(other)),
        queue.key, queue.blobs,
    )  # fmt: skip
    os.replace(queue.layout.call(other.id), queue.layout.call(spec.id))


def make_pipe(queue: Queue, spec: Spec) -> None:
    os.remove(queue.layout.call(spec.id))
    os.mkfifo(queue.layout.call(spec.id))


def make_strange(queue: Queue, spec: Spec) -> None:
    """A rightly signed spec that this version cannot read."""
    body = msgspec.json.encode(spec).replace(b'"name":"train"', b'"name":{"of":"train"}')
    os.remove(queue.layout.call(spec.id))
    parts = {part.name: part for part in ADD}
    frame = Frame("call", queue.uuid, spec.id, 0, body, parts)
    write_frame(queue.disk, queue.layout.call(spec.id), frame, queue.key, queue.blobs)


BREAK = [
    (cut_short, FrameDamaged, "cut short"), (forge, FrameForged, "not signed with your key"),
    (make_newer, FrameNewer, "pip install -U"), (copy_another, FrameForged, "not what its name says"),
    (make_pipe, FrameDamaged, "not a regular file"), (make_strange, PayloadError, "another version"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "error", "words"), BREAK)
def test_a_broken_call(queue: Queue, spoil: object, error: type[PayloadError], words: str) -> None:
    before, spec, after = put(queue), put(queue, lane="gpu", priority=7), put(queue)
    spoil(queue, spec)  # type: ignore[operator]
    with pytest.raises(error, match=words):
        records.read_spec(queue, spec.id)
    record = queue.record(spec.id)
    assert (record.status, record.name) == (Status.QUEUED, "(damaged)")
    assert words in record.spec.summary
    assert [found.id for found in queue.records()] == [after.id, spec.id, before.id], "the others are listed as ever"
    assert record.reason == ""
    assert queue.cancel(spec.id)
    assert queue.record(spec.id).status is Status.CANCELLED


def test_a_ticket_whose_call_is_gone_is_not_listed(queue: Queue) -> None:
    spec = put(queue)
    other = put(queue)
    os.remove(queue.layout.call(spec.id))
    assert [found.id for found in queue.records()] == [other.id]
    with pytest.raises(TaskNotFound):
        queue.record(spec.id)
    with pytest.raises(TaskNotFound):
        queue.cancel(spec.id)
    assert not os.path.exists(queue.layout.cancel_file(spec.id))


def test_a_broken_outcome_is_none(queue: Queue) -> None:
    spec = put(queue)
    ticket = end(queue, spec)
    path = queue.layout.file(spec.id, ticket.delivery, OUTCOME)
    size = os.path.getsize(path)
    os.truncate(path, size - 1)
    assert records.find_outcome(queue, ticket) is not None, "its header is whole"
    assert records.find_whole_outcome(queue, ticket) is None
    with pytest.raises(FrameDamaged):
        records.read_outcome_frame(queue, ticket)
    os.truncate(path, 10)
    assert records.find_outcome(queue, ticket) is None
    assert queue.record(spec.id).status is Status.SUCCEEDED, "the ticket says so"
    os.remove(path)
    assert records.find_outcome(queue, ticket) is None
    assert records.find_whole_outcome(queue, ticket) is None


def test_an_outcome_of_another_delivery_is_none(queue: Queue) -> None:
    spec = put(queue)
    ticket = end(queue, spec)
    later = ticket.put_back()
    os.rename(queue.layout.file(spec.id, 1, OUTCOME), queue.layout.file(spec.id, 2, OUTCOME))
    assert records.find_outcome(queue, later) is None


# Lists.


def test_records_newest_first_and_filtered(queue: Queue) -> None:
    old, gpu, named, new = put(queue), put(queue, lane="gpu"), put(queue, "other"), put(queue)
    end(queue, old)
    queue.cancel(named.id)

    def ids(**filters: object) -> list[str]:
        return [record.id for record in queue.records(**filters)]  # type: ignore[arg-type]

    assert ids() == [new.id, gpu.id, named.id, old.id], "live ones first"
    assert ids(status=Status.QUEUED) == [new.id, gpu.id]
    assert ids(status=Status.SUCCEEDED) == [old.id]
    assert ids(lane="gpu") == [gpu.id]
    assert ids(name="other") == [named.id]
    assert ids(limit=2) == [new.id, gpu.id]
    assert ids(limit=0) == []
    assert ids(status=Status.RUNNING) == []


def test_a_task_that_moves_while_the_list_is_read_is_in_it_once(queue: Queue) -> None:
    specs = [put(queue) for _ in range(4)]
    listing = queue.records()
    first = next(listing)
    assert first.id == specs[3].id
    for spec in specs:
        end(queue, spec)
    rest = list(listing)
    assert [record.id for record in rest] == [spec.id for spec in specs[2::-1]]
    assert {record.status for record in rest} == {Status.SUCCEEDED}


def test_a_list_of_what_is_queued_holds_nothing_that_has_gone_on(queue: Queue) -> None:
    specs = [put(queue) for _ in range(3)]
    listing = queue.records(status=Status.QUEUED)
    next(listing)
    end(queue, specs[0])
    assert [record.id for record in listing] == [specs[1].id]


def test_the_line_is_the_tasks_own(queue: Queue) -> None:
    put(queue, priority=9)
    spec = put(queue)
    assert queue.record(spec.id).reason.startswith("2nd in line")
    assert queue.record(put(queue, lane="gpu").id).reason.startswith("next in line")
    assert f"default@{ENV}@f" == LINE


def test_outcomes_of_the_future_are_read_as_far_as_they_are_known(queue: Queue) -> None:
    spec = put(queue)
    ticket = claim(queue)
    body = msgspec.json.encode(outcome(ticket))[:-1] + b',"added":[1,2]}'
    frame = Frame("outcome", queue.uuid, spec.id, 1, body)
    write_frame(queue.disk, queue.layout.file(spec.id, 1, OUTCOME), frame, queue.key, queue.blobs)
    assert records.find_whole_outcome(queue, ticket) == records.find_outcome(queue, ticket) is not None
