"""Workers and slots: who they are, and who of them lives."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator

import msgspec

from nbtasks import processes
from nbtasks.processes import Identity
from nbtasks.queue.layout import ALPHABET
from nbtasks.queue.store import Store

OWN = " of "  # between the URL of an engine that ends with its worker, and that worker
_BIRTH = 10.0  # seconds that a new member is given between making its folder and saying who it is


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker ("w-…"), a slot of one ("s-…", a thread "t-…"), its bridge ("b-…") or a process that runs tasks in place ("i-…").

    Names are new for every incarnation, so no claim of a dead one can be taken for a live one's.
    """

    name: str
    process: Identity
    started: float  # seconds since 1970
    worker: str = ""  # of a slot: who supervises it
    lanes: tuple[str, ...] = ()
    env: str = ""
    shares: str = ""  # of a thread: the name of the process that it shares with others
    slots: int = 0
    auto: bool = False
    periodic: bool = True  # it may make the tickets of schedules
    engine: str = "processes"  # of a bridge: the URL, without its password ("… of WORKER" when it ends with that one)
    channels: tuple[str, ...] = ()  # of a bridge: where the engine leaves what comes back for it
    version: str = ""


class Stop(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that a slot stop one delivery: ``cancel`` or ``timeout``."""

    ticket: str
    kind: str
    reason: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a running task takes, all its processes together, as the supervisor saw it last."""

    ticket: str
    memory: int  # bytes
    peak: int  # the most that was seen
    cpu: float  # seconds
    cores: float | None = None  # how many it kept busy since the look before


_usage = msgspec.json.Decoder(Usage)
_member = msgspec.json.Decoder(Member)
_stop = msgspec.json.Decoder(Stop)


def new_name(letter: str, *parts: object) -> str:
    """A name that no worker or slot ever had: ``w-k3f9ab``, ``s-k3f9ab-1-x7``."""
    chance = "".join(secrets.choice(ALPHABET) for _ in range(6))
    return "-".join([letter, *(str(part) for part in parts), chance])


def process_of(slot: str) -> str:
    """The name of the process that a slot is, or is a thread of."""
    return slot.rpartition("-")[0] if slot[:1] == "t" else slot


def register(store: Store, member: Member) -> None:
    """Write who the member is; before it claims anything."""
    store.disk.replace(store.layout.identity(member.name), msgspec.json.encode(member))  # never seen half


def find_member(store: Store, name: str) -> Member | None:
    """Who `name` is, or None when its identity is missing or unreadable."""
    try:
        return _member.decode(store.disk.read(store.layout.identity(name), 65536))
    except (OSError, msgspec.DecodeError):
        return None


def is_dead(store: Store, name: str) -> bool:
    """True when the member's process has certainly ended. A doubt (another host, an I/O error) is not a death."""
    try:
        member = _member.decode(store.disk.read(store.layout.identity(name), 65536))
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return not _is_young(store, name)  # it may be about to say who it is
    except OSError:
        return False
    return processes.is_alive(member.process) is False


def _is_young(store: Store, name: str) -> bool:
    try:
        return abs(time.time() - os.stat(_folder(store, name)).st_ctime) < _BIRTH
    except OSError:
        return False


def list_workers(store: Store, *, alive: bool = True) -> Iterator[Member]:
    """The workers of this queue; with `alive` only those that live on this host."""
    for name in sorted(store.disk.list(store.layout.workers)):
        member = find_member(store, name) if name.startswith("w-") else None
        if member is not None and (not alive or processes.is_alive(member.process)):
            yield member


def list_slots(store: Store) -> Iterator[Member]:
    """All slots that have a folder, alive or not."""
    for name in sorted(store.disk.list(store.layout.slots)):
        if member := find_member(store, name):
            yield member


def count_busy(store: Store, worker: str) -> int:
    """How many of a worker's own slots hold a claim."""
    folders = [name for name in store.disk.list(store.layout.running) if name.startswith(f"s-{worker[2:]}-")]
    return sum(1 for name in folders if any(store.disk.list(store.layout.running_folder(name))))


def find_stop(store: Store, slot: str) -> Stop | None:
    """The supervisor's last request to this slot, or None."""
    try:
        return _stop.decode(store.disk.read(store.layout.stop(slot), 65536))
    except (OSError, msgspec.DecodeError):
        return None


def request_stop(store: Store, slot: str, stop: Stop) -> None:
    """Leave a request for the slot; a signal tells it to look."""
    store.disk.replace(store.layout.stop(slot), msgspec.json.encode(stop))


def note_usage(store: Store, slot: str, usage: Usage) -> None:
    """Write what the slot's task takes. Raises OSError."""
    store.disk.replace(store.layout.usage(slot), msgspec.json.encode(usage))


def find_usage(store: Store, slot: str, ticket: str) -> Usage | None:
    """What this very delivery takes, or None when nobody looked yet."""
    try:
        usage = _usage.decode(store.disk.read(store.layout.usage(slot), 4096))
    except (OSError, msgspec.DecodeError):
        return None
    return usage if usage.ticket == ticket else None


def note_full(store: Store, slot: str, needed: int) -> None:
    """Say that the slot waits for room on the disk, for `needed` bytes (0: nobody knows how many)."""
    # That there is such a file is said even where its content finds no room.
    with contextlib.suppress(OSError), open(store.layout.full(slot), "w", encoding="ascii") as file:
        file.write(str(needed or ""))


def find_full(store: Store, slot: str) -> int | None:
    """How many bytes the slot waits for (0: unknown); None while it does not wait for room."""
    try:
        return int(store.disk.read(store.layout.full(slot), 64) or b"0")
    except (OSError, ValueError):
        return None


def note_waits(store: Store, slot: str, id: str, lock: str) -> None:
    """Say that the task `id` of the slot waits for a named lock; "": not any more. Raises OSError."""
    if lock:
        store.disk.replace(store.layout.waits(slot, id), lock.encode("utf-8", "surrogatepass"))
    else:
        store.disk.remove(store.layout.waits(slot, id))


def find_waits(store: Store, slot: str, id: str) -> str:
    """The named lock for which the task `id` of the slot waits, or ""."""
    try:
        return store.disk.read(store.layout.waits(slot, id), 4096).decode("utf-8", "replace")
    except OSError:
        return ""


def note_trouble(store: Store, slot: str, words: str) -> None:
    """Say why nothing is heard of what a bridge has claimed; "" when all is well again."""
    with contextlib.suppress(OSError):
        if words:
            store.disk.replace(store.layout.trouble(slot), words.encode())
        else:
            store.disk.remove(store.layout.trouble(slot))


def find_trouble(store: Store, slot: str) -> str:
    """What `note_trouble` said last, or ""."""
    try:
        return store.disk.read(store.layout.trouble(slot), 4096).decode("utf-8", "replace")
    except OSError:
        return ""


def note_unbegun(store: Store, bridge: str, words: str, ids: Iterable[str]) -> None:
    """Say what these tasks wait for, which the bridge's engine has and has not begun; of others that is not so any more."""
    with contextlib.suppress(OSError):
        if found := sorted(ids):
            store.disk.replace(store.layout.unbegun(bridge), "\n".join((words, *found)).encode())
        else:
            store.disk.remove(store.layout.unbegun(bridge))


def find_unbegun(store: Store, bridge: str, id: str) -> str:
    """What the task `id` waits for at the bridge's engine, or ""."""
    try:
        words, *ids = store.disk.read(store.layout.unbegun(bridge)).decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return words if id in ids else ""


def is_foreign(member: Member) -> bool:
    """Whether it passes tasks on to an engine that outlives it."""
    return "://" in member.engine


def is_left_to_bridges(store: Store, name: str, patience: float = 600.0) -> bool:
    """Whether the claims of this dead member still wait for a bridge to the same engine: for `patience` seconds."""
    member = find_member(store, name)
    if member is None or not is_foreign(member):
        return False
    if member.engine.endswith(f"{OWN}{member.worker}") and is_dead(store, member.worker):
        return False  # so is the engine
    mark = store.layout.died(name)
    with contextlib.suppress(FileExistsError):
        store.disk.create(mark, [])
    try:
        return time.time() - os.stat(mark).st_mtime < patience
    except OSError:
        return False


def _folder(store: Store, name: str) -> str:
    return store.layout.identity(name).rpartition("/")[0]


def forget(store: Store, name: str) -> None:
    """Take away the folder of a dead member that holds no claim any more."""
    folder = _folder(store, name)
    with contextlib.suppress(OSError):
        for file in store.disk.list(folder):
            store.disk.remove(f"{folder}/{file}")
        store.disk.remove_folder(folder)
        store.disk.remove_folder(store.layout.running_folder(name))
