"""The life of a task in the real directory: each step is one move, and each that fails leaves what was."""

from __future__ import annotations

import errno
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from nbtasks import config, payload
from nbtasks.durable import CreateUncertain, RealDisk
from nbtasks.durable_faults import FaultyDisk
from nbtasks.errors import OptionError, SubmitUncertain, TaskNotFound
from nbtasks.queue import lookup, records, recovery
from nbtasks.queue.check import check
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import OUTCOME, new_id
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import (
    ADD,
    ENV,
    LINE,
    VALUE,
    Child,
    claim,
    dead_slot,
    end,
    finish,
    new_queue,
    outcome,
    places,
    put,
    status,
)

FAILED, QUEUED, SUCCEEDED, CANCELLED, WAITING = (
    Status.FAILED, Status.QUEUED, Status.SUCCEEDED, Status.CANCELLED, Status.WAITING,
)  # fmt: skip


# Put, claim, finish.


def test_from_submit_to_its_value(queue: Queue) -> None:
    spec = Spec(id=queue.new_id(), name="train", env=ENV)
    assert queue.put(spec, ADD) == Ticket(spec.id)
    ticket = claim(queue)
    call = records.read_call(queue, ticket.id)
    args, kwargs = payload.load(call.parts["arguments"])
    value = payload.load(call.parts["function"])(*args, **kwargs)
    assert queue.finish(spec, ticket, "s-1", outcome(ticket), [payload.dump("value", value)])
    frame = records.read_outcome_frame(queue, queue.record(spec.id).ticket)
    assert payload.load(frame.parts["value"]) == 3
    assert places(queue) == [(str(ticket), SUCCEEDED)]
    assert check(queue, full=True) == []


def test_a_finish_after_the_claim_was_lost_commits_nothing(queue: Queue) -> None:
    spec = put(queue)
    ticket = claim(queue)
    queue.put_back(spec, ticket.lost(), f"{queue.layout.running_folder('s-1')}/{ticket}")
    assert not finish(queue, spec, ticket)
    again = claim(queue, "s-2")
    assert status(queue, spec) is Status.RUNNING
    assert finish(queue, spec, again, slot="s-2")
    assert not finish(queue, spec, again, slot="s-2"), "and not twice"
    assert places(queue) == [(str(again), SUCCEEDED)]


def test_another_process_sees_it_at_once(queue: Queue) -> None:
    spec = put(queue)
    assert Child(lambda: Queue(queue.root).record(spec.id).spec).result() == spec
    assert Child(lambda: claim(Queue(queue.root)).id).result() == spec.id
    assert status(queue, spec) is Status.RUNNING


def test_a_task_survives_the_death_of_its_submitter(queue: Queue) -> None:
    def submit_and_die() -> None:
        put(Queue(queue.root), "from the grave")
        os.kill(os.getpid(), signal.SIGKILL)

    assert Child(submit_and_die).wait() == -signal.SIGKILL
    (record,) = queue.records()
    assert record.name == "from the grave"
    end(queue, record.spec)


# Retries.


def test_retries_until_they_are_used_up(queue: Queue) -> None:
    spec = put(queue, retries=2)
    for attempt in (1, 2):
        ticket = claim(queue)
        assert ticket == Ticket(spec.id, attempt, attempt - 1)
        assert finish(queue, spec, ticket, FAILED)
        assert status(queue, spec) is QUEUED
    assert finish(queue, spec, claim(queue), FAILED)
    assert status(queue, spec) is FAILED
    assert queue.record(spec.id).attempt == 3


def test_a_retry_that_succeeds(queue: Queue) -> None:
    spec = put(queue, retries=2)
    finish(queue, spec, claim(queue), FAILED)
    assert finish(queue, spec, claim(queue))
    assert status(queue, spec) is SUCCEEDED
    assert Claimer(queue, "s-1", [LINE]).try_claim() is None


