"""Every file and folder name of a queue directory; nowhere else. docs/format.md describes the same."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time

from nbtasks.errors import OptionError

FORMAT = 1
FOLDER = ".nbtasks"
MARK = "nbtasks-queue.json"
README = "README.txt"
GITIGNORE = ".gitignore"

# The folders at the top of a queue, in the order of docs/format.md.
FOLDERS = (
    "tasks", "blobs", "waiting/parents", "waiting/until", "queued", "running", "ended", "edges",
    "cancel", "cache", "cells", "expires", "groups", "needs", "tokens", "recurring", "workers", "slots", "damaged", "bells",
)  # fmt: skip

CALL, LOG, EVENTS, PROGRESS, STARTED, OUTCOME = "call", "log", "events", "progress", "started", "outcome"
PLAN, ITEMS = "plan", "items"  # of a map over a value that was not known when it was submitted
SCHEDULE = ".json"
WAITERS = "tokens"  # the place of bells of those who wait for a token
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
ID = re.compile(r"\d{8}-\d{6}-\d{6}-[0-9a-z]{4,13}", re.ASCII)
SECOND = 15  # characters of an id that say its second, and so its folders
TAG = re.compile(r"[A-Za-z0-9._-]{1,64}")

_clock, _last = threading.Lock(), 0


def new_id(suffix: str = "") -> str:
    """A fresh id, ``YYYYMMDD-HHMMSS-microseconds-xxxx`` (UTC): sorts by time, also within this process."""
    global _last
    with _clock:
        _last = now = max(time.time_ns() // 1000, _last + 1)
    return id_at(now, suffix or _random_suffix())


def _random_suffix() -> str:
    chance = int.from_bytes(os.urandom(4))  # from the system: a forked child must not repeat its parent's
    return "".join([ALPHABET[chance % 36], ALPHABET[chance // 36 % 36], ALPHABET[chance // 1296 % 36],
                    ALPHABET[chance // 46656 % 36]])  # fmt: skip


def id_at(microseconds: int, suffix: str) -> str:
    """The id of a moment (microseconds since 1970, UTC) and a suffix of 4 to 13 characters of [0-9a-z]."""
    second, fraction = divmod(microseconds, 1_000_000)
    return f"{_second_text(second)}-{fraction:06d}-{suffix}"


_texts: dict[int, str] = {}


def _second_text(second: int) -> str:
    # Formatting a date costs more than all the rest of making an id; a burst asks for the same second.
    text = _texts.get(second)
    if text is None:
        _texts.clear()
        text = _texts[second] = time.strftime("%Y%m%d-%H%M%S", time.gmtime(second))
    return text


def check_id(id: str) -> str:
    """`id` if it is a full id, else OptionError. Nothing else may become a path."""
    if not ID.fullmatch(id):
        raise OptionError(f"{id!r} is not a task id (they look like 20261120-220611-482913-k7q2)")
    return id


def second_of(id: str) -> str:
    """The folder of an id's second, relative: ``20261120-2206/11``."""
    return f"{id[:13]}/{id[13:15]}"


def submitted_at(id: str) -> float:
    """Seconds since 1970 at which the id was made."""
    parsed = time.strptime(id[:15], "%Y%m%d-%H%M%S")
    import calendar

    return calendar.timegm(parsed) + int(id[16:22]) / 1e6


def name_key(name: str) -> str:
    """What stands in file names for a name that people chose freely."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


class HostLayout:
    """Paths in the folder that all queues of one user on one machine share."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = root

    def gate(self) -> str:
        """The lock that is held for the instant in which tokens of resources are taken."""
        return f"{self.root}/gate"

    def resource(self, name: str, number: int) -> str:
        """A token of a resource; the first is 1."""
        return f"{self.root}/resources/{name_key(name)}/{number}"

    def bells(self, boot: str) -> str:
        """The bells of those who wait for a resource."""
        return f"{self.root}/bells/{boot}"


