"""Why a task stands where it stands, in words: for whom it waits, its place in line, what its slot waits for."""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

from nbtasks import config, processes
from nbtasks.engines.urls import PROCESSES, hide, parse_all
from nbtasks.errors import NbtasksError
from nbtasks.outcome import Outcome
from nbtasks.queue import lookup, members, shortage
from nbtasks.queue.lookup import Place
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import parse_until
from nbtasks.spec import Spec
from nbtasks.status import Status

_RARELY = 50  # what was looked up is good for this many times what looking took: many cards ask for the same
_FAR = 1000  # places in a line that are counted


class Standing(Protocol):
    """What is asked of a record."""

    @property
    def store(self) -> Store: ...
    @property
    def spec(self) -> Spec: ...
    @property
    def place(self) -> Place: ...
    @property
    def outcome(self) -> Outcome | None: ...
    @property
    def attempt(self) -> int: ...


def why(record: Standing, read: Callable[[str], Standing]) -> str:
    """Why the task stands where it stands; "" when there is nothing to say. `read` gives the record of another."""
    status = record.place.status
    if record.outcome is not None:
        return record.outcome.reason
    if status is Status.CANCELLED:
        return "before it started"
    if status is Status.WAITING:
        return _waits_for(record, read)
    if status is Status.QUEUED:
        return _queued(record)
    if status is Status.RUNNING:
        tries = f"attempt {record.attempt} of {record.spec.retries + 1}" if record.spec.retries else ""
        return ", ".join(filter(None, (tries, _room(record), _lock(record), _trouble(record) or _unbegun(record))))
    return ""


def _waits_for(record: Standing, read: Callable[[str], Standing]) -> str:
    due = parse_until(record.place.path.rpartition("/")[2])
    if due and record.place.path.startswith(record.store.layout.until):
        if record.place.ticket.failures == 0:
            return f"until {_moment(due[0])}"
        left = max(0, round(due[0] - time.time()))
        return f"attempt {record.attempt} of {record.spec.retries + 1} in {left} s"
    open_ones = []
    for id in record.spec.dependencies:
        try:
            parent = read(id)
        except NbtasksError:
            open_ones.append(f"{id} (not there)")
            continue
        if parent.place.status is not Status.SUCCEEDED:
            open_ones.append(f"{parent.spec.name} {parent.spec.short} ({parent.place.status})")
    return "for " + ", ".join(open_ones[:3]) + (" …" if len(open_ones) > 3 else "") if open_ones else ""


def _moment(when: float) -> str:
    """The clock of today, else with the date."""
    now, then = time.localtime(), time.localtime(when)
    return time.strftime("%H:%M:%S" if now[:3] == then[:3] else "%Y-%m-%d %H:%M", then)


def _lock(record: Standing) -> str:
    name = members.find_waits(record.store, record.place.slot, record.spec.id) if record.place.slot else ""
    return f"waits {shortage.of_lock(record.store, name)}" if name else ""


def _room(record: Standing) -> str:
    needed = members.find_full(record.store, record.place.slot) if record.place.slot else None
    if needed is None:
        return ""
    try:
        free = shutil.disk_usage(record.store.root).free
    except OSError:
        return "the disk is full"
    needs = f": needs {_size(needed)}, {_size(free)} free" if needed else f", {_size(free)} free"
    return f"the disk is full{needs}; it tries again until there is room"


def _trouble(record: Standing) -> str:
    slot = record.place.slot
    return members.find_trouble(record.store, slot) if slot and slot[:2] in ("b-", "t-") else ""


def _unbegun(record: Standing) -> str:
    slot = record.place.slot
    return members.find_unbegun(record.store, slot, record.spec.id) if slot and slot.startswith("b-") else ""


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# In line.


