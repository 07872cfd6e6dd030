"""Each moment of a schedule becomes one ticket, whoever makes it and whatever the clock does. The clock is set by hand."""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
import pytest

from nbtasks.errors import OptionError, PayloadError
from nbtasks.queue import expiring, layout, lookup, recovery, removing, schedules
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from nbtasks.queue.recurring import LATE, Timetable
from nbtasks.queue.schedules import Entry
from nbtasks.queue.tickets import Ticket
from nbtasks.recurrence import Cron, Every
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import ADD, ENV, LINE, Child, claim, end, finish, put, status

START = 1_795_212_000.0  # a full minute


class Clock:
    """The time, as somebody sets it."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spec_of(queue: Queue, name: str, **fields: Any) -> Spec:
    return Spec(id=queue.new_id(), name=name, env=ENV, schedule=name, **fields)


def add(queue: Queue, name: str = "nightly", every: float = 10.0, **facts: Any) -> Entry:
    """A schedule that was registered at START."""
    spec = spec_of(queue, name)
    facts = {"recurrence": Every(seconds=every, start=START), "since": START, **facts}
    entry = Entry(name=name, tz="UTC", call=spec.id, registered=START, env=ENV, **facts)
    schedules.register(queue, entry, spec, ADD)
    return entry


def moments(queue: Queue, name: str = "nightly", fate: str = schedules.MADE) -> list[float]:
    """The moments of that fate, counted from START."""
    found = schedules.fates(queue, name)
    return [layout.submitted_at(id) - START for id, one in found.items() if one == fate]


def run_all(queue: Queue) -> list[float]:
    """Run what is queued; the moments, counted from START."""
    recovery.release_due(queue, now=START + 1e9)  # a clock that is set by hand may be ahead of the true one
    ran = []
    while next(lookup.queued_tickets(queue, LINE), None):
        ticket = claim(queue)
        assert finish(queue, queue.record(ticket.id).spec, ticket)
        ran.append(layout.submitted_at(ticket.id) - START)
    return ran


def test_a_due_moment_becomes_one_ticket(queue: Queue, clock: Clock) -> None:
    entry = add(queue)
    timetable = Timetable(queue, clock=clock)
    assert timetable.look() == START + 10
    assert lookup.counts(queue)[Status.QUEUED] == 0
    clock.now = START + 10.2
    assert timetable.look() == START + 20
    assert timetable.look() == START + 20, "once is enough"
    (record,) = queue.records()
    assert record.id == schedules.id_of("nightly", START + 10)
    assert len(record.short) == 13
    assert (record.spec.schedule, record.spec.due, record.name) == ("nightly", START + 10, "nightly")
    assert run_all(queue) == [10.0]
    assert check(queue) == []
    assert entry.when == "every 10s"


def test_the_id_hangs_on_name_and_moment_alone() -> None:
    first = schedules.id_of("nightly", 1_795_212_371.482913)
    assert first == schedules.id_of("nightly", 1_795_212_371.482913)
    assert first.startswith("20261120-220611-482913-")
    assert layout.check_id(first)
    others = {schedules.id_of(name, 1_795_212_371.482913) for name in ("nightly2", "weekly", "a")}
    assert len({first, *others}) == 4


def test_of_two_one_makes_the_tickets_and_the_other_takes_over(queue: Queue, clock: Clock) -> None:
    add(queue, overlap=True)
    first, second = Timetable(queue, clock=clock), Timetable(queue, clock=clock)
    for seconds in (10, 20):
        clock.now = START + seconds
        first.look()
        assert second.look() == START + seconds + 10 + 1, "it looks a second later, in case the other one is gone"
        assert (first.leads, second.leads) == (True, False)
    assert moments(queue) == [10, 20]
    first.release()
    clock.now = START + 30
    second.look()
    assert second.leads
    first.look()
    assert moments(queue) == [10, 20, 30]
    assert run_all(queue) == [10, 20, 30]


def _lead_for_ever(root: str) -> None:
    Timetable(Queue(root), clock=Clock(START + 10)).look()
    os.kill(os.getpid(), 9)


def test_whoever_is_killed_hands_over_at_once(queue: Queue, clock: Clock) -> None:
    add(queue)
    assert Child(_lead_for_ever, queue.root).wait() == -9
    clock.now = START + 11
    timetable = Timetable(queue, clock=clock)
    timetable.look()
    assert timetable.leads
    assert moments(queue) == [10]
    assert run_all(queue) == [10]


# Killed between two steps.


def test_a_ticket_that_was_made_but_not_noted_is_not_made_again(queue: Queue, clock: Clock) -> None:
    entry = add(queue)
    id = schedules.make(queue, entry, START + 10)
    schedules.drop_fate(queue, "nightly", id, schedules.MADE)
    ran = run_all(queue)
    clock.now = START + 12
    Timetable(queue, clock=clock).look()
    assert moments(queue) == [10]
    assert ran + run_all(queue) == [10]


def test_a_call_without_ticket_gets_it(queue: Queue, clock: Clock) -> None:
    entry = add(queue)
    id = schedules.make(queue, entry, START + 10)
    schedules.drop_fate(queue, "nightly", id, schedules.MADE)
    place = lookup.locate(queue, queue.record(id).spec)
    assert place is not None
    os.unlink(place.path)
    # Meanwhile it was registered again: the call that is there is the one that counts.
    add(queue, missed="skip")
    clock.now = START + 12
    Timetable(queue, clock=clock).look()
    assert run_all(queue) == [10]


def test_a_half_written_call_is_written_again(queue: Queue, clock: Clock) -> None:
    add(queue)
    path = queue.layout.call(schedules.id_of("nightly", START + 10))
    os.makedirs(os.path.dirname(path))
    with open(path, "wb") as file:
        file.write(b'{"nbtasks":1,"ki')
    clock.now = START + 12
    Timetable(queue, clock=clock).look()
    assert run_all(queue) == [10]
    assert check(queue) == []


# Missed moments.


@pytest.mark.parametrize(
    ("missed", "made", "noted"),
    [("once", [3600], 20 - 1), ("skip", [], 20), ("all", [600, 1200, 1800, 2400, 3000, 3600], 0)],
)
def test_missed_moments(queue: Queue, clock: Clock, missed: str, made: list[float], noted: int) -> None:
    add(queue, every=600.0, missed=missed, overlap=True)
    clock.now = START + 3600 + LATE + 1
    Timetable(queue, clock=clock).look()
    assert moments(queue) == made
    assert len(moments(queue, fate=schedules.MISSED)) == min(noted, 6 - len(made))
    clock.now = START + 4200
    Timetable(queue, clock=clock).look()
    assert moments(queue) == [*made, 4200], "and it goes on"


def test_a_moment_that_is_a_little_late_is_not_missed(queue: Queue, clock: Clock) -> None:
    add(queue, every=1.0, missed="skip", overlap=True)
    clock.now = START + 45.5
    Timetable(queue, clock=clock).look()
    assert moments(queue) == list(range(1, 46))


def test_a_month_of_seconds_is_caught_up_with_soon(queue: Queue, clock: Clock) -> None:
    add(queue, recurrence=Cron(line="* * * * * *", tz="Europe/Berlin"))
    clock.now = START + 30 * 86400
    Timetable(queue, clock=clock).look()
    assert len(moments(queue)) == 1
    assert len(moments(queue, fate=schedules.MISSED)) <= 20


def test_all_goes_one_after_the_other_and_leaves_none_out(queue: Queue, clock: Clock) -> None:
    add(queue, missed="all")
    timetable = Timetable(queue, clock=clock)
    clock.now = START + 30
    assert timetable.look() == clock.now + 1, "two are held up: it looks again soon"
    ran = []
    for _ in range(3):
        assert lookup.counts(queue)[Status.QUEUED] == 1
        ran += run_all(queue)
        timetable.look()
    assert ran == [10, 20, 30]
    assert timetable.look() == START + 40


# Overlap.


def test_a_moment_whose_run_before_lives_is_left_out_and_noted(queue: Queue, clock: Clock) -> None:
    add(queue)
    timetable = Timetable(queue, clock=clock)
    for seconds in (10, 20, 30):
        clock.now = START + seconds
        timetable.look()
    assert moments(queue) == [10]
    assert moments(queue, fate=schedules.OVERLAP) == [20, 30]
    run_all(queue)
    clock.now = START + 40
    timetable.look()
    assert moments(queue) == [10, 40]


def test_a_run_by_hand_counts_as_a_run(queue: Queue, clock: Clock) -> None:
    entry = add(queue)
    schedules.make(queue, entry, START + 9, schedules.BY_HAND)
    clock.now = START + 10
    Timetable(queue, clock=clock).look()
    assert moments(queue, fate=schedules.OVERLAP) == [10]


def test_overlapping_runs_where_they_are_allowed(queue: Queue, clock: Clock) -> None:
    add(queue, overlap=True)
    timetable = Timetable(queue, clock=clock)
    for seconds in (10, 20, 30):
        clock.now = START + seconds
        timetable.look()
    assert moments(queue) == [10, 20, 30]


def test_a_long_run_is_not_forgotten_however_many_moments_it_takes(queue: Queue, clock: Clock) -> None:
    add(queue, every=1.0)
    timetable = Timetable(queue, clock=clock)
    for seconds in range(1, 251):
        clock.now = START + seconds
        timetable.look()
    assert moments(queue) == [1]
    assert 95 <= len(moments(queue, fate=schedules.OVERLAP)) <= 100, "old ones are forgotten"
    assert run_all(queue) == [1]
    clock.now += 1
    timetable.look()
    assert moments(queue) == [251]


# The clock.


@pytest.mark.parametrize("anew", [False, True])
def test_a_clock_that_is_set_back_runs_nothing_twice_and_stops_nothing(queue: Queue, clock: Clock, anew: bool) -> None:
    add(queue)
    timetable = Timetable(queue, clock=clock)
    ran = []
    for seconds in (10, 20, 30, 11, 13, 20, 25, 30, 40, 50):
        clock.now = START + seconds
        if anew:  # another worker, which remembers nothing
            timetable.release()
            timetable = Timetable(queue, clock=clock)
        timetable.look()
        ran += run_all(queue)
    assert ran == [10, 20, 30, 40, 50]


@pytest.mark.parametrize("anew", [False, True])
def test_a_clock_that_was_a_year_ahead_for_a_while(queue: Queue, clock: Clock, anew: bool) -> None:
    add(queue)
    timetable = Timetable(queue, clock=clock)
    year = 365 * 86400.0
    ran = []
    for seconds in (10, year + 1, year + 11, 21, 31, 41):
        clock.now = START + seconds
        if anew:
            timetable.release()
            timetable = Timetable(queue, clock=clock)
        timetable.look()
        ran += run_all(queue)
    assert [moment for moment in ran if moment < year / 2] == [10, 20, 30, 40]
    assert 1 <= len([moment for moment in ran if moment > year / 2]) <= 8


def test_one_that_was_registered_while_the_clock_was_ahead(queue: Queue, clock: Clock) -> None:
    add(queue, since=START + 3600, recurrence=Every(seconds=10.0, start=START + 3600))
    timetable = Timetable(queue, clock=clock)
    for seconds in (0, 10, 20):
        clock.now = START + seconds
        timetable.look()
        run_all(queue)
    assert moments(queue) == [10, 20]


def test_a_suspend_over_the_night_counts_as_missed(queue: Queue, clock: Clock) -> None:
    add(queue, every=60.0)
    timetable = Timetable(queue, clock=clock)
    clock.now = START + 60
    timetable.look()
    run_all(queue)
    clock.now = START + 8 * 3600 + 75
    timetable.look()
    assert moments(queue) == [60, 8 * 3600 + 60], "what has just come is one run for all of them"


# Registering, resting, removing.


def test_nothing_is_half_registered(queue: Queue) -> None:
    spec = spec_of(queue, "nightly")
    entry = Entry(name="nightly", recurrence=Every(seconds=10.0), tz="UTC", call=spec.id, registered=START, since=START)
    os.mkdir(queue.layout.schedule("nightly"))  # the entry cannot be written
    with pytest.raises(OSError, match="directory"):
        schedules.register(queue, entry, spec, ADD)
    assert queue.disk.list(queue.layout.schedule_folder("nightly")) == []
    os.rmdir(queue.layout.schedule("nightly"))
    assert schedules.names(queue) == []


def test_registering_again_replaces_the_call_and_keeps_the_history(queue: Queue, clock: Clock) -> None:
    add(queue)
    clock.now = START + 10
    Timetable(queue, clock=clock).look()
    run_all(queue)
    spec = spec_of(queue, "nightly", priority=9)
    entry = msgspec.structs.replace(schedules.get_entry(queue, "nightly"), call=spec.id)
    before = schedules.register(queue, entry, spec, ADD)
    assert before is not None
    assert before.call != spec.id
    calls = [name for name in os.listdir(queue.layout.schedule_folder("nightly")) if name.endswith(".call")]
    assert calls == [f"{spec.id}.call"]
    clock.now = START + 20
    Timetable(queue, clock=clock).look()
    assert moments(queue) == [10, 20]
    assert [record.spec.priority for record in queue.records(status=Status.QUEUED)] == [9]


def test_a_name_in_use(queue: Queue) -> None:
    add(queue)
    cell = spec_of(queue, "nightly", kind="cell")
    entry = msgspec.structs.replace(schedules.get_entry(queue, "nightly"), kind="cell", call=cell.id)
    with pytest.raises(OptionError, match=r"in use by the schedule of a function.*nbtasks schedule rm nightly"):
        schedules.register(queue, entry, cell, ADD)
    os.makedirs(f"{queue.layout.group_folder('weekly')}/{queue.new_id()}")
    with pytest.raises(OptionError, match="in use by a pipeline"):
        add(queue, "weekly")
    assert schedules.names(queue) == ["nightly"]


def test_what_rests_makes_no_tickets_and_makes_up_for_none(queue: Queue, clock: Clock) -> None:
    add(queue, missed="all", since=0.0, every=3600.0)
    schedules.set_paused(queue, "nightly", True)
    timetable = Timetable(queue, clock=clock)
    clock.now = time.time()
    assert timetable.look() is None
    resumed = schedules.set_paused(queue, "nightly", False)
    clock.now = time.time()
    timetable.look()
    assert moments(queue) == []
    clock.now = resumed.recurrence.after(resumed.since) or 0.0
    timetable.look()
    assert len(moments(queue)) == 1


def test_a_moment_whose_task_was_removed_does_not_run_again(queue: Queue, clock: Clock) -> None:
    add(queue)
    timetable = Timetable(queue, clock=clock)
    clock.now = START + 10
    timetable.look()
    assert run_all(queue) == [10]
    assert removing.try_remove(queue, schedules.id_of("nightly", START + 10))
    clock.now = START + 9
    timetable.look()
    clock.now = START + 12
    timetable.look()
    assert run_all(queue) == []


def test_what_was_removed_leaves_its_tasks(queue: Queue, clock: Clock) -> None:
    add(queue)
    clock.now = START + 10
    Timetable(queue, clock=clock).look()
    schedules.remove(queue, "nightly")
    assert queue.disk.list(queue.layout.recurring) == ["lock"]
    clock.now = START + 20
    timetable = Timetable(queue, clock=clock)
    assert timetable.look() is None
    assert run_all(queue) == [10]
    with pytest.raises(OptionError, match=r"no schedule 'nightly' in .*; there is none"):
        schedules.remove(queue, "nightly")
    add(queue)
    timetable.look()
    assert run_all(queue) == [20], "one that is added again does not run a moment again that has run"


@pytest.mark.parametrize("name", ["../nightly", "", "Nightly", "x" * 32, "lock", "nightli"])
def test_a_schedule_that_is_not_there(queue: Queue, name: str) -> None:
    add(queue)
    for do in (schedules.get_entry, schedules.remove):
        with pytest.raises(OptionError, match="no schedule"):
            do(queue, name)


def test_one_that_cannot_be_served_stops_no_other(queue: Queue, clock: Clock) -> None:
    add(queue, "broken")
    add(queue, "forged")
    add(queue, "sound")
    with open(queue.layout.schedule("broken"), "w") as file:
        file.write("{")
    # A call of mine, but not this schedule's: whoever may write here must not choose what runs.
    other = put(queue)
    entry = schedules.get_entry(queue, "forged")
    with open(queue.layout.call(other.id), "rb") as file:
        call = file.read()
    with open(queue.layout.schedule_call("forged", entry.call), "wb") as file:
        file.write(call)
    end(queue, other)
    # A call of another schedule under its own name, and the entry altered to name it.
    borrowed = add(queue, "borrowed")
    with open(queue.layout.schedule_call("sound", schedules.get_entry(queue, "sound").call), "rb") as file:
        call = file.read()
    id = schedules.get_entry(queue, "sound").call
    with open(queue.layout.schedule_call("borrowed", id), "wb") as file:
        file.write(call)
    queue.disk.replace(
        queue.layout.schedule("borrowed"), msgspec.json.encode(msgspec.structs.replace(borrowed, call=id))
    )
    said: list[str] = []
    timetable = Timetable(queue, clock=clock, say=said.append)
    for seconds in (10, 11, 21):
        clock.now = START + seconds
        timetable.look()
        run_all(queue)
    assert moments(queue, "sound") == [10, 20]
    assert moments(queue, "forged") == []
    assert moments(queue, "borrowed") == []
    assert any("is that of something else" in line for line in said)
    assert len([line for line in said if "forged" in line and "is not what its name says" in line]) == 1, "said once"
    with pytest.raises(PayloadError, match="nbtasks schedule rm broken"):
        schedules.find_entry(queue, "broken")
    schedules.remove(queue, "broken")
    assert schedules.names(queue) == ["borrowed", "forged", "sound"]


# Later, and not too late.


def test_a_task_that_is_told_to_wait_waits_for_its_moment(queue: Queue) -> None:
    now = layout.submitted_at(queue.new_id())
    spec = put(queue, due=now + 3600)
    assert status(queue, spec) is Status.WAITING
    assert queue.record(spec.id).reason.startswith("until ")
    assert recovery.release_due(queue, now=now + 3599) == pytest.approx(now + 3600, abs=0.01)
    assert status(queue, spec) is Status.WAITING
    assert recovery.release_due(queue, now=now + 3601) is None
    end(queue, spec)
    assert status(queue, put(queue, due=now - 5)) is Status.QUEUED


def test_one_that_waits_for_a_moment_and_for_another_task(queue: Queue) -> None:
    now = layout.submitted_at(queue.new_id())
    parent = put(queue)
    child = put(queue, after=(parent.id,), due=now + 3600)
    recovery.release_due(queue, now=now + 3601)
    assert queue.record(child.id).reason == f"for train {parent.short} (queued)"
    end(queue, parent)
    assert status(queue, child) is Status.QUEUED
    failing = put(queue)
    second = put(queue, after=(failing.id,), due=now + 3600)
    ticket = Ticket(failing.id)
    while claim(queue) != ticket:
        pass
    finish(queue, failing, ticket, Status.FAILED)
    assert status(queue, second) is Status.WAITING
    recovery.release_due(queue, now=now + 3601)
    recovery.look_at_child(queue, "w-1", second.id)
    assert status(queue, second) is Status.FAILED


def test_it_may_be_cancelled_while_it_waits(queue: Queue) -> None:
    spec = put(queue, due=layout.submitted_at(queue.new_id()) + 3600)
    assert queue.cancel(spec.id)
    assert status(queue, spec) is Status.CANCELLED
    assert recovery.release_due(queue) is None


@pytest.mark.parametrize("where", ["queued", "waiting for a moment", "waiting for a task"])
def test_what_has_not_started_in_time_is_cancelled(queue: Queue, where: str) -> None:
    now = layout.submitted_at(queue.new_id())
    parent = put(queue, lane="other")
    fields: dict[str, Any] = {"waiting for a moment": {"due": now + 50}, "waiting for a task": {"after": (parent.id,)}}
    spec = put(queue, expires=now + 100, **fields.get(where, {}))
    assert expiring.expire_due(queue, "w-1", now + 99) == pytest.approx(now + 100, abs=0.01)
    assert not status(queue, spec).ended
    assert expiring.expire_due(queue, "w-1", now + 101) is None
    record = queue.record(spec.id)
    assert (record.status, record.reason, record.started) == (Status.CANCELLED, "expired", None)
    assert queue.disk.list(queue.layout.expires) == []
    assert check(queue) == []


def test_whoever_looks_when_it_is_due_ends_it(queue: Queue) -> None:
    """Also where the moment is none of whole milliseconds, as nearly always."""
    for part in range(10):
        spec = put(queue, expires=layout.submitted_at(queue.new_id()) + 100 + part * 0.00013)
        assert (due := expiring.expire_due(queue, "w-1", spec.expires - 1))
        assert due >= spec.expires, "never too early"
        assert expiring.expire_due(queue, "w-1", due) is None
        assert status(queue, spec) is Status.CANCELLED


def test_what_has_started_in_time_goes_on(queue: Queue) -> None:
    now = layout.submitted_at(queue.new_id())
    running, retried = put(queue, expires=now + 100), put(queue, expires=now + 100, retries=1)
    ticket, other = claim(queue), claim(queue)
    finish(queue, retried, other, Status.FAILED)
    assert status(queue, retried) is Status.QUEUED
    assert expiring.expire_due(queue, "w-1", now + 101) is None
    assert (status(queue, running), status(queue, retried)) == (Status.RUNNING, Status.QUEUED)
    assert finish(queue, running, ticket)


def test_one_that_was_cancelled_for_it_can_be_run_by_hand(queue: Queue) -> None:
    spec = put(queue, expires=layout.submitted_at(queue.new_id()) - 1)
    expiring.expire_due(queue, "w-1", layout.submitted_at(queue.new_id()))
    queue.retry(spec.id)
    assert not expiring.is_over(spec, claim(queue))


def test_a_worker_that_dies_while_it_cancels_starts_nothing(queue: Queue) -> None:
    spec = put(queue, expires=layout.submitted_at(queue.new_id()) - 1)
    place = lookup.locate(queue, spec)
    assert place is not None
    assert queue.disk.move(place.path, f"{queue.layout.running_folder('w-dead')}/{place.ticket.put_back()}")
    recovery.sweep(queue, "w-2")
    record = queue.record(spec.id)
    assert (record.status, record.reason) == (Status.CANCELLED, "expired")


def test_of_two_that_cancel_it_one_does(queue: Queue) -> None:
    now = layout.submitted_at(queue.new_id())
    specs = [put(queue, expires=now + 10) for _ in range(50)]
    children = [Child(expiring.expire_due, queue, f"w-{number}", now + 11) for number in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    expiring.expire_due(queue, "w-3", now + 11)
    assert {status(queue, spec) for spec in specs} == {Status.CANCELLED}
    assert {queue.record(spec.id).reason for spec in specs} == {"expired"}
    assert check(queue) == []
