"""The queue: put, claim, finish, cancel, retry. Every change of status is one rename of a ticket."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, NoReturn

import msgspec

from nbtasks import config, frames
from nbtasks.durable import CreateUncertain
from nbtasks.errors import OptionError, PayloadError, SubmitUncertain, TaskNotFound
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Outcome
from nbtasks.queue import dependencies, groups, layout, lookup, records
from nbtasks.queue.following import Following
from nbtasks.queue.lookup import Place
from nbtasks.queue.records import Record
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import Ticket, expiry_name, until_name
from nbtasks.spec import Spec
from nbtasks.status import Status

_LONGEST_DELAY = 3600.0
Claim = Callable[[Store, str], None]  # takes something for the task of that id, or raises


class Queue(Following):
    """A queue directory. Handles, cards, workers and the command line are views of it."""

    _opened: ClassVar[dict[tuple[str, int], Queue]] = {}

    @classmethod
    def open(cls, root: str | None = None, *, create: bool = True) -> Queue:
        """The queue at `root` (default: the one found from here), opened once per process.

        Raises QueueError, QueueUnsafe or QueueNewer.
        """
        config.check_queue()
        path = os.path.realpath(root or config.find_queue_root())
        queue = cls._opened.get((path, os.getpid()))
        if queue is None or not os.path.exists(queue.layout.mark):
            queue = cls._opened[path, os.getpid()] = cls(path, create=create)
        return queue

    # Putting in.

    def put(self, spec: Spec, parts: Sequence[Part], claim: Claim | None = None) -> Ticket:
        """Store a call and its ticket; when this returns, the task survives the death of every process.

        Putting the same spec again is harmless. Raises OSError when nothing was stored (FileExistsError: another task
        has the id), SubmitUncertain when that cannot be told. Raises OptionError when it would wait for itself.
        `claim` is called between the two; what it raises is raised.
        """
        _refuse_itself(spec)
        body = msgspec.json.encode(spec)
        frame = Frame("call", self.uuid, spec.id, 0, body, {part.name: part for part in parts})
        flush = config.settings().durability == "power" or self.nobody_flushes()
        try:
            frames.write_frame(self.disk, self.layout.call(spec.id), frame, self.key, self.blobs, flush=flush)
        except FileExistsError:
            if records.read_spec(self, spec.id) != spec:
                raise  # another task has this id
            if place := lookup.locate(self, spec):  # submitted again, after a SubmitUncertain: once is enough
                return place.ticket
        ticket = Ticket(spec.id)
        try:
            if claim is not None:
                claim(self, spec.id)
            folder = self._prepare(spec)
            name = until_name(spec.due, ticket) if folder == self.layout.until and spec.due else str(ticket)
            self.disk.create(f"{folder}/{name}", [], flush=flush)
        except OSError as error:
            self._take_back_submit(spec, error)
        self.set_going(spec, folder)
        if spec.expires is not None:
            self.ring_workers("until")
        self.ask_for_flush()
        return ticket

    def _prepare(self, spec: Spec) -> str:
        """Note what others have to know of a task before its ticket is there; the folder in which it begins."""
        if spec.expires is not None:
            with contextlib.suppress(FileExistsError):
                self.disk.create(f"{self.layout.expires}/{expiry_name(spec.expires, spec.id)}", [])
        if spec.need[:1] == "x" and not self.disk.exists(path := self.layout.need(spec.need)):
            self.disk.replace(path, msgspec.json.encode(spec.needs, order="deterministic"))
        if spec.group:
            groups.join(self, spec.group, spec.id)
        if spec.dependencies:
            dependencies.publish_edges(self, spec.id, spec.dependencies)
        if spec.due is not None and spec.due > time.time():
            return self.layout.until
        return (
            self.layout.parents
            if spec.dependencies
            else self.layout.queued_folder(lookup.line_of(spec), spec.priority, spec.id)
        )

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

    # Ending.

    def finish(self, spec: Spec, ticket: Ticket, slot: str, outcome: Outcome, parts: Sequence[Part] = ()) -> bool:
        """Write the outcome of a claimed delivery, then commit it by moving the ticket.

        False: the claim was lost meanwhile (another recovered it), and nothing was committed.
        """
        self.write_outcome(ticket, outcome, parts)
        return self.settle(spec, ticket, slot, outcome)

    def settle(self, spec: Spec, ticket: Ticket, slot: str, outcome: Outcome) -> bool:
        """Move a claimed ticket whose outcome is written to where it belongs: ended, or back for a retry."""
        source = f"{self.layout.running_folder(slot)}/{ticket}"
        if self._retries(spec, ticket, outcome):
            return self.put_back(spec, ticket.failed(), source, self._delay(spec, ticket))
        if spec.kind == "map" and outcome.status is Status.SUCCEEDED and not dependencies.judge(self, spec).ready:
            return self.put_back(spec, ticket.put_back(), source)  # its items are submitted now: it waits for them
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
                if not self.ring_workers(f"{'terminate' if force else 'cancel'} {id}"):
                    self.wake(spec)  # nobody looks after it: the next worker does
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


def _refuse_itself(spec: Spec) -> None:
    if spec.id in spec.dependencies:
        raise OptionError(f"{spec.name} {spec.short} cannot wait for itself: it would never start")