class Layout:
    """Paths within one queue. `root` is absolute; every method is pure."""

    __slots__ = (
        "root", "mark", "readme", "gitignore", "paused", "flushed", "tasks", "blobs", "parents", "until",
        "queued", "running", "ended", "edges", "cancel", "workers", "slots", "damaged", "bells", "needs", "auto",
        "expires", "recurring", "cache", "tokens",
    )  # fmt: skip

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = root = os.path.abspath(os.fspath(root))
        self.mark = f"{root}/{MARK}"
        self.readme = f"{root}/{README}"
        self.gitignore = f"{root}/{GITIGNORE}"
        self.paused = f"{root}/paused"
        self.flushed = f"{root}/flushed"
        self.tasks = f"{root}/tasks"
        self.blobs = f"{root}/blobs"
        self.parents = f"{root}/waiting/parents"
        self.until = f"{root}/waiting/until"
        self.queued = f"{root}/queued"
        self.running = f"{root}/running"
        self.ended = f"{root}/ended"
        self.edges = f"{root}/edges"
        self.cancel = f"{root}/cancel"
        self.workers = f"{root}/workers"
        self.slots = f"{root}/slots"
        self.damaged = f"{root}/damaged"
        self.bells = f"{root}/bells"
        self.needs = f"{root}/needs"
        self.auto = f"{root}/workers/auto"
        self.expires = f"{root}/expires"
        self.recurring = f"{root}/recurring"
        self.cache = f"{root}/cache"
        self.tokens = f"{root}/tokens"

    def call(self, id: str) -> str:
        """The call file of a task."""
        return f"{self.tasks}/{id[:13]}/{id[13:15]}/{id}.call"

    def file(self, id: str, delivery: int, kind: str) -> str:
        """A file of one delivery: LOG, EVENTS, PROGRESS, STARTED or OUTCOME."""
        return f"{self.tasks}/{id[:13]}/{id[13:15]}/{id}.{delivery}.{kind}"

    def task_folder(self, id: str) -> str:
        """The folder that holds all files of a task (and those of its second)."""
        return f"{self.tasks}/{id[:13]}/{id[13:15]}"

    def queued_folder(self, line: str, priority: int, id: str) -> str:
        """Where a ticket waits to be claimed; `line` is LANE@ENV@NEED."""
        return f"{self.queued}/{line}/{9 - priority}/{id[:13]}/{id[13:15]}"

    def ended_folder(self, id: str) -> str:
        """Where the ticket of an ended task lies."""
        return f"{self.ended}/{id[:13]}/{id[13:15]}"

    def running_folder(self, slot: str) -> str:
        """The claims of one slot."""
        return f"{self.running}/{slot}"

    def slot_folder(self, slot: str) -> str:
        """Identity, lock and stop request of one slot."""
        return f"{self.slots}/{slot}"

    def worker_folder(self, worker: str) -> str:
        """Identity, lock and log of one worker."""
        return f"{self.workers}/{worker}"

    def edges_folder(self, parent: str) -> str:
        """One empty file per child of `parent`."""
        return f"{self.edges}/{parent}"

    def identity(self, member: str) -> str:
        """Who a slot ("s…", "i…"), bridge ("b…") or worker ("w…") is: its process, in JSON."""
        return f"{self._folder_of(member)}/identity"

    def lock(self, member: str) -> str:
        """The lock that a slot or worker holds for life."""
        return f"{self._folder_of(member)}/lock"

    def stop(self, slot: str) -> str:
        """A supervisor's request that the slot stop what it runs."""
        return f"{self.slots}/{slot}/stop"

    def usage(self, slot: str) -> str:
        """What the task that the slot runs takes of processor and memory, as its supervisor last saw it."""
        return f"{self.slots}/{slot}/usage"

    def full(self, slot: str) -> str:
        """Exists while the slot waits for room on the disk."""
        return f"{self.slots}/{slot}/full"

    def trouble(self, bridge: str) -> str:
        """Why nothing is heard of what a bridge has claimed; there only while that is so."""
        return f"{self.slots}/{bridge}/trouble"

    def unbegun(self, bridge: str) -> str:
        """What the tasks wait for that an engine has, and has not begun; their ids, one in a line."""
        return f"{self.slots}/{bridge}/unbegun"

    def died(self, bridge: str) -> str:
        """Made by whoever first sees a bridge dead: its claims are left to the next one for a while from then on."""
        return f"{self.slots}/{bridge}/died"

    def worker_log(self, worker: str) -> str:
        """What a worker prints, when it was not started in a terminal."""
        return f"{self.workers}/{worker}/log"

    def _folder_of(self, member: str) -> str:
        return f"{self.workers if member[:1] == 'w' else self.slots}/{member}"

    def cancel_file(self, id: str) -> str:
        """Exists once somebody asked for the task to be cancelled."""
        return f"{self.cancel}/{id}"

    def waits(self, slot: str, id: str) -> str:
        """Exists while the task of the slot waits for a named lock: for which. A bridge has several tasks."""
        return f"{self.slots}/{slot}/waits{f'-{id}' if slot[:1] == 'b' else ''}"

    def need(self, code: str) -> str:
        """What a need of that code (``x…``) asks for, in JSON."""
        return f"{self.needs}/{code}.json"

    def gate(self) -> str:
        """The lock that is held for the instant in which tokens of this queue are taken."""
        return f"{self.tokens}/gate"

    def limit(self, key: str, number: int) -> str:
        """A token of a limit: a lock that is held while a task runs; the first is 1."""
        return f"{self.tokens}/limits/{name_key(key)}/{number}"

    def rate(self, key: str) -> str:
        """The last starts under a rate."""
        return f"{self.tokens}/rates/{name_key(key)}"

    def named_lock(self, name: str) -> str:
        """What ``nbtasks.lock(name)`` holds."""
        return f"{self.tokens}/locks/{name_key(name)}"

    def cell_folder(self, key: str) -> str:
        """One empty file per task that a cell of a notebook submitted, named by its id; `key` stands for the cell."""
        return f"{self.root}/cells/{key}"

    def cache_folder(self, key: str) -> str:
        """The entries of a key of the cache, numbered; each names a task, and the highest number counts."""
        return f"{self.cache}/{key}"

    def schedule(self, name: str) -> str:
        """What recurs under that name, in JSON."""
        return f"{self.recurring}/{name}{SCHEDULE}"

    def schedule_folder(self, name: str) -> str:
        """The call of a schedule, and one empty file ``ID.FATE`` per moment: what became of it."""
        return f"{self.recurring}/{name}"

    def schedule_call(self, name: str, id: str) -> str:
        """The call that each run of a schedule is made of; `id` is its own."""
        return f"{self.recurring}/{name}/{id}.call"

    def schedules_lock(self) -> str:
        """The lock of the one worker that makes the tickets of schedules."""
        return f"{self.recurring}/lock"

    def group_folder(self, group: str) -> str:
        """One empty file per task of a run of a pipeline; `group` is NAME/ID. Of a NAME alone: one folder per run."""
        return f"{self.root}/groups/{group}"

    def spread(self, id: str, kind: str) -> str:
        """The ids of the tasks that a map makes of its items: PLAN before they are submitted, ITEMS when all are."""
        return f"{self.tasks}/{id[:13]}/{id[13:15]}/{id}.{kind}"

    def bells_of(self, boot: str, place: str) -> str:
        """The folder of bells of a boot; `place` is LANE@ENV, ``workers``, ``clients``, ``tokens`` or ``watch``."""
        return f"{self.bells}/{boot}/{place}"

    def auto_lock(self, place: str) -> str:
        """The lock that the one worker started by itself for LANE@ENV holds for life."""
        return f"{self.auto}/{place}.lock"

    def auto_log(self, place: str) -> str:
        """What workers started by themselves for LANE@ENV print."""
        return f"{self.auto}/{place}.log"

    def auto_refused(self, place: str) -> str:
        """Why the last one that was started for LANE@ENV left at once; there until one stays."""
        return f"{self.auto}/{place}.refused"
