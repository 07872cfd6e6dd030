"""Pipelines: tasks that feed each other, submitted in one block, and watched, stopped and retried as one."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from nbtasks import api, ends
from nbtasks.errors import NbtasksError, OptionError, TaskFailed
from nbtasks.handle import attach, renew
from nbtasks.hooks import bind_names
from nbtasks.queue import dependencies, groups, lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import submitted_at
from nbtasks.queue.lookup import Place
from nbtasks.queue.records import Record
from nbtasks.spec import Spec, check_name, seconds
from nbtasks.status import LIVE, Status
from nbtasks.submitting import group_now, here
from nbtasks.tasklist import TaskList

_SPANS = 3000  # tasks whose times are read

begun: list[Pipeline] = []  # in this process, the last one last; `nbtasks run` waits for them


@dataclass(frozen=True)
class Member:
    """One task of a pipeline at one moment."""

    spec: Spec
    place: Place
    parents: tuple[str, ...]  # tasks of the same pipeline that it comes after
    span: tuple[float, float | None] | None = None  # when it started and ended (seconds since 1970)

    @property
    def status(self) -> Status:
        """One of the six."""
        return self.place.status


class Pipeline:
    """One run of a pipeline. Made by `pipeline` and `get_pipeline`; at the end of a cell it shows its graph."""

    def __init__(self, queue: Queue, group: str) -> None:
        self.queue, self.group = queue, group
        self._specs: dict[str, Spec] = {}
        self._items: dict[str, str] = {}  # of tasks that a map made of its items: that map
        self._spans: dict[Place, tuple[float, float | None] | None] = {}
        self._tokens: list[tuple[Token[str | None], frozenset[str]]] = []

    @property
    def name(self) -> str:
        """What it is called."""
        return groups.name_of(self.group)

    @property
    def started(self) -> float:
        """When its block was entered (seconds since 1970)."""
        return submitted_at(self.group.partition("/")[2])

    # The block.

    def __enter__(self) -> Pipeline:
        self._tokens.append((group_now.set(self.group), frozenset(groups.members(self.queue, self.group))))
        if self not in begun:
            begun.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, before = self._tokens.pop()
        group_now.reset(token)
        if isinstance(error, Exception):  # half a pipeline is none; an interrupt only ends the waiting
            for id in set(groups.members(self.queue, self.group)) - before:
                with contextlib.suppress(NbtasksError):
                    self.queue.cancel(id)

    # Looking.

    def look(self, *, spans: bool = False) -> dict[str, Member]:
        """All its tasks as they stand now, by id, in the order in which they were submitted. `spans`: with their times."""
        ids = [id for id in groups.members(self.queue, self.group) if self._spec(id) is not None]
        found = groups.places(self.queue, ids)
        for id in ids:
            if self._specs[id].kind == "map" and id not in self._items.values():
                self._items |= dict.fromkeys(dependencies.items_of(self.queue, id), id)
        members: dict[str, Member] = {}
        for id in [id for id in ids if id in found]:
            span = self._span(id, found[id]) if spans and len(members) < _SPANS else None
            members[id] = Member(self._specs[id], found[id], (), span)
        parents = self._parents(members)
        return {id: Member(one.spec, one.place, parents[id], one.span) for id, one in members.items()}

    def _spec(self, id: str) -> Spec | None:
        if id not in self._specs:
            with contextlib.suppress(NbtasksError, OSError):  # its submit goes on, or never came to its end
                self._specs[id] = records.read_spec(self.queue, id)
        return self._specs.get(id)

    def _parents(self, members: Mapping[str, Member]) -> dict[str, tuple[str, ...]]:
        """What each comes after. The tasks that a map makes of its items stand before the map, which waits for them."""
        items: dict[str, list[str]] = {}
        for item, of in self._items.items():
            items.setdefault(of, []).append(item)
        found = {}
        for id, one in members.items():
            maker = members.get(self._items.get(id, ""))
            needed = [*one.spec.dependencies, *(maker.spec.dependencies if maker else ())]
            found[id] = tuple(parent for parent in items.get(id) or dict.fromkeys(needed) if parent in members)
        return found

    def _span(self, id: str, place: Place) -> tuple[float, float | None] | None:
        if not place.status.ended:  # by its ticket alone: there may be thousands
            since = lookup.moved_at(place.path) if place.status is Status.RUNNING else None
            return None if since is None else (since, None)
        if place not in self._spans:
            record = records.read_record(self.queue, id, place)
            ran = record.started is not None and not _failed_with_another(record)
            self._spans[place] = (record.started or 0.0, record.ended) if ran else None
        return self._spans[place]

    @property
    def tasks(self) -> TaskList[Any]:
        """Its tasks, in the order in which they were submitted."""
        return TaskList(self.queue, self.look())

    @property
    def counts(self) -> dict[Status, int]:
        """How many of its tasks have each status."""
        return status_counts(self.look())

    @property
    def status(self) -> Status:
        """That of the whole: live while one task lives, then failed or cancelled if one is."""
        return status_of(self.counts)

    # Waiting.

    def wait(self, timeout: float | str | None = None) -> bool:
        """Wait until all its tasks have ended, also those that its tasks submit. False when `timeout` was up before."""
        limit = seconds("timeout", timeout)
        deadline = None if limit is None else time.monotonic() + limit
        while open_ones := [id for id, one in self.look().items() if not one.status.ended]:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            api.wait([self._task(id) for id in open_ones], left)
        return True

    def _task(self, id: str) -> Any:
        return renew(attach(self.queue, id))

    def result(self, timeout: float | str | None = None) -> Any:
        """Wait for the end and give what the pipeline was made for: the value of its last task.

        When nothing hangs on several of them, the list of their values, in the order in which they were submitted. Raises
        what the first failed task raised (not what failed with it), CancelledError, or TimeoutError.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self!r} after {timeout} s; it goes on, and can be waited for again")
        members = self.look()
        self._raise_failure(members)
        needed = {parent for one in members.values() for parent in one.parents}
        values = [ends.read_value(self.queue, one.place) for id, one in members.items() if id not in needed]
        bind_names()
        return values[0] if len(values) == 1 else values

    def _raise_failure(self, members: Mapping[str, Member]) -> None:
        if not members:
            raise OptionError(f"the pipeline {self.name!r} has no tasks: submit them inside its with block")
        bad = [self.queue.record(id) for id, one in members.items() if one.status is not Status.SUCCEEDED]
        own = [record for record in bad if not _failed_with_another(record)]
        for record in own or bad:
            if record.status is Status.FAILED:
                raise self._task(record.id).exception() or TaskFailed(f"{record.name} failed", id=record.id)
        if bad:
            raise CancelledError(f"the pipeline {self.name!r} was cancelled")

    # Changing one's mind.

    def cancel(self) -> int:
        """Cancel all that have not ended; how many that were."""
        done = 0
        for id, one in reversed(self.look().items()):  # the last first: none is released on the way
            if not one.status.ended:
                with contextlib.suppress(NbtasksError):
                    done += self.queue.cancel(id)
        return done

    def retry(self) -> Pipeline:
        """Run those again that failed or were cancelled, and with them what hangs on them. What succeeded stays."""
        before = self.look()
        bad = [id for id, one in before.items() if one.status in (Status.FAILED, Status.CANCELLED)]
        for with_others in (False, True):  # those that failed with another are revived by its retry, as a rule
            for id in bad:
                record = self.queue.record(id)
                if record.status in LIVE or _failed_with_another(record) is not with_others:
                    continue
                if not with_others or dependencies.judge(self.queue, record.spec).culprit is None:
                    with contextlib.suppress(OptionError):
                        self.queue.retry(id)
        for id, one in self.look().items():  # handles that are asked for from now on are of the new run
            if id in before and one.place.ticket.delivery > before[id].place.ticket.delivery:
                attach(self.queue, id, one.place.ticket.delivery)
        return self

    # Being shown.

    def __repr__(self) -> str:
        try:
            counts = self.counts
            told = ", ".join(f"{counts[status]:,} {status}" for status in Status if counts.get(status))
            return f"<Pipeline {self.name} {status_of(counts)}: {told or 'no tasks yet'}>"
        except (NbtasksError, OSError):
            return f"<Pipeline {self.name}>"

    def __eq__(self, other: object) -> bool:
        return (
            (self.queue.root, self.group) == (other.queue.root, other.group) if isinstance(other, Pipeline) else False
        )

    def __hash__(self) -> int:
        return hash((self.queue.root, self.group))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.queue.root, self.group)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from nbtasks.jupyter import graph_html  # a pipeline at the end of a cell shows its graph

        return graph_html.bundle(self)

    def _ipython_display_(self) -> None:
        from nbtasks.jupyter import graph_view  # and keeps it up to date where the extension is loaded

        graph_view.show(self)


