"""What a crash left: claims of the dead are committed, delivered again, or declared failed.

Every step is one move of the ticket, so any number of workers may recover at once, and a slot that was wrongly
taken for dead finds its ticket gone and commits nothing.
"""

from __future__ import annotations

import contextlib
import time

from nbtasks import processes
from nbtasks.errors import NbtasksError, PayloadError, TaskNotFound
from nbtasks.outcome import Failure, Outcome
from nbtasks.queue import dependencies, expiring, lookup, members, records
from nbtasks.queue.deaths import Death
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import PROGRESS, STARTED
from nbtasks.queue.tickets import LOSSES, Ticket, parse_ticket, parse_until, split_due
from nbtasks.spec import Spec
from nbtasks.status import Status

_CLOCKS = 60.0  # seconds: file times lag a little behind the clock, and the clock itself is corrected at times


def recover_slot(queue: Queue, me: str, slot: str, death: Death) -> int:
    """Settle every claim of a dead slot; how many there were. `me` is the claimer that writes outcomes."""
    member = members.find_member(queue, slot)
    # Before the task may run again, nothing of the old run is left.
    processes.kill_tree(member.process if member else 0, mark=(member and member.shares) or slot)
    queue.ring_token_waiters()  # what it held is free
    return _recover_all(queue, me, slot, death)


def _recover_all(queue: Queue, me: str, slot: str, death: Death) -> int:
    found = 0
    for ticket in _claims(queue, slot):
        found += 1
        with contextlib.suppress(NbtasksError, OSError):  # one that cannot be settled now (a full disk) is swept again
            _recover(queue, me, slot, ticket, death)
    return found


def _claims(queue: Queue, slot: str) -> list[Ticket]:
    names = queue.names(queue.layout.running_folder(slot))
    return [ticket for name in names if (ticket := parse_ticket(name))]


def _recover(queue: Queue, me: str, slot: str, ticket: Ticket, death: Death) -> None:
    try:
        spec = records.read_spec(queue, ticket.id)
    except (PayloadError, TaskNotFound) as error:
        _fail(queue, me, slot, records.damaged_spec(ticket.id, error), ticket, str(error), "damaged", death)
        return
    if outcome := records.find_whole_outcome(queue, ticket):  # it had ended; only the commit was missing
        queue.settle(spec, ticket, slot, outcome)
        return
    if spec.dependencies and not dependencies.judge(queue, spec).ready:  # it was taken to be ended, and never ran
        queue.put_back(spec, ticket.put_back(), f"{queue.layout.running_folder(slot)}/{ticket}")
        return
    if slot[:1] == "w" and spec.expires is not None and spec.expires < time.time():  # a worker claims it for that only
        _end(queue, me, slot, spec, ticket, death, status=Status.CANCELLED, reason=expiring.REASON)
        return
    stop = members.find_stop(queue, slot)
    if queue.disk.exists(queue.layout.cancel_file(ticket.id)):
        _end(queue, me, slot, spec, ticket, death, status=Status.CANCELLED, reason="stopped by force")
    elif stop is not None and stop.ticket == str(ticket):
        _fail(queue, me, slot, spec, ticket, stop.reason, "timed out", death)
    elif death.seen:
        _fail(queue, me, slot, spec, ticket, death.words(), "killed", death)
    else:
        _lost(queue, me, slot, spec, ticket, death)


def lose(queue: Queue, me: str, spec: Spec, ticket: Ticket, death: Death) -> None:
    """Settle a claim of our own that was lost elsewhere: it is delivered again, or ends when it must not be."""
    _lost(queue, me, me, spec, ticket, death)


def evict_slot(queue: Queue, me: str, slot: str) -> None:
    """Settle what a slot ran that was ended because its worker has to stop now.

    Functions go back as they were (failures and losses unchanged); what must not start twice ends failed.
    """
    for ticket in _claims(queue, slot):
        with contextlib.suppress(NbtasksError, OSError):  # a sweep settles what is left
            spec = records.read_spec(queue, ticket.id)
            if outcome := records.find_whole_outcome(queue, ticket):
                queue.settle(spec, ticket, slot, outcome)
            elif spec.at_most_once and _began(queue, ticket):
                _fail(queue, me, slot, spec, ticket, "worker stopped", "lost", Death(reason="worker stopped"))
            else:
                queue.put_back(spec, ticket.put_back(), f"{queue.layout.running_folder(slot)}/{ticket}")


