"""How flights end: outcomes committed, deaths judged, tickets put back. None is dropped because a disk is full."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from nbtasks import config, frames, run
from nbtasks.engines import wire
from nbtasks.engines.batches import Habits
from nbtasks.engines.flights import Flight
from nbtasks.engines.foreign import Engine, Sight, State
from nbtasks.errors import FrameError, NbtasksError
from nbtasks.frames import Part
from nbtasks.outcome import Failure, Outcome
from nbtasks.queue import members, records, recovery
from nbtasks.queue.deaths import Death
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import STARTED
from nbtasks.status import Status

_FULL_PAUSE = 2.0
_MISSING = re.compile(r"(?:No module named|needs the module) '([\w.]+)'")


class Landing:
    """The ends of one bridge's flights. `gone` is called with each that is ours no more."""

    def __init__(
        self, queue: Queue, me: str, engine: Engine, say: Callable[[str], None], gone: Callable[[Flight], None]
    ) -> None:
        self.queue, self.me, self.engine, self.say, self.gone = queue, me, engine, say, gone
        self._unwritten: dict[Flight, tuple[Outcome, list[Part]]] = {}  # they found no room on the disk
        self._again = 0.0
        self._receipts: list[Any] = []
        self.habits = Habits()
        self._ended: list[str] = []

    # What the engine is told afterwards.

    def tell_engine(self, receipts: list[Any]) -> None:
        """Acknowledge these, and all of what has ended. Raises EngineDown; then it is told the next time."""
        self._receipts += receipts
        if self._receipts:
            self.engine.acknowledge(self._receipts)
            self._receipts = []
        if self._ended:
            self.engine.forget(self._ended, ended=True)
            self._ended = []

    # Ends.

    def land(self, flight: Flight) -> None:
        """Commit what the last message of a flight says."""
        ending, flight.ending = flight.ending, None
        match ending:
            case wire.Piece():
                self._land_outcome(flight)
            case wire.Died():
                self._waits_no_more(flight)
                self.finish(flight, self._dead(flight, ending))
            case wire.Refused():
                failure = Failure(type=ending.error, message=ending.text)
                self.finish(flight, self._failed(flight, ending.text, "damaged", failure))
            case wire.Lacking(hash=""):
                self._ended.append(flight.key)
                self.habits.doubt(flight.spec)
                self._return(flight)
            case wire.Lacking():
                self.engine.forget_offers()
                self._deliver_again(flight, f"it has dropped the blob {ending.hash}", has_begun=False)

    def _land_outcome(self, flight: Flight) -> None:
        data = b"".join(flight.pieces)
        flight.pieces = []
        id, _, delivery = flight.key.rpartition(".")
        try:
            frame = frames.from_bytes(
                data, self.queue.key, kind="outcome", queue=self.queue.uuid, id=id, delivery=int(delivery),
                origin=f"the outcome of {id}",
            )  # fmt: skip
            outcome = records.decode_outcome(frame.body)
        except (FrameError, NbtasksError) as error:
            self.finish(
                flight,
                self._failed(flight, str(error), "damaged", Failure(type=run.type_name(error), message=str(error))),
            )
            return
        facts: dict[str, Any] = {"delivery": flight.ticket.delivery, "attempt": flight.ticket.attempt, "slot": self.me}
        self.habits.note(flight.spec, outcome)
        if outcome.status is Status.FAILED and not outcome.reason:
            facts["reason"] = self._why(flight, outcome)
        self.finish(flight, msgspec.structs.replace(outcome, **facts), list(frame.parts.values()))

    def _why(self, flight: Flight, outcome: Outcome) -> str:
        """What the other end lacks, when that is why the task failed."""
        failure = outcome.failure
        found = _MISSING.search(failure.message) if failure is not None else None
        if failure is None or found is None:
            return ""
        name = found[1].partition(".")[0]
        version = _version_of(name)
        here, pinned = (f" (here: {version[1]})", f"{version[0]}=={version[1]}") if version else ("", name)
        there = f"{outcome.host} ({flight.versions.words()})" if flight.versions is not None else outcome.host
        return f"{there} has no module {name!r}{here}: pip install {pinned} there"

    def _dead(self, flight: Flight, died: wire.Died) -> Outcome:
        """As a worker judges a slot that it saw die."""
        death = Death(died.exit_code, died.signal, died.out_of_memory, died.peak_memory)
        if self.queue.disk.exists(self.queue.layout.cancel_file(flight.ticket.id)):
            outcome = self._failed(flight, "stopped by force", "", None, Status.CANCELLED)
        elif died.kind == "timeout":
            failure = Failure(type="nbtasks.errors.TaskTimedOut", message=died.reason)
            outcome = self._failed(flight, died.reason, "timed out", failure)
        else:
            failure = Failure(type="nbtasks.errors.TaskLost", message=death.words())
            outcome = self._failed(flight, death.words(), "killed", failure)
        return msgspec.structs.replace(
            outcome, exit_code=death.exit_code, signal=death.signal, peak_memory=death.peak_memory,
            progress=flight.progress(self.queue),
        )  # fmt: skip

    def _failed(
        self, flight: Flight, reason: str, kind: str, failure: Failure | None, status: Status = Status.FAILED
    ) -> Outcome:
        now = time.time()
        return Outcome(
            id=flight.ticket.id, delivery=flight.ticket.delivery, status=status, reason=reason, kind=kind,
            started=now - (time.monotonic() - flight.sent_at), ended=now, attempt=flight.ticket.attempt, slot=self.me,
            failure=failure,
        )  # fmt: skip

    def finish(self, flight: Flight, outcome: Outcome, parts: Iterable[Part] = ()) -> None:
        """Write the outcome and commit it; when the disk is full, again and again."""
        kept = list(parts)
        spec = flight.spec
        try:
            done = self.queue.finish(spec, flight.ticket, self.me, outcome, kept)
        except OSError as error:
            if flight not in self._unwritten:
                self.say(
                    f"{spec.name}[{spec.short}]: its outcome cannot be written ({error}); it is kept, and tried again"
                )
            self._unwritten[flight] = outcome, kept
            self._again = time.monotonic() + _FULL_PAUSE
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                members.note_full(self.queue, self.me, sum(part.size for part in kept))
            return
        how = f"{outcome.status} in {outcome.seconds:.3f}s" if done else "was given to another meanwhile: dropped"
        self.say(f"{spec.name}[{spec.short}] {how}")
        self._over(flight)

    def _over(self, flight: Flight) -> None:
        self._receipts += flight.receipts
        self._ended.append(flight.key)
        self.gone(flight)

    def settle(self) -> None:
        """Try again what could not be written."""
        if self._unwritten and time.monotonic() >= self._again:
            todo, self._unwritten = self._unwritten, {}
            for flight, (outcome, parts) in todo.items():
                self.finish(flight, outcome, parts)
            if not self._unwritten:
                self.queue.disk.remove(self.queue.layout.full(self.me))

    @property
    def next_try(self) -> float:
        """The monotonic moment at which something is to be tried again."""
        return self._again if self._unwritten else math.inf

    def finish_unbegun(self, flight: Flight, outcome: Outcome) -> None:
        """Commit the outcome of one that was not begun anywhere."""
        if flight.taken is not None:
            flight.taken.forgo()
        self.finish(flight, outcome)

    def put_back(self, flight: Flight) -> None:
        """It goes nowhere: whoever takes it next begins anew."""
        if flight.taken is not None:
            flight.taken.forgo()
        source = f"{self.queue.layout.running_folder(self.me)}/{flight.ticket}"
        self.queue.put_back(flight.spec, flight.ticket.put_back(), source)
        self.gone(flight)

    def _return(self, flight: Flight) -> None:
        """It was at the engine, and did not begin: the next time it goes alone."""
        self._receipts += flight.receipts
        self.put_back(flight)

    def stopped(self, never: set[str], flights: Mapping[str, Flight]) -> None:
        """These have not begun, and never will."""
        for key in never:
            if (flight := flights.get(key)) is not None and not flight.begun:
                self.finish_unbegun(flight, self._failed(flight, "", "", None, Status.CANCELLED))

    def _waits_no_more(self, flight: Flight) -> None:
        with contextlib.suppress(OSError):  # for a lock: it could not say so itself
            members.note_waits(self.queue, self.me, flight.ticket.id, "")

    # Losses.

    def judge(self, flight: Flight, sight: Sight) -> None:
        """Whether the engine still has it. What it has lost is delivered again, or ends."""
        if sight.state is State.RUNNING and not flight.is_running:
            flight.is_running, flight.heard = True, time.monotonic()
        silent = time.monotonic() - flight.heard
        lease = config.settings().lease
        if sight.state is State.QUEUED or flight in self._unwritten:
            flight.heard = time.monotonic()
        elif flight.begun and flight.doubt and silent < lease:
            return  # the engine was away: whoever runs it may not have reached it again
        elif sight.state is State.RUNNING:
            if silent > lease:
                self._lose(flight, f"nothing was heard of it for {silent:.0f} s")
        else:
            self._lose(flight, sight.words or "it ended without an outcome, or was dropped")

    def _lose(self, flight: Flight, words: str) -> None:
        never = flight.key in self.engine.stop({flight.key: "terminate"}) and not flight.begun and not flight.doubt
        self.engine.forget([flight.key], ended=False)
        if self.engine.can.blobs:
            self.engine.forget_offers()  # what has dropped one thing may have dropped others
        if never and flight.in_batch:  # it waited behind another, and nothing is known against it
            self._return(flight)
            return
        self._deliver_again(flight, words, has_begun=not never)

    def _deliver_again(self, flight: Flight, words: str, *, has_begun: bool) -> None:
        spec = flight.spec
        if spec.at_most_once and not has_begun:
            self.queue.disk.remove(flight.path(self.queue, STARTED))
        death = Death(reason=f"{self.engine.url.kind}: {words}")
        self.say(f"{spec.name}[{spec.short}] was lost at {self.engine.url.shown}: {words}")
        self.lose(flight, death)

    def lose(self, flight: Flight, death: Death) -> None:
        """It is delivered again, or ends when it must not be."""
        self._waits_no_more(flight)
        recovery.lose(self.queue, self.me, flight.spec, flight.ticket, death)
        self._receipts += flight.receipts
        self.gone(flight)


def _version_of(module: str) -> tuple[str, str] | None:
    """The distribution that a module comes from here, and its version; None when it is not installed here either."""
    for name in importlib.metadata.packages_distributions().get(module, ()):
        return name, importlib.metadata.version(name)
    return None