@pytest.mark.parametrize("kind", ["upstream", "damaged", "lost"])
def test_what_trying_again_would_not_mend_is_not_tried_again(queue: Queue, kind: str) -> None:
    spec = put(queue, retries=2)
    finish(queue, spec, claim(queue), FAILED, kind=kind)
    assert status(queue, spec) is FAILED


@pytest.mark.parametrize("kind", ["", "killed", "timed out"])
def test_what_trying_again_may_mend_is(queue: Queue, kind: str) -> None:
    spec = put(queue, retries=2)
    finish(queue, spec, claim(queue), FAILED, kind=kind)
    assert status(queue, spec) is QUEUED


def test_delays_double_up_to_an_hour(queue: Queue) -> None:
    spec = put(queue, retries=20, retry_delay=100.0)
    ticket = claim(queue)
    for failures, delay in ((0, 100), (1, 200), (2, 400), (12, 3600)):
        now = Ticket(spec.id, ticket.delivery, failures)
        folder = queue.layout.running_folder("s-1")
        queue.disk.move(f"{folder}/{ticket}", f"{folder}/{now}")
        before = time.time()
        assert finish(queue, spec, now, FAILED)
        place = lookup.locate(queue, spec)
        assert place is not None
        assert place.status is WAITING
        assert place.ticket == now.failed()
        due = recovery.release_due(queue)
        assert due is not None
        assert before + delay <= due <= time.time() + delay + 0.001  # the name has whole milliseconds, never too early
        ticket = place.ticket
        queue.disk.move(place.path, f"{folder}/{ticket}")


def test_a_due_retry_is_released_and_one_that_is_not_waits(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = queue.bell("workers", "w-1")
    soon, late = put(queue, retries=1, retry_delay=10.0), put(queue, retries=1, retry_delay=1000.0)
    for spec in (soon, late):
        finish(queue, spec, claim(queue), FAILED)
    assert worker.drain().count("until") == 2, "a worker learns of the moment"
    worker.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 11)
    due = recovery.release_due(queue)
    assert due == pytest.approx(now + 1000, abs=5)
    assert [status(queue, spec) for spec in (soon, late)] == [QUEUED, WAITING]
    monkeypatch.setattr(time, "time", lambda: now + 1011)
    assert recovery.release_due(queue) is None
    assert status(queue, late) is QUEUED


# Cancel.


def test_cancelled_while_queued(queue: Queue) -> None:
    spec = put(queue)
    assert queue.cancel(spec.id)
    assert status(queue, spec) is CANCELLED
    assert Claimer(queue, "s-1", [LINE]).try_claim() is None
    assert not queue.cancel(spec.id), "it has ended"
    assert check(queue, full=True) == []


def test_cancelled_while_it_waits_for_its_moment(queue: Queue) -> None:
    spec = put(queue, retries=1, retry_delay=100.0)
    finish(queue, spec, claim(queue), FAILED)
    assert queue.cancel(spec.id)
    assert status(queue, spec) is CANCELLED
    assert recovery.release_due(queue) is None


@pytest.mark.parametrize(("force", "hint", "word"), [(False, "cancel", b""), (True, "terminate", b"terminate")])
def test_cancelled_while_it_runs(queue: Queue, force: bool, hint: str, word: bytes) -> None:
    spec = put(queue, retries=5)
    ticket = claim(queue)
    worker = queue.bell("workers", "w-1")
    assert queue.cancel(spec.id, force=force)
    assert worker.drain() == [f"{hint} {spec.id}"]
    worker.close()
    assert Path(queue.layout.cancel_file(spec.id)).read_bytes() == word
    assert status(queue, spec) is Status.RUNNING, "its worker ends it"
    assert finish(queue, spec, ticket, FAILED)
    assert status(queue, spec) is FAILED, "a cancelled task is not tried again"


def test_asking_harder_counts(queue: Queue) -> None:
    spec = put(queue)
    claim(queue)
    queue.cancel(spec.id)
    queue.cancel(spec.id, force=True)
    assert Path(queue.layout.cancel_file(spec.id)).read_bytes() == b"terminate"
    queue.cancel(spec.id)
    assert Path(queue.layout.cancel_file(spec.id)).read_bytes() == b"terminate"