def _began(queue: Queue, ticket: Ticket) -> bool:
    """Whether user code began in this delivery, or in one that was taken over from its slot and not ended since."""
    for delivery in range(ticket.delivery, 0, -1):
        if delivery < ticket.delivery and records.find_whole_outcome(queue, ticket._replace(delivery=delivery)):
            return False
        if queue.disk.exists(queue.layout.file(ticket.id, delivery, STARTED)):
            return True
    return False


def _lost(queue: Queue, me: str, slot: str, spec: Spec, ticket: Ticket, death: Death) -> None:
    source = f"{queue.layout.running_folder(slot)}/{ticket}"
    if spec.at_most_once and _began(queue, ticket):
        why = f"lost: {death.words()}. It had started, so it does not run again unasked"
        _fail(queue, me, slot, spec, ticket, why, "lost", death)
    elif spec.at_most_once:  # claimed, but the user's code never began: nothing was lost
        queue.put_back(spec, ticket.put_back(), source)
    elif ticket.losses + 1 >= LOSSES:
        _fail(queue, me, slot, spec, ticket, f"lost {LOSSES} times; the last time: {death.words()}", "lost", death)
    else:
        queue.put_back(spec, ticket.lost(), source)


def _fail(
    queue: Queue, me: str, slot: str, spec: Spec, ticket: Ticket, reason: str, kind: str, death: Death
) -> None:  # fmt: skip
    _end(queue, me, slot, spec, ticket, death, status=Status.FAILED, reason=reason, kind=kind)


def _end(
    queue: Queue, me: str, slot: str, spec: Spec, ticket: Ticket, death: Death, *, status: Status, reason: str,
    kind: str = "",
) -> None:  # fmt: skip
    # Only files of a delivery of our own are written: the dead one may not be as dead as it seems.
    mine = ticket.put_back()
    source = f"{queue.layout.running_folder(slot)}/{ticket}"
    since = lookup.moved_at(source) or time.time()
    if not queue.disk.move(source, f"{queue.layout.running_folder(me)}/{mine}"):
        return
    outcome = Outcome(
        id=ticket.id, delivery=mine.delivery, status=status, reason=reason, kind=kind, started=since,
        ended=time.time(), attempt=ticket.attempt, signal=death.signal, exit_code=death.exit_code,
        peak_memory=death.peak_memory, slot=slot, progress=_last_progress(queue, ticket),
        failure=_failure(kind, reason) if status is Status.FAILED else None,
    )  # fmt: skip
    queue.finish(spec, mine, me, outcome)


def _failure(kind: str, reason: str) -> Failure:
    types = {"timed out": "TaskTimedOut", "damaged": "PayloadError"}
    return Failure(type=f"nbtasks.errors.{types.get(kind, 'TaskLost')}", message=reason)


def _last_progress(queue: Queue, ticket: Ticket) -> dict[str, object] | None:
    import msgspec

    try:
        state = msgspec.json.decode(queue.disk.read(queue.layout.file(ticket.id, ticket.delivery, PROGRESS)))
    except (OSError, msgspec.DecodeError):
        return None
    return state if isinstance(state, dict) else None


def sweep(queue: Queue, me: str, *, spare: frozenset[str] = frozenset()) -> None:
    """Make good whatever was left: claims of dead slots, released or failed children, due retries.

    `spare` are slots whose deaths the caller sees by itself.
    """
    for slot in queue.names(queue.layout.running):
        if slot not in spare and slot != me and members.is_dead(queue, slot):
            if members.is_left_to_bridges(queue, slot):  # its tasks go on elsewhere: the next one knows where
                continue
            recover_slot(queue, me, slot, _unseen(queue, slot))
            if not _claims(queue, slot):
                members.forget(queue, slot)
    _recover_all(queue, me, me, Death(reason="how it ended could not be written"))  # what I took over and left
    for slot in queue.names(queue.layout.slots):
        if slot not in spare and not _claims(queue, slot) and members.is_dead(queue, slot):
            members.forget(queue, slot)
    release_due(queue, me)
    for name in queue.names(queue.layout.parents):
        if ticket := parse_ticket(name):
            look_at_child(queue, me, ticket.id)


