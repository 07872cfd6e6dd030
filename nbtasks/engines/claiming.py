"""What a bridge claims: the tickets of its lines, and what needs tokens together with these."""

from __future__ import annotations

import time
from typing import NamedTuple

from nbtasks.queue import doorbells
from nbtasks.queue.claims import Claimer, Head
from nbtasks.queue.directory import Queue
from nbtasks.queue.needy import Needy
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.tokens import Taken
from nbtasks.spec import Spec

_LOOK = 0.02  # seconds between two looks for what needs tokens, while there is none that may start
_TELL = 1.0  # seconds between two rings for the worker, which waits for tokens


class Claim(NamedTuple):
    """A claimed ticket, and the tokens that were taken with it."""

    ticket: Ticket
    taken: Taken | None


class Claiming:
    """Claims for the bridge `me`, from the lines of some LANE@ENV. `worker` is the one that made it."""

    def __init__(self, queue: Queue, me: str, worker: str, places: list[str]) -> None:
        self.queue, self.me, self.worker = queue, me, worker
        self._plain = Claimer(queue, me, [f"{place}@{need}" for place in places for need in ("c", "f")])
        self._needy = Needy(queue, places)
        self._look_at = 0.0
        self._waited, self._told = False, 0.0

    def try_claim(self) -> Claim | None:
        """Take the best that may start now; None when there is none."""
        if ready := self._find_ready():
            plain = self._plain.find_head()
            first = plain is None or ready[:2] < plain[:2]
            if first and (taken := self._needy.try_claim(self.me, fresh=True)):
                return Claim(taken.ticket, taken)
        ticket = self._plain.try_claim()
        return Claim(ticket, None) if ticket is not None else None

    def _find_ready(self) -> Head | None:
        now = time.monotonic()
        if now < self._look_at:
            return None
        ready = self._needy.find_ready()
        self._look_at = 0.0 if ready else now + _LOOK
        return ready.head if ready else None

    def find_head(self) -> Head | None:
        """What a claim would take now."""
        if head := self._plain.find_head():
            return head
        self._look_at = 0.0
        return self._find_ready()

    def wake_next(self) -> None:
        """Wake another one for what is left."""
        if head := self.find_head():
            lane, env, need = head.line.name.split("@")
            self.queue.wake(Spec(id="", name="", lane=lane, env=env, need="c" if self._needy.is_fresh(head) else need))

    def ask_worker(self) -> None:
        """If something waits for a token: the worker sees to it that the bell here rings when there is one."""
        waits, now = self._needy.waits, time.monotonic()
        if waits and (not self._waited or now - self._told > _TELL):
            self._told = now
            doorbells.ring(f"{self.queue.layout.bells_of(self.queue.boot, 'workers')}/{self.worker}", "needs")
        self._waited = waits
