"""What is said of a schedule: when next, what became of its last moments, and on what its running hangs."""

from __future__ import annotations

import time
from datetime import datetime
from typing import NamedTuple

from nbtasks import config, services, zones
from nbtasks.queue import layout, lookup, members, schedules
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.queue.schedules import BY_HAND, MADE, MISSED, Entry
from nbtasks.recurrence import upcoming
from nbtasks.status import Status

GOOD, BAD, NONE, LIVE, GONE = "✓", "✕", "–", "…", "·"
_MARKS = {Status.SUCCEEDED: GOOD, Status.FAILED: BAD, Status.CANCELLED: NONE}
ROW = 20  # moments in the row of marks


class Moment(NamedTuple):
    """A moment of a schedule that has passed, and what became of it."""

    time: datetime  # in the schedule's time zone
    mark: str  # ✓ succeeded, ✕ failed, – cancelled or not run, … not ended yet, · removed since
    why: str  # in words: "succeeded", "the run before had not ended"
    id: str | None  # of its task


def moments_of(entry: Entry, count: int, now: float | None = None) -> list[datetime]:
    """The next moments of a schedule, in its time zone."""
    after = time.time() if now is None else now
    return [zones.in_zone(moment, entry.tz) for moment in upcoming(entry.recurrence, after, count)]


def history(queue: Queue, entry: Entry, count: int = ROW) -> list[Moment]:
    """The last moments of a schedule, the latest last."""
    found = []
    for id, fate in list(schedules.fates(queue, entry.name).items())[-count:] if count > 0 else []:
        mark, why = _outcome(queue, id, fate)
        made = id if fate in (MADE, BY_HAND) else None
        found.append(Moment(zones.in_zone(layout.submitted_at(id), entry.tz), mark, why, made))
    return found


def _outcome(queue: Queue, id: str, fate: str) -> tuple[str, str]:
    if fate not in (MADE, BY_HAND):
        return NONE, "no worker lived" if fate == MISSED else "the run before had not ended"
    if place := lookup.find_ended_id(queue, id):
        return _MARKS[place.status], str(place.status)
    return (LIVE, "not ended yet") if schedules.is_live(queue, id) else (GONE, "removed")


def moment_words(moment: datetime) -> str:
    """A moment with its zone's name: ``2026-11-21 03:00 Europe/Berlin``."""
    clock = "%Y-%m-%d %H:%M:%S" if moment.second or moment.microsecond else "%Y-%m-%d %H:%M"
    return f"{moment.strftime(clock)} {getattr(moment.tzinfo, 'key', 'UTC')}"


def next_words(entry: Entry) -> str:
    """``next 2026-11-21 03:00 Europe/Berlin``, or why there is no next one."""
    if entry.paused:
        return "paused"
    found = moments_of(entry, 1)
    return f"next {moment_words(found[0])}" if found else "no more moments"


def announcement(queue: Queue, entry: Entry, before: Entry | None) -> str:
    """What is said when a schedule was registered: when next, what it replaces, and what it lives on."""
    lines = [f"{entry.name}: {next_words(entry)}. {life(queue, entry)}"]
    if entry.paused:
        lines[0] = f"{entry.name}: paused, as it was; nbtasks schedule resume {entry.name} lets it go on."
    if before is not None:
        old = moment_words(zones.in_zone(int(before.registered), entry.tz))
        changed = "" if before.when == entry.when else f", which ran {before.when}"
        lines.append(f"It replaces the {entry.name} of {old}{changed}: same name, the code of now.")
    return "\n".join(lines)


def life(queue: Queue, entry: Entry) -> str:
    """On what its running hangs, and whether that survives a reboot."""
    there = list(members.list_workers(queue))
    serving = [worker for worker in there if serves(worker, entry)]
    lane = "" if entry.lane == "default" else f" -l {entry.lane}"
    service = services.life_words(queue.root, entry.lane) if entry.env == config.env_tag() else ""
    if not serving and entry.env != config.env_tag():
        return f"It runs while a worker of its environment {entry.env} lives, and none does: start one there, `nbtasks worker{lane}`."
    if not serving and service:
        return f"It runs while a worker lives, and none does now; {service}. `nbtasks service status` tells more."
    if not serving and not config.settings().autostart:
        return f"It runs while a worker lives, and none does: start one with `nbtasks worker{lane}`."
    if serving and not any(worker.periodic for worker in there):
        return "Its runs are made by no one: the workers that live were started with --no-periodic. Start another: `nbtasks worker`."
    if service:
        return f"It runs while a worker lives; {service}."
    by_hand = [worker for worker in serving if not worker.auto]
    if by_hand:
        worker = by_hand[0]
        return (
            f"It runs while a worker lives; {worker.name} (pid {worker.process.pid}) was started by hand, and survives a "
            f"reboot only if something starts it again: `nbtasks service install`."
        )
    return "It runs while a worker lives; the one that starts by itself does not survive a reboot: `nbtasks service install`."


def serves(worker: Member, entry: Entry) -> bool:
    """Whether a worker takes the tasks of a schedule."""
    return worker.env == entry.env and entry.lane in worker.lanes
