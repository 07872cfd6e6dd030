"""Tasks that need others: released once, failed when what they need failed, revived when that is retried."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from nbtasks.queue import dependencies, lookup, recovery
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import new_id
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import LINE, VALUE, Child, Gate, claim, dead_slot, finish, outcome, places, put, status

FAILED, WAITING, QUEUED, SUCCEEDED = Status.FAILED, Status.WAITING, Status.QUEUED, Status.SUCCEEDED


def kind(queue: Queue, spec: Spec) -> str:
    record = queue.record(spec.id)
    return record.outcome.kind if record.outcome else ""


@pytest.mark.parametrize("field", ["parents", "after"])
def test_a_child_waits_for_all_that_it_needs(queue: Queue, field: str) -> None:
    first, second = put(queue), put(queue)
    child = put(queue, **{field: (first.id, second.id)})
    assert status(queue, child) is WAITING
    end(queue, first)
    assert status(queue, child) is WAITING
    end(queue, second)
    assert status(queue, child) is QUEUED
    assert claim(queue) == Ticket(child.id)


def test_of_parents_that_have_ended_it_need_not_wait(queue: Queue) -> None:
    parent = put(queue)
    end(queue, parent)
    assert status(queue, put(queue, after=(parent.id,))) is QUEUED


def test_a_parent_named_twice_is_one(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, parents=(parent.id, parent.id), after=(parent.id,))
    end(queue, parent)
    assert status(queue, child) is QUEUED


@pytest.mark.parametrize("field", ["parents", "after"])
def test_a_child_fails_with_its_parent_and_its_own_children_with_it(queue: Queue, field: str) -> None:
    parent, other = put(queue, "clean"), put(queue)
    child = put(queue, "train", **{field: (other.id, parent.id)})
    grandchild = put(queue, "report", after=(child.id,))
    end(queue, parent, FAILED)
    assert (status(queue, child), kind(queue, child)) == (FAILED, "upstream")
    assert queue.record(child.id).reason == f"clean ({parent.short}), which it needs, failed"
    assert (status(queue, grandchild), kind(queue, grandchild)) == (FAILED, "upstream")
    assert queue.record(grandchild.id).reason == f"train ({child.short}), which it needs, failed"
    assert status(queue, other) is QUEUED


def test_a_parent_that_will_be_tried_again_fails_nobody(queue: Queue) -> None:
    parent = put(queue, retries=1)
    child = put(queue, after=(parent.id,))
    finish(queue, parent, claim(queue), FAILED)
    assert status(queue, child) is WAITING
    finish(queue, parent, claim(queue), FAILED)
    assert status(queue, child) is FAILED


def test_the_childs_own_retries_do_not_bring_it_back(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,), retries=5)
    end(queue, parent, FAILED)
    assert status(queue, child) is FAILED


def test_a_client_that_cancels_a_parent_leaves_the_children_to_a_worker(queue: Queue) -> None:
    parent = put(queue, "clean")
    child = put(queue, after=(parent.id,))
    worker = queue.bell("workers", "w-1")
    assert queue.cancel(parent.id)
    assert status(queue, child) is WAITING
    hints = worker.drain()
    assert f"upstream {child.id}" in hints
    worker.close()
    recovery.look_at_child(queue, "w-1", child.id)
    assert (status(queue, child), kind(queue, child)) == (FAILED, "upstream")
    assert queue.record(child.id).reason == f"clean ({parent.short}), which it needs, was cancelled"


def test_a_task_that_hangs_on_a_failed_one_is_left_to_a_worker(queue: Queue) -> None:
    parent = put(queue)
    end(queue, parent, FAILED)
    child = put(queue, after=(parent.id,))
    assert status(queue, child) is WAITING
    recovery.sweep(queue, "w-1")
    assert kind(queue, child) == "upstream"


def test_a_parent_that_is_not_in_the_queue(queue: Queue) -> None:
    child = put(queue, after=(new_id(),))
    recovery.sweep(queue, "w-1")
    assert kind(queue, child) == "upstream"
    assert "is not in this queue" in queue.record(child.id).reason


def test_a_waiting_child_can_be_cancelled(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    assert queue.cancel(child.id)
    end(queue, parent)
    assert status(queue, child) is Status.CANCELLED


def test_retrying_the_parent_revives_what_failed_with_it(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    grandchild = put(queue, after=(child.id,))
    own_failure = put(queue)
    late = put(queue, after=(own_failure.id,))
    end(queue, parent, FAILED)
    end(queue, own_failure)
    finish(queue, late, claim(queue), FAILED)
    queue.retry(parent.id)
    assert [status(queue, spec) for spec in (parent, child, grandchild)] == [QUEUED, WAITING, WAITING]
    end(queue, parent)
    assert finish(queue, child, claim(queue))
    assert finish(queue, grandchild, claim(queue))
    assert status(queue, grandchild) is SUCCEEDED
    assert status(queue, late) is FAILED, "what failed by itself stays failed"


def end(queue: Queue, spec: Spec, how: Status = SUCCEEDED) -> None:
    """Claim and commit the next ticket, at whatever delivery."""
    ticket = claim(queue)
    assert ticket.id == spec.id
    assert finish(queue, spec, ticket, how)


def test_a_child_of_two_failed_ones_needs_both(queue: Queue) -> None:
    first, second = put(queue), put(queue)
    child = put(queue, after=(first.id, second.id))
    end(queue, first, FAILED)
    end(queue, second, FAILED)
    queue.retry(first.id)
    recovery.sweep(queue, "w-1")
    assert kind(queue, child) == "upstream", "the other is still failed"
    queue.retry(second.id)
    assert status(queue, child) is WAITING
    end(queue, first)
    end(queue, second)
    assert status(queue, child) is QUEUED


def test_retrying_the_child_alone(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    end(queue, parent, FAILED)
    queue.retry(child.id)
    recovery.sweep(queue, "w-1")
    assert kind(queue, child) == "upstream", "its parent is still failed"


def test_a_child_retried_after_its_parent_succeeded_runs_and_wakes_somebody(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    end(queue, parent)
    finish(queue, child, claim(queue), FAILED)
    slot = queue.bell("default@env/idle", "s-1")
    queue.retry(child.id)
    assert slot.drain() == ["work"]
    slot.close()
    assert claim(queue) == Ticket(child.id, 2)


def test_a_chain_longer_than_the_stack_fails_and_comes_back(queue: Queue) -> None:
    chain = [put(queue)]
    for _ in range(400):
        chain.append(put(queue, after=(chain[-1].id,)))
    end(queue, chain[0], FAILED)
    assert lookup.counts(queue)[FAILED] == len(chain)
    queue.retry(chain[0].id)
    assert lookup.counts(queue)[WAITING] == len(chain) - 1


def test_an_edge_to_a_task_that_was_never_submitted_stops_nothing(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    edges = queue.layout.edges_folder(parent.id)
    for name in (new_id(), "0", "notes.txt", ".hidden"):
        Path(edges, name).write_text("")
    Path(edges, "zzzz").mkdir()
    end(queue, parent, FAILED)
    assert kind(queue, child) == "upstream"
    queue.retry(parent.id)
    assert status(queue, child) is WAITING
    end(queue, parent)
    assert status(queue, child) is QUEUED


def test_a_parent_whose_call_was_damaged_meanwhile_still_releases(queue: Queue) -> None:
    parent, bad = put(queue), put(queue)
    child, sad = put(queue, after=(parent.id,)), put(queue, after=(bad.id,))
    end(queue, parent)
    os.truncate(queue.layout.call(parent.id), 30)
    late = put(queue, after=(parent.id,))
    assert [status(queue, spec) for spec in (child, late)] == [QUEUED, QUEUED]
    end(queue, bad, FAILED)
    assert kind(queue, sad) == "upstream"


def test_a_waiting_child_whose_call_is_damaged_ends_and_holds_up_nobody(queue: Queue) -> None:
    parent = put(queue)
    broken, gone, fine = (put(queue, after=(parent.id,)) for _ in range(3))
    os.truncate(queue.layout.call(broken.id), 30)
    os.remove(queue.layout.call(gone.id))
    end(queue, parent)
    assert status(queue, fine) is QUEUED
    recovery.sweep(queue, "w-1")
    assert kind(queue, broken) == "damaged"
    ended = {place.ticket.id: place.status for place in lookup.ended_tickets(queue)}
    assert ended[gone.id] is FAILED


@pytest.mark.parametrize("retries", [0, 3])
def test_a_slot_that_died_between_taking_a_child_and_failing_it(queue: Queue, retries: int) -> None:
    """The child never ran and must not run: it goes back to waiting, and fails again."""
    parent = put(queue)
    child = put(queue, after=(parent.id,), retries=retries)
    place = dependencies.find_waiting(queue, child.id)
    assert place is not None
    slot = dead_slot(queue, "s-dead")
    queue.disk.move(place.path, f"{queue.layout.running_folder(slot)}/{place.ticket.put_back()}")
    end(queue, parent, FAILED)
    recovery.recover_slot(queue, "w-1", slot, recovery.Death(signal=9))
    assert status(queue, child) is WAITING
    recovery.sweep(queue, "w-1")
    assert (status(queue, child), kind(queue, child)) == (FAILED, "upstream")


def test_a_parent_retried_while_its_child_is_being_failed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The retry looks at the child too early to see it failed; who fails it looks at the parent once more."""
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    write = queue.write_outcome

    def retried_meanwhile(ticket: Ticket, *rest: object) -> None:
        write(ticket, *rest)  # type: ignore[arg-type]
        if ticket.id == child.id:
            queue.retry(parent.id)

    monkeypatch.setattr(queue, "write_outcome", retried_meanwhile)
    end(queue, parent, FAILED)
    monkeypatch.undo()
    assert [status(queue, spec) for spec in (parent, child)] == [QUEUED, WAITING]
    end(queue, parent)
    assert status(queue, child) is QUEUED


