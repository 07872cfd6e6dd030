"""What only this host can do for a foreign engine: a map over a value makes tasks, and so needs the queue.

Such a task runs in a process of its own, forked from the bridge, as in a slot.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from nbtasks import payload, processes
from nbtasks.capture import Capture
from nbtasks.engines import local
from nbtasks.engines.base import Delivery
from nbtasks.engines.bridged_task import BridgedTask
from nbtasks.queue import recovery
from nbtasks.queue.deaths import Death
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Stop
from nbtasks.queue.tickets import Ticket


class LocalTasks:
    """The tasks that the bridge `me` has run here. `gone` is called with each that is over."""

    def __init__(self, queue: Queue, me: str, gone: Callable[[BridgedTask], None]) -> None:
        self.queue, self.me, self.gone = queue, me, gone
        self._running: dict[int, tuple[int, BridgedTask]] = {}  # descriptor: process id and task

    def start(self, task: BridgedTask) -> None:
        """Run a claimed ticket here."""
        pid = local.fork_slot(lambda: self._deliver(task.ticket), self.me)
        self._running[os.pidfd_open(pid)] = pid, task

    def _deliver(self, ticket: Ticket) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, local.DRAIN):
            signal.signal(number, signal.SIG_DFL)
        payload.make_home()
        sink = Capture(self.queue.layout.slot_folder(self.me))
        Delivery(Queue.open(self.queue.root), self.me, sink, self._find_stop).deliver(ticket)
        return 0

    def _find_stop(self, ticket: Ticket) -> Stop | None:
        asked = self.queue.disk.exists(self.queue.layout.cancel_file(ticket.id))
        return Stop(str(ticket), "cancel") if asked else None

    def descriptors(self) -> list[int]:
        """What becomes readable when one of them ends."""
        return list(self._running)

    def collect(self) -> None:
        """Settle those that have ended."""
        for fd, (pid, task) in list(self._running.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            os.close(fd)
            del self._running[fd]
            path = f"{self.queue.layout.running_folder(self.me)}/{task.ticket}"
            if self.queue.disk.exists(path):  # it died over it
                recovery.lose(
                    self.queue, self.me, task.spec, task.ticket, Death(reason=f"its process ended ({status})")
                )
            self.gone(task)

    def stop(self, task: BridgedTask) -> None:
        """End one of them, for its task was cancelled: whoever takes its ticket next sees that."""
        for pid, one in self._running.values():
            if one is task:
                with contextlib.suppress(ProcessLookupError):
                    processes.end_tree(pid, term=False)
