"""One claimed delivery, from its call to its commit: what every engine that runs tasks on this host does."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from nbtasks import payload, processes, run
from nbtasks.errors import FrameError, PayloadError, UpstreamFailed
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Failure, Outcome
from nbtasks.queue import records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import EVENTS, LOG, PROGRESS, STARTED
from nbtasks.queue.members import Stop
from nbtasks.queue.tickets import Ticket
from nbtasks.run import Ended
from nbtasks.spec import Spec
from nbtasks.status import Status

_SMALL_BLOB, _MANY_BLOBS = 1 << 20, 64
_FULL = (errno.ENOSPC, errno.EDQUOT)


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
        frame = records.read_outcome_frame(self.queue, record.ticket)
        if part := frame.parts.get("cell"):
            return payload.load(part)[0]
        return payload.load(frame.parts["value"])

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


class Delivery:
    """Runs claimed tickets of one slot, one after the other."""

    def __init__(
        self, queue: Queue, slot: str, sink: Sink, find_stop: Callable[[Ticket], Stop | None],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:  # fmt: skip
        self.queue, self.slot, self.sink, self.find_stop, self.say = queue, slot, sink, find_stop, say
        self.values = QueueValues(queue)
        self.stopped: Stop | None = None

    def deliver(self, ticket: Ticket) -> Spec:
        """Run the task of a claimed ticket and commit its outcome; its spec."""
        self.stopped = None
        try:
            call = records.read_call(self.queue, ticket.id)
            spec = records.decode_spec(call.body)
        except (OSError, FrameError, PayloadError) as error:
            return self._refuse(ticket, error)
        self.say(f"Executing {spec.name}[{spec.short}]")
        if spec.at_most_once:  # before user code, and on the disk: it must not start twice, even over a power cut
            self.queue.disk.create(self._file(ticket, STARTED), [], flush=True)
        if spec.timeout is not None:
            self.queue.ring_workers(f"deadline {self.slot}")
        self.sink.begin(self._file(ticket, LOG), self._file(ticket, EVENTS), self._file(ticket, PROGRESS))
        cpu = time.process_time()
        ended = run.execute(call, ticket, self.values, lambda kind, data: self._emit(ticket, kind, data))
        outcome = self._complete(ended.outcome, self.sink.end(), time.process_time() - cpu)
        if self._commit(spec, ticket, outcome, ended.parts):
            self.say(f"{spec.name}[{spec.short}] {outcome.status} in {outcome.seconds:.3f}s")
        else:
            self.say(f"{spec.name}[{spec.short}] was given to another meanwhile; this outcome is dropped")
        return spec

    def _file(self, ticket: Ticket, kind: str) -> str:
        return self.queue.layout.file(ticket.id, ticket.delivery, kind)

    def _emit(self, ticket: Ticket, kind: str, data: dict[str, Any]) -> bool:
        if kind in ("start", "ended"):
            self.stopped = self.stopped or self.find_stop(ticket)
            return self.stopped is None
        return self.sink.emit(kind, data)

    def _complete(self, outcome: Outcome, progress: dict[str, Any] | None, cpu: float) -> Outcome:
        facts: dict[str, Any] = {
            "slot": self.slot, "host": processes.host_name(), "progress": progress, "cpu": cpu,
            "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }  # fmt: skip
        stop = self.stopped
        if outcome.status is Status.CANCELLED and stop is not None:
            facts["reason"] = stop.reason
            if stop.kind == "timeout":
                failure = Failure(type="nbtasks.errors.TaskTimedOut", message=stop.reason)
                facts |= {"status": Status.FAILED, "kind": "timed out", "failure": failure}
        return msgspec.structs.replace(outcome, **facts)

    def _commit(self, spec: Spec, ticket: Ticket, outcome: Outcome, parts: list[Part]) -> bool:
        pause = 0.5
        while True:
            try:
                return self.queue.finish(spec, ticket, self.slot, outcome, parts)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if self.find_stop(ticket) is not None:  # cancelled while it waits: the record without the value
                    outcome = msgspec.structs.replace(outcome, has_value=False, variables=())
                    parts = []
                self.say(self._disk_full(spec, parts))
            time.sleep(pause)
            pause = min(30.0, pause * 2)

    def _disk_full(self, spec: Spec, parts: list[Part]) -> str:
        needed = sum(part.size for part in parts)
        free = shutil.disk_usage(self.queue.root).free
        return (
            f"{spec.name}[{spec.short}] has ended, but the disk is full: its result needs {needed / 1e9:.1f} GB, "
            f"{free / 1e9:.1f} free. It is kept in memory and tried again; free some space, or cancel the task"
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
        self.queue.finish(spec, ticket, self.slot, outcome)
        self.say(f"{spec.name}[{spec.short}] failed: {error}")
        return spec


__all__ = ["Delivery", "Ended", "Frame", "NoSink", "QueueValues", "Sink"]
