"""From a claimed ticket to a shipment: the call, the values of its parents and the blobs that it needs, in one bundle."""

from __future__ import annotations

import time

import msgspec

from nbtasks import config, context, payload, run
from nbtasks.engines import wire
from nbtasks.engines.bridged_task import BridgedTask
from nbtasks.engines.foreign import Engine, Shipment
from nbtasks.errors import FrameError, NbtasksError, PayloadError, UpstreamFailed
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Failure, Outcome
from nbtasks.queue import expiring, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import STARTED
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status

_EMBEDDED = 512  # bytes of a blob that is not worth a place of its own with the engine


class Loader:
    """Makes shipments for one bridge."""

    def __init__(self, queue: Queue, me: str, engine: Engine) -> None:
        self.queue, self.me, self.engine = queue, me, engine

    def load(self, ticket: Ticket) -> tuple[BridgedTask, Outcome | None]:
        """The task of a claimed ticket with its shipment, if it is to be shipped; or with the outcome that it ends with.

        Raises OSError when a file of the queue cannot be read or written just now.
        """
        try:
            call = records.read_call(self.queue, ticket.id)
            spec = records.decode_spec(call.body)
        except (FrameError, PayloadError, FileNotFoundError) as error:
            spec = records.damaged_spec(ticket.id, error)
            return BridgedTask(spec, ticket), self.ended(ticket, error, "damaged")
        task = BridgedTask(spec, ticket)
        if expiring.is_over(spec, ticket):
            return task, expiring.ended(ticket, self.me)[0]
        if self.queue.disk.exists(self.queue.layout.cancel_file(ticket.id)):
            return task, self.not_run(ticket, Status.CANCELLED, "")
        if task.is_local:
            return task, None
        try:
            task.shipment = self._ship(task, call)
        # Whatever it holds, it costs no other task.
        except (NbtasksError, MemoryError, OverflowError, RecursionError) as error:
            return task, self.ended(ticket, error, "damaged" if isinstance(error, FrameError) else "")
        return task, self._mark(task)

    def _mark(self, task: BridgedTask) -> Outcome | None:
        """On the disk before it goes anywhere: what must not run twice was started."""
        if task.spec.at_most_once:
            try:
                self.queue.disk.create(task.path(self.queue, STARTED), [], flush=True)
            except FileExistsError:  # a power cut took back the claim, and not the mark
                why = "lost: it had started when the power failed, so it does not run again unasked"
                return self.not_run(task.ticket, Status.FAILED, why, "lost")
        return None

    def unmark(self, task: BridgedTask) -> None:
        """It did not begin after all."""
        if task.spec.at_most_once:
            self.queue.disk.remove(task.path(self.queue, STARTED))

    def not_run(self, ticket: Ticket, status: Status, reason: str, kind: str = "") -> Outcome:
        """How a delivery ends that did not run."""
        now = time.time()
        return Outcome(
            id=ticket.id, delivery=ticket.delivery, status=status, reason=reason, kind=kind, started=now, ended=now,
            attempt=ticket.attempt, slot=self.me,
        )  # fmt: skip

    def ended(self, ticket: Ticket, error: Exception, kind: str) -> Outcome:
        """How a delivery ends that cannot be shipped."""
        outcome = self.not_run(ticket, Status.FAILED, str(error) if kind else "", kind)
        return msgspec.structs.replace(outcome, failure=Failure(type=run.type_name(error), message=str(error)))

    def _ship(self, task: BridgedTask, call: Frame) -> Shipment:
        spec, ticket = task.spec, task.ticket
        parts = {f"call/{name}": part for name, part in call.parts.items()}
        for parent in spec.parents:
            parts |= self._value(parent)
        if spec.kind == "notebook" and ticket.delivery > 1:
            parts |= self._earlier(ticket)
        needed = self._blobs(spec)
        offers = [hash for hash, size in needed.items() if self.engine.can.blobs and size > _EMBEDDED]
        parts |= {f"blob/{hash}": Part(hash, self.queue.blobs.read(hash)) for hash in needed if hash not in offers}
        parts = {name: part.renamed(name) for name, part in parts.items()}
        large = [hash for part in parts.values() for hash in self._stored(part) if hash]
        offers = list(dict.fromkeys([*offers, *large]))
        order = wire.Order(
            wire=wire.WIRE, spec=msgspec.Raw(call.body), failures=ticket.failures, losses=ticket.losses, channel=self.me,
            beat=config.settings().lease / 3, versions=wire.HERE, offered=tuple(offers),
            home=(self.queue.boot, self.queue.root),
        )  # fmt: skip
        bundle = wire.pack(self.queue.uuid, ticket, order, parts, self.queue.key, self._stored)
        task.offers = tuple(offers)
        return Shipment(wire.key_of(ticket), spec.lane, spec.priority, f"{spec.name} {spec.short}", bundle)

    def _stored(self, part: Part) -> list[str]:
        """For each buffer the blob that is offered in its place, or "": it travels in the bundle."""
        limit = self.engine.can.limit if self.engine.can.blobs else 0
        hashes = part.stored_in(self.queue.blobs.folder)
        return [hash if view.nbytes <= limit else "" for hash, view in zip(hashes, part.buffers, strict=True)]

    def _value(self, id: str) -> dict[str, Part]:
        """The parts that hold the value of a task; of a map also those of its items."""
        record = self.queue.record(id)
        if record.status is not Status.SUCCEEDED:
            raise UpstreamFailed(f"{record.name} ({record.short}) is {record.status}, its value is needed", parent=id)
        frame = records.read_outcome_frame(self.queue, record.ticket)
        kept = {name: part for name, part in frame.parts.items() if name in ("cell", "items", "value")}
        parts = {f"value/{id}/{name}": part for name, part in kept.items()}
        for item in payload.load(kept["items"]) if "items" in kept else ():
            parts |= self._value(item)
        return parts

    def _earlier(self, ticket: Ticket) -> dict[str, Part]:
        try:
            frame = records.read_outcome_frame(self.queue, ticket._replace(delivery=ticket.delivery - 1))
        except (OSError, PayloadError):
            return {}
        return {f"earlier/{name}": part for name, part in frame.parts.items()}

    def _blobs(self, spec: Spec) -> dict[str, int]:
        """The blobs that a slot would read from the folder: hash and size."""
        if not spec.context:
            return {}
        data = self.queue.blobs.read(spec.context)
        found = {spec.context: len(data)}
        for source in context.decode(data).sources.values():
            if source.blob:
                found[source.blob] = _EMBEDDED + 1
        return found
