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
    """A worker and its slots. `member` is None for slots whose worker is not known: it is gone, or elsewhere."""

    member: Member | None
    slots: tuple[SlotNow, ...]


class Crew(NamedTuple):
    """All workers of a queue."""

    workers: tuple[WorkerNow, ...]
    room: int  # how many tasks can run at once
    busy: int

    @property
    def words(self) -> str:
        """In one line, for a summary."""
        known = sum(worker.member is not None for worker in self.workers)
        if not known:
            return f"no worker, {self.busy} running" if self.busy else "no worker"
        workers = "1 worker" if known == 1 else f"{known} workers"
        return f"{workers}, {self.busy} of {self.room} slots busy"


def read_crew(store: Store, places: Iterable[Place]) -> Crew:
    """The workers that live, with their slots; `places` has those of all tasks that run."""
    running = {place.slot or "": place for place in places if place.status is Status.RUNNING}
    slots: dict[str, list[SlotNow]] = {}
    known: set[str] = set()
    for member in members.list_slots(store):
        if processes.is_alive(member.process) is not False:
            known.add(member.name)
            slots.setdefault(member.worker, []).append(_slot(store, member.name, running.get(member.name)))
    workers = [
        WorkerNow(member, tuple(sorted(slots.pop(member.name, []), key=_order)))
        for member in members.list_workers(store)
    ]
    others = [slot for left in slots.values() for slot in left if slot.id]
    others += [_slot(store, name, place) for name, place in running.items() if name not in known]
    if others:
        workers.append(WorkerNow(None, tuple(others)))
    room = sum(worker.member.slots for worker in workers if worker.member)
    return Crew(tuple(workers), max(room, len(running)), len(running))


def _slot(store: Store, name: str, place: Place | None) -> SlotNow:
    if place is None:
        return SlotNow(name)
    usage = members.find_usage(store, name, str(place.ticket))
    since = lookup.moved_at(place.path) or 0.0
    return SlotNow(name, place.ticket.id, since, usage.memory if usage else 0, usage.cores if usage else None)


def _order(slot: SlotNow) -> tuple[bool, float, str]:
    return not slot.id, slot.since, slot.name  # the longest running first, idle ones last