def _failed_with_another(record: Record) -> bool:
    return record.outcome is not None and record.outcome.kind == "upstream"


def _restore(root: str, group: str) -> Pipeline:
    return Pipeline(Queue.open(root, create=False), group)


def status_counts(members: Mapping[str, Member]) -> dict[Status, int]:
    """How many have each status."""
    found = Counter(one.status for one in members.values())
    return {status: found[status] for status in Status if found[status]}


def status_of(counts: Mapping[Status, int]) -> Status:
    """The status of a whole, from those of its tasks."""
    if any(counts.get(status) for status in LIVE):
        begun = counts.get(Status.RUNNING) or any(counts.get(status) for status in Status if status.ended)
        return Status.RUNNING if begun else Status.QUEUED if counts.get(Status.QUEUED) else Status.WAITING
    for status in (Status.FAILED, Status.CANCELLED, Status.SUCCEEDED):
        if counts.get(status):
            return status
    return Status.WAITING


def pipeline(name: str) -> Pipeline:
    """Group what is submitted: ``with nbtasks.pipeline("nightly") as p: …``; what those tasks submit belongs to it, too.

    A name may be used again when its tasks have ended: that is its next run. When the block ends with an exception, what
    it has submitted is cancelled. Raises OptionError for a name that cannot be, or is in use.
    """
    queue = here().queue
    check_name("pipeline", name)
    if queue.disk.exists(queue.layout.schedule(name)):
        raise OptionError(f"the name {name!r} is in use by a schedule: give the pipeline another one")
    for group in groups.runs_of(queue, name)[-1:]:
        counts = Pipeline(queue, group).counts
        if live := sum(counts.get(status, 0) for status in LIVE):
            raise OptionError(
                f"the pipeline name {name!r} is in use: {live:,} of its tasks {'live' if live > 1 else 'lives'}. Take it up "
                f"with nbtasks.get_pipeline({name!r}), end it with nbtasks.get_pipeline({name!r}).cancel(), or give another name"
            )
    return Pipeline(queue, groups.new_group(name))


def get_pipeline(name: str) -> Pipeline:
    """The last run of the pipeline of that name, also after a restart of the kernel. Raises OptionError."""
    queue = here().queue
    if runs := groups.runs_of(queue, name):
        return Pipeline(queue, runs[-1])
    known = groups.names(queue)
    listed = f"there are {', '.join(map(repr, known[:10]))}" if known else "there is none yet"
    raise OptionError(f"no pipeline {name!r} in {queue.root}: {listed}")
