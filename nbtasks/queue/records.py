"""One task as its files tell it: call, outcome, log, displays and progress. Nothing is unpickled here."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import Any

import msgspec

from nbtasks import frames, logs
from nbtasks.blobs import is_real
from nbtasks.errors import PayloadError, TaskNotFound
from nbtasks.frames import Frame
from nbtasks.logs import Piece
from nbtasks.outcome import Outcome
from nbtasks.queue import lookup, members, reasons
from nbtasks.queue.layout import EVENTS, LOG, OUTCOME, PROGRESS, check_id, submitted_at
from nbtasks.queue.lookup import Place
from nbtasks.queue.members import Usage
from nbtasks.queue.store import Store
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status

_spec = msgspec.json.Decoder(Spec)
_outcome = msgspec.json.Decoder(Outcome)


def read_spec(store: Store, id: str) -> Spec:
    """The spec of a task, verified. Raises TaskNotFound or FrameError."""
    try:
        body = _header(store, store.layout.call(check_id(id)), "call", id)
    except FileNotFoundError:
        raise TaskNotFound(f"no task {id!r} in {store.root}", matches=()) from None
    return decode_spec(body)


def _header(store: Store, path: str, kind: str, id: str, delivery: int | None = None) -> bytes:
    if is_real(store.disk):
        return frames.read_header(path, store.key, kind=kind, queue=store.uuid, id=id, delivery=delivery)
    return frames.read_frame(
        path, store.key, store.blobs, kind=kind, queue=store.uuid, id=id, delivery=delivery
    ).body  # fmt: skip


def decode_spec(body: bytes) -> Spec:
    """The Spec of a verified call header."""
    try:
        return _spec.decode(body)
    except msgspec.DecodeError as error:
        raise PayloadError(f"the spec of a task cannot be read ({error}): it was written by another version") from error


def read_call(store: Store, id: str) -> Frame:
    """The whole call of a task, verified."""
    return frames.read_frame(store.layout.call(id), store.key, store.blobs, kind="call", queue=store.uuid, id=id)


def read_outcome_frame(store: Store, ticket: Ticket) -> Frame:
    """The outcome of one delivery with its value, verified. FileNotFoundError when there is none."""
    path = store.layout.file(ticket.id, ticket.delivery, OUTCOME)
    return frames.read_frame(
        path, store.key, store.blobs, kind="outcome", queue=store.uuid, id=ticket.id, delivery=ticket.delivery
    )


def decode_outcome(body: bytes) -> Outcome:
    """The Outcome of a verified outcome header."""
    try:
        return _outcome.decode(body)
    except msgspec.DecodeError as error:
        raise PayloadError(f"an outcome cannot be read ({error}): it was written by another version") from error


def find_outcome(store: Store, ticket: Ticket) -> Outcome | None:
    """The outcome that a delivery wrote, or None when there is none that can be trusted."""
    path = store.layout.file(ticket.id, ticket.delivery, OUTCOME)
    try:
        return decode_outcome(_header(store, path, "outcome", ticket.id, ticket.delivery))
    except (OSError, PayloadError):
        return None


def find_whole_outcome(store: Store, ticket: Ticket) -> Outcome | None:
    """As `find_outcome`, for one that may be half written: None unless its value is there to the last byte."""
    try:
        return decode_outcome(read_outcome_frame(store, ticket).body)
    except (OSError, PayloadError):
        return None


@dataclass(frozen=True)
class Record:
    """A task at one moment: what was asked, where it stands, how it ended."""

    store: Store
    spec: Spec
    place: Place
    outcome: Outcome | None
    since: float | None  # when it came to where it stands (seconds since 1970)

    @property
    def id(self) -> str:
        """The full id."""
        return self.spec.id

    @property
    def short(self) -> str:
        """The last part of the id."""
        return self.spec.short

    @property
    def name(self) -> str:
        """What people call it."""
        return self.spec.name

    @property
    def status(self) -> Status:
        """One of the six."""
        return self.place.status

    @property
    def ticket(self) -> Ticket:
        """Deliveries, failures and losses so far."""
        return self.place.ticket

    @property
    def slot(self) -> str | None:
        """The slot that runs it, while one does."""
        return self.place.slot

    @property
    def attempt(self) -> int:
        """1 for the first; at most ``spec.retries + 1``, but for retries asked for by hand."""
        return min(self.ticket.attempt, self.spec.retries + 1)

    @property
    def submitted(self) -> float:
        """Seconds since 1970."""
        return submitted_at(self.id)

    @property
    def started(self) -> float | None:
        """When the present or last delivery began, or None."""
        if self.outcome is not None:
            return self.outcome.started or None
        return self.since if self.status is Status.RUNNING else None

    @property
    def ended(self) -> float | None:
        """When it ended, or None."""
        if self.outcome is not None:
            return self.outcome.ended
        return self.since if self.status.ended else None

    @functools.cached_property
    def reason(self) -> str:
        """Why it stands where it stands, in words; "" when there is nothing to say."""
        return reasons.why(self, functools.partial(read_record, self.store))

    @property
    def usage(self) -> Usage | None:
        """What the running task takes of processor and memory; None when nobody has looked yet."""
        return members.find_usage(self.store, self.slot, str(self.ticket)) if self.slot else None

    @functools.cached_property
    def earlier(self) -> tuple[Outcome, ...]:
        """How the attempts before the present or last one ended, as far as their outcomes are there."""
        if not self.ticket.failures:
            return ()
        found: dict[int, Outcome] = {}
        for delivery in range(1, self.ticket.delivery):
            outcome = find_outcome(self.store, self.ticket._replace(delivery=delivery))
            if outcome is not None and outcome.attempt < self.ticket.attempt:
                found[outcome.attempt] = outcome
        return tuple(found.values())

    def log_of(self, attempt: int) -> str:
        """What an earlier attempt printed, or the present one; "" when it was silent or there was none of that number."""
        delivery = next((one.delivery for one in self.earlier if one.attempt == attempt), 0)
        path = self._latest(LOG, delivery) if delivery else self.log_path if attempt == self.ticket.attempt else None
        return logs.text_of(logs.read_log(path)) if path else ""

    def _latest(self, kind: str, last: int = 0) -> str | None:
        # Recovery ends a task under the next delivery's number; what it printed is the delivery's before.
        for delivery in range(last or self.ticket.delivery, 0, -1):
            path = self.store.layout.file(self.id, delivery, kind)
            if self.store.disk.exists(path):
                return path
        return None

    @property
    def log_path(self) -> str | None:
        """The file with what the last delivery printed; None when it was silent."""
        return self._latest(LOG)

    @property
    def events_path(self) -> str | None:
        """The file with what the last delivery displayed, or None."""
        return self._latest(EVENTS)

    def log_pieces(self) -> list[Piece]:
        """What the last delivery printed: one piece, or beginning and end of a log that was cut. [] when silent."""
        path = self.log_path
        return logs.read_log(path) if path else []

    def read_log(self) -> bytes:
        """What the last delivery printed; a line says where something was left out."""
        pieces = self.log_pieces()
        return pieces[0][1] if len(pieces) == 1 else logs.text_of(pieces).encode()

    def log_tail(self, lines: int = 200, size: int = 20_000) -> str:
        """The last lines of the log, at most `lines` and `size` bytes."""
        path = self.log_path
        return _tail(path, lines, size) if path else ""

    def events(self) -> list[dict[str, Any]]:
        """What the last delivery displayed, as the lines of its events file; half lines are left out."""
        path = self.events_path
        if path is None:
            return []
        found = []
        for line in self.store.disk.read(path).split(b"\n")[:-1]:
            with contextlib.suppress(msgspec.DecodeError):
                found.append(msgspec.json.decode(line, type=dict[str, Any]))
        return found

    def progress(self) -> dict[str, Any] | None:
        """The bars of the running or ended task, or None."""
        if self.outcome is not None and self.outcome.progress:
            return self.outcome.progress
        path = self._latest(PROGRESS)
        if path is None:
            return None
        try:
            state = msgspec.json.decode(self.store.disk.read(path))
        except (OSError, msgspec.DecodeError):
            return None
        return state if isinstance(state, dict) else None


def _tail(path: str, lines: int, size: int) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - size))
            data = file.read(size)
    except OSError:
        return ""
    return "\n".join(data.decode("utf-8", "replace").split("\n")[-lines - 1 :])


def read_record(store: Store, id: str, place: Place | None = None) -> Record:
    """The record of a task by its full id. Raises TaskNotFound."""
    try:
        spec = read_spec(store, id)
        place = place or lookup.locate(store, spec)
    except PayloadError as error:  # the task must still be listed, and says what is wrong
        spec = damaged_spec(id, error)
        place = place or lookup.locate_anywhere(store, id)
    if place is None:
        raise TaskNotFound(f"{id} was never wholly submitted: its call is there, but no ticket", matches=())
    outcome = find_outcome(store, place.ticket) if place.status.ended else None
    return Record(store, spec, place, outcome, lookup.moved_at(place.path))


def damaged_spec(id: str, error: Exception) -> Spec:
    """What stands for the spec of a task whose call cannot be read, for listing and ending it."""
    return Spec(id=id, name="(damaged)", summary=str(error))
