"""Who works for a queue at this moment: workers, their slots, and what these run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from nbtasks import processes
from nbtasks.queue import lookup, members
from nbtasks.queue.lookup import Place
from nbtasks.queue.members import Member
from nbtasks.queue.store import Store
from nbtasks.status import Status


class SlotNow(NamedTuple):
    """A slot and the task in it; no id when it is idle."""

    name: str
    id: str = ""
    since: float = 0.0  # seconds since 1970
    memory: int = 0  # bytes, of the task and its child processes; 0 when nobody has looked yet
    cores: float | None = None  # how many it keeps busy


class WorkerNow(NamedTuple):
    """A worker and its slots; one with a bridge has an entry for each task at the engine, or one without id.

    `member` is None for slots whose worker is not known: it is gone, or elsewhere.
    """

    member: Member | None
    slots: tuple[SlotNow, ...]


class Crew(NamedTuple):
    """All workers of a queue."""

    workers: tuple[WorkerNow, ...]
    room: int  # how many tasks can run at once on the hosts of the workers
    busy: int  # how many do
    sent: int = 0  # tasks at other engines

    @property
    def words(self) -> str:
        """In one line, for a summary."""
        known = [worker.member for worker in self.workers if worker.member is not None]
        if not known:
            running = self.busy + self.sent
            return f"no worker, {running} running" if running else "no worker"
        found = ["1 worker" if len(known) == 1 else f"{len(known)} workers"]
        if self.room:
            found.append(f"{self.busy} of {self.room} slots busy")
        if engines := sorted({member.engine for member in known if members.is_foreign(member)}):
            found.append(f"{self.sent} task{'s' * (self.sent != 1)} at {' and '.join(engines)}")
        return ", ".join(found)


def read_crew(store: Store, places: Iterable[Place]) -> Crew:
    """The workers that live, with their slots; `places` has those of all tasks that run."""
    running: dict[str, list[Place]] = {}
    for place in places:
        if place.status is Status.RUNNING:
            running.setdefault(place.slot or "", []).append(place)
    slots: dict[str, list[SlotNow]] = {}
    sent = 0
    for member in members.list_slots(store):
        if processes.is_alive(member.process) is not False:
            held = running.pop(member.name, [])
            sent += len(held) * members.is_foreign(member)
            slots.setdefault(member.worker, []).extend(_slots(store, member.name, held))
    workers = [
        WorkerNow(member, tuple(sorted(slots.pop(member.name, []), key=_order)))
        for member in members.list_workers(store)
    ]
    others = [slot for left in slots.values() for slot in left if slot.id]
    others += [slot for name, held in running.items() for slot in _slots(store, name, held)]
    if others:
        workers.append(WorkerNow(None, tuple(others)))
    room = sum(one.member.slots for one in workers if one.member and not members.is_foreign(one.member))
    busy = sum(bool(slot.id) for worker in workers for slot in worker.slots) - sent
    return Crew(tuple(workers), max(room, busy), busy, sent)


def _slots(store: Store, name: str, held: list[Place]) -> list[SlotNow]:
    """One for each task that this member has; a single one when it is idle."""
    return [_slot(store, name, place) for place in held] or [SlotNow(name)]


def _slot(store: Store, name: str, place: Place) -> SlotNow:
    usage = members.find_usage(store, name, str(place.ticket))
    since = lookup.moved_at(place.path) or 0.0
    return SlotNow(name, place.ticket.id, since, usage.memory if usage else 0, usage.cores if usage else None)


def _order(slot: SlotNow) -> tuple[bool, float, str]:
    return not slot.id, slot.since, slot.name  # the longest running first, idle ones last
