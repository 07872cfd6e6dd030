"""A cell that is run again: attached to what runs, taken from what has succeeded, or run.

Each task of a cell leaves an empty file ``cells/KEY/ID`` in the queue, where KEY stands for the cell; so only the few tasks
of this very cell are looked at, however many the queue has. In doubt a cell runs.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nbtasks import context, ends, payload
from nbtasks.errors import NbtasksError
from nbtasks.jupyter.binding import Binder
from nbtasks.jupyter.words import listed, moment
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.spec import Spec
from nbtasks.status import Status

_MOST = 20  # earlier tasks of a cell that are looked at


class Origin(NamedTuple):
    """Where a cell stands."""

    number: int | None = None  # its execution count
    cell_id: str | None = None
    notebook: str | None = None  # the file's name
    kernel_start: float | None = None
    part: str = ""  # which part of the cell: the statement of a line magic


class Sent(NamedTuple):
    """What a cell depends on, as it is now."""

    queue: Queue
    origin: Origin
    source_hash: str
    prints: Mapping[str, str]  # fingerprints of its inputs; "" for one that has none
    origins: Mapping[str, str]  # inputs that a live task brings: its id
    context: str


@dataclass
class Verdict:
    """What is to become of a cell that is run again."""

    record: Record | None = None  # the task that is taken instead of a new one
    remark: str = ""
    others: list[Record] = field(default_factory=list)  # other tasks of this cell that live
    differences: dict[str, str] = field(default_factory=dict)  # in what they differ, by id


class Again:
    """What the cells of one kernel have submitted before, here and in earlier kernels."""

    def __init__(self, binder: Binder) -> None:
        self._binder = binder
        self._ran: set[str] = set()  # keys of cells that ran in this kernel
        self._now: set[str] = set()  # and those of the cell that runs
        self._taken: set[str] = set()  # tasks that this run of a cell has submitted or taken

    def begin_cell(self) -> None:
        """Another cell begins, or the same one once more."""
        self._ran |= self._now
        self._now, self._taken = set(), set()

    def note(self, sent: Sent, id: str) -> None:
        """The cell submits the task `id`, or takes it. Never raises: without the note it just runs again."""
        if key := key_of(sent.origin, sent.source_hash):
            self._now.add(key)
            self._taken.add(id)
            with contextlib.suppress(OSError):  # also when it is there
                sent.queue.disk.create(f"{sent.queue.layout.cell_folder(key)}/{id}", [])

    def decide(self, sent: Sent, fresh: bool) -> Verdict:
        """Attach, use, or run. `fresh`: run in any case."""
        key = key_of(sent.origin, sent.source_hash)
        verdict = Verdict()
        for record in self._earlier(sent.queue, key) if key else ():
            difference = self._difference(sent, record.spec)
            if record.status.ended:
                if not fresh and not difference and self._can_be_used(sent, record, key):
                    return Verdict(record, _USED.format(moment(record.ended or record.submitted)))
            elif not fresh and not difference:
                return Verdict(record, _ATTACHED)
            elif record.spec.notebook == sent.origin.notebook:
                verdict.others.append(record)
                verdict.differences[record.id] = difference or "the same source and inputs"
        return verdict

    def _earlier(self, queue: Queue, key: str) -> list[Record]:
        """The last tasks of this cell, newest first, but those of this run and those that are being cancelled."""
        found = []
        for id in sorted(queue.disk.list(queue.layout.cell_folder(key)), reverse=True)[:_MOST]:
            with contextlib.suppress(NbtasksError, OSError):
                if id not in self._taken and not queue.disk.exists(queue.layout.cancel_file(id)):
                    found.append(queue.record(id))
        return sorted(found, key=lambda record: record.status.ended)  # what lives goes first

    def _can_be_used(self, sent: Sent, record: Record, key: str) -> bool:
        """It succeeded in an earlier kernel, and this one has not run the cell yet."""
        if key in self._ran or record.spec.kernel_start == sent.origin.kernel_start:
            return False
        return record.status is Status.SUCCEEDED and record.outcome is not None

    def _difference(self, sent: Sent, spec: Spec) -> str:
        """In what a task differs from the cell as it is now, in words; "" when in nothing that is known."""
        if spec.source_hash != sent.source_hash:
            return "another source"
        names = spec.digests.keys() | spec.origins.keys() | sent.prints.keys() | sent.origins.keys()
        if others := sorted(name for name in names if not self._is_same(sent, spec, name)):
            return f"other inputs ({listed(others[:5])})"
        return "" if _same_context(sent, spec) else "other modules, environment or working directory"

    def _is_same(self, sent: Sent, spec: Spec, name: str) -> bool:
        then, now = spec.digests.get(name, ""), sent.prints.get(name, "")
        if then or not (parent := spec.origins.get(name, "")):
            return then == now != ""
        if sent.origins.get(name) == parent:
            return True
        # The task that was to bring it has ended: does the notebook have what it brought, unchanged?
        return bool(now) and self._binder.brought_by(name) == parent and now == _brought(sent.queue, parent, name)


_ATTACHED = "attached: this cell is running already, with the same source and inputs (`--fresh` runs it once more)"
_USED = "not run again: it succeeded with the same source and inputs, {} (`--fresh` runs it)"


def key_of(origin: Origin, source_hash: str) -> str:
    """What stands for a cell in the queue; "" when nobody said which cell it is, as where no person is."""
    if origin.cell_id:
        name = f"{origin.cell_id}\n{origin.part}"
    elif origin.notebook:
        name = f"{origin.notebook}\n{source_hash}"
    else:
        return ""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _brought(queue: Queue, id: str, name: str) -> str:
    """The fingerprint of what a task brought."""
    with contextlib.suppress(NbtasksError, OSError, KeyError):
        if place := ends.find_end(queue, id):
            ending = ends.read_ending(queue, place)
            return payload.fingerprint(ends.variables_in(ending.frame)[name]) if ending.frame is not None else ""
    return ""


def _same_context(sent: Sent, spec: Spec) -> bool:
    """The same working directory and changed environment, and no project module that was edited."""
    if spec.context == sent.context:
        return True
    then, now = _find_context(sent.queue, spec.context), _find_context(sent.queue, sent.context)
    if then is None or now is None or (then.cwd, then.environ) != (now.cwd, now.environ):
        return False
    # Modules that only one of the two had loaded are of no use to the other.
    return all(now.sources[name] == source for name, source in then.sources.items() if name in now.sources)


def _find_context(queue: Queue, hash: str) -> Any:
    with contextlib.suppress(NbtasksError, OSError):
        return context.load(queue.blobs, hash)
    return None
