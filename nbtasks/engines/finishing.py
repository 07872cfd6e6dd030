"""How bridged tasks end: outcomes committed, deaths judged, tickets put back. None is dropped because a disk is full."""

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
from nbtasks.engines.batches import Durations
from nbtasks.engines.bridged_task import BridgedTask
from nbtasks.engines.foreign import Engine, Seen, State
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


class Finishing:
    """The ends of one bridge's tasks. `gone` is called with each that is ours no more."""

    def __init__(
        self, queue: Queue, me: str, engine: Engine, say: Callable[[str], None], gone: Callable[[BridgedTask], None]
    ) -> None:
        self.queue, self.me, self.engine, self.say, self.gone = queue, me, engine, say, gone
        self._unwritten: dict[BridgedTask, tuple[Outcome, list[Part]]] = {}  # they found no room on the disk
        self._again = 0.0
        self._receipts: list[Any] = []
        self.durations = Durations()
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

    def finish_as_told(self, task: BridgedTask) -> None:
        """Commit what the last message about a task says."""
        ending, task.ending = task.ending, None
        match ending:
            case wire.Piece():
                self._finish_with_outcome(task)
            case wire.Died():
                self._waits_no_more(task)
                self.finish(task, self._dead(task, ending))
            case wire.Refused():
                failure = Failure(type=ending.error, message=ending.text)
                self.finish(task, self._failed(task, ending.text, "damaged", failure))
            case wire.Lacking(hash=""):
                self._ended.append(task.key)
                self.durations.doubt(task.spec)
                self._return(task)
            case wire.Lacking():
                self.engine.forget_offers()
                self._deliver_again(task, f"it has dropped the blob {ending.hash}", has_begun=False)

    def _finish_with_outcome(self, task: BridgedTask) -> None:
        data = b"".join(task.pieces)
        task.pieces = []
        id, _, delivery = task.key.rpartition(".")
        try:
            frame = frames.from_bytes(
                data, self.queue.key, kind="outcome", queue=self.queue.uuid, id=id, delivery=int(delivery),
                origin=f"the outcome of {id}",
            )  # fmt: skip
            outcome = records.decode_outcome(frame.body)
        except (FrameError, NbtasksError) as error:
            self.finish(
                task,
                self._failed(task, str(error), "damaged", Failure(type=run.type_name(error), message=str(error))),
            )
            return
        facts: dict[str, Any] = {"delivery": task.ticket.delivery, "attempt": task.ticket.attempt, "slot": self.me}
        self.durations.note(task.spec, outcome)
        if outcome.status is Status.FAILED and not outcome.reason:
            facts["reason"] = self._why(task, outcome)
        self.finish(task, msgspec.structs.replace(outcome, **facts), list(frame.parts.values()))

    def _why(self, task: BridgedTask, outcome: Outcome) -> str:
        """What the other end lacks, when that is why the task failed."""
        failure = outcome.failure
        found = _MISSING.search(failure.message) if failure is not None else None
        if failure is None or found is None:
            return ""
        name = found[1].partition(".")[0]
        version = _version_of(name)
        here, pinned = (f" (here: {version[1]})", f"{version[0]}=={version[1]}") if version else ("", name)
        there = f"{outcome.host} ({task.versions.words()})" if task.versions is not None else outcome.host
        return f"{there} has no module {name!r}{here}: pip install {pinned} there"

    def _dead(self, task: BridgedTask, died: wire.Died) -> Outcome:
        """As a worker judges a slot that it saw die."""
        death = Death(died.exit_code, died.signal, died.out_of_memory, died.peak_memory)
        if self.queue.disk.exists(self.queue.layout.cancel_file(task.ticket.id)):
            outcome = self._failed(task, "stopped by force", "", None, Status.CANCELLED)
        elif died.kind == "timeout":
            failure = Failure(type="nbtasks.errors.TaskTimedOut", message=died.reason)
            outcome = self._failed(task, died.reason, "timed out", failure)
        else:
            failure = Failure(type="nbtasks.errors.TaskLost", message=death.words())
            outcome = self._failed(task, death.words(), "killed", failure)
        return msgspec.structs.replace(
            outcome, exit_code=death.exit_code, signal=death.signal, peak_memory=death.peak_memory,
            progress=task.progress(self.queue),
        )  # fmt: skip

    def _failed(
        self, task: BridgedTask, reason: str, kind: str, failure: Failure | None, status: Status = Status.FAILED
    ) -> Outcome:
        now = time.time()
        return Outcome(
            id=task.ticket.id, delivery=task.ticket.delivery, status=status, reason=reason, kind=kind,
            started=now - (time.monotonic() - task.sent_at), ended=now, attempt=task.ticket.attempt, slot=self.me,
            failure=failure,
        )  # fmt: skip

    def finish(self, task: BridgedTask, outcome: Outcome, parts: Iterable[Part] = ()) -> None:
        """Write the outcome and commit it; when the disk is full, again and again."""
        kept = list(parts)
        spec = task.spec
        try:
            done = self.queue.finish(spec, task.ticket, self.me, outcome, kept)
        except OSError as error:
            if task not in self._unwritten:
                self.say(
                    f"{spec.name}[{spec.short}]: its outcome cannot be written ({error}); it is kept, and tried again"
                )
            self._unwritten[task] = outcome, kept
            self._again = time.monotonic() + _FULL_PAUSE
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                members.note_full(self.queue, self.me, sum(part.size for part in kept))
            return
        how = outcome.line if done else "was given to another meanwhile: dropped"
        self.say(f"{spec.name}[{spec.short}] {how}")
        self._over(task)

    def _over(self, task: BridgedTask) -> None:
        self._receipts += task.receipts
        self._ended.append(task.key)
        self.gone(task)

    def settle(self) -> None:
        """Try again what could not be written."""
        if self._unwritten and time.monotonic() >= self._again:
            todo, self._unwritten = self._unwritten, {}
            for task, (outcome, parts) in todo.items():
                self.finish(task, outcome, parts)
            if not self._unwritten:
                self.queue.disk.remove(self.queue.layout.full(self.me))

    @property
    def next_try(self) -> float:
        """The monotonic moment at which something is to be tried again."""
        return self._again if self._unwritten else math.inf

    def finish_unbegun(self, task: BridgedTask, outcome: Outcome) -> None:
        """Commit the outcome of one that was not begun anywhere."""
        if task.taken is not None:
            task.taken.forgo()
        self.finish(task, outcome)

    def put_back(self, task: BridgedTask) -> None:
        """It goes nowhere: whoever takes it next begins anew."""
        if task.taken is not None:
            task.taken.forgo()
        source = f"{self.queue.layout.running_folder(self.me)}/{task.ticket}"
        self.queue.put_back(task.spec, task.ticket.put_back(), source)
        self.gone(task)

    def _return(self, task: BridgedTask) -> None:
        """It was at the engine, and did not begin: the next time it goes alone."""
        self._receipts += task.receipts
        self.put_back(task)

    def stopped(self, never: set[str], tasks: Mapping[str, BridgedTask]) -> None:
        """These have not begun, and never will."""
        for key in never:
            if (task := tasks.get(key)) is not None and not task.begun:
                self.finish_unbegun(task, self._failed(task, "", "", None, Status.CANCELLED))

    def _waits_no_more(self, task: BridgedTask) -> None:
        with contextlib.suppress(OSError):  # for a lock: it could not say so itself
            members.note_waits(self.queue, self.me, task.ticket.id, "")

    # Losses.

    def judge(self, task: BridgedTask, seen: Seen) -> None:
        """Whether the engine still has it. What it has lost is delivered again, or ends."""
        if seen.state is State.RUNNING and not task.is_running:
            task.is_running, task.heard = True, time.monotonic()
        silent = time.monotonic() - task.heard
        lease = config.settings().lease
        if seen.state is State.QUEUED or task in self._unwritten:
            task.heard = time.monotonic()
        elif task.begun and task.doubt and silent < lease:
            return  # the engine was away: whoever runs it may not have reached it again
        elif seen.state is State.RUNNING:
            if silent > lease:
                self._lose(task, f"nothing was heard of it for {silent:.0f} s")
        else:
            self._lose(task, seen.words or "it ended without an outcome, or was dropped")

    def _lose(self, task: BridgedTask, words: str) -> None:
        never = task.key in self.engine.stop({task.key: "terminate"}) and not task.begun and not task.doubt
        self.engine.forget([task.key], ended=False)
        if self.engine.can.blobs:
            self.engine.forget_offers()  # what has dropped one thing may have dropped others
        if never and task.in_batch:  # it waited behind another, and nothing is known against it
            self._return(task)
            return
        self._deliver_again(task, words, has_begun=not never)

    def _deliver_again(self, task: BridgedTask, words: str, *, has_begun: bool) -> None:
        spec = task.spec
        if spec.at_most_once and not has_begun:
            self.queue.disk.remove(task.path(self.queue, STARTED))
        death = Death(reason=f"{self.engine.url.kind}: {words}")
        self.say(f"{spec.name}[{spec.short}] was lost at {self.engine.url.shown}: {words}")
        self.lose(task, death)

    def lose(self, task: BridgedTask, death: Death) -> None:
        """It is delivered again, or ends when it must not be."""
        self._waits_no_more(task)
        recovery.lose(self.queue, self.me, task.spec, task.ticket, death)
        self._receipts += task.receipts
        self.gone(task)


def _version_of(module: str) -> tuple[str, str] | None:
    """The distribution that a module comes from here, and its version; None when it is not installed here either."""
    for name in importlib.metadata.packages_distributions().get(module, ()):
        return name, importlib.metadata.version(name)
    return None
