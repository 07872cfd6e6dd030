"""Why a task stands where it stands: who waits in which place, and for whom or what."""

from __future__ import annotations

import os

import pytest

from nbtasks import config
from nbtasks.outcome import Failure
from nbtasks.processes import identify
from nbtasks.queue import members, reasons
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.status import Status
from tests.queue.tools import ENV, claim, finish, live_slot, put


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    reasons._known.clear()


def test_a_queued_task_says_who_is_missing(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = put(queue)
    assert (
        queue.record(spec.id).reason
        == f"next in line; no worker for its environment {ENV}: start one there with nbtasks worker"
    )
    monkeypatch.setenv("NBTASKS_ENV", ENV)
    config.reset()
    assert queue.record(spec.id).reason == "next in line; no worker: starting one"
    config.configure(autostart=False)
    assert queue.record(spec.id).reason == "next in line; no worker: start one with nbtasks worker"
    other = put(queue, lane="gpu")
    assert queue.record(other.id).reason == "next in line; no worker: start one with nbtasks worker -l gpu"
    members.register(queue, Member(name="w-1", process=identify(), started=0.0, lanes=("default",), env=ENV))
    reasons._known.clear()
    assert queue.record(spec.id).reason == "next in line"
    assert "no worker" in queue.record(other.id).reason, "that one serves another lane"
    open(queue.layout.paused, "w").close()
    assert queue.record(spec.id).reason == "next in line; the queue is paused: nbtasks resume lets it go on"


def test_places_are_ordinals(queue: Queue) -> None:
    specs = [put(queue) for _ in range(23)]
    said = [queue.record(spec.id).reason.partition(";")[0] for spec in specs]
    assert [said[at] for at in (0, 1, 2, 3, 10, 11, 12, 20, 21, 22)] == [
        f"{place} in line" for place in ("next", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd")
    ]


def test_many_cards_list_the_line_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "_RARELY", 1e6)
    specs = [put(queue) for _ in range(3)]
    first = [queue.record(spec.id).reason for spec in specs]
    claim(queue)
    assert [queue.record(spec.id).reason for spec in specs[1:]] == first[1:], "as it was a moment ago"
    late = put(queue)
    assert queue.record(late.id).reason.startswith("3rd in line"), "one that was not there then is looked for"


def test_a_slot_that_waits_for_room_says_so(queue: Queue) -> None:
    spec = put(queue, retries=1)
    ticket = claim(queue, slot="s-1")
    live_slot(queue, "s-1")
    assert queue.record(spec.id).reason == "attempt 1 of 2"
    members.note_full(queue, "s-1", 4_200_000_000)
    reason = queue.record(spec.id).reason
    assert reason.startswith("attempt 1 of 2, the disk is full: needs 4.2 GB, ")
    assert reason.endswith("free; it tries again until there is room")
    with open(queue.layout.full("s-1"), "w"):
        pass  # there was no room for the number
    assert ": needs" not in queue.record(spec.id).reason
    os.remove(queue.layout.full("s-1"))
    assert queue.record(spec.id).reason == "attempt 1 of 2"
    assert ticket.id == spec.id


def test_earlier_attempts_are_told_with_what_they_printed(queue: Queue) -> None:
    spec = put(queue, retries=2, retry_delay=0.0)
    for number in (1, 2):
        ticket = claim(queue)
        with open(queue.layout.file(spec.id, ticket.delivery, "log"), "w") as log:
            log.write(f"try {number}\n")
        failure = Failure(type="ValueError", message=f"no {number}")
        finish(queue, spec, ticket, Status.FAILED, failure=failure)
    record = queue.record(spec.id)
    assert [(one.attempt, one.failure and one.failure.message) for one in record.earlier] == [(1, "no 1"), (2, "no 2")]
    assert [record.log_of(number) for number in (1, 2, 3, 4)] == ["try 1\n", "try 2\n", "try 2\n", ""]
