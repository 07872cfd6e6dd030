"""Tasks that must have started at a moment: who has not by then is cancelled, and never starts."""

from __future__ import annotations

import contextlib
import time

from nbtasks import processes
from nbtasks.errors import NbtasksError
from nbtasks.frames import Part
from nbtasks.outcome import Outcome
from nbtasks.queue import lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.tickets import Ticket, parse_expiry, split_due
from nbtasks.spec import Spec
from nbtasks.status import Status

REASON = "expired"
_TRIES = 10
_SUBMIT_TAKES = 3600.0  # seconds, at most


def is_over(spec: Spec, ticket: Ticket) -> bool:
    """Whether it is too late to start this task. What was started before, or is retried by hand, is none of this."""
    return spec.expires is not None and ticket.delivery == 1 and time.time() >= spec.expires


def ended(ticket: Ticket, slot: str) -> tuple[Outcome, list[Part]]:
    """How a delivery ends that came too late: it has no beginning."""
    outcome = Outcome(
        id=ticket.id, delivery=ticket.delivery, status=Status.CANCELLED, reason=REASON, ended=time.time(),
        attempt=ticket.attempt, slot=slot, host=processes.host_name(),
    )  # fmt: skip
    return outcome, []


def expire_due(queue: Queue, me: str, now: float) -> float | None:
    """End what has not started in time, as the claimer `me`; the next such moment (seconds since 1970), or None."""
    due, soonest = split_due(queue.disk.list(queue.layout.expires), parse_expiry, now)
    for name, id in due:
        with contextlib.suppress(NbtasksError, OSError):  # a full disk: the next sweep tries again
            if _try_end(queue, me, id, now):
                queue.disk.remove(f"{queue.layout.expires}/{name}")
    return soonest


def _try_end(queue: Queue, me: str, id: str, now: float) -> bool:
    """End a task unless it has started. True: nothing is left to be done about it."""
    if not queue.disk.exists(queue.layout.call(id)):
        return True
    spec = records.read_spec(queue, id)
    for _ in range(_TRIES):  # it may move on between the look and the move
        place = lookup.locate(queue, spec)
        if place is None or place.status is Status.RUNNING:
            # The slot has looked by itself; or the submit goes on just now, unless it was never wholly submitted.
            return place is not None or now - (spec.expires or now) > _SUBMIT_TAKES
        if place.status.ended or place.ticket.delivery != 1:
            return True
        mine = place.ticket.put_back()  # a name of our own: of two workers, one gets it
        if queue.disk.move(place.path, f"{queue.layout.running_folder(me)}/{mine}"):
            return queue.finish(spec, mine, me, ended(mine, me)[0])
    return False
