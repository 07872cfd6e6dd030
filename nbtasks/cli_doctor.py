"""What ``nbtasks doctor`` looks at: the queue's safety and files, and whether somebody serves what waits."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterator

from nbtasks import config, keys
from nbtasks.errors import NbtasksError
from nbtasks.jupyter import words
from nbtasks.queue import lookup, members
from nbtasks.queue.check import Finding, check
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.queue.tickets import parse_until

_LOW = 500_000_000  # bytes free below which a result may find no place
_PATIENCE = 10.0  # seconds that a worker needs to come, and a sweep to find the dead


def examine(root: str, *, full: bool = False) -> list[Finding]:
    """All that is wrong with the queue at `root`, each with its cure; [] when nothing is."""
    if not os.path.exists(root):
        return []  # nothing was ever submitted here
    found = list(_key())
    try:
        queue = Queue.open(root, create=False)
    except NbtasksError as error:
        return [*found, Finding("queue", root, str(error))]
    return [
        *found,
        *_inside(queue),
        *check(queue, full=full),
        *_unserved(queue),
        *_engines(queue),
        *_overdue(queue),
        *_dead(queue),
        *_disk(queue),
    ]


def _key() -> Iterator[Finding]:
    try:
        keys.load_key()
    except (NbtasksError, OSError) as error:
        yield Finding("key", "key", str(error))


def _inside(queue: Queue) -> Iterator[Finding]:
    """Folders of the queue that others may write to, although the queue itself is closed to them."""
    for name in sorted(os.listdir(queue.root)):
        path = f"{queue.root}/{name}"
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            yield Finding("safety", name, f"{path} is a link to elsewhere", f"rm {path}")
        elif info.st_mode & 0o022:
            yield Finding("safety", name, f"{path} can be written to by others", f"chmod go-w {path}")


def _unserved(queue: Queue) -> Iterator[Finding]:
    """Lines with tasks that no living worker takes, and that none will be started for."""
    if queue.disk.exists(queue.layout.paused):
        yield Finding("paused", "paused", "the queue is paused: nothing is claimed", f"rm {queue.layout.paused}")
        return
    served = list(members.list_workers(queue))
    for line, (count, oldest) in sorted(_waiting(queue).items()):
        lane, env, _ = line.split("@", 2)
        if time.time() - oldest < _PATIENCE or any(_serves(member, lane, env) for member in served):
            continue
        tasks = "1 task waits" if count == 1 else f"{count} tasks wait"
        cure = f"nbtasks worker -l {lane}"
        if env != config.env_tag():
            cure += f", with the Python environment {env} (this one is {config.env_tag()})"
        yield Finding("unserved", line, f"{tasks} in lane {lane} of environment {env}, and no worker serves it", cure)


def _engines(queue: Queue) -> Iterator[Finding]:
    """Engines that take nothing, or do not answer, as those have found who pass tasks on to them."""
    for slot in members.list_slots(queue):
        words = members.find_trouble(queue, slot.name)
        if words and members.is_foreign(slot) and not members.is_dead(queue, slot.name):
            yield Finding("engine", slot.name, words)


def _overdue(queue: Queue) -> Iterator[Finding]:
    """Retries whose moment has passed: any worker of the queue would have moved them on."""
    late = [due for name in queue.disk.list(queue.layout.until) if (due := parse_until(name)) and _is_late(due[0])]
    for moment, ticket in sorted(late):
        sentence = f"{ticket.id} was to run again at {time.strftime('%H:%M:%S', time.localtime(moment))}"
        yield Finding("unserved", ticket.id, f"{sentence}, and no worker moved it on", "nbtasks worker --burst")


def _is_late(moment: float) -> bool:
    return time.time() - moment > _PATIENCE


def _waiting(queue: Queue) -> dict[str, tuple[int, float]]:
    lines: dict[str, tuple[int, float]] = {}
    for line in queue.disk.list(queue.layout.queued):
        if line.count("@") < 2:
            continue
        oldest, counted = time.time(), Counter[str]()
        for path, _ in lookup.queued_tickets(queue, line):
            counted[line] += 1
            oldest = min(oldest, lookup.moved_at(path) or oldest)
        if counted[line]:
            lines[line] = counted[line], oldest
    return lines


def _serves(member: Member, lane: str, env: str) -> bool:
    return lane in member.lanes and env == member.env


def _dead(queue: Queue) -> Iterator[Finding]:
    """Slots that died with a task in hand, and that nobody has cleared away yet."""
    for slot in sorted(queue.disk.list(queue.layout.running)):
        folder = queue.layout.running_folder(slot)
        for name in queue.disk.list(folder):
            since = lookup.moved_at(f"{folder}/{name}")
            if since is None or time.time() - since < _PATIENCE or not members.is_dead(queue, slot):
                continue
            id = name.partition(".")[0]
            sentence = f"slot {slot}, which ran {id}, is dead, and no worker has cleared it away yet"
            yield Finding("dead slot", slot, sentence, "nbtasks worker --burst")


def _disk(queue: Queue) -> Iterator[Finding]:
    free = shutil.disk_usage(queue.root).free
    if free < _LOW:
        yield Finding(
            "disk", queue.root, f"only {words.size(free)} are free on the disk of the queue", "free some space"
        )
    files = os.statvfs(queue.root)
    if files.f_files and files.f_favail < 1000:
        yield Finding("disk", queue.root, f"only {files.f_favail} more files fit on the disk of the queue")
