"""The real queue on a disk in memory, which after every operation tells all that a power cut may leave.

What submit acknowledged with ``durability="power"``, or what a flush came after, must be there in each of these states: with
one ticket, with its call, and so that the workers of the next day bring it to its end.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbtasks import config, processes
from nbtasks.durable_faults import FaultyDisk
from nbtasks.durable_model import ModelDisk
from nbtasks.errors import PayloadError, TaskNotFound
from nbtasks.queue import lookup, records, recovery
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import LINE, claim, finish, put

FAILED, SUCCEEDED, CANCELLED = Status.FAILED, Status.SUCCEEDED, Status.CANCELLED
STATES = 120  # looked at after each operation; beyond this number they are drawn by chance, from a fixed seed


class Laboratory:
    """A queue in memory; after each change of the disk, every state that a crash may leave is judged."""

    def __init__(self, root: str) -> None:
        self.real = Queue(root)  # its mark, its bells and its key are real
        mark = self.real.layout.mark
        self.model = ModelDisk({mark: Path(mark).read_bytes()})
        self.queue = Queue(root, disk=FaultyDisk(self.model, self._after))
        self.safe: dict[str, Spec] = {}  # what must not be lost
        self.ends: dict[str, Status] = {}  # how tasks must end, where that is sure
        self.wrong: list[str] = []
        self.states = 0
        self.shaken = True

    def _after(self, step: str, path: str) -> None:
        operation, _, when = step.partition(":")
        if when == "after" and operation not in ("list", "read", "exists") and self.shaken:
            self.shake(step, path)

    def shake(self, step: str = "", path: str = "") -> None:
        """Look at every state that a crash could leave now."""
        for state in self.model.crash_states(STATES, seed=self.states):
            self.states += 1
            files = state.files()
            queue = Queue(self.queue.root, disk=state)
            for complaint in (*self._lost(queue), *self._next_day(queue)):
                self.wrong.append(f"{step} {path}: {complaint}; there was {sorted(files)}")

    def _lost(self, queue: Queue) -> Iterator[str]:
        places = [*lookup.live_tickets(queue), *lookup.ended_tickets(queue)]
        for id in self.safe:
            tickets = [str(place.ticket) for place in places if place.ticket.id == id]
            if len(tickets) != 1:
                yield f"{id} has the tickets {tickets}"
            try:
                records.read_call(queue, id)
            except (OSError, PayloadError) as error:
                yield f"the call of {id}: {error!r}"

    def _next_day(self, queue: Queue) -> Iterator[str]:
        """Start again: verify, recover, run all that is there."""
        queue.boot = "next"
        recovery.verify_after_restart(queue, "w-next")
        for _ in range(3):
            recovery.sweep(queue, "w-next")
            self._run_all(queue)
        for place in lookup.live_tickets(queue):
            yield f"{place.ticket} is still {place.status}"
        for place in lookup.ended_tickets(queue):
            if place.status is not CANCELLED and records.find_whole_outcome(queue, place.ticket) is None:
                yield f"{place.ticket} is {place.status} without an outcome that can be read"
        for id, how in self.ends.items():
            if (found := queue.record(id).status) is not how:
                yield f"{id} is {found} and not {how}"

    def _run_all(self, queue: Queue) -> None:
        claimer = Claimer(queue, "s-next", [LINE])
        while ticket := claimer.try_claim():
            try:
                spec = records.read_spec(queue, ticket.id)
                records.read_call(queue, ticket.id)
            except (OSError, PayloadError, TaskNotFound) as error:
                finish(queue, records.damaged_spec(ticket.id, error), ticket, FAILED, "s-next", kind="damaged")
                continue
            how = CANCELLED if queue.disk.exists(queue.layout.cancel_file(ticket.id)) else SUCCEEDED
            finish(queue, spec, ticket, how, "s-next")

    def put(self, **fields: object) -> Spec:
        """Submit; what is acknowledged with "power" is safe from now on."""
        spec = put(self.queue, **fields)
        if config.settings().durability == "power":
            self.safe[spec.id] = spec
        self.shake()
        return spec

    def flush(self) -> None:
        """What the worker's flusher does; all that was there before is safe from now on."""
        here = {id: records.read_spec(self.queue, id) for id in lookup.all_ids(self.queue)}
        self.queue.disk.flush_all(self.queue.root)
        self.safe |= here
        recovery.mark_flushed(self.queue, 0.0)


@pytest.fixture
def laboratory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laboratory]:
    monkeypatch.setattr(processes, "kill_tree", lambda *_, **__: [])  # nobody ran; looking for them takes long
    lab = Laboratory(str(tmp_path / ".nbtasks"))
    flusher = lab.real.bell("flush", "f-1")
    yield lab
    flusher.close()


def report(lab: Laboratory) -> None:
    print(f"{lab.states} states after a crash, {len(lab.wrong)} of them wrong")
    assert lab.wrong == []