@pytest.mark.parametrize("how", [SUCCEEDED, FAILED])
def test_what_has_ended_cannot_be_cancelled(queue: Queue, how: Status) -> None:
    spec = put(queue)
    end(queue, spec, how)
    assert not queue.cancel(spec.id)
    assert status(queue, spec) is how
    assert queue.names(queue.layout.cancel) == []


def test_cancelling_what_is_not_there(queue: Queue) -> None:
    with pytest.raises(TaskNotFound):
        queue.cancel(new_id())
    with pytest.raises(OptionError):
        queue.cancel("../../x")
    assert queue.names(queue.layout.cancel) == []


def test_cancel_against_claim(queue: Queue) -> None:
    """Whoever wins: what was cancelled never starts afterwards, and what was claimed is told to stop."""
    ids = [put(queue).id for _ in range(300)]

    def claim_all() -> list[str]:
        claimer = Claimer(Queue(queue.root), "s-1", [LINE])
        mine = []
        while ticket := claimer.try_claim():
            mine.append(ticket.id)
        return mine

    claimer = Child(claim_all)
    for id in reversed(ids):
        assert queue.cancel(id)
    claimed = set(claimer.result())
    cancelled = {place.ticket.id for place in lookup.ended_tickets(queue)}
    assert claimed | cancelled == set(ids)
    assert not claimed & cancelled
    assert all(os.path.exists(queue.layout.cancel_file(id)) for id in claimed)


# Retry by hand.


@pytest.mark.parametrize("how", [FAILED, CANCELLED])
def test_retried_by_hand_it_gets_one_attempt_more(queue: Queue, how: Status) -> None:
    spec = put(queue, retries=1)
    finish(queue, spec, claim(queue), FAILED)
    if how is CANCELLED:
        assert queue.cancel(spec.id)
    else:
        finish(queue, spec, claim(queue), FAILED)
    assert queue.retry(spec.id) == Ticket(spec.id, 3, 1)
    assert not os.path.exists(queue.layout.cancel_file(spec.id)), "the old request does not stop the new run"
    ticket = claim(queue)
    assert ticket == Ticket(spec.id, 3, 1)
    assert finish(queue, spec, ticket, FAILED)
    assert status(queue, spec) is FAILED
    assert check(queue, full=True) == []


def test_losses_are_forgiven_when_it_is_retried_by_hand(queue: Queue) -> None:
    spec = put(queue)
    ticket = claim(queue)
    folder = queue.layout.running_folder("s-1")
    late = Ticket(spec.id, 3, 0, 2)
    queue.disk.move(f"{folder}/{ticket}", f"{folder}/{late}")
    finish(queue, spec, late, FAILED, kind="lost")
    assert queue.retry(spec.id) == Ticket(spec.id, 4, 0, 0)


def test_only_what_failed_or_was_cancelled_is_retried(queue: Queue) -> None:
    spec = put(queue)
    with pytest.raises(OptionError, match=r"train .{4} is queued"):
        queue.retry(spec.id)
    ticket = claim(queue)
    with pytest.raises(OptionError, match="is running"):
        queue.retry(spec.id)
    finish(queue, spec, ticket)
    with pytest.raises(OptionError, match="is succeeded"):
        queue.retry(spec.id)
    with pytest.raises(TaskNotFound):
        queue.retry(new_id())
    assert status(queue, spec) is SUCCEEDED


# Bells.


def test_a_submit_rings_one_idle_slot_of_its_lane(queue: Queue) -> None:
    first, second = (queue.bell(f"default@{ENV}/idle", name) for name in ("s-1", "s-2"))
    supervisor = queue.bell(f"default@{ENV}/idle", "w-1")
    other = queue.bell(f"gpu@{ENV}/idle", "s-3")
    put(queue)
    assert [bell.drain() for bell in (first, second, supervisor, other)] == [["work"], [], [], []]
    put(queue, need="c")
    assert [bell.drain() for bell in (first, second, supervisor, other)] == [[], [], ["work"], []], (
        "a cell wants a fresh process, which the supervisor makes"
    )
    for bell in (first, second, supervisor, other):
        bell.close()


