"""What recurs: the entries of schedules, their calls, and what became of each moment.

An entry is one small file, replaced as a whole; it names the call that its runs are made of, which was written before
it. A moment's task has an id made from name and moment, so a moment is one task, whoever makes it and how often.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence

import msgspec

from nbtasks import config, durable, frames
from nbtasks.errors import NbtasksError, OptionError, PayloadError
from nbtasks.frames import Frame, Part
from nbtasks.queue import layout, lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import ALPHABET, CALL, ID, SCHEDULE
from nbtasks.recurrence import Recurrence
from nbtasks.spec import NAME, Spec

# What became of a moment: a task was made for it, by itself or by hand; or none, because the run before went on or
# nobody was there at the time.
MADE, BY_HAND, OVERLAP, MISSED = "made", "hand", "overlap", "missed"
FATES = (MADE, BY_HAND, OVERLAP, MISSED)
POLICIES = ("once", "skip", "all")  # for moments at which no worker lived
_LARGEST = 1 << 20  # bytes of an entry
_HALF_MADE = 60.0  # seconds for which another host may still be about to make a ticket
_SUFFIX = 13


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One schedule. Moments are seconds since 1970 (UTC), durations seconds."""

    name: str
    recurrence: Recurrence
    tz: str  # in whose time its moments are shown
    call: str  # the id of the call that its runs are made of
    registered: float  # when that call, and the code in it, was taken
    since: float  # moments up to this one are none of its business
    kind: str = "function"
    summary: str = ""
    lane: str = "default"
    env: str = ""
    missed: str = POLICIES[0]
    overlap: bool = False
    expires: float | None = None  # after the moment
    paused: bool = False

    @property
    def when(self) -> str:
        """How it recurs, in words."""
        return str(self.recurrence)


_entry = msgspec.json.Decoder(Entry)
Fates = dict[str, str]  # id → what became of the moment, in their order


# Entries.


def names(queue: Queue) -> list[str]:
    """The names of all schedules."""
    found = queue.names(queue.layout.recurring)
    stems = (name.removesuffix(SCHEDULE) for name in found if name.endswith(SCHEDULE))
    return [name for name in stems if NAME.fullmatch(name)]


def find_entry(queue: Queue, name: str) -> Entry | None:
    """The schedule of that name, or None. PayloadError when it cannot be read."""
    path = queue.layout.schedule(name)
    try:
        return _entry.decode(queue.disk.read(path, _LARGEST))
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, OSError) as error:
        raise PayloadError(
            f"the schedule {name} cannot be read ({error}): register it again, or nbtasks schedule rm {name}", path=path
        ) from error


def get_entry(queue: Queue, name: str) -> Entry:
    """The schedule of that name. OptionError with the nearest one when there is none."""
    found = find_entry(queue, name) if NAME.fullmatch(name) else None
    if found is None:
        import difflib

        there = names(queue)
        near = difflib.get_close_matches(name, there, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}" if there else "there is none"
        raise OptionError(f"no schedule {name!r} in {queue.root}; {hint}")
    return found


def entries(queue: Queue) -> Iterator[Entry]:
    """All schedules that can be read."""
    for name in names(queue):
        with contextlib.suppress(PayloadError):
            if entry := find_entry(queue, name):
                yield entry


def _write(queue: Queue, entry: Entry) -> None:
    path = queue.layout.schedule(entry.name)
    queue.disk.replace(path, msgspec.json.encode(entry) + b"\n")
    if config.settings().durability == "power" or queue.nobody_flushes():
        queue.disk.flush(path)
    queue.ask_for_flush()
    queue.ring_workers("schedule")


def register(queue: Queue, entry: Entry, spec: Spec, parts: Sequence[Part]) -> Entry | None:
    """Store a schedule with the call of its runs, in place of the one of that name, which is returned.

    On an error nothing has changed. Raises OSError, and OptionError for a name that a pipeline or another kind of
    schedule has.
    """
    before = _check_free(queue, entry)
    path = queue.layout.schedule_call(entry.name, spec.id)
    frame = Frame("call", queue.uuid, spec.id, 0, msgspec.json.encode(spec), {part.name: part for part in parts})
    flush = config.settings().durability == "power" or queue.nobody_flushes()
    frames.write_frame(queue.disk, path, frame, queue.key, queue.blobs, flush=flush)
    try:
        _write(queue, entry)
    except BaseException:
        queue.disk.remove(path)
        raise
    for name in queue.disk.list(queue.layout.schedule_folder(entry.name)):
        if name.endswith(f".{CALL}") and name != f"{spec.id}.{CALL}":
            queue.disk.remove(f"{queue.layout.schedule_folder(entry.name)}/{name}")
    return before


