"""All tasks by their tickets: kept right while they move, whatever was looked at first."""

from __future__ import annotations

import time
from collections.abc import Callable

from nbtasks.queue import lookup
from nbtasks.queue.catalogue import LATEST, Catalogue
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import id_at
from nbtasks.status import Status
from tests.queue.tools import LINE, claim, end, finish, put


def all_of(queue: Queue) -> Catalogue:
    catalogue = Catalogue(queue)
    catalogue.look_at_all()
    assert catalogue.whole
    return catalogue


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_counts_as_the_listing_does(queue: Queue) -> None:
    parent = put(queue)
    put(queue, after=(parent.id,))
    for status in (Status.SUCCEEDED, Status.FAILED):
        end(queue, put(queue, lane="other"), status)
    queue.cancel(put(queue, lane="other").id)
    put(queue, lane="gpu")
    claim(queue)
    catalogue = all_of(queue)
    assert catalogue.counts == lookup.counts(queue)
    assert {id: place.status for id, place in catalogue.places.items()} == {
        record.id: record.status for record in queue.records()
    }
    assert catalogue.lanes() >= {"gpu"}


def test_a_task_is_followed_from_submit_to_end(queue: Queue) -> None:
    catalogue = all_of(queue)
    spec = put(queue)
    assert catalogue.look()
    assert catalogue.places[spec.id].status is Status.QUEUED
    ticket = claim(queue, "s-7")
    assert catalogue.look()
    assert catalogue.places[spec.id].slot == "s-7"
    finish(queue, spec, ticket, Status.FAILED, "s-7")
    assert catalogue.look([spec.id])
    assert catalogue.places[spec.id].status is Status.FAILED
    assert catalogue.latest() == [spec.id]
    assert sum(catalogue.minutes.values()) == 1
    queue.retry(spec.id)
    until(lambda: catalogue.look() or catalogue.places[spec.id].status is Status.QUEUED)
    assert catalogue.counts[Status.FAILED] == 0
    assert not catalogue.look([spec.id]), "what ended before does not come back"


def test_an_end_that_nobody_told_is_found(queue: Queue) -> None:
    spec = put(queue)
    catalogue = all_of(queue)
    end(queue, spec)
    until(lambda: catalogue.look() and catalogue.places[spec.id].status is Status.SUCCEEDED)


def test_a_removed_task_goes(queue: Queue) -> None:
    spec, other = put(queue), put(queue)
    end(queue, spec)
    catalogue = all_of(queue)
    queue.disk.remove(catalogue.places[spec.id].path)
    queue.disk.remove(queue.layout.call(spec.id))
    until(lambda: catalogue.look() and spec.id not in catalogue.places)
    assert catalogue.counts == lookup.counts(queue)
    assert list(catalogue.places) == [other.id]


def test_an_older_look_never_takes_the_place_of_a_later_one(queue: Queue) -> None:
    spec = put(queue)
    before = all_of(queue).places[spec.id]
    end(queue, spec)
    catalogue = all_of(queue)
    catalogue.see(before)
    assert catalogue.places[spec.id].status is Status.SUCCEEDED


def test_a_look_at_many_is_short_and_the_rest_takes_turns(queue: Queue) -> None:
    queue.bell("flush", "test")  # so that nobody waits for the disk
    claimer = Claimer(queue, "s-1", [LINE])
    now = time.time()
    for number in range(300):  # each in a second of its own
        spec = put(queue, id=id_at(int((now - 600 + number) * 1e6), f"{number:04d}"))
        ticket = claimer.try_claim()
        assert ticket is not None
        finish(queue, spec, ticket)
    catalogue = Catalogue(queue)
    looks = 0
    while not catalogue.whole:
        catalogue.look(seconds=0.0005)
        looks += 1
    assert looks > 3
    assert catalogue.counts[Status.SUCCEEDED] == 300
    assert sum(catalogue.minutes.values()) == 300
    assert len(catalogue.latest()) == LATEST


def test_a_queue_without_end_is_cut(queue: Queue) -> None:
    for number in range(4):
        end(queue, put(queue, id=id_at(int((time.time() - 60 + number) * 1e6), f"{number:04d}")))
    catalogue = Catalogue(queue, most=2)
    catalogue.look_at_all()
    assert catalogue.cut
    assert sorted(id[-4:] for id in catalogue.places) == ["0002", "0003"]
