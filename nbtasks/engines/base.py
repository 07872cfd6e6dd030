"""One claimed delivery, from its call to its commit: what every engine that runs tasks on this host does."""

from __future__ import annotations

import errno
import functools
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from nbtasks import context as contexts
from nbtasks import host, payload, processes, run
from nbtasks.errors import FrameError, PayloadError, UpstreamFailed
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Failure, Outcome
from nbtasks.queue import expiring, members, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import EVENTS, LOG, PROGRESS, STARTED
from nbtasks.queue.members import Stop
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.tokens import Taken
from nbtasks.run import Ended
from nbtasks.spec import Spec
from nbtasks.status import Status

_SMALL_BLOB, _MANY_BLOBS = 1 << 20, 64
_FULL_PAUSE, _FULL_LOOK, _SAY_FULL = 2.0, 0.1, 300.0  # seconds between tries, looks for a cancel, and lines in the log
_SHORT = 0.05  # seconds; what took less had no time to start processes


class Sink(Protocol):
    """Where a running task's output goes; `nbtasks.capture.Capture` is the one of slots."""

    def begin(self, log: str, events: str, progress: str) -> None:
        """A delivery starts; its output belongs into these files."""
        ...

    def emit(self, kind: str, data: dict[str, Any]) -> bool:
        """Take a display or progress."""
        ...

    def end(self) -> dict[str, Any] | None:
        """The delivery is over; the last progress, if there was any."""
        ...


FindStop = Callable[[Ticket], Stop | None]


class NoSink:
    """For tasks that run in place: what they print goes where the caller's output goes."""

    def begin(self, log: str, events: str, progress: str) -> None:
        """Nothing to prepare."""

    def emit(self, kind: str, data: dict[str, Any]) -> bool:
        """Displays and progress are not kept."""
        return True

    def end(self) -> dict[str, Any] | None:
        """No progress."""
        return None


def load_value(parts: Mapping[str, Part], value: Callable[[str], object]) -> object:
    """The value of a task that succeeded, from the parts of its outcome; `value` gives those of the items of a map."""
    if part := parts.get("cell"):
        return payload.load(part)[0]
    if part := parts.get("items"):
        return [value(item) for item in payload.load(part)]
    return payload.load(parts["value"])


def facts_of_stop(outcome: Outcome, stop: Stop | None) -> dict[str, Any]:
    """What a stop changes in the outcome of the task that it ended."""
    if outcome.status is not Status.CANCELLED or stop is None:
        return {}
    if stop.kind != "timeout":
        return {"reason": stop.reason}
    failure = Failure(type="nbtasks.errors.TaskTimedOut", message=stop.reason)
    return {"reason": stop.reason, "status": Status.FAILED, "kind": "timed out", "failure": failure}


class QueueValues:
    """Values and blobs for `run.execute`, mapped from the files of the queue."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self._small: dict[str, bytes] = {}  # contexts and sources: the same for many tasks

    def value(self, id: str) -> object:
        """The value of a parent. UpstreamFailed when it has none after all."""
        record = self.queue.record(id)
        if record.status is not Status.SUCCEEDED:
            raise UpstreamFailed(f"{record.name} ({record.short}) is {record.status}, its value is needed", parent=id)
        return load_value(records.read_outcome_frame(self.queue, record.ticket).parts, self.value)

    def blob(self, hash: str) -> bytes:
        """A blob's bytes, checked against its hash."""
        data = self._small.get(hash)
        if data is None:
            data = self.queue.blobs.read(hash)
            if len(self._small) > _MANY_BLOBS:
                self._small.clear()
            if len(data) < _SMALL_BLOB:
                self._small[hash] = data
        return data

    def earlier(self, ticket: Ticket) -> Frame | None:
        """The outcome of the delivery before that of `ticket`; None when there is none, or none that can be trusted."""
        try:
            return records.read_outcome_frame(self.queue, ticket._replace(delivery=ticket.delivery - 1))
        except (OSError, PayloadError):
            return None


