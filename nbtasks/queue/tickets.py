"""Tickets: the small files whose folder is the status, under names that are never used twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

from nbtasks.queue.layout import ID
from nbtasks.status import Status

T = TypeVar("T")

LOSSES = 3  # the third loss ends a task


class Ticket(NamedTuple):
    """``ID.D.F.L``: deliveries, own failures and losses of a task, in the name of its ticket.

    `delivery` is the number of the delivery that runs or will run; it fences: whoever lost
    its claim finds no ticket of that name any more, so a late commit is refused.
    """

    id: str
    delivery: int = 1
    failures: int = 0
    losses: int = 0

    def __str__(self) -> str:
        return f"{self.id}.{self.delivery}.{self.failures}.{self.losses}"

    @property
    def attempt(self) -> int:
        """1 for the first attempt; losses and put-back deliveries do not count."""
        return self.failures + 1

    def failed(self) -> Ticket:
        """The ticket after a failure that is to be retried."""
        return Ticket(self.id, self.delivery + 1, self.failures + 1, self.losses)

    def lost(self) -> Ticket:
        """The ticket after a death that nobody saw."""
        return Ticket(self.id, self.delivery + 1, self.failures, self.losses + 1)

    def put_back(self) -> Ticket:
        """The ticket of the same attempt, for whoever takes it next."""
        return Ticket(self.id, self.delivery + 1, self.failures, self.losses)


def parse_ticket(name: str) -> Ticket | None:
    """The ticket of a file name, or None when it is not one (and must be left alone)."""
    parts = name.split(".")
    if len(parts) != 4 or not ID.fullmatch(parts[0]):
        return None
    try:
        numbers = [int(part) for part in parts[1:]]
    except ValueError:
        return None
    ticket = Ticket(parts[0], *numbers)
    return ticket if str(ticket) == name and min(numbers) >= 0 and ticket.delivery >= 1 else None


def parse_ended(name: str) -> tuple[Ticket, Status] | None:
    """Ticket and status of a name in ``ended/``, or None."""
    stem, _, status = name.rpartition(".")
    ticket = parse_ticket(stem)
    if ticket is None or status not in ("succeeded", "failed", "cancelled"):
        return None
    return ticket, Status(status)


def parse_until(name: str) -> tuple[float, Ticket] | None:
    """Due moment (seconds since 1970) and ticket of a name in ``waiting/until/``, or None."""
    moment, _, rest = name.partition("-")
    ticket = parse_ticket(rest)
    return (int(moment) / 1000, ticket) if ticket and moment.isdigit() else None


def parse_expiry(name: str) -> tuple[float, str] | None:
    """The moment (seconds since 1970) and the id in a name of ``expires/``, or None."""
    moment, _, id = name.partition("-")
    return (int(moment) / 1000, id) if moment.isdigit() and ID.fullmatch(id) else None


def split_due(
    names: Iterable[str], parse: Callable[[str], tuple[float, T] | None], now: float
) -> tuple[list[tuple[str, T]], float | None]:
    """Of names with a moment: those whose moment has come, with what `parse` finds in them, and the next moment or None."""
    known = [(name, *parsed) for name in names if (parsed := parse(name))]
    due = [(name, rest) for name, moment, rest in known if moment <= now]
    return due, min((moment for _, moment, _ in known if moment > now), default=None)


def expiry_name(moment: float, id: str) -> str:
    """The name in ``expires/`` of a task that must have started at `moment` (seconds since 1970)."""
    return f"{math.ceil(moment * 1000)}-{id}"  # never too early


def until_name(moment: float, ticket: Ticket) -> str:
    """The name of a ticket in ``waiting/until/``, due at `moment` (seconds since 1970)."""
    return f"{math.ceil(moment * 1000)}-{ticket}"  # never too early
