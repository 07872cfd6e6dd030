"""What follows a step of one task for others: children are released, failed or revived, waiters are rung."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Sequence

import msgspec

from nbtasks import config, frames, notices
from nbtasks.durable import Disk
from nbtasks.errors import NbtasksError, OptionError, TaskNotFound
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Outcome
from nbtasks.queue import dependencies, lookup, records
from nbtasks.queue.layout import OUTCOME
from nbtasks.queue.tickets import Ticket, until_name
from nbtasks.queue.waking import Waking
from nbtasks.spec import Spec
from nbtasks.status import Status

_MANY, _HELD = 8, 1000  # parents of a task that is worth it; tasks that are kept


class Following(Waking):
    """The steps that touch more than one task."""

    def __init__(self, root: str, *, create: bool = True, disk: Disk | None = None) -> None:
        super().__init__(root, create=create, disk=disk)
        self._held: dict[str, str] = {}  # of tasks with several parents: the ticket of one that had not ended

    def set_going(self, spec: Spec, folder: str) -> None:
        """See to it that a task whose ticket has just come to `folder` is run or released. Never raises."""
        # The task is there: what fails from now on is made good by the next listing, and is no error of the submit.
        with contextlib.suppress(NbtasksError, OSError):
            if folder == self.layout.parents:
                self.look_at_parents(spec.id)
            elif folder != self.layout.until or not self.ring_workers("until"):
                self.wake(spec)

    def look_at_parents(self, id: str) -> None:
        """Release a waiting task when its parents have succeeded; tell the workers when one has failed."""
        # As long as that ticket lives, another end will lead here: a child of thousands is not judged for each of them.
        if (held := self._held.get(id)) and self.disk.exists(held):
            return
        place = dependencies.find_waiting(self, id)
        if place is None:
            return
        spec = records.read_spec(self, id)
        verdict = dependencies.judge(self, spec)
        if verdict.culprit:
            self.ring_workers(f"upstream {id}")  # its outcome is written by a worker: a client never settles
            self.wake(spec)
        elif not verdict.ready:
            self._hold(spec)
        elif dependencies.try_release(self, spec, place):
            self._held.pop(id, None)
            self.wake(spec)

    def _hold(self, spec: Spec) -> None:
        needed = dependencies.needs(self, spec)
        if len(needed) < _MANY:
            return
        if len(self._held) > _HELD:
            self._held.clear()
        for parent in reversed(needed):  # the last ones are likely to end last
            place = lookup.locate(self, records.read_spec(self, parent))
            if place is not None and not place.status.ended:
                self._held[spec.id] = place.path
                return

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
            self.set_going(spec, folder)
        return moved

    def write_outcome(self, ticket: Ticket, outcome: Outcome, parts: Sequence[Part] = ()) -> None:
        """Write the outcome file of a delivery; the move of its ticket is what commits it."""
        frame = Frame(
            "outcome", self.uuid, ticket.id, ticket.delivery, msgspec.json.encode(outcome), {p.name: p for p in parts}
        )
        flush = config.settings().durability == "power"
        path = self.layout.file(ticket.id, ticket.delivery, OUTCOME)
        try:
            frames.write_frame(self.disk, path, frame, self.key, self.blobs, flush=flush)
        except FileExistsError:
            # Only who holds the delivery writes its files. So this is our own, from a commit whose move met a full
            # disk; or a power cut took the moves of a ticket and left what was written after them.
            if records.find_whole_outcome(self, ticket) == outcome:
                return
            folder, _, name = path.rpartition("/")
            hidden = f"{folder}/.{name}.{secrets.token_hex(4)}"
            frames.write_frame(self.disk, hidden, frame, self.key, self.blobs, flush=flush)
            self.disk.move(hidden, path)

    def after_end(self, spec: Spec, ticket: Ticket, status: Status, slot: str | None = None) -> None:
        """What follows a commit: ring who waits, release or fail the children. Never raises for a child.

        `slot` is the claimer that writes the outcomes of children that fail with it; None leaves that to a worker.
        """
        ended = [(spec, ticket, status)]
        while ended:  # a loop, for a chain of tasks may be longer than the stack
            spec, ticket, status = ended.pop()
            self.ring_waiters(spec, f"{ticket}.{status}")
            self._give_notice(spec, status)
            for child in self._children(ticket.id):
                with contextlib.suppress(NbtasksError, OSError):  # the sweep looks at it again
                    if slot is None or status is Status.SUCCEEDED:
                        self.look_at_parents(child)
                    elif failed := self._try_fail(child, slot):
                        ended.append(failed)
        self.ask_for_flush()

    def _give_notice(self, spec: Spec, status: Status) -> None:
        # By whoever commits the end, so that it is given once, also when no kernel lives any more. That it cannot be
        # started was said at submit; here nobody is there to be told.
        if spec.notify_command:
            facts = {"id": spec.id, "short": spec.short, "name": spec.name, "status": str(status)}
            notices.start(spec.notify_command, facts, os.path.dirname(self.root))

    def _children(self, id: str) -> list[str]:
        try:
            return dependencies.children_of(self, id)
        except OSError:  # the end is committed; the sweep looks at all that wait
            return []

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
            self.write_outcome(ticket, self._upstream_failed(ticket, culprit))
            moved = self.disk.move(mine, f"{self.layout.ended_folder(child)}/{ticket}.{Status.FAILED}")
        except OSError:  # a full disk: it waits again, under a name that was never used
            self.disk.move(mine, f"{self.layout.parents}/{ticket.put_back()}")
            raise
        if moved and dependencies.judge(self, spec).culprit is None:
            self.retry(child)  # the parent was retried meanwhile, and looked at its children before this end
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

    def retry(self, id: str) -> Ticket:
        """Run a failed or cancelled task again, with one attempt more; children that failed with it are revived.

        Raises OptionError when the task is live or succeeded.
        """
        ticket = self._retry(id)
        todo = self._children(id)
        while todo:
            child = todo.pop()
            # An edge may lead to a task that was never wholly submitted, or is being retried by another.
            with contextlib.suppress(NbtasksError, OSError):
                record = records.read_record(self, child)
                if record.status is Status.FAILED and record.outcome and record.outcome.kind == "upstream":
                    self._retry(child)
                    todo += self._children(child)
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