def a_life(lab: Laboratory) -> None:
    """Tasks of all fates."""
    queue = lab.queue
    first = lab.put()
    child = lab.put(after=(first.id,))
    assert finish(queue, first, claim(queue))
    assert finish(queue, child, claim(queue))
    again = lab.put(retries=1)
    assert finish(queue, again, claim(queue), FAILED)
    assert finish(queue, again, claim(queue))
    dropped = lab.put()
    assert queue.cancel(dropped.id)
    queue.retry(dropped.id)
    assert finish(queue, dropped, claim(queue), FAILED)


def test_power_whatever_was_acknowledged_is_there(laboratory: Laboratory) -> None:
    config.configure(durability="power")
    a_life(laboratory)
    assert laboratory.states > 400
    report(laboratory)


def test_power_children_of_a_failed_one(laboratory: Laboratory) -> None:
    config.configure(durability="power")
    queue = laboratory.queue
    parent = laboratory.put()
    child = laboratory.put(after=(parent.id,))
    laboratory.put(after=(child.id,))
    assert finish(queue, parent, claim(queue), FAILED)
    queue.retry(parent.id)
    assert finish(queue, parent, claim(queue))
    report(laboratory)


def test_power_a_success_that_was_flushed_stays_one(laboratory: Laboratory) -> None:
    config.configure(durability="power")
    queue = laboratory.queue
    spec = laboratory.put()
    ticket = claim(queue)
    assert finish(queue, spec, ticket)
    laboratory.flush()
    laboratory.ends[spec.id] = SUCCEEDED
    later = laboratory.put()
    assert finish(queue, later, claim(queue))
    report(laboratory)


def test_power_what_must_not_start_twice(laboratory: Laboratory) -> None:
    """Once the mark is written, no state lets it run again; before, every state may."""
    config.configure(durability="power")
    queue = laboratory.queue
    spec = laboratory.put(at_most_once=True)
    ticket = claim(queue)
    queue.disk.create(queue.layout.file(spec.id, ticket.delivery, "started"), [], flush=True)
    started = queue.layout.file(spec.id, ticket.delivery, "started")
    for state in laboratory.model.crash_states():
        laboratory.states += 1
        assert state.exists(started), "the mark is on the disk before user code runs"
        again = Queue(queue.root, disk=state)
        recovery.sweep(again, "w-next")
        record = again.record(spec.id)
        # The claim's move is older than the mark, but its loss is possible: then whoever claims it finds the mark.
        if record.place.ticket.delivery > 1:
            assert (record.status, record.outcome and record.outcome.kind) == (FAILED, "lost")


def test_second_what_was_flushed_is_there_and_what_ended_can_be_read(laboratory: Laboratory) -> None:
    queue = laboratory.queue
    first = laboratory.put()
    laboratory.flush()
    second = laboratory.put(retries=1)
    assert finish(queue, first, claim(queue))
    laboratory.flush()
    laboratory.ends[first.id] = SUCCEEDED
    assert finish(queue, second, claim(queue), FAILED)
    third = laboratory.put(after=(second.id,))
    laboratory.flush()
    assert finish(queue, second, claim(queue))
    assert finish(queue, third, claim(queue))
    assert len(laboratory.safe) == 3
    report(laboratory)


# The control arm: without what makes them safe, tasks must get lost here, or all of this proves nothing.


def test_control_without_a_flush_tasks_are_lost(laboratory: Laboratory) -> None:
    spec = laboratory.put()
    laboratory.safe[spec.id] = spec
    laboratory.shake()
    assert any("has the tickets []" in complaint for complaint in laboratory.wrong)
    assert any("the call of" in complaint for complaint in laboratory.wrong)


@pytest.mark.parametrize("kind", [".call", ".1.0.0"])
def test_control_a_flush_left_out_is_noticed(
    laboratory: Laboratory, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.configure(durability="power")
    create = laboratory.model.create

    def lazy(path: str, parts: object, *, flush: bool = False) -> None:
        create(path, parts, flush=flush and not path.endswith(kind))  # type: ignore[arg-type]

    monkeypatch.setattr(laboratory.model, "create", lazy)
    laboratory.put()
    assert laboratory.wrong


def test_control_an_outcome_that_is_not_verified_is_noticed(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "verify_after_restart", lambda queue, me: 0)
    queue = laboratory.queue
    spec = laboratory.put()
    laboratory.flush()
    assert finish(queue, spec, claim(queue))
    assert any("without an outcome" in complaint for complaint in laboratory.wrong)


def test_a_full_disk_in_the_model(laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    config.configure(durability="power")
    create: Callable[..., None] = laboratory.model.create

    def full(path: str, parts: object, *, flush: bool = False) -> None:
        if path.endswith(".1.0.0"):
            raise OSError(errno.ENOSPC, "No space left on device", path)
        create(path, parts, flush=flush)

    monkeypatch.setattr(laboratory.model, "create", full)
    with pytest.raises(OSError, match="No space left"):
        laboratory.put()
    monkeypatch.undo()
    monkeypatch.setattr(processes, "kill_tree", lambda *_, **__: [])
    laboratory.put()
    report(laboratory)
