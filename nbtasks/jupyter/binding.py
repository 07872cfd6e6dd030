"""What background cells bring back, and when it may take the place of what the notebook has.

A name is bound only if the notebook's value is what it was when the cell was submitted: the same object, and
unchanged by its digest. Whatever was set or changed meanwhile stays, and the card says so. Names are bound on the
main thread, between two cells or before a wait returns; never while a cell runs its own statements.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from nbtasks import ends, payload
from nbtasks.errors import PayloadError
from nbtasks.hooks import Told
from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.words import size
from nbtasks.outcome import Outcome, Variable
from nbtasks.previews import size_of
from nbtasks.queue import records
from nbtasks.queue.directory import Queue
from nbtasks.queue.lookup import Place
from nbtasks.spec import Spec
from nbtasks.status import Status

COMPARED = 1 << 30  # bytes up to which a value is digested; beyond, only its identity is known
_ABSENT = object()
# What a cancelled cell left without having returned is not to be bound, and says so of each name.
_BRING = (Status.SUCCEEDED, Status.CANCELLED)


@dataclass(frozen=True)
class Seen:
    """A value at one moment: which object, and what was in it. It does not keep the object alive."""

    address: int
    ref: weakref.ref[Any] | None
    digest: str | None

    def difference(self, value: object) -> str:
        """What happened to the name since, in words; "" when it holds the same object, unchanged."""
        if id(value) != self.address or (self.ref is not None and self.ref() is not value):
            # A short-lived equal value may sit at the same address; without a ref the digest tells.
            return "it was set anew in the notebook meanwhile"
        if self.digest is not None and digest_of(value) != self.digest:
            return "it was changed in the notebook meanwhile"
        return ""

    def is_same(self, value: object) -> bool:
        """Whether `value` is that very object, whatever was changed in it."""
        return id(value) == self.address and (self.ref is None or self.ref() is value)


def see(value: object, digest: str | None = None) -> Seen:
    """Take note of `value`, so that it can be told later whether it is still the same."""
    try:
        ref = weakref.ref(value)
    except TypeError:
        ref = None  # numbers, texts, lists, dicts
    return Seen(id(value), ref, digest)


def digest_of(value: object) -> str | None:
    """A digest of all that is in `value`; None when it is too large or cannot be pickled."""
    try:
        return None if size_of(value) > COMPARED else payload.digest(value)
    except PayloadError:
        return None


def prints_of(value: object) -> tuple[str | None, str]:
    """The digest of `value` in this process, and the one that is the same in every process ("" when there is none)."""
    try:
        return (None, "") if size_of(value) > COMPARED else payload.digest_and_fingerprint(value)
    except (PayloadError, RecursionError):
        return None, ""


@dataclass
class Owed:
    """A task of this kernel, and what the notebook looked like when it was submitted."""

    queue: Queue
    spec: Spec
    names: dict[str, Seen]  # all names of the notebook, digested those that the cell reads or assigns
    inputs: frozenset[str]
    brings: frozenset[str]  # the names that it may bring: what it assigns, and its inputs
    pending: frozenset[str] = frozenset()  # those for which a cell that reads them has to wait
    settled: Place | None = None  # the end that was dealt with
    kept: dict[str, str] = field(default_factory=dict)  # names that were not bound, and why
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # sentences that stay, whatever becomes of it
    missing: dict[str, str] = field(default_factory=dict)  # pending names that did not come, and why
    told: set[str] = field(default_factory=set)  # those of them that a cell was told about


class Binder:
    """Binds what tasks bring back into one namespace."""

    def __init__(self, namespace: MutableMapping[str, Any], on_bound: Callable[[str], None] = lambda id: None) -> None:
        """`on_bound` is called with the id of a task about which there is more to say than before."""
        self.namespace = namespace
        self.on_bound = on_bound
        self._owed: dict[str, Owed] = {}
        self._unsuccessful: dict[str, Owed] = {}  # may be retried
        self._short: dict[str, Owed] = {}  # have succeeded and did not bring all
        self._told: dict[str, Owed] = {}  # also those that are settled: their cards may be shown again
        self._last: dict[str, tuple[str, Seen]] = {}  # which task bound a name last, and to what

    def expect(self, owed: Owed) -> None:
        """Bind what this task brings back, once it has ended."""
        self._owed[owed.spec.id] = self._told[owed.spec.id] = owed

    def said(self, id: str) -> Told | None:
        """What the card of a task has to say about this notebook: names not bound and why, and further sentences.

        None: the task is not of this kernel, and brings nothing back here.
        """
        owed = self._told.get(id)
        return (owed.kept, [*owed.remarks, *owed.notes]) if owed else None

    def find(self, id: str) -> Owed | None:
        """What is known of a task of this kernel, also when it has ended."""
        return self._told.get(id)

    def pending(self) -> dict[str, Owed]:
        """The names that live tasks will bring, and of several tasks the one that was submitted last.

        A name that the notebook has set since is none: what the task brings will not take its place.
        """
        found: dict[str, Owed] = {}
        for id in sorted(self._owed):
            owed = self._owed[id]
            found |= {name: owed for name in owed.pending if self._is_awaited(owed, name)}
        return found

    def missing(self) -> dict[str, Owed]:
        """The names that an ended task of this kernel was to bring and did not, unless they were set since."""
        found: dict[str, Owed] = {}
        for id in sorted(self._unsuccessful.keys() | self._short.keys()):
            owed = self._unsuccessful.get(id) or self._short[id]
            found |= {name: owed for name in owed.missing.keys() - owed.told if self._is_awaited(owed, name)}
        return found

    def _is_awaited(self, owed: Owed, name: str) -> bool:
        current = self.namespace.get(name, _ABSENT)
        if current is _ABSENT:
            return True
        by, bound = self._last.get(name, ("", None))
        if bound is not None and bound.is_same(current):
            return by < owed.spec.id
        seen = owed.names.get(name)
        return seen is not None and seen.is_same(current)

    def brought_by(self, name: str) -> str:
        """The id of the task that brought what `name` holds; "" when it was set otherwise."""
        by, bound = self._last.get(name, ("", None))
        return by if bound is not None and bound.is_same(self.namespace.get(name, _ABSENT)) else ""

    def bind_ended(self, *_: object) -> None:
        """Bind what has ended since the last call. Does nothing in threads; never raises."""
        if threading.current_thread() is not threading.main_thread():
            return
        # The queue's folder may be gone, or a task was retried just now: the notebook goes on.
        with contextlib.suppress(OSError):
            self._look_for_retries()
        by_queue: dict[str, list[Owed]] = {}
        for owed in self._owed.values():
            by_queue.setdefault(owed.queue.root, []).append(owed)
        for several in by_queue.values():
            with contextlib.suppress(OSError):
                found = ends.find_ends(several[0].queue, [owed.spec.id for owed in several])
                for owed in several:
                    if place := found.get(owed.spec.id):
                        self._settle(owed, place)

    def _look_for_retries(self) -> None:
        # What failed or was cancelled may be retried, from anywhere: then its ticket has moved away.
        for id, owed in list(self._unsuccessful.items()):
            if owed.settled is None or not owed.queue.disk.exists(owed.settled.path):
                self._owed[id] = self._unsuccessful.pop(id)

    def _settle(self, owed: Owed, place: Place) -> None:
        owed.settled = place
        owed.kept, owed.notes, owed.told = {}, [], set()
        outcome = records.find_outcome(owed.queue, place.ticket)
        owed.missing = _missing(owed, place.status, outcome)
        if outcome is None and place.status is Status.SUCCEEDED:
            owed.notes = ["its outcome cannot be read: `nbtasks doctor` says why"]
        elif outcome is not None and place.status in _BRING:
            try:
                values = ends.variables_in(records.read_outcome_frame(owed.queue, place.ticket))
            except (PayloadError, MemoryError) as error:
                owed.notes = [f"nothing was bound, because it cannot be loaded here: {error or 'out of memory'}"]
                owed.missing = dict.fromkeys(owed.pending, f"{owed.spec.short}, but cannot be loaded here")
            else:
                self._bind(owed, outcome.variables, values)
        del self._owed[owed.spec.id]
        if place.status is not Status.SUCCEEDED:
            self._unsuccessful[owed.spec.id] = owed
        elif owed.missing:
            self._short[owed.spec.id] = owed
        else:
            owed.names = {}
        if owed.kept or owed.notes:
            self.on_bound(owed.spec.id)

    def _bind(self, owed: Owed, variables: Iterable[Variable], values: Mapping[str, Any]) -> None:
        for variable in variables:
            name = variable.name
            if not variable.bind or variable.left_out or name not in values:
                continue
            if why := self._objection(owed, variable):
                owed.kept[name] = why
                continue
            if variable.changed:
                owed.notes += _still_old(self.namespace, name)
            self.namespace[name] = values[name]
            # Only where another task is to bring the same name it matters whether this one stays unchanged.
            awaited = any(name in other.brings for id, other in self._owed.items() if id != owed.spec.id)
            self._last[name] = owed.spec.id, see(values[name], digest_of(values[name]) if awaited else None)

    def _objection(self, owed: Owed, variable: Variable) -> str:
        """Why a name must not be bound; "" when it may."""
        name = variable.name
        current = self.namespace.get(name, _ABSENT)
        if current is _ABSENT:
            return ""
        by, bound = self._last.get(name, ("", None))
        if bound is not None and by != owed.spec.id and not bound.difference(current):
            # Set by another background cell and not touched since: of two, the one submitted last counts.
            if by > owed.spec.id:
                return f"{by.rpartition('-')[2]}, submitted later, brought it back"
            if name not in owed.names or owed.names[name].address != id(current):
                return ""
        seen = owed.names.get(name)
        if seen is None:
            return "it was set in the notebook meanwhile"
        if variable.changed and name in owed.inputs and seen.digest is None:
            return "it is too large to tell whether the notebook changed it meanwhile"
        return seen.difference(current)


def _missing(owed: Owed, status: Status, outcome: Outcome | None) -> dict[str, str]:
    """The pending names that do not come, and what to say of the task: "k7q2, which failed (ValueError: …)"."""
    short = owed.spec.short
    came = {one.name: one for one in outcome.variables} if outcome is not None else {}
    if status is Status.FAILED:
        failure = outcome.failure if outcome is not None else None
        why = f"{failure.type}: {failure.message}" if failure is not None else outcome.reason if outcome else ""
        return dict.fromkeys(
            owed.pending, f"{short}, which failed ({one_line(why, 120)})" if why else f"{short}, which failed"
        )
    if status is Status.CANCELLED:
        there = {name for name, one in came.items() if one.bind and not one.left_out}
        return dict.fromkeys(owed.pending - there, f"{short}, which was cancelled")
    found = {name: one for name, one in came.items() if name in owed.pending and (one.left_out or not one.bind)}
    return {name: f"{short}, {_where_it_is(one)}" for name, one in found.items()}


def _where_it_is(variable: Variable) -> str:
    if variable.left_out:
        return f"which left it out because {variable.left_out.removeprefix('because ')}"
    return f"which keeps it in task.vars, because it is large ({size(variable.size)})"


def _still_old(namespace: Mapping[str, Any], name: str) -> list[str]:
    old = namespace.get(name, _ABSENT)
    others = [other for other, value in namespace.items() if value is old and other != name and other[:1] != "_"]
    if not others or isinstance(old, (int, float, str, bytes, bool, tuple, type(None))):
        return []
    listed = " and ".join(others)
    return [f"{listed} still {'holds' if len(others) == 1 else 'hold'} the {name} from before"]


def look_around(namespace: Mapping[str, Any], digested: Mapping[str, str]) -> dict[str, Seen]:
    """All names of the notebook as they are now; with the digests of those that a cell reads or assigns."""
    return {name: see(value, digested.get(name)) for name, value in namespace.items() if name[:1] != "_"}