def _check_free(queue: Queue, entry: Entry) -> Entry | None:
    if queue.disk.list(queue.layout.group_folder(entry.name)):
        raise OptionError(f"the name {entry.name!r} is in use by a pipeline: give the schedule another one, name='…'")
    before = None
    with contextlib.suppress(PayloadError):  # one that cannot be read is replaced
        before = find_entry(queue, entry.name)
    if before is not None and before.kind != entry.kind:
        raise OptionError(
            f"the name {entry.name!r} is in use by the schedule of a {before.kind}: give another name, "
            f"or remove that one first: nbtasks schedule rm {entry.name}"
        )
    return before


def set_paused(queue: Queue, name: str, paused: bool) -> Entry:
    """Let a schedule rest, or go on; what falls into its rest is not made up for. OptionError when there is none."""
    entry = get_entry(queue, name)
    if entry.paused != paused:
        entry = msgspec.structs.replace(entry, paused=paused, since=entry.since if paused else time.time())
        _write(queue, entry)
    return entry


def remove(queue: Queue, name: str) -> None:
    """Take a schedule away; tasks that it made stay. OptionError when there is none."""
    if name not in names(queue):
        get_entry(queue, name)
    queue.disk.remove(queue.layout.schedule(name))
    folder = queue.layout.schedule_folder(name)
    for file in queue.disk.list(folder):
        queue.disk.remove(f"{folder}/{file}")
    queue.disk.remove_folder(folder)
    queue.ring_workers("schedule")


# Moments.


def id_of(name: str, moment: float) -> str:
    """The id of a schedule's task for a moment: the same whoever makes it."""
    microseconds = round(moment * 1e6)
    number = int.from_bytes(hashlib.sha256(f"{name}\n{microseconds}".encode()).digest())
    suffix = "".join(ALPHABET[number // 36**place % 36] for place in range(_SUFFIX))
    return layout.id_at(microseconds, suffix)


def fates(queue: Queue, name: str) -> Fates:
    """What became of the last moments of a schedule, in their order."""
    found: Fates = {}
    for file in queue.names(queue.layout.schedule_folder(name)):
        id, _, fate = file.partition(".")
        if fate in FATES and ID.fullmatch(id):
            found[id] = fate
    return found


def note_fate(queue: Queue, name: str, id: str, fate: str) -> None:
    """Keep what became of a moment. Twice is once."""
    with contextlib.suppress(FileExistsError):
        queue.disk.create(f"{queue.layout.schedule_folder(name)}/{id}.{fate}", [])


def drop_fate(queue: Queue, name: str, id: str, fate: str) -> None:
    """Forget a moment."""
    queue.disk.remove(f"{queue.layout.schedule_folder(name)}/{id}.{fate}")


def make(queue: Queue, entry: Entry, moment: float, fate: str = MADE) -> str:
    """Put the task of a moment into the queue, unless it is there; its id.

    Raises PayloadError or FileNotFoundError when the call cannot be read, OSError when nothing was stored.
    """
    id = id_of(entry.name, moment)
    if not _is_made(queue, id):
        call = _read_call(queue, entry)
        spec = records.decode_spec(call.body)
        if spec.schedule != entry.name:
            raise PayloadError(f"the call of the schedule {entry.name} is that of something else: register it again")
        expires = moment + entry.expires if entry.expires is not None else None
        queue.put(msgspec.structs.replace(spec, id=id, due=moment, expires=expires), list(call.parts.values()))
    note_fate(queue, entry.name, id, fate)
    return id


def _read_call(queue: Queue, entry: Entry) -> Frame:
    path = queue.layout.schedule_call(entry.name, entry.call)
    return frames.read_frame(path, queue.key, queue.blobs, kind="call", queue=queue.uuid, id=entry.call)


def _is_made(queue: Queue, id: str) -> bool:
    """Whether the task of that id is there. One that its maker left without a ticket gets it now."""
    if not queue.disk.exists(queue.layout.call(id)):
        return False
    try:
        spec = records.read_spec(queue, id)
        if lookup.locate(queue, spec) is None:
            if durable.on_network(queue.root) and _is_young(queue.layout.call(id)):
                raise OSError(f"{id} may still be being made on another host")
            queue.put(spec, [])  # the call is kept as it is, and gets its ticket
    except PayloadError:
        if lookup.locate_anywhere(queue, id) is None:  # half written when the power failed, and no task
            queue.disk.remove(queue.layout.call(id))
            return False
    except NbtasksError:
        return False
    return True


def _is_young(path: str) -> bool:
    written = lookup.moved_at(path)
    return written is not None and abs(time.time() - written) < _HALF_MADE


def is_live(queue: Queue, id: str) -> bool:
    """Whether a run has not ended; one that was removed has."""
    return lookup.find_ended_id(queue, id) is None and queue.disk.exists(queue.layout.call(id))