def test_a_full_disk_while_a_child_is_being_failed_leaves_it_waiting(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    create = queue.disk.create

    def full(path: str, parts: object, *, flush: bool = False) -> None:
        if f"{child.id}.2.outcome" in path:
            raise OSError(28, "No space left on device", path)
        create(path, parts, flush=flush)  # type: ignore[arg-type]

    monkeypatch.setattr(queue.disk, "create", full)
    end(queue, parent, FAILED)
    assert status(queue, parent) is FAILED
    assert status(queue, child) is WAITING
    recovery.sweep(queue, "w-1")
    assert kind(queue, child) == "upstream", "and once there is room it ends"


# Races.


def end_parents(root: str, slot: str, gate: Gate, how: dict[str, Status]) -> list[str]:
    queue = Queue(root)
    claimer = Claimer(queue, slot, [LINE])
    gate.tell("ready")
    gate.pass_through()
    mine: list[str] = []
    deadline = time.monotonic() + 60
    while lookup.counts(queue)[Status.WAITING] or lookup.counts(queue)[QUEUED] or not mine:
        assert time.monotonic() < deadline
        if ticket := claimer.try_claim():
            spec = queue.record(ticket.id).spec
            mine.append(str(ticket))
            queue.finish(spec, ticket, slot, outcome(ticket, how.get(ticket.id, SUCCEEDED)), VALUE)
    return mine


def submit_children(root: str, gate: Gate, parents: list[str], seed: int) -> list[Spec]:
    queue = Queue(root)
    draw = random.Random(seed)
    gate.tell("ready")
    gate.pass_through()
    return [put(queue, after=tuple(draw.sample(parents, 3))) for _ in range(100)]


def sweep_on(root: str, me: str, gate: Gate) -> None:
    queue = Queue(root)
    gate.tell("ready")
    gate.pass_through()
    while True:
        recovery.sweep(queue, me, spare=frozenset(["s-1", "s-2"]))


@pytest.mark.parametrize("failing", [0, 5])
def test_children_submitted_while_their_parents_end_run_once_or_fail_once(queue: Queue, failing: int) -> None:
    parents = [put(queue).id for _ in range(60)]
    how = dict.fromkeys(parents[:failing], FAILED)
    with Gate() as gate:
        enders = [Child(end_parents, queue.root, slot, gate, how) for slot in ("s-1", "s-2")]
        submitters = [Child(submit_children, queue.root, gate, parents, seed) for seed in (1, 2)]
        sweepers = [Child(sweep_on, queue.root, me, gate) for me in ("w-1", "w-2")]
        gate.hear(6)
    children = [spec for child in submitters for spec in child.result()]
    ran = [name for child in enders for name in child.result()]
    rest = Queue(queue.root)
    while (ticket := Claimer(rest, "s-1", [LINE]).try_claim()) or list(lookup.live_tickets(rest)):
        if ticket:
            ran.append(str(ticket))
            finish(rest, rest.record(ticket.id).spec, ticket)
    for sweeper in sweepers:
        sweeper.kill()
    assert len(set(ran)) == len(ran)
    ids = [name.partition(".")[0] for name in ran]
    assert len(set(ids)) == len(ids), "nothing ran twice"
    for child in children:
        must_fail = bool(set(child.after) & set(how))
        assert status(rest, child) is (FAILED if must_fail else SUCCEEDED)
        assert (child.id in ids) is not must_fail
        assert kind(rest, child) == ("upstream" if must_fail else "")
    assert len(places(rest)) == 260
