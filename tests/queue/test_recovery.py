"""What a crash left is committed, run again or declared failed: once, with its reason, and nothing is lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nbtasks import config, payload
from nbtasks.durable import RealDisk
from nbtasks.durable_faults import FaultyDisk
from nbtasks.outcome import Outcome
from nbtasks.queue import lookup, members, records, recovery
from nbtasks.queue.check import check
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import OUTCOME, PROGRESS, STARTED
from nbtasks.queue.members import Stop
from nbtasks.queue.recovery import Death, evict_slot, recover_slot, sweep
from nbtasks.queue.tickets import LOSSES, Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import (
    LINE,
    VALUE,
    Child,
    claim,
    dead_slot,
    end,
    finish,
    live_slot,
    new_queue,
    outcome,
    places,
    put,
    started,
    status,
)

FAILED, QUEUED, RUNNING, SUCCEEDED, CANCELLED, WAITING = (
    Status.FAILED, Status.QUEUED, Status.RUNNING, Status.SUCCEEDED, Status.CANCELLED, Status.WAITING,
)  # fmt: skip
ME = "w-me"
KILLED = Death(signal=9, peak_memory=7_800_000_000, out_of_memory=True)


@pytest.fixture
def slot(queue: Queue) -> str:
    return dead_slot(queue, "s-dead")


def ended(queue: Queue, spec: Spec) -> Outcome:
    record = queue.record(spec.id)
    assert record.status.ended
    assert record.outcome is not None
    return record.outcome


def ticket_of(queue: Queue, spec: Spec) -> Ticket:
    return queue.record(spec.id).ticket


def write_outcome(queue: Queue, ticket: Ticket, how: Status = SUCCEEDED) -> str:
    """What a slot that was killed just before its commit left."""
    queue.write_outcome(ticket, outcome(ticket, how), VALUE)
    return queue.layout.file(ticket.id, ticket.delivery, OUTCOME)


# With an outcome.


@pytest.mark.parametrize("death", [Death(), KILLED])
@pytest.mark.parametrize("how", [SUCCEEDED, FAILED, CANCELLED])
def test_what_had_ended_is_committed(queue: Queue, slot: str, death: Death, how: Status) -> None:
    spec = put(queue, bell="c-1")
    child = put(queue, after=(spec.id,))
    ticket = claim(queue, slot)
    write_outcome(queue, ticket, how)
    bell = queue.bell("clients", "c-1")
    assert recover_slot(queue, ME, slot, death) == 1
    assert places(queue)[-1] == (str(ticket), how) or how is not SUCCEEDED
    assert (status(queue, spec), ticket_of(queue, spec)) == (how, ticket)
    assert bell.drain() == [f"{ticket}.{how}"]
    bell.close()
    assert status(queue, child) is (QUEUED if how is SUCCEEDED else FAILED)


def test_what_had_failed_and_may_be_tried_again_is(queue: Queue, slot: str) -> None:
    spec = put(queue, retries=1)
    ticket = claim(queue, slot)
    write_outcome(queue, ticket, FAILED)
    recover_slot(queue, ME, slot, Death())
    assert (status(queue, spec), ticket_of(queue, spec)) == (QUEUED, ticket.failed())


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_half_an_outcome_is_none(queue: Queue, slot: str, keep: float) -> None:
    """Killed within the write: the header may be whole, and the value cut short."""
    spec = put(queue)
    ticket = claim(queue, slot)
    queue.write_outcome(ticket, outcome(ticket), [payload.dump("value", os.urandom(100_000))])
    path = queue.layout.file(spec.id, 1, OUTCOME)
    os.truncate(path, int(os.path.getsize(path) * keep))
    recover_slot(queue, ME, slot, Death())
    assert (status(queue, spec), ticket_of(queue, spec)) == (QUEUED, ticket.lost())
    end_next(queue, spec)
    assert payload.load(records.read_outcome_frame(queue, ticket_of(queue, spec)).parts["value"]) == 3


def end_next(queue: Queue, spec: Spec) -> None:
    ticket = claim(queue)
    assert ticket.id == spec.id
    assert finish(queue, spec, ticket)


# Deaths nobody saw.


def test_three_losses_end_it(queue: Queue, slot: str) -> None:
    spec = put(queue, retries=5)
    for losses in range(1, LOSSES):
        claim(queue, slot)
        recover_slot(queue, ME, slot, Death())
        assert (status(queue, spec), ticket_of(queue, spec)) == (QUEUED, Ticket(spec.id, losses + 1, 0, losses))
    claim(queue, slot)
    recover_slot(queue, ME, slot, Death(reason="the host restarted at 03:12"))
    found = ended(queue, spec)
    assert (found.status, found.kind) == (FAILED, "lost")
    assert found.reason == "lost 3 times; the last time: the host restarted at 03:12"
    assert found.failure is not None
    assert found.failure.type == "nbtasks.errors.TaskLost"
    assert check(queue, full=True) == []


def test_losses_and_failures_are_counted_apart(queue: Queue, slot: str) -> None:
    spec = put(queue, retries=1)
    claim(queue, slot)
    recover_slot(queue, ME, slot, Death())
    finish(queue, spec, claim(queue), FAILED)
    assert ticket_of(queue, spec) == Ticket(spec.id, 3, 1, 1)


def test_what_must_not_start_twice_and_had_begun(queue: Queue, slot: str) -> None:
    spec = put(queue, at_most_once=True)
    started(queue, claim(queue, slot))
    recover_slot(queue, ME, slot, Death())
    assert ended(queue, spec).kind == "lost"
    assert "It had started, so it does not run again unasked" in ended(queue, spec).reason


def test_what_must_not_start_twice_and_had_not_begun(queue: Queue, slot: str) -> None:
    spec = put(queue, at_most_once=True)
    for _ in range(5):  # nothing was lost, so nothing is counted
        ticket = claim(queue, slot)
        recover_slot(queue, ME, slot, Death())
        assert (status(queue, spec), ticket_of(queue, spec)) == (QUEUED, ticket.put_back())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("takers", [1, 2, 3])
def test_what_must_not_start_twice_when_those_who_settle_it_die_too(
    queue: Queue, slot: str, takers: int, half: bool
) -> None:
    """Whoever takes it over to end it dies in between: the next one still knows that it had begun."""
    spec = put(queue, at_most_once=True)
    ticket = claim(queue, slot)
    started(queue, ticket)
    if half:
        path = write_outcome(queue, ticket)
        os.truncate(path, os.path.getsize(path) - 1)
    for number in range(takers):
        taker = dead_slot(queue, f"w-{number}")
        assert queue.disk.move(
            f"{queue.layout.running_folder(slot)}/{ticket}", f"{queue.layout.running_folder(taker)}/{ticket.put_back()}"
        )
        slot, ticket = taker, ticket.put_back()
    sweep(queue, ME)
    assert ended(queue, spec).kind == "lost"


def test_what_must_not_start_twice_may_when_it_is_retried_by_hand(queue: Queue, slot: str) -> None:
    spec = put(queue, at_most_once=True)
    started(queue, claim(queue, slot))
    recover_slot(queue, ME, slot, Death())
    again = queue.retry(spec.id)
    assert claim(queue, slot) == again
    recover_slot(queue, ME, slot, Death())
    assert status(queue, spec) is QUEUED, "the new run had not begun"
    started(queue, claim(queue, slot))
    recover_slot(queue, ME, slot, Death())
    assert status(queue, spec) is FAILED


def test_a_mark_of_an_attempt_that_ended_does_not_count_for_the_next(queue: Queue, slot: str) -> None:
    spec = put(queue, at_most_once=True, retries=1)
    first = claim(queue, slot)
    started(queue, first)
    finish(queue, spec, first, FAILED, slot)
    second = claim(queue, slot)
    recover_slot(queue, ME, slot, Death())
    assert (status(queue, spec), ticket_of(queue, spec)) == (QUEUED, second.put_back())


# Deaths that were seen.


def test_a_death_that_was_seen_is_a_failure_with_its_cause(queue: Queue, slot: str) -> None:
    spec = put(queue)
    ticket = claim(queue, slot)
    Path(queue.layout.file(spec.id, 1, PROGRESS)).write_text('{"bars":[{"n":7}]}')
    recover_slot(queue, ME, slot, KILLED)
    found = ended(queue, spec)
    assert (found.status, found.kind, found.signal) == (FAILED, "killed", 9)
    assert found.reason == "killed by signal 9 (SIGKILL), out of memory, peak 7.8 GB"
    assert found.peak_memory == 7_800_000_000
    assert found.slot == slot
    assert found.progress == {"bars": [{"n": 7}]}
    assert found.delivery == ticket.delivery + 1, "the dead one's files are left as they are"
    assert found.attempt == 1
    assert found.failure is not None
    assert found.failure.type == "nbtasks.errors.TaskLost"
    assert check(queue, full=True) == []


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (Death(exit_code=3), "its process ended with exit code 3"),
        (Death(exit_code=0), "its process ended with exit code 0"),
        (Death(signal=11), "killed by signal 11 (SIGSEGV)"),
        (Death(signal=11, peak_memory=2_000_000_000), "killed by signal 11 (SIGSEGV), peak 2.0 GB"),
        (Death(signal=250), "killed by signal 250 (unknown)"),
        (Death(), "its process died and nobody saw how"),
    ],
)
def test_a_death_in_words(death: Death, words: str) -> None:
    assert death.words() == words
    assert death.seen is (death.signal is not None or death.exit_code is not None)


def test_a_killed_one_with_attempts_left_is_tried_again(queue: Queue, slot: str) -> None:
    spec = put(queue, retries=1, retry_delay=50.0)
    claim(queue, slot)
    recover_slot(queue, ME, slot, KILLED)
    assert status(queue, spec) is WAITING
    assert ticket_of(queue, spec) == Ticket(spec.id, 3, 1), "one delivery for who settled it, one for the next attempt"


@pytest.mark.parametrize("death", [Death(), KILLED])
def test_a_cancelled_one_is_cancelled_however_it_died(queue: Queue, slot: str, death: Death) -> None:
    spec = put(queue, retries=5)
    claim(queue, slot)
    queue.cancel(spec.id)
    recover_slot(queue, ME, slot, death)
    found = ended(queue, spec)
    assert (found.status, found.reason) == (CANCELLED, "stopped by force")


@pytest.mark.parametrize("death", [Death(), KILLED])
def test_one_that_was_over_its_limit_timed_out(queue: Queue, slot: str, death: Death) -> None:
    spec = put(queue)
    ticket = claim(queue, slot)
    members.request_stop(queue, slot, Stop(str(ticket), "timeout", "over its limit of 1 h"))
    recover_slot(queue, ME, slot, death)
    found = ended(queue, spec)
    assert (found.status, found.kind, found.reason) == (FAILED, "timed out", "over its limit of 1 h")
    assert found.failure is not None
    assert found.failure.type == "nbtasks.errors.TaskTimedOut"


def test_an_old_request_to_stop_is_not_for_this_delivery(queue: Queue, slot: str) -> None:
    spec = put(queue)
    claim(queue, slot)
    members.request_stop(queue, slot, Stop("20261120-220611-482913-k7q2.1.0.0", "timeout", "over its limit"))
    recover_slot(queue, ME, slot, KILLED)
    assert ended(queue, spec).kind == "killed"


def test_what_the_dead_one_started_is_killed_first(queue: Queue) -> None:
    environment = os.environ | {"NBTASKS_SLOT": "s-gone"}
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    try:
        dead_slot(queue, "s-gone")
        put(queue)
        claim(queue, "s-gone")
        recover_slot(queue, ME, "s-gone", Death())
        assert orphan.wait(10) == -signal.SIGKILL
    finally:
        orphan.kill()
        orphan.wait()


# One that was not dead.


def test_a_slot_wrongly_taken_for_dead_commits_nothing(queue: Queue) -> None:
    spec = put(queue)
    ticket = claim(queue, "s-alive")
    recovery._recover_all(queue, ME, "s-alive", Death())
    assert not finish(queue, spec, ticket, slot="s-alive")
    assert ticket_of(queue, spec) == ticket.lost()
    end_next(queue, spec)
    assert check(queue, full=True) == []


def test_many_recover_at_once(queue: Queue, slot: str) -> None:
    specs = [put(queue, retries=number % 2, at_most_once=number % 3 == 0) for number in range(60)]
    for number, _ in enumerate(specs):
        ticket = claim(queue, slot)
        if number % 4 == 0:
            write_outcome(queue, ticket, FAILED if number % 8 else SUCCEEDED)
        if number % 5 == 0:
            started(queue, ticket)
        if number % 7 == 0:
            queue.cancel(ticket.id)
    children = [Child(lambda me=me: recover_slot(Queue(queue.root), me, slot, Death())) for me in ("w-1", "w-2", "w-3")]
    for child in children:
        child.result()
    assert queue.names(queue.layout.running_folder(slot)) == []
    assert len(places(queue)) == 60
    assert {kind for _, kind in places(queue)} <= {QUEUED, FAILED, SUCCEEDED, CANCELLED}
    assert check(queue, full=True) == []


# Eviction.


def test_what_is_evicted_goes_back_as_it_was(queue: Queue) -> None:
    spec = put(queue)
    ticket = claim(queue)
    evict_slot(queue, ME, "s-1")
    assert (status(queue, spec), ticket_of(queue, spec)) == (QUEUED, ticket.put_back())
    assert not finish(queue, spec, ticket)


def test_what_is_evicted_and_had_begun_and_must_not_begin_twice(queue: Queue) -> None:
    spec, other = put(queue, at_most_once=True), put(queue, at_most_once=True)
    started(queue, claim(queue))
    claim(queue)
    evict_slot(queue, ME, "s-1")
    assert (ended(queue, spec).kind, ended(queue, spec).reason) == ("lost", "worker stopped")
    assert status(queue, other) is QUEUED


def test_what_is_evicted_and_had_ended_is_committed(queue: Queue) -> None:
    spec = put(queue)
    write_outcome(queue, claim(queue))
    evict_slot(queue, ME, "s-1")
    assert status(queue, spec) is SUCCEEDED


def test_one_that_cannot_be_read_does_not_stop_the_eviction(queue: Queue) -> None:
    broken, spec = put(queue), put(queue)
    claim(queue)
    claim(queue)
    os.truncate(queue.layout.call(broken.id), 20)
    evict_slot(queue, ME, "s-1")
    assert status(queue, spec) is QUEUED


# The sweep.


def test_a_sweep_settles_the_dead_and_spares_the_living(queue: Queue) -> None:
    lost, mine, spared = put(queue), put(queue), put(queue)
    claim(queue, dead_slot(queue, "s-dead"))
    claim(queue, live_slot(queue, "s-alive"))
    claim(queue, dead_slot(queue, "s-spared"))
    dead_slot(queue, "s-idle")
    sweep(queue, ME, spare=frozenset(["s-spared"]))
    assert [status(queue, spec) for spec in (lost, mine, spared)] == [QUEUED, RUNNING, RUNNING]
    assert queue.names(queue.layout.slots) == ["s-alive", "s-spared"], "the folders of the dead are taken away"
    assert set(queue.names(queue.layout.running)) <= {"s-alive", "s-spared", ME}


def test_a_claim_of_nobody_known_is_recovered(queue: Queue) -> None:
    spec = put(queue)
    claim(queue, "s-unknown")
    sweep(queue, ME)
    assert status(queue, spec) is QUEUED


def test_the_claims_of_a_dead_worker_are_recovered_by_the_next(queue: Queue) -> None:
    spec = put(queue)
    claim(queue, dead_slot(queue, "w-dead"))
    sweep(queue, ME)
    assert status(queue, spec) is QUEUED
    assert queue.names(queue.layout.workers) == []


def test_a_slot_on_a_host_that_restarted(queue: Queue) -> None:
    spec = put(queue, at_most_once=True)
    slot = dead_slot(queue, "s-old", boot="another")
    started(queue, claim(queue, slot))
    sweep(queue, ME)
    assert "the host restarted at " in ended(queue, spec).reason


def test_a_slot_that_is_being_born_is_left_in_peace(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = queue.layout.slot_folder("s-new")
    os.makedirs(folder)
    Path(folder, "something").write_text("")
    sweep(queue, ME)
    assert os.listdir(folder) == ["something"]
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    sweep(queue, ME)
    assert not os.path.exists(folder)


def test_a_sweep_releases_what_is_due(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = put(queue, retries=1, retry_delay=10.0)
    finish(queue, spec, claim(queue), FAILED)
    later = time.time() + 11
    monkeypatch.setattr(time, "time", lambda: later)
    sweep(queue, ME)
    assert status(queue, spec) is QUEUED


def spoil_short(queue: Queue, spec: Spec) -> None:
    os.truncate(queue.layout.call(spec.id), 40)


def spoil_gone(queue: Queue, spec: Spec) -> None:
    os.remove(queue.layout.call(spec.id))


def spoil_pipe(queue: Queue, spec: Spec) -> None:
    os.remove(queue.layout.call(spec.id))
    os.mkfifo(queue.layout.call(spec.id))


@pytest.mark.parametrize("spoil", [spoil_short, spoil_gone, spoil_pipe])
def test_calls_that_cannot_be_read_end_failed_and_stop_nobody(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Queue, Spec], None]
) -> None:
    slot = dead_slot(queue, "s-dead")
    due = [put(queue, retries=1, retry_delay=10.0) for _ in range(2)]
    for spec in due:
        finish(queue, spec, claim(queue), FAILED)
    claimed = [put(queue) for _ in range(2)]
    for _ in claimed:
        claim(queue, slot)
    parent = put(queue)
    waiting = [put(queue, after=(parent.id,)) for _ in range(2)]
    for spec, _ in (due, claimed, waiting):
        spoil(queue, spec)
    later = time.time() + 11
    monkeypatch.setattr(time, "time", lambda: later)
    sweep(queue, ME)
    found = {place.ticket.id: place.status for place in (*lookup.live_tickets(queue), *lookup.ended_tickets(queue))}
    assert [found[spec.id] for spec, _ in (due, claimed, waiting)] == [FAILED] * 3
    assert [found[spec.id] for _, spec in (due, claimed, waiting)] == [QUEUED, QUEUED, WAITING]
    for place in lookup.ended_tickets(queue):
        outcome = records.find_whole_outcome(queue, place.ticket)
        assert outcome is not None
        assert outcome.kind == "damaged"
        assert outcome.reason


def test_a_disk_that_is_full_while_recovering(queue: Queue) -> None:
    """The outcome does not fit: nothing is lost, and once there is room the next sweep settles it."""
    spec, other = put(queue), put(queue)
    slot = dead_slot(queue, "s-dead")
    claim(queue, slot)
    claim(queue, slot)
    full = True

    def plan(step: str, path: str) -> None:
        if full and step == "create:before" and path.endswith(".outcome"):
            raise OSError(errno.ENOSPC, "No space left on device", path)

    disk = Queue(queue.root, disk=FaultyDisk(RealDisk(), plan))
    recover_slot(disk, ME, slot, KILLED)
    assert [status(queue, one) for one in (spec, other)] == [RUNNING, RUNNING]
    sweep(disk, ME)
    full = False
    sweep(disk, ME)
    assert {status(queue, one) for one in (spec, other)} <= {QUEUED, FAILED}
    assert queue.names(queue.layout.running_folder(ME)) == []
    assert check(queue, full=True) == []


def test_who_died_is_remembered_until_all_that_it_had_is_settled(queue: Queue) -> None:
    spec = put(queue)
    slot = dead_slot(queue, "s-dead", boot="another")
    claim(queue, slot)

    def plan(step: str, path: str) -> None:
        if step == "move:before" and "/queued/" in path:
            raise OSError(errno.ENOSPC, "No space left on device", path)

    sweep(Queue(queue.root, disk=FaultyDisk(RealDisk(), plan)), ME)
    assert status(queue, spec) is RUNNING
    assert members.find_member(queue, slot) is not None
    sweep(queue, ME)
    assert status(queue, spec) is QUEUED
    assert members.find_member(queue, slot) is None


def test_recovery_killed_at_every_step(queue: Queue) -> None:
    """Whoever recovers may die too; the next one goes on, and each task has one fate."""
    for n in range(1, 400):
        # A queue for each step: to look at one is to read all of it.
        with new_queue(f"{queue.root}-{n}") as fresh:
            if not _recovered_after_a_death(fresh, n):
                break
    else:
        raise AssertionError("it never came to an end")
    assert n > 20


def _recovered_after_a_death(queue: Queue, n: int) -> bool:
    """False when recovery has fewer than `n` steps."""
    slot, me = dead_slot(queue, f"s-{n}"), dead_slot(queue, f"w-{n}")
    specs = [
        put(queue), put(queue, at_most_once=True), put(queue, at_most_once=True), put(queue), put(queue, retries=1),
    ]  # fmt: skip
    child = put(queue, after=(specs[1].id,))
    tickets = [claim(queue, slot) for _ in specs]
    started(queue, tickets[1])
    write_outcome(queue, tickets[3])
    queue.cancel(specs[4].id)
    if not _recovery_killed(queue.root, n, me):
        return False
    for _ in range(2):
        sweep(queue, ME)
    assert [status(queue, spec) for spec in (*specs, child)] == [
        QUEUED, FAILED, QUEUED, SUCCEEDED, CANCELLED, FAILED,
    ], n  # fmt: skip
    assert ended(queue, specs[1]).kind == "lost"
    while ticket := Claimer(queue, "s-x", [LINE]).try_claim():
        finish(queue, queue.record(ticket.id).spec, ticket, slot="s-x")
    assert [status(queue, spec) for spec in (*specs, child)] == [
        SUCCEEDED, FAILED, SUCCEEDED, SUCCEEDED, CANCELLED, FAILED,
    ]  # fmt: skip
    return True


def _recovery_killed(root: str, n: int, me: str) -> bool:
    def run() -> None:
        seen = 0

        def plan(step: str, path: str) -> None:
            nonlocal seen
            if step.partition(":")[0] in ("create", "move", "remove", "replace", "remove_folder"):
                seen += 1
                if seen == n:
                    os.kill(os.getpid(), signal.SIGKILL)

        sweep(Queue(root, disk=FaultyDisk(RealDisk(), plan, halves=True)), me)

    return Child(run).wait() != 0


# After a restart of the host.


def boot_again(monkeypatch: pytest.MonkeyPatch, queue: Queue) -> Queue:
    monkeypatch.setenv("NBTASKS_BOOT", "afterwards")
    config.reset()
    again = Queue(queue.root)
    assert again.boot == "afterwards"
    return again


def ended_tasks(queue: Queue, **fields: object) -> list[Spec]:
    specs = [put(queue, **fields) for _ in range(3)]
    for spec, how in zip(specs, (SUCCEEDED, FAILED, SUCCEEDED), strict=True):
        end(queue, spec, how)
    return specs


def lose(queue: Queue, spec: Spec, how: str) -> None:
    path = queue.layout.file(spec.id, 1, OUTCOME)
    if how == "gone":
        os.remove(path)
    else:
        os.truncate(path, {"empty": 0, "half": os.path.getsize(path) // 2}[how])


@pytest.mark.parametrize("how", ["empty", "half", "gone"])
def test_outcomes_that_a_power_cut_took_are_delivered_again(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    recovery.mark_flushed(queue, time.time())
    good, bad, worse = ended_tasks(queue)
    queue.cancel(put(queue).id)
    lose(queue, bad, how)
    lose(queue, worse, how)
    assert recovery.verify_after_restart(queue, ME) == 0, "no restart, no loss"
    again = boot_again(monkeypatch, queue)
    assert recovery.verify_after_restart(again, ME) == 2
    assert [status(queue, spec) for spec in (good, bad, worse)] == [SUCCEEDED, QUEUED, QUEUED]
    assert ticket_of(queue, bad).losses == 1
    for spec in (bad, worse):
        end_next(queue, spec)
    recovery.mark_flushed(again, time.time())
    assert recovery.verify_after_restart(again, ME) == 0
    assert check(queue, full=True) == []


def test_what_must_not_run_twice_ends_failed_when_its_outcome_was_lost(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, bad, _ = ended_tasks(queue, at_most_once=True)
    lose(queue, bad, "empty")
    again = boot_again(monkeypatch, queue)
    assert recovery.verify_after_restart(again, ME) == 1
    assert (status(queue, bad), ended(queue, bad).kind) == (FAILED, "lost")
    assert "its outcome was lost when the host's power failed" in ended(queue, bad).reason


def test_what_was_flushed_is_not_read_again(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, _, _ = ended_tasks(queue)
    lose(queue, spec, "empty")
    recovery.mark_flushed(queue, time.time() + 1000)
    assert recovery.verify_after_restart(boot_again(monkeypatch, queue), ME) == 0


@pytest.mark.parametrize("mark", [None, b"", b"17952", b"nonsense here now", b"\0\0\0\0"])
def test_a_flush_mark_that_was_lost_itself_vouches_for_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, mark: bytes | None
) -> None:
    spec, _, _ = ended_tasks(queue)
    lose(queue, spec, "half")
    if mark is not None:
        Path(queue.layout.flushed).write_bytes(mark)
    assert recovery.verify_after_restart(boot_again(monkeypatch, queue), ME) == 1
    assert status(queue, spec) is QUEUED


def test_a_moment_before_the_mark_is_looked_at_all_the_same(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of files lag behind the clock by some milliseconds."""
    spec, _, _ = ended_tasks(queue)
    lose(queue, spec, "half")
    recovery.mark_flushed(queue, time.time() + 1)
    assert recovery.verify_after_restart(boot_again(monkeypatch, queue), ME) == 1


def test_call_and_outcome_lost_together(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    both, _, other = ended_tasks(queue)
    lose(queue, both, "empty")
    lose(queue, other, "empty")
    spoil_short(queue, both)
    again = boot_again(monkeypatch, queue)
    assert recovery.verify_after_restart(again, ME) == 2
    assert status(queue, other) is QUEUED
    assert (status(queue, both), ended(queue, both).kind) == (FAILED, "damaged")


def test_several_workers_look_after_a_restart_at_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [spec for _ in range(5) for spec in ended_tasks(queue)]
    for spec in specs:
        lose(queue, spec, "empty")
    boot_again(monkeypatch, queue)
    children = [
        Child(lambda me=me: recovery.verify_after_restart(Queue(queue.root), me)) for me in ("w-1", "w-2", "w-3")
    ]
    for child in children:
        child.result()
    assert [kind for _, kind in places(queue)] == [QUEUED] * 15
    assert {ticket_of(queue, spec) for spec in specs} == {Ticket(spec.id, 3, 0, 1) for spec in specs}


def test_the_mark_of_what_began(queue: Queue) -> None:
    spec = put(queue)
    ticket = claim(queue)
    started(queue, ticket)
    assert os.path.exists(queue.layout.file(spec.id, 1, STARTED))