def _unseen(queue: Queue, slot: str) -> Death:
    member = members.find_member(queue, slot)
    if member is not None and member.process.boot != processes.identify().boot:
        import psutil

        return Death(reason=f"the host restarted at {time.strftime('%H:%M', time.localtime(psutil.boot_time()))}")
    return Death()


def look_at_child(queue: Queue, me: str, child: str) -> None:
    """Release a waiting child, or end it when a parent failed or it cannot be read."""
    with contextlib.suppress(NbtasksError, OSError):  # one damaged task must not stop the sweep
        try:
            if not queue.fail_upstream(child, me):
                queue.look_at_parents(child)
        except (PayloadError, TaskNotFound) as error:
            if place := dependencies.find_waiting(queue, child):
                _fail_damaged(queue, me, place.path, place.ticket, error)


def _fail_damaged(queue: Queue, me: str, path: str, ticket: Ticket, error: Exception) -> None:
    claimed = ticket.put_back()
    if queue.disk.move(path, f"{queue.layout.running_folder(me)}/{claimed}"):
        spec = records.damaged_spec(ticket.id, error)
        _fail(queue, me, me, spec, claimed, str(error), "damaged", Death())


def release_due(queue: Queue, me: str = "", now: float | None = None) -> float | None:
    """Move tasks whose moment has come to their queues; the next moment (seconds since 1970), or None.

    One whose call cannot be read ends failed when `me`, the claimer that writes this, is given.
    """
    moment = time.time() if now is None else now
    due, soonest = split_due(queue.disk.list(queue.layout.until), parse_until, moment)
    for name, ticket in due:
        path = f"{queue.layout.until}/{name}"
        with contextlib.suppress(NbtasksError, OSError):
            try:
                queue.put_back(records.read_spec(queue, ticket.id), ticket, path)
            except (PayloadError, TaskNotFound) as error:
                if me:
                    _fail_damaged(queue, me, path, ticket, error)
    return soonest


def verify_after_restart(queue: Queue, me: str) -> int:
    """After a restart of the host: deliver again what had ended since the last flush and cannot be read.

    Outcomes that were not flushed may be empty after a power cut. Returns how many were found so.
    """
    moment, boot = _flush_mark(queue)
    if boot == queue.boot:
        return 0
    found = 0
    for place in lookup.ended_tickets(queue):
        since = lookup.moved_at(place.path)
        if place.status is Status.CANCELLED or (since is not None and since < moment - _CLOCKS):
            continue
        if records.find_whole_outcome(queue, place.ticket) is None:
            found += 1
            with contextlib.suppress(NbtasksError, OSError):  # a sweep settles what is left
                _undo_end(queue, me, place)
    return found


def _undo_end(queue: Queue, me: str, place: lookup.Place) -> None:
    claimed = place.ticket.put_back()
    if not queue.disk.move(place.path, f"{queue.layout.running_folder(me)}/{claimed}"):
        return
    try:
        spec = records.read_spec(queue, claimed.id)
    except (PayloadError, TaskNotFound) as error:
        _fail(queue, me, me, records.damaged_spec(claimed.id, error), claimed, str(error), "damaged", Death())
        return
    if spec.at_most_once:
        why = "its outcome was lost when the host's power failed; it does not run again unasked"
        _end(queue, me, me, spec, claimed, Death(), status=Status.FAILED, reason=why, kind="lost")
    else:
        queue.put_back(spec, claimed.lost(), f"{queue.layout.running_folder(me)}/{claimed}")


def mark_flushed(queue: Queue, moment: float) -> None:
    """Note that everything before `moment` (seconds since 1970) is on the disk."""
    queue.disk.replace(queue.layout.flushed, f"{moment:.6f} {queue.boot}\n".encode())


def _flush_mark(queue: Queue) -> tuple[float, str]:
    try:
        moment, boot = queue.disk.read(queue.layout.flushed, 256).decode().split()
        return float(moment), boot
    except (OSError, ValueError):  # never written, or lost itself when the power failed: nothing is sure to be there
        return 0.0, ""


__all__ = [
    "Death", "evict_slot", "look_at_child", "lose", "mark_flushed", "recover_slot", "release_due", "sweep", "verify_after_restart",
]  # fmt: skip
