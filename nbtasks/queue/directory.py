"""The queue: put, claim, finish, cancel, retry. Every change of status is one rename of a ticket."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NoReturn

import msgspec

from nbtasks import config, frames, processes
from nbtasks.durable import CreateUncertain, Disk
from nbtasks.errors import NbtasksError, OptionError, PayloadError, SubmitUncertain, TaskNotFound
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Outcome
from nbtasks.queue import dependencies, doorbells, layout, lookup, records
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.layout import OUTCOME
from nbtasks.queue.lookup import Place
from nbtasks.queue.records import Record
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import Ticket, until_name
from nbtasks.spec import Spec
from nbtasks.status import Status

_SEEN = 1.0  # seconds for which a worker that was seen alive is taken to be alive
_LONGEST_DELAY = 3600.0
_FLUSH_HINT = 0.5

Summon = Callable[["Queue", str, str], None]


class Queue(Store):
    """A queue directory. Handles, cards, workers and the command line are views of it.

    `summon` is called with queue, lane and env when a task is there and nobody lives who could run it.
    """

    summon: ClassVar[Summon | None] = None
    _opened: ClassVar[dict[tuple[str, int], Queue]] = {}

    def __init__(self, root: str, *, create: bool = True, disk: Disk | None = None) -> None:
        super().__init__(root, create=create, disk=disk)
        self.boot = processes.boot_id()
        self._seen: dict[str, float] = {}
        self._flush_rung = self._flusher_seen = -_LONGEST_DELAY

    @classmethod
    def open(cls, root: str | None = None, *, create: bool = True) -> Queue:
        """The queue at `root` (default: the one found from here), opened once per process.

        Raises QueueError, QueueUnsafe or QueueNewer.
        """
        path = os.path.realpath(root or config.find_queue_root())
        queue = cls._opened.get((path, os.getpid()))
        if queue is None or not os.path.exists(queue.layout.mark):
            queue = cls._opened[path, os.getpid()] = cls(path, create=create)
        return queue

    # Putting in.

    def put(self, spec: Spec, parts: Sequence[Part]) -> Ticket:
        """Store a call and its ticket; when this returns, the task survives the death of every process.

        Putting the same spec again is harmless. Raises OSError when nothing was stored (FileExistsError: another task
        has the id), SubmitUncertain when that cannot be told.
        """
        body = msgspec.json.encode(spec)
        frame = Frame("call", self.uuid, spec.id, 0, body, {part.name: part for part in parts})
        flush = config.settings().durability == "power" or self._nobody_flushes()
        try:
            frames.write_frame(self.disk, self.layout.call(spec.id), frame, self.key, self.blobs, flush=flush)
        except FileExistsError:
            if records.read_spec(self, spec.id) != spec:
                raise  # another task has this id
            if place := lookup.locate(self, spec):  # submitted again, after a SubmitUncertain: once is enough
                return place.ticket
        ticket = Ticket(spec.id)
        folder = self.layout.queued_folder(lookup.line_of(spec), spec.priority, spec.id)
        try:
            if spec.dependencies:
                dependencies.publish_edges(self, spec)
                folder = self.layout.parents
            self.disk.create(f"{folder}/{ticket}", [], flush=flush)
        except OSError as error:
            self._take_back_submit(spec, error)
        self._set_going(spec)
        self._ask_for_flush()
        return ticket

    def _set_going(self, spec: Spec) -> None:
        # The task is there: what fails from now on is made good by the next listing, and is no error of the submit.
        with contextlib.suppress(NbtasksError, OSError):
            if spec.dependencies:
                self.look_at_parents(spec.id)
            else:
                self.wake(spec)

    def _take_back_submit(self, spec: Spec, error: OSError) -> NoReturn:
        # The ticket decides: `create` has taken a half one away, so there is no task, and the call goes too.
        if isinstance(error, CreateUncertain):
            raise SubmitUncertain(
                f"submitting {spec.name!r} met {error}, and the ticket could not be taken back: the task {spec.id} may "
                f"exist. Look with nbtasks.get({spec.short!r})",
                id=spec.id,
            ) from error
        with contextlib.suppress(OSError):
            self.disk.remove(self.layout.call(spec.id))
        raise error

    def look_at_parents(self, id: str) -> None:
        """Release a waiting task when its parents have succeeded; tell the workers when one has failed."""
        place = dependencies.find_waiting(self, id)
        if place is None:
            return
        spec = records.read_spec(self, id)
        verdict = dependencies.judge(self, spec)
        if verdict.culprit:
            self.ring_workers(f"upstream {id}")  # its outcome is written by a worker: a client never settles
            self.wake(spec)
        elif verdict.ready and dependencies.try_release(self, spec, place):
            self.wake(spec)

    # Waking.

    def wake(self, spec: Spec) -> None:
        """Ring one idle bell of the task's lane; when nobody lives there, summon a worker."""
        place = f"{spec.lane}@{spec.env}"
        folder = self.layout.bells_of(self.boot, place)
        bells = doorbells.bells_in(f"{folder}/idle")
        # A function goes to a warm slot ("s…") first, a cell to a supervisor ("w…") that can make a fresh one.
        for path in bells if spec.need == "f" else reversed(bells):
            if doorbells.ring(path, "work"):
                self._seen[place] = time.monotonic()
                return
        if time.monotonic() - self._seen.get(place, -_SEEN) < _SEEN:
            return
        if any(doorbells.hears(path) for path in doorbells.bells_in(folder)):
            self._seen[place] = time.monotonic()
        elif Queue.summon is not None:
            Queue.summon(self, spec.lane, spec.env)

    def ring_workers(self, hint: str) -> int:
        """Ring every supervisor of this queue on this host; how many heard it."""
        return doorbells.ring_all(self.layout.bells_of(self.boot, "workers"), hint)

    def bell(self, place: str, name: str) -> Bell:
        """A bell of our own in one of this boot's places."""
        return Bell(self.layout.bells_of(self.boot, place), name)

    def _nobody_flushes(self) -> bool:
        """True while no worker lives that flushes what was submitted."""
        now = time.monotonic()
        if now - self._flusher_seen < _SEEN:
            return False
        if any(map(doorbells.hears, doorbells.bells_in(self.layout.bells_of(self.boot, "flush")))):
            self._flusher_seen = now
            return False
        return True

    def _ask_for_flush(self) -> None:
        now = time.monotonic()
        if now - self._flush_rung > _FLUSH_HINT:
            self._flush_rung = now
            doorbells.ring_all(self.layout.bells_of(self.boot, "flush"), "dirty")

    # Ending.

    def finish(self, spec: Spec, ticket: Ticket, slot: str, outcome: Outcome, parts: Sequence[Part] = ()) -> bool:
        """Write the outcome of a claimed delivery, then commit it by moving the ticket.

        False: the claim was lost meanwhile (another recovered it), and nothing was committed.
        """
        self._write_outcome(ticket, outcome, parts)
        return self.settle(spec, ticket, slot, outcome)

    def _write_outcome(self, ticket: Ticket, outcome: Outcome, parts: Sequence[Part] = ()) -> None:
        frame = Frame(
            "outcome", self.uuid, ticket.id, ticket.delivery, msgspec.json.encode(outcome), {p.name: p for p in parts}
        )
        flush = config.settings().durability == "power"
        path = self.layout.file(ticket.id, ticket.delivery, OUTCOME)
        try:
            frames.write_frame(self.disk, path, frame, self.key, self.blobs, flush=flush)
        except FileExistsError:
            # Nobody else writes files of this delivery: it is ours, from a commit whose move met a full disk.
            if records.find_whole_outcome(self, ticket) is None:
                raise

    def settle(self, spec: Spec, ticket: Ticket, slot: str, outcome: Outcome) -> bool:
        """Move a claimed ticket whose outcome is written to where it belongs: ended, or back for a retry."""
        source = f"{self.layout.running_folder(slot)}/{ticket}"
        if self._retries(spec, ticket, outcome):
            return self.put_back(spec, ticket.failed(), source, self._delay(spec, ticket))
        if not self.disk.move(source, f"{self.layout.ended_folder(ticket.id)}/{ticket}.{outcome.status}"):
            return False
        self.after_end(spec, ticket, outcome.status, slot)
        return True

    def _retries(self, spec: Spec, ticket: Ticket, outcome: Outcome) -> bool:
        return (
            outcome.status is Status.FAILED
            and ticket.failures < spec.retries
            and outcome.kind not in ("upstream", "damaged", "lost")
            and not self.disk.exists(self.layout.cancel_file(ticket.id))
        )

    def _delay(self, spec: Spec, ticket: Ticket) -> float:
        return min(spec.retry_delay * 2.0**ticket.failures, _LONGEST_DELAY)

    def put_back(self, spec: Spec, ticket: Ticket, source: str, delay: float = 0.0) -> bool:
        """Move the ticket at `source` back to its queue as `ticket` (the next delivery), now or after `delay` s."""
        if delay > 0:
            moved = self.disk.move(source, f"{self.layout.until}/{until_name(time.time() + delay, ticket)}")
            self.ring_workers("until")
            return moved
        folder = self.layout.queued_folder(lookup.line_of(spec), spec.priority, spec.id)
        if spec.dependencies and not dependencies.judge(self, spec).ready:
            folder = self.layout.parents
        moved = self.disk.move(source, f"{folder}/{ticket}")
        if moved:
            self._set_going(spec)
        return moved

    def after_end(self, spec: Spec, ticket: Ticket, status: Status, slot: str | None = None) -> None:
        """What follows a commit: ring who waits, release or fail the children. Never raises for a child.

        `slot` is the claimer that writes the outcomes of children that fail with it; None leaves that to a worker.
        """
        ended = [(spec, ticket, status)]
        while ended:  # a loop, for a chain of tasks may be longer than the stack
            spec, ticket, status = ended.pop()
            self._ring_waiters(spec, f"{ticket}.{status}")
            for child in dependencies.children_of(self, ticket.id):
                with contextlib.suppress(NbtasksError, OSError):  # the sweep looks at it again
                    if slot is None or status is Status.SUCCEEDED:
                        self.look_at_parents(child)
                    elif failed := self._try_fail(child, slot):
                        ended.append(failed)
        self._ask_for_flush()

    def _ring_waiters(self, spec: Spec, hint: str) -> None:
        if spec.bell:
            doorbells.ring(f"{self.layout.bells_of(self.boot, 'clients')}/{spec.bell}", hint)
        doorbells.ring_all(self.layout.bells_of(self.boot, "watch"), hint)

    def fail_upstream(self, child: str, slot: str) -> bool:
        """End a waiting task because a parent failed or was cancelled. `slot` is the claimer that writes it."""
        failed = self._try_fail(child, slot)
        if failed:
            self.after_end(*failed, slot)
        return failed is not None

    def _try_fail(self, child: str, slot: str) -> tuple[Spec, Ticket, Status] | None:
        place = dependencies.find_waiting(self, child)
        if place is None:
            return None
        spec = records.read_spec(self, child)
        culprit = dependencies.judge(self, spec).culprit
        ticket = place.ticket.put_back()  # a name of our own, so that two releasers never write one outcome
        mine = f"{self.layout.running_folder(slot)}/{ticket}"
        if culprit is None or not self.disk.move(place.path, mine):
            return None
        try:
            self._write_outcome(ticket, self._upstream_failed(ticket, culprit))
            moved = self.disk.move(mine, f"{self.layout.ended_folder(child)}/{ticket}.{Status.FAILED}")
        except OSError:  # a full disk: it waits again, under a name that was never used
            self.disk.move(mine, f"{self.layout.parents}/{ticket.put_back()}")
            raise
        if dependencies.judge(self, spec).culprit is None:  # the parent was retried meanwhile, and missed this end
            self.retry(child)
            return None
        return (spec, ticket, Status.FAILED) if moved else None

    def _upstream_failed(self, ticket: Ticket, culprit: str) -> Outcome:
        try:
            parent = records.read_record(self, culprit)
            how = "was cancelled" if parent.status is Status.CANCELLED else "failed"
            why = f"{parent.name} ({parent.short}), which it needs, {how}"
        except TaskNotFound:
            why = f"{culprit}, which it needs, is not in this queue: removed, or lost when the power failed"
        now = time.time()
        return Outcome(
            id=ticket.id, delivery=ticket.delivery, status=Status.FAILED, reason=why, kind="upstream", started=now,
            ended=now, attempt=ticket.attempt,
        )  # fmt: skip

    # Changing one's mind.

    def cancel(self, id: str, *, force: bool = False) -> bool:
        """Cancel a task: at once while it waits, by its worker while it runs. False when it has ended.

        `force` starts at SIGTERM instead of KeyboardInterrupt.
        """
        if lookup.find_ended_id(self, id):
            return False
        self._note_cancel(id, force)
        for _ in range(10):  # it may move on between the look and the move
            spec, place = self._look_for(id)
            if place is None:
                raise TaskNotFound(f"{id} was never wholly submitted", matches=())
            if place.status.ended:
                return False
            if place.status is Status.RUNNING:
                self.ring_workers(f"{'terminate' if force else 'cancel'} {id}")
                return True
            if self.disk.move(place.path, f"{self.layout.ended_folder(id)}/{place.ticket}.{Status.CANCELLED}"):
                self.after_end(spec, place.ticket, Status.CANCELLED)
                return True
        return True  # the request is on file; whoever claims it next sees it

    def _note_cancel(self, id: str, force: bool) -> None:
        if not self.disk.exists(self.layout.call(layout.check_id(id))):
            raise TaskNotFound(f"no task {id!r} in {self.root}", matches=())
        asked = self.layout.cancel_file(id)
        try:
            self.disk.create(asked, [b"terminate"] if force else [])
        except FileExistsError:
            if force:
                self.disk.replace(asked, b"terminate")

    def _look_for(self, id: str) -> tuple[Spec, Place | None]:
        try:
            spec = records.read_spec(self, id)
        except PayloadError as error:
            return records.damaged_spec(id, error), lookup.locate_anywhere(self, id)
        return spec, lookup.locate(self, spec)

    def retry(self, id: str) -> Ticket:
        """Run a failed or cancelled task again, with one attempt more; children that failed with it are revived.

        Raises OptionError when the task is live or succeeded.
        """
        ticket = self._retry(id)
        todo = dependencies.children_of(self, id)
        while todo:
            child = todo.pop()
            # An edge may lead to a task that was never wholly submitted, or is being retried by another.
            with contextlib.suppress(NbtasksError, OSError):
                record = records.read_record(self, child)
                if record.status is Status.FAILED and record.outcome and record.outcome.kind == "upstream":
                    self._retry(child)
                    todo += dependencies.children_of(self, child)
        return ticket

    def _retry(self, id: str) -> Ticket:
        spec = records.read_spec(self, id)
        place = lookup.locate(self, spec)
        if place is None or place.status not in (Status.FAILED, Status.CANCELLED):
            status = place.status if place else "not submitted"
            raise OptionError(f"{spec.name} {spec.short} is {status}: only what failed or was cancelled runs again")
        self.disk.remove(self.layout.cancel_file(id))
        ticket = Ticket(id, place.ticket.delivery + 1, place.ticket.failures, 0)
        self.put_back(spec, ticket, place.path)
        return ticket

    # Looking.

    def find(self, part: str) -> str:
        """The full id that `part` (``k7q2``) stands for. Raises TaskNotFound."""
        return lookup.find_id(self, part)

    def record(self, id: str) -> Record:
        """The task with this full id. Raises TaskNotFound."""
        return records.read_record(self, id)

    def records(
        self, *, status: Status | None = None, lane: str | None = None, name: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Record]:  # fmt: skip
        """Tasks newest first, filtered; `limit` bounds how many come out."""
        seen: set[str] = set()  # one that ends between the two listings is in both
        for place in self._places(status):
            if limit is not None and len(seen) >= limit:
                return
            if place.ticket.id in seen:
                continue
            with contextlib.suppress(TaskNotFound):
                there = place if self.disk.exists(place.path) else None
                record = records.read_record(self, place.ticket.id, there)
                if (
                    status in (None, record.status)
                    and (lane is None or record.spec.lane == lane)
                    and (name is None or record.name == name)
                ):
                    seen.add(record.id)
                    yield record

    def _places(self, status: Status | None) -> Iterator[Place]:
        live = sorted(lookup.live_tickets(self), key=lambda place: place.ticket.id, reverse=True)
        yield from (place for place in live if status is None or place.status is status)
        if status is None or status.ended:
            yield from (place for place in lookup.ended_tickets(self) if status is None or place.status is status)

    def new_id(self) -> str:
        """A fresh id. That no other call has it is seen when the call is created: FileExistsError."""
        return layout.new_id()
