"""Every task is found: by any unique part of its id, and wherever its ticket moves meanwhile."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from nbtasks.errors import OptionError, TaskNotFound
from nbtasks.queue import lookup
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import id_at
from nbtasks.queue.tickets import Ticket, until_name
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import ENV, LINE, Child, claim, end, finish, places, put, status

NOON = 1_795_176_000_000_000  # 2026-11-20 12:00 UTC in microseconds


def put_at(queue: Queue, seconds: float, suffix: str) -> str:
    return put(queue, id=id_at(NOON + int(seconds * 1e6), suffix)).id


# By a part of the id.


def test_any_unique_part_finds_it(queue: Queue) -> None:
    id = put_at(queue, 0, "k7q2")
    put_at(queue, 3600, "m3x9")
    for part in ("k7q2", "7q2", "20261120-120000-000000-k7q2", "120000-000000", "0-k7q2"):
        assert queue.find(part) == id


def test_several_matches_are_listed(queue: Queue) -> None:
    ids = [put_at(queue, second, f"{second}abc") for second in range(7)]
    with pytest.raises(TaskNotFound) as caught:
        queue.find("abc")
    assert set(caught.value.matches) == set(ids)
    assert str(caught.value).startswith("'abc' is part of 7 task ids: ")
    assert str(caught.value).endswith(" and 2 more; give more of it")


def test_two_characters_are_no_part_of_an_id(queue: Queue) -> None:
    put_at(queue, 0, "lqaf")
    with pytest.raises(TaskNotFound):
        queue.find("lq")


def test_a_whole_suffix_wins_over_a_part(queue: Queue) -> None:
    put_at(queue, 0, "ab12cd")
    id = put_at(queue, 1, "ab12")
    assert queue.find("ab12") == id


def test_two_with_one_suffix_are_told_apart_by_more_of_the_id(queue: Queue) -> None:
    first, second = put_at(queue, 0, "same"), put_at(queue, 60, "same")
    with pytest.raises(TaskNotFound) as caught:
        queue.find("same")
    assert set(caught.value.matches) == {first, second}
    assert queue.find("120100-000000-same") == second


def test_a_mistyped_id_gets_close_ones(queue: Queue) -> None:
    id = put_at(queue, 0, "k7q2")
    put_at(queue, 1, "zzzz")
    for part in ("k7p2", "20261120-120000-000000-k7p2"):
        with pytest.raises(TaskNotFound, match="close to it: k7q2") as caught:
            queue.find(part)
        assert caught.value.matches == (id,)


def test_nothing_like_it(queue: Queue) -> None:
    with pytest.raises(TaskNotFound, match=r"no task 'k7q2' in .*nbtasks status") as caught:
        queue.find("k7q2")
    assert caught.value.matches == ()


@pytest.mark.parametrize("part", ["", "../../etc", "*", "K7Q2", "k7q2\n", "x" * 41, "k7 q2"])
def test_what_can_be_no_part_of_an_id(queue: Queue, part: str) -> None:
    put(queue)
    with pytest.raises(TaskNotFound, match="is not a task id"):
        queue.find(part)


def test_newest_first(queue: Queue) -> None:
    ids = [put_at(queue, seconds, "aaaa") for seconds in (0, 0.5, 1, 59, 60, 86400, 90000)]
    assert list(lookup.all_ids(queue)) == ids[::-1]


def test_strangers_among_the_calls_are_no_tasks(queue: Queue) -> None:
    spec = put(queue)
    folder = queue.layout.task_folder(spec.id)
    for name in ("notes.call", ".20261120-120000-000000-k7q2.call", f"{spec.id}.call.orig", f"{spec.id}.1.log"):
        Path(folder, name).write_text("")
    Path(queue.layout.tasks, ".DS_Store").write_text("")
    assert list(lookup.all_ids(queue)) == [spec.id]


# Where it stands.


def test_where_a_task_stands_through_its_life(queue: Queue) -> None:
    parent = put(queue)
    spec = put(queue, after=(parent.id,), retries=3)
    assert status(queue, spec) is Status.WAITING
    end(queue, parent)
    assert status(queue, spec) is Status.QUEUED
    ticket = claim(queue, "s-7")
    place = lookup.locate(queue, spec)
    assert place is not None
    assert (place.status, place.slot) == (Status.RUNNING, "s-7")
    assert finish(queue, spec, ticket, Status.FAILED, "s-7")
    assert status(queue, spec) is Status.QUEUED
    again = claim(queue)
    assert again == ticket.failed()
    assert finish(queue, spec, again)
    assert status(queue, spec) is Status.SUCCEEDED


@pytest.mark.parametrize("ticket", [(1, 0, 0), (2, 1, 0), (17, 3, 2)])
@pytest.mark.parametrize("kind", list(Status))
def test_every_place_is_found_at_every_delivery(queue: Queue, kind: Status, ticket: tuple[int, int, int]) -> None:
    spec = put(queue, retries=5)
    layout, moved = queue.layout, Ticket(spec.id, *ticket)
    queued = f"{layout.queued_folder(LINE, 5, spec.id)}/"
    target = {
        Status.WAITING: f"{layout.until}/{until_name(time.time() + 9, moved)}",
        Status.QUEUED: f"{queued}{moved}",
        Status.RUNNING: f"{layout.running_folder('s-1')}/{moved}",
    }.get(kind, f"{layout.ended_folder(spec.id)}/{moved}.{kind}")
    if target != f"{queued}{Ticket(spec.id)}":
        assert queue.disk.move(f"{queued}{Ticket(spec.id)}", target)
    for place in (lookup.locate(queue, spec), lookup.locate_anywhere(queue, spec.id)):
        assert place is not None
        assert (place.status, place.ticket, place.path) == (kind, moved, target)


def test_an_id_that_begins_like_another_is_another(queue: Queue) -> None:
    """A suffix may have 4 to 13 characters, so one id may be the beginning of another of the same microsecond."""
    long = put(queue, id=id_at(NOON, "k7q2aaaaaaaaa"), retries=1)
    short = Spec(id=id_at(NOON, "k7q2"), name="other", env=ENV, retries=1, after=(long.id,))
    assert lookup.locate(queue, short) is None
    ticket = claim(queue)
    assert lookup.locate(queue, short) is None
    queue.put_back(long, ticket.failed(), f"{queue.layout.running_folder('s-1')}/{ticket}", 60)
    assert lookup.locate(queue, short) is None
    queue.cancel(long.id)
    assert lookup.locate(queue, short) is None
    assert lookup.locate_anywhere(queue, short.id) is None


def test_a_call_without_a_ticket_is_no_task(queue: Queue) -> None:
    spec = put(queue)
    os.remove(f"{queue.layout.queued_folder(LINE, 5, spec.id)}/{Ticket(spec.id)}")
    assert lookup.locate(queue, spec) is None
    with pytest.raises(TaskNotFound, match="never wholly submitted"):
        queue.record(spec.id)


def test_no_path_is_made_of_what_is_no_id(queue: Queue) -> None:
    for text in ("../x", "k7q2", ""):
        with pytest.raises(OptionError):
            queue.record(text)


def test_live_tickets_come_in_running_order(queue: Queue) -> None:
    low, high = put(queue, priority=0), put(queue, priority=9)
    first, second = put(queue), put(queue)
    expected = [high.id, first.id, second.id, low.id]
    assert [place.ticket.id for place in lookup.live_tickets(queue)] == expected


def test_strangers_among_the_tickets_are_left_alone(queue: Queue) -> None:
    spec = put(queue)
    layout = queue.layout
    folder = layout.queued_folder(LINE, 5, spec.id)
    os.makedirs(layout.running_folder("s-1"))
    os.makedirs(layout.ended_folder(spec.id))
    strangers = [
        f"{folder}/notes.txt", f"{folder}/.{Ticket(spec.id)}", f"{layout.queued}/.DS_Store", f"{layout.queued}/{LINE}/x",
        f"{layout.queued}/{LINE}/4/x", f"{layout.running}/x", f"{layout.running_folder('s-1')}/x", f"{layout.ended}/x",
        f"{layout.ended_folder(spec.id)}/x", f"{layout.parents}/x", f"{layout.until}/x",
    ]  # fmt: skip
    for path in strangers:
        Path(path).write_text("")
    assert places(queue) == [(f"{spec.id}.1.0.0", Status.QUEUED)]
    assert status(queue, spec) is Status.QUEUED
    end(queue, spec)
    assert status(queue, spec) is Status.SUCCEEDED
    assert all(os.path.exists(path) for path in strangers)


def test_counts(queue: Queue) -> None:
    done, failed, cancelled, parent = (put(queue) for _ in range(4))
    put(queue, after=(parent.id,))
    end(queue, done)
    end(queue, failed, Status.FAILED)
    assert queue.cancel(cancelled.id)
    claim(queue)
    put(queue)
    assert lookup.counts(queue) == dict.fromkeys(Status, 1)


def test_ended_tickets_either_way(queue: Queue) -> None:
    ids = [put_at(queue, seconds, "aaaa") for seconds in (0, 1, 60, 86400)]
    for id in ids:
        queue.cancel(id)
    assert [place.ticket.id for place in lookup.ended_tickets(queue)] == ids[::-1]
    assert [place.ticket.id for place in lookup.ended_tickets(queue, newest_first=False)] == ids


# While it moves.


def move_around(queue: Queue, spec: Spec, forever: bool) -> None:
    """Take a ticket through all that can happen to it, as fast as it goes; some of it leads backwards."""
    draw = random.Random(7)
    layout, move = queue.layout, queue.disk.move
    ticket = Ticket(spec.id)
    path = f"{layout.queued_folder(LINE, 5, spec.id)}/{ticket}"

    def to(target: str) -> None:
        nonlocal path
        assert move(path, target)
        path = target

    while forever:
        for slot in draw.sample(["s-1", "s-2", "s-3", "s-4"], 2):  # claimed, and taken over from one that is slow
            to(f"{layout.running_folder(slot)}/{ticket}")
            ticket = ticket.put_back()
            to(f"{layout.running_folder(slot)}/{ticket}")
        if draw.random() < 0.3:
            to(f"{layout.ended_folder(spec.id)}/{ticket}.failed")
        ticket = ticket.failed()
        if draw.random() < 0.5:
            to(f"{layout.until}/{until_name(time.time(), ticket)}")
        to(f"{layout.queued_folder(LINE, 5, spec.id)}/{ticket}")


def test_a_task_that_moves_is_never_missed(queue: Queue) -> None:
    spec = put(queue, retries=1)
    for slot in ("s-1", "s-2", "s-3", "s-4"):
        os.makedirs(queue.layout.running_folder(slot))
    mover = Child(move_around, queue, spec, True)
    try:
        seen = dict.fromkeys(Status, 0)
        for look in range(20_000):
            place = lookup.locate(queue, spec)
            assert place is not None, f"missed at look {look}"
            seen[place.status] += 1
    finally:
        mover.kill()
    assert all(seen[kind] for kind in (Status.QUEUED, Status.RUNNING, Status.WAITING, Status.FAILED)), seen