def _queued(record: Standing) -> str:
    store, spec = record.store, record.spec
    place = _position(store, lookup.line_of(spec), spec.id)
    if spec.needs and not store.disk.exists(store.layout.paused):
        place = shortage.joined(place, shortage.of_needs(store, spec.need, spec.needs))
    if store.disk.exists(store.layout.paused):
        return _joined(place, "the queue is paused: nbtasks resume lets it go on")
    if not spec.env:  # its call cannot be read
        return place
    if engines := _served_by(store, spec.lane, spec.env):
        return _joined(place, _another(engines) or _refusing(store, spec.lane, spec.env, engines))
    if spec.env != config.env_tag():
        return _joined(place, f"no worker for its environment {spec.env}: start one there with nbtasks worker")
    if config.settings().autostart:
        return _joined(place, _starting(store, f"{spec.lane}@{spec.env}"))
    lane = "" if spec.lane == "default" else f" -l {spec.lane}"
    return _joined(place, f"no worker: start one with nbtasks worker{lane}")


def _another(engines: frozenset[str]) -> str:
    """What serves it, when another engine was configured here."""
    if config.origin("engine") != "configure()":
        return ""
    wanted = [url.shown for url in parse_all(config.settings().engine)]
    if "inline" in wanted or not engines.isdisjoint(wanted):
        return ""
    names = " and ".join(sorted(engines))
    return f"its worker uses {names}, not {' or '.join(wanted)}: nbtasks stop lets another start"


def _starting(store: Store, place: str) -> str:
    try:
        refused = store.disk.read(store.layout.auto_refused(place), 4096).decode("utf-8", "replace")
    except OSError:
        engine = hide(config.settings().engine)
        return "no worker: starting one" + (f" on {engine}" if engine != PROCESSES.shown else "")
    return f"no worker could start: {refused}"


def _joined(place: str, rest: str) -> str:
    return "; ".join(filter(None, (place, rest)))


T = TypeVar("T")
_known: dict[tuple[str, ...], tuple[float, Any]] = {}


def _lately(key: tuple[str, ...], look: Callable[[], T]) -> T:
    """What `look` gives, or gave a moment ago."""
    now = time.monotonic()
    if key not in _known or now > _known[key][0]:
        if len(_known) > 100:
            _known.clear()
        found = look()
        _known[key] = now + _RARELY * (time.monotonic() - now), found
    return cast(T, _known[key][1])


def _served_by(store: Store, lane: str, env: str) -> frozenset[str]:
    """The engines of the workers, here or perhaps on another host, that take tasks of this lane and environment."""

    def look() -> frozenset[str]:
        workers = members.list_workers(store, alive=False)
        fits = (worker for worker in workers if worker.env == env and lane in worker.lanes)
        return frozenset(worker.engine for worker in fits if processes.is_alive(worker.process) is not False)

    return _lately((store.root, lane, env), look)


def _refusing(store: Store, lane: str, env: str, engines: frozenset[str]) -> str:
    """Why none of the engines that would take it does."""

    def look() -> str:
        slots = [slot for slot in members.list_slots(store) if slot.env == env and lane in slot.lanes]
        said = [members.find_trouble(store, slot.name) for slot in slots if not members.is_dead(store, slot.name)]
        return " and ".join(said) if all(said) else ""

    return _lately((store.root, lane, env, "refusing"), look) if all("://" in one for one in engines) else ""


def _position(store: Store, line: str, id: str) -> str:
    found = _lately((store.root, line), lambda: _places(store, line))
    if id not in found and len(found) < _FAR:
        _known.pop((store.root, line), None)
        found = _lately((store.root, line), lambda: _places(store, line))
    if id not in found:
        return f"more than {_FAR:,} in line before it" if len(found) >= _FAR else ""
    return f"{_ordinal(found[id])} in line"


def _places(store: Store, line: str) -> dict[str, int]:
    tickets = itertools.islice(lookup.queued_tickets(store, line), _FAR)
    return {ticket.id: place for place, (_, ticket) in enumerate(tickets, 1)}


def _ordinal(number: int) -> str:
    if number == 1:
        return "next"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"