class Summoning(Queue):
    calls: list[tuple[str, str]]


@pytest.fixture
def summoning(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Summoning:
    calls: list[tuple[str, str]] = []
    monkeypatch.setattr(Queue, "summon", lambda queue, lane, env: calls.append((lane, env)))
    found = Summoning(queue.root)
    found.calls = calls
    return found


def test_a_worker_is_summoned_when_none_lives(summoning: Summoning) -> None:
    put(summoning, lane="gpu")
    assert summoning.calls == [("gpu", ENV)]
    slot = summoning.bell(f"gpu@{ENV}", "s-busy")
    put(summoning, lane="gpu")
    assert summoning.calls == [("gpu", ENV)] * 2, "a busy slot may leave after its task"
    worker = summoning.bell(f"gpu@{ENV}", "w-1")
    put(summoning, lane="gpu")
    assert summoning.calls == [("gpu", ENV)] * 2, "one lives, and lists again"
    put(summoning)
    assert summoning.calls[2:] == [("default", ENV)]
    for bell in (slot, worker):
        bell.close()


def test_a_summon_that_fails_does_not_undo_the_submit(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(queue: object, lane: str, env: str) -> None:
        raise OSError(errno.EAGAIN, "no process can be made")

    monkeypatch.setattr(Queue, "summon", fail)
    assert status(queue, put(queue)) is QUEUED


def test_an_end_rings_the_submitter_and_who_watches(queue: Queue) -> None:
    mine, other = queue.bell("clients", "c-1"), queue.bell("clients", "c-2")
    watcher = queue.bell("watch", "v-1")
    spec = put(queue, bell="c-1")
    end(queue, spec)
    hint = f"{spec.id}.1.0.0.succeeded"
    assert [bell.drain() for bell in (mine, other, watcher)] == [[hint], [], [hint]]
    for bell in (mine, other, watcher):
        bell.close()


def test_the_flusher_is_told_but_not_of_each(queue: Queue) -> None:
    flusher = queue.bell("flush", "f-2")
    for _ in range(50):
        put(queue)
    hints = flusher.drain()
    assert hints
    assert set(hints) == {"dirty"}
    assert len(hints) < 25
    flusher.close()


# Durability: what is on the disk when submit returns.


class Flushes(RealDisk):
    """Notes what was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []

    def create(self, path: str, parts: object, *, flush: bool = False) -> None:
        super().create(path, parts, flush=flush)  # type: ignore[arg-type]
        if flush:
            self.flushed.append(path.rpartition("/")[2])


@pytest.fixture
def noted(tmp_path: Path) -> Queue:
    return Queue(str(tmp_path / "noted"), disk=Flushes())


def flushed(queue: Queue) -> list[str]:
    assert isinstance(queue.disk, Flushes)
    found, queue.disk.flushed = queue.disk.flushed, []
    return found


def test_with_a_worker_its_flusher_flushes(noted: Queue) -> None:
    bell = noted.bell("flush", "f-1")
    flushed(noted)
    end(noted, put(noted))
    assert flushed(noted) == []
    bell.close()


def test_without_a_worker_submit_flushes_by_itself(noted: Queue) -> None:
    flushed(noted)
    spec = put(noted)
    assert flushed(noted) == [f"{spec.id}.call", f"{spec.id}.1.0.0"]


def test_power_flushes_call_ticket_and_outcome(noted: Queue) -> None:
    bell = noted.bell("flush", "f-1")
    flushed(noted)
    config.configure(durability="power")
    spec = put(noted)
    assert flushed(noted) == [f"{spec.id}.call", f"{spec.id}.1.0.0"]
    end(noted, spec)
    assert flushed(noted) == [f"{spec.id}.1.outcome"]
    bell.close()


# Errors in submit.


def faulty(root: str, plan: Callable[[str, str], None], *, halves: bool = False) -> Queue:
    return Queue(root, disk=FaultyDisk(RealDisk(), plan, halves=halves))


class Nth:
    """A plan that acts at the n-th step, and counts."""

    def __init__(self, n: int, act: Callable[[str, str], None], where: str = ":") -> None:
        self.n, self.act, self.where, self.seen = n, act, where, 0
        self.armed = False

    def __call__(self, step: str, path: str) -> None:
        if self.armed and self.where in step:
            self.seen += 1
            if self.seen == self.n:
                self.act(step, path)


def fail_with(number: int) -> Callable[[str, str], None]:
    def act(step: str, path: str) -> None:
        raise OSError(number, os.strerror(number), path)

    return act


T = TypeVar("T")


def attempt(action: Callable[[], T]) -> tuple[T | None, OSError | None]:
    """What an action gives, or the error of the disk that it meets."""
    try:
        return action(), None
    except OSError as error:
        return None, error


def submit_variants(queue: Queue) -> Iterator[tuple[str, Callable[[Queue], Spec]]]:
    parent = put(queue)
    big = payload.dump("arguments", ((bytearray(3 << 20),), {}))

    def with_blob(queue: Queue) -> Spec:
        spec = Spec(id=queue.new_id(), name="big", env=ENV)
        queue.put(spec, [ADD[0], big])
        return spec

    yield "plain", put
    yield "child", lambda queue: put(queue, after=(parent.id,))
    yield "blob", with_blob


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.ESTALE, errno.EDQUOT])
@pytest.mark.parametrize("where", ["create:before", ":before"])
def test_an_error_at_any_step_of_submit_leaves_a_task_or_none(queue: Queue, number: int, where: str) -> None:
    for name, submit in submit_variants(queue):
        for n in range(1, 200):
            before = len(places(queue))
            calls = set(lookup.all_ids(queue))
            plan = Nth(n, fail_with(number), where)
            disk = faulty(queue.root, plan)
            plan.armed = True
            spec, error = attempt(lambda submit=submit, disk=disk: submit(disk))  # type: ignore[misc]
            if error:
                assert error.errno == number
                assert len(places(queue)) == before, f"{name}, step {n}: an error, and a task all the same"
                assert set(lookup.all_ids(queue)) == calls, f"{name}, step {n}: half a task is left"
                continue
            assert spec is not None
            assert len(places(queue)) == before + 1
            assert records.read_call(queue, spec.id).parts.keys() == {"function", "arguments"}
            if plan.seen < n:
                break
        else:
            raise AssertionError("it never came to an end")
    assert check(queue, full=True) == []


def test_a_ticket_that_cannot_be_taken_back_is_told(queue: Queue) -> None:
    def uncertain(step: str, path: str) -> None:
        if path.endswith(".1.0.0"):
            raise CreateUncertain(errno.EIO, "and it could not be removed", path)

    disk = faulty(queue.root, uncertain)
    spec = Spec(id=queue.new_id(), name="train", env=ENV)
    with pytest.raises(SubmitUncertain, match=rf"{spec.id} may exist.*nbtasks\.get\('{spec.short}'\)") as caught:
        disk.put(spec, ADD)
    assert caught.value.id == spec.id
    # Submitting that id again is harmless, whether it had existed or not:
    assert queue.put(spec, ADD) == Ticket(spec.id)
    assert queue.put(spec, ADD) == Ticket(spec.id)
    assert places(queue) == [(f"{spec.id}.1.0.0", QUEUED)]
    end(queue, spec)
    assert queue.put(spec, ADD) == Ticket(spec.id)
    assert places(queue) == [(f"{spec.id}.1.0.0", SUCCEEDED)], "what has ended does not run again"


def test_a_ticket_that_was_claimed_before_its_flush_failed(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    config.configure(durability="power")
    real = os.fsync
    claimed: list[Ticket] = []

    def fsync(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".1.0.0"):
            claimed.append(claim(queue))
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "fdatasync", fsync)
    with pytest.raises(SubmitUncertain):
        put(queue)
    assert len(claimed) == 1
    assert places(queue) == [(str(claimed[0]), Status.RUNNING)]
    assert records.read_call(queue, claimed[0].id)


def test_an_id_that_another_task_has(queue: Queue) -> None:
    spec = put(queue, "first")
    with pytest.raises(FileExistsError):
        queue.put(Spec(id=spec.id, name="second", env=ENV), ADD)
    assert queue.record(spec.id).name == "first"
    assert len(places(queue)) == 1


def test_a_disk_that_takes_only_half(queue: Queue) -> None:
    """A real one: the limit on file sizes makes the system write what fits, and refuse the rest."""
    big = payload.dump("arguments", ((os.urandom(200_000),), {}))

    def submit() -> int | None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
        mine = Queue(queue.root)
        put(mine)
        try:
            mine.put(Spec(id=mine.new_id(), name="big", env=ENV), [ADD[0], big])
        except OSError as error:
            put(mine)
            return error.errno
        return None

    assert Child(submit).result() == errno.EFBIG
    assert [record.name for record in queue.records()] == ["train", "train"]
    assert len(list(lookup.all_ids(queue))) == 2
    assert [path for path in Path(queue.root).rglob(".*") if path.name != ".gitignore"] == []
    assert check(queue, full=True) == []


# Errors in finish.


def test_a_full_disk_at_the_end_loses_nothing(queue: Queue) -> None:
    """At whatever step it strikes: trying again commits once."""
    for n in range(1, 200):
        spec = put(queue)
        ticket = claim(queue)
        plan = Nth(n, fail_with(errno.ENOSPC), ":before")
        disk = faulty(queue.root, plan)
        plan.armed = True
        committed, error = attempt(lambda: finish(disk, spec, ticket))  # noqa: B023
        if error:
            assert error.errno == errno.ENOSPC
            assert status(queue, spec) is Status.RUNNING
            committed = finish(queue, spec, ticket)
        assert committed
        assert status(queue, spec) is SUCCEEDED
        if plan.seen < n:
            break
    assert n > 3
    assert check(queue, full=True) == []


@pytest.mark.parametrize("left", [b"", b'{"nbtasks":1', None])
def test_an_outcome_left_by_a_power_cut_that_took_the_tickets_moves(queue: Queue, left: bytes | None) -> None:
    """The ticket is back in the queue, under a name that was in use, and the file of that delivery is there."""
    spec = put(queue)
    ticket = claim(queue)
    if left is None:  # a whole one, of a run that ended otherwise
        queue.write_outcome(ticket, outcome(ticket, FAILED))
    else:
        Path(queue.layout.file(spec.id, 1, OUTCOME)).write_bytes(left)
    assert finish(queue, spec, ticket)
    assert payload.load(records.read_outcome_frame(queue, ticket).parts["value"]) == 3
    assert check(queue, full=True) == []
    assert [name for name in os.listdir(queue.layout.task_folder(spec.id)) if name[0] == "."] == []


# Killed at every step.


def steps_of(root: str, action: Callable[[Queue], object]) -> int:
    """How many steps an action has that a fault can strike at."""

    def run() -> int:
        plan = Nth(0, fail_with(0))
        disk = faulty(root, plan, halves=True)
        plan.armed = True
        action(disk)
        return plan.seen

    return int(Child(run).result())


def killed_at(root: str, n: int, action: Callable[[Queue], object]) -> None:
    def run() -> None:
        plan = Nth(n, lambda step, path: os.kill(os.getpid(), signal.SIGKILL))
        disk = faulty(root, plan, halves=True)
        plan.armed = True
        action(disk)

    assert Child(run).wait() in (-signal.SIGKILL, 0)


@pytest.mark.parametrize("power", [False, True])
def test_submit_killed_at_every_step(queue: Queue, power: bool) -> None:
    config.configure(durability="power" if power else "second")
    parent = put(queue)
    fates = set()
    for submit in (put, lambda queue: put(queue, after=(parent.id,))):
        for n in range(1, steps_of(queue.root, submit) + 1):
            before = {name for name, _ in places(queue)}
            killed_at(queue.root, n, submit)
            new = {name for name, _ in places(queue)} - before
            assert len(new) <= 1
            for name in new:
                assert records.read_call(queue, name.partition(".")[0])
            fates.add(len(new))
    assert fates == {0, 1}
    assert check(queue, full=True) == []
    recovery.sweep(queue, "w-1")
    while ticket := Claimer(queue, "s-1", [LINE]).try_claim():
        finish(queue, queue.record(ticket.id).spec, ticket)
    assert {kind for _, kind in places(queue)} == {SUCCEEDED}, "the children too"


@pytest.mark.parametrize("how", [SUCCEEDED, FAILED])
@pytest.mark.parametrize("retries", [0, 1])
def test_claim_and_finish_killed_at_every_step(queue: Queue, how: Status, retries: int) -> None:
    def work(queue: Queue, slot: str = "s-0") -> None:
        ticket = claim(queue, slot)
        finish(queue, queue.record(ticket.id).spec, ticket, how, slot)

    def child_of_fresh(queue: Queue) -> tuple[Spec, Spec]:
        parent = put(queue, retries=retries, priority=9)
        return parent, put(queue, after=(parent.id,), priority=9)

    child_of_fresh(queue)
    for n in range(1, steps_of(queue.root, work) + 1):
        # A queue for each step: to look at one is to read all of it.
        with new_queue(f"{queue.root}-{n}") as fresh:
            parent, child = child_of_fresh(fresh)
            slot = dead_slot(fresh, f"s-{n}")
            killed_at(fresh.root, n, lambda queue, slot=slot: work(queue, slot))  # type: ignore[misc]
            assert check(fresh, full=True) == []
            recovery.sweep(fresh, "w-1")
            assert fresh.names(fresh.layout.running_folder(slot)) == []
            while (ticket := Claimer(fresh, "s-1", [LINE]).try_claim()) is not None:
                finish(fresh, fresh.record(ticket.id).spec, ticket, how if ticket.id == parent.id else SUCCEEDED)
            assert status(fresh, parent) is how, f"step {n}"
            assert status(fresh, child) is how, f"step {n}"
            assert check(fresh, full=True) == []


def test_cancel_and_retry_killed_at_every_step(queue: Queue) -> None:
    for change in ("cancel", "retry"):
        spec = put(queue)

        def act(queue: Queue, change: str = change) -> None:
            getattr(queue, change)(spec.id)  # noqa: B023

        if change == "retry":
            queue.cancel(spec.id)
        for n in range(1, steps_of(queue.root, act) + 1):
            if change == "cancel":
                spec = put(queue)
            elif status(queue, spec) is not CANCELLED:
                queue.cancel(spec.id)
            killed_at(queue.root, n, act)
            assert status(queue, spec) in (QUEUED, CANCELLED)
            act_again = queue.cancel if change == "cancel" else queue.retry
            if status(queue, spec) is (QUEUED if change == "cancel" else CANCELLED):
                act_again(spec.id)
            assert status(queue, spec) is (CANCELLED if change == "cancel" else QUEUED)
    assert check(queue, full=True) == []


def test_values_of_all_kinds(queue: Queue) -> None:
    for value in (None, False, "x", [1, {2}], bytearray(2 << 20)):
        spec = put(queue)
        ticket = claim(queue)
        assert queue.finish(spec, ticket, "s-1", outcome(ticket), [payload.dump("value", value)])
        frame = records.read_outcome_frame(queue, ticket)
        assert payload.load(frame.parts["value"]) == value
    assert VALUE[0].name == "value"
