"""What waits in the lines that a worker serves: how much of it may start now, and when the rest is looked at again."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from nbtasks.queue import doorbells, lookup
from nbtasks.queue.directory import Queue
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.needy import Needy, Waiting
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.tokens import NEVER, NOW
from nbtasks.worker.standing import Options

_SOON, _RARELY = 1.0, 10.0  # seconds between looks that make good a lost ring; they grow while nothing changes


class Backlog:
    """The queued tasks of one worker's lanes.

    Functions and cells may start as soon as there is a slot. What needs tokens may have to wait for them: then the worker has a bell
    among those of all who wait, and looks by itself at the moment at which a rate allows the next one.
    """

    def __init__(self, queue: Queue, options: Options, worker: str) -> None:
        self.queue, self.options, self.worker = queue, options, worker
        self.needy = Needy(queue, options.places)
        self.waits = False  # something waits for a token or under a rate
        self._bells: list[Bell] = []
        self._rung: dict[str, float] = {}  # line → monotonic moment at which an idle slot was told of it
        self._next = float("inf")  # monotonic moment of the next look
        self._again, self._pause = 0.0, _SOON  # of the next that only makes good a lost ring

    def tickets(self) -> Iterator[tuple[str, Ticket]]:
        """All that is queued."""
        lines = [*self._plain(), *(name for name in self.queue.names(self.queue.layout.queued) if self._is_needy(name))]
        return (found for line in lines for found in lookup.queued_tickets(self.queue, line))

    def _plain(self) -> list[str]:
        return [f"{place}@{need}" for place in self.options.places for need in ("c", "f")]

    def _is_needy(self, line: str) -> bool:
        return line.startswith(tuple(f"{place}@x" for place in self.options.places))

    def count(self) -> int:
        """How many tasks want a slot that is to be made, up to as many as the worker may have."""
        return self._count(self.needy.all())

    def _count(self, needy: list[Waiting]) -> int:
        if self.queue.disk.exists(self.queue.layout.paused):
            return 0
        plain = (found for line in self._plain() for found in lookup.queued_tickets(self.queue, line))
        found = sum(1 for _ in itertools.islice(plain, self.options.slots))
        return found + sum(1 for one in needy if one.wait == NOW and not self._was_rung(one))

    def look(self) -> int:
        """What `count` gives; and see to what needs tokens: hang a bell if it has to wait, wake idle slots for what may start."""
        for bell in self._bells:
            if bell.drain():
                self._pause, self._again = _SOON, 0.0
                self._rung.clear()  # who was told before may have found that another was faster
        found = self.needy.all()
        if found and not self._bells:
            self._bells = self.queue.token_bells(self.worker)
            found = self.needy.all()  # what was given back meanwhile rang nobody
        elif not found:
            self.close()
        self.waits = any(one.wait for one in found)
        for one in found:
            if one.wait == NOW and not self._was_rung(one) and self._try_ring(one):
                self._rung[one.head.line.name] = time.monotonic()
        self._plan(found)
        return self._count(found)

    def _plan(self, found: list[Waiting]) -> None:
        now = time.monotonic()
        if not found:
            self._pause, self._again, self._next = _SOON, now, float("inf")
            return
        if now >= self._again:
            self._again = now + self._pause
            self._pause = min(self._pause * 2, _RARELY)
        self._next = min([self._again, *(now + one.wait for one in found if one.wait not in (NOW, NEVER))])

    def _was_rung(self, one: Waiting) -> bool:
        """Whether an idle slot was told of it just now: it need not be told again, and no other be made for it."""
        return time.monotonic() - self._rung.get(one.head.line.name, -_SOON) < _SOON

    def _try_ring(self, one: Waiting) -> bool:
        lane, env, _ = one.head.line.name.split("@")
        folder = self.queue.layout.bells_of(self.queue.boot, f"{lane}@{env}")
        letters = "b" if one.is_fresh else "stb"
        idle = [path for letter in letters for path in doorbells.bells_in(f"{folder}/idle", letter)]
        return any(doorbells.ring(path, "work") for path in idle)

    def left(self) -> float | None:
        """Seconds until the next look, or None."""
        return max(0.0, self._next - time.monotonic()) if self._next < float("inf") else None

    def fds(self) -> list[int]:
        """Descriptors that become readable when a token is free."""
        return [bell.fd for bell in self._bells if bell.fd >= 0]

    def close(self) -> None:
        """Take the bells away."""
        for bell in self._bells:
            bell.close()
        self._bells = []