class Delivery:
    """Runs claimed tickets of one slot, one after the other."""

    clock = staticmethod(time.process_time)  # seconds of processor time that the task's code has used

    def __init__(
        self, queue: Queue, slot: str, sink: Sink, find_stop: FindStop, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.queue, self.slot, self.sink, self.find_stop, self.say = queue, slot, sink, find_stop, say
        self.values = QueueValues(queue)
        self.stopped: Stop | None = None
        self.enter: run.Enter = contexts.enter
        self.is_worn = False  # a task has spoiled the sink: no other should run here
        self._said_full, self._is_full = -_SAY_FULL, False
        self._taken: Taken | None = None
        self._children_cpu = 0.0

    def deliver(self, ticket: Ticket, taken: Taken | None = None) -> Spec:
        """Run the task of a claimed ticket, with the tokens `taken` for it, and commit its outcome; its spec."""
        self.stopped, self._taken = None, taken
        try:
            call = records.read_call(self.queue, ticket.id)
            spec = records.decode_spec(call.body)
        except (OSError, FrameError, PayloadError) as error:
            return self._refuse(ticket, error)
        if expiring.is_over(spec, ticket):
            self._commit(spec, ticket, *expiring.ended(ticket, self.slot))
            return spec
        if taken is not None:
            taken.introduce(spec, self.slot)
        self.say(f"Executing {spec.name}[{spec.short}]")
        if spec.timeout is not None:
            self.queue.ring_workers(f"deadline {self.slot}")
        self._commit(spec, ticket, *self._run(spec, ticket, call))
        self._has_room()
        return spec

    def _run(self, spec: Spec, ticket: Ticket, call: Frame) -> Ended:
        files = [self._file(ticket, kind) for kind in (LOG, EVENTS, PROGRESS)]
        ready = self._with_room(spec, ticket, lambda: self.sink.begin(*files))
        if ready and spec.at_most_once:  # before user code, and on the disk: not twice, even over a power cut
            mark = self._file(ticket, STARTED)
            try:
                ready = self._with_room(spec, ticket, lambda: self.queue.disk.create(mark, [], flush=True))
            except FileExistsError:  # a power cut took back the claim, and not the mark
                why = "lost: it had started when the power failed, so it does not run again unasked"
                return self._not_run(ticket, Status.FAILED, why, kind="lost")
        if not ready:
            return self._not_run(ticket, Status.CANCELLED, "cancelled before it started: the disk is full")
        cpu = self.clock()
        emit = functools.partial(self._emit, spec, ticket)
        ended = run.execute(call, ticket, self.values, emit, self.enter)
        progress = None
        try:
            progress = self.sink.end()
        except OSError:  # its code closed our descriptors: a log cut short must not cost the outcome
            self.is_worn = True
        return Ended(self._complete(ended.outcome, ticket, progress, self.clock() - cpu), ended.parts)

    def _not_run(self, ticket: Ticket, status: Status, reason: str, kind: str = "") -> Ended:
        now = time.time()
        outcome = Outcome(
            id=ticket.id, delivery=ticket.delivery, status=status, reason=reason, kind=kind, started=now, ended=now,
            attempt=ticket.attempt, slot=self.slot, pid=os.getpid(), host=processes.host_name(),
        )  # fmt: skip
        return Ended(outcome, [])

    def _file(self, ticket: Ticket, kind: str) -> str:
        return self.queue.layout.file(ticket.id, ticket.delivery, kind)

    def _emit(self, spec: Spec, ticket: Ticket, kind: str, data: dict[str, Any]) -> bool:
        if kind == "start" and self._taken is not None:
            self._taken.start()
        if kind in ("start", "ended"):
            self.stopped = self.stopped or self.find_stop(ticket)
            if kind == "ended" and spec.timeout is not None:
                self.queue.ring_workers(f"over {self.slot}")
            return self.stopped is None
        if kind == "full":
            return self._wait_for_room(spec, ticket, 0)
        return self.sink.emit(kind, data)

    def _complete(self, outcome: Outcome, ticket: Ticket, progress: dict[str, Any] | None, cpu: float) -> Outcome:
        facts: dict[str, Any] = {"slot": self.slot, "host": processes.host_name(), "progress": progress}
        facts["cpu"], facts["peak_memory"] = self._usage(ticket, outcome.seconds, cpu)
        facts |= facts_of_stop(outcome, self.stopped)
        return msgspec.structs.replace(outcome, **facts)

    def _usage(self, ticket: Ticket, took: float, cpu: float) -> tuple[float, int]:
        """Processor seconds and peak memory (bytes) of the task with its child processes."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if took >= _SHORT:
            children = resource.getrusage(resource.RUSAGE_CHILDREN)  # those that were waited for; the largest of them
            total = children.ru_utime + children.ru_stime
            cpu, self._children_cpu = cpu + total - self._children_cpu, total
            peak = max(peak, children.ru_maxrss)
        # All together, as long as it was long enough for somebody to look.
        seen = members.find_usage(self.queue, self.slot, str(ticket)) if took >= 1.0 else None
        return (max(cpu, seen.cpu), max(peak * 1024, seen.peak)) if seen is not None else (cpu, peak * 1024)

    # Finished work is never thrown away at the last step.

    def _commit(self, spec: Spec, ticket: Ticket, outcome: Outcome, parts: list[Part]) -> None:
        while True:
            try:
                done = self.queue.finish(spec, ticket, self.slot, outcome, parts)
                break
            except OSError as error:
                if error.errno == errno.EMFILE and host.raise_file_limit():  # its code has left very many files open
                    continue
                if error.errno not in run.FULL:
                    raise
            if outcome.status is Status.CANCELLED and not parts:
                done = self.queue.settle(spec, ticket, self.slot, outcome)  # it needs no record
                break
            if not self._wait_for_room(spec, ticket, sum(part.size for part in parts)):
                outcome, parts = self._not_run(
                    ticket, Status.CANCELLED, "cancelled while its result found no room on the disk"
                )
        how = outcome.line if done else "was given to another meanwhile: dropped"
        self.say(f"{spec.name}[{spec.short}] {how}")

    def _with_room(self, spec: Spec, ticket: Ticket, action: Callable[[], object]) -> bool:
        """Do something that takes room on the disk, as soon as there is some. False: stopped meanwhile."""
        while True:
            try:
                action()
                self._has_room()
                return True
            except OSError as error:
                if error.errno not in run.FULL:
                    raise
            if not self._wait_for_room(spec, ticket, 0):
                return False

    def _wait_for_room(self, spec: Spec, ticket: Ticket, needed: int) -> bool:
        """Wait a little, and say why. False when the task is to stop meanwhile."""
        now = time.monotonic()
        if now - self._said_full > _SAY_FULL:
            self._said_full = now
            self.say(self._disk_full(spec, needed))
        self._is_full = True
        members.note_full(self.queue, self.slot, needed)
        self.queue.ring_workers(f"over {self.slot}")  # no time limit must kill it now
        while time.monotonic() - now < _FULL_PAUSE:
            if self.find_stop(ticket) is not None:
                return False
            time.sleep(_FULL_LOOK)
        return True

    def _has_room(self) -> None:
        if self._is_full:
            self._is_full = False
            self.queue.disk.remove(self.queue.layout.full(self.slot))

    def _disk_full(self, spec: Spec, needed: int) -> str:
        free = shutil.disk_usage(self.queue.root).free
        needs = f" and needs {_size(needed)}, but only {_size(free)} are free" if needed else ""
        return (
            f"{spec.name}[{spec.short}]: the disk is full. What it made is kept in memory{needs}: free some space, or "
            "cancel the task"
        )

    def _refuse(self, ticket: Ticket, error: Exception) -> Spec:
        """End a task whose call cannot be read. Only it is harmed."""
        spec = Spec(id=ticket.id, name="(damaged)")
        now = time.time()
        outcome = Outcome(
            id=ticket.id, delivery=ticket.delivery, status=Status.FAILED, kind="damaged", reason=str(error),
            started=now, ended=now, slot=self.slot, pid=os.getpid(),
            failure=Failure(type=run.type_name(error), message=str(error)),
        )  # fmt: skip
        self._commit(spec, ticket, outcome, [])
        self.say(f"{spec.name}[{spec.short}] failed: {error}")
        return spec


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
