"""What running tasks take: processor and memory of their whole trees, and room for their logs.

The supervisor looks every two seconds while something runs, and never otherwise. What it finds lies in the slot's
folder for cards and for the slot itself; a task that is over sooner is not looked at.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nbtasks import config, logs, processes
from nbtasks.queue import lookup, members
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import LOG
from nbtasks.queue.members import Member, Usage
from nbtasks.queue.tickets import Ticket

EVERY = 2.0  # seconds between two looks
_OLD = 1.0  # seconds that a task has to run before it is looked at
_SHARE = 100  # where looking takes long (very many processes), it is done so many times more rarely


@dataclass
class Gauge:
    """One running delivery."""

    ticket: Ticket
    base: float  # seconds of processor time that its process had used before
    cpu: float = 0.0
    at: float = 0.0  # monotonic moment of the last look
    peak: int = 0
    kept_from: int = 0  # of its log, as `logs.trim` gives it
    trimmed_at: int = 0  # the log's size then


class Gauges:
    """Looks at what the slots of one supervisor run. `running` gives the tickets that a slot has claimed."""

    def __init__(self, queue: Queue, running: Callable[[str], list[Ticket]]) -> None:
        self.queue = queue
        self._running = running
        self._gauges: dict[str, Gauge] = {}
        self._next = 0.0
        self._members: dict[str, Member] = {}

    def look(self, slots: Iterable[str]) -> float | None:
        """Look if it is time; seconds until the next look, None when nothing runs."""
        now = time.monotonic()
        if now < self._next:
            return self._next - now
        busy = False
        for slot in slots:
            for ticket in self._running(slot):
                busy = True
                with contextlib.suppress(OSError):
                    self._look_at(slot, ticket)
        if not busy:
            self._gauges.clear()
            return None
        took = time.monotonic() - now
        self._next = now + max(EVERY, _SHARE * took)
        return self._next - time.monotonic()

    def peak(self, slot: str) -> int:
        """The most memory that was seen in use by the slot's tree, in bytes; 0 when it was not looked at."""
        gauge = self._gauges.get(slot)
        return gauge.peak if gauge is not None else 0

    def forget(self, slot: str) -> None:
        """The slot is gone."""
        self._gauges.pop(slot, None)
        self._members.pop(slot, None)

    def _look_at(self, slot: str, ticket: Ticket) -> None:
        since = lookup.moved_at(f"{self.queue.layout.running_folder(slot)}/{ticket}")
        member = self._member(slot)
        if since is None or member is None or time.time() - since < _OLD:
            return
        pid = member.process.pid
        gauge = self._gauges.get(slot)
        cpu = processes.cpu_of_tree(pid)
        if gauge is None or gauge.ticket != ticket:
            # A process that was made for this task has used all its time for it.
            fresh = since - member.started < EVERY
            gauge = self._gauges[slot] = Gauge(ticket, 0.0 if fresh else cpu)
        self._measure(slot, gauge, cpu - gauge.base, processes.memory_of_tree(pid))
        self._trim(gauge)

    def _member(self, slot: str) -> Member | None:
        if slot not in self._members and (member := members.find_member(self.queue, slot)):
            self._members[slot] = member
        return self._members.get(slot)

    def _measure(self, slot: str, gauge: Gauge, cpu: float, memory: int) -> None:
        now = time.monotonic()
        cores = max(0.0, cpu - gauge.cpu) / (now - gauge.at) if gauge.at else None
        gauge.peak = max(gauge.peak, memory)
        gauge.cpu, gauge.at = max(gauge.cpu, cpu), now  # less than before: a child has gone that nobody waited for
        usage = Usage(
            ticket=str(gauge.ticket), memory=memory, peak=gauge.peak, cpu=round(gauge.cpu, 3),
            cores=None if cores is None else round(cores, 3),
        )  # fmt: skip
        members.note_usage(self.queue, slot, usage)

    def _trim(self, gauge: Gauge) -> None:
        """Keep a log within bounds that grows without the slot's knowing: by C code, or by child processes."""
        limit = config.settings().log_limit
        path = self.queue.layout.file(gauge.ticket.id, gauge.ticket.delivery, LOG)
        try:
            size = os.stat(path).st_size
        except FileNotFoundError:  # silent so far
            return
        if size <= limit or size - gauge.trimmed_at < limit // 8:
            return
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            gauge.kept_from = max(gauge.kept_from, logs.trim(fd, limit, gauge.kept_from))
            gauge.trimmed_at = size
        finally:
            os.close(fd)
