"""Taking over what a dead bridge has left at the engine."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from nbtasks.engines import wire
from nbtasks.engines.fleet import Fleet
from nbtasks.engines.flights import Flight
from nbtasks.errors import NbtasksError
from nbtasks.queue import members, records, tokens
from nbtasks.queue.deaths import Death
from nbtasks.queue.directory import Queue
from nbtasks.queue.tickets import Ticket, parse_ticket


class Estate(NamedTuple):
    """What one dead bridge has left: its claims, and where the engine answers it."""

    owner: str
    channels: tuple[str, ...]
    tickets: list[Ticket]


def find_estates(queue: Queue, engine: str, me: str) -> list[Estate]:
    """What dead bridges to that engine have left: the URL without password, as a bridge says it of itself."""
    found = []
    for member in members.list_slots(queue):
        if member.engine == engine and member.name != me and members.is_dead(queue, member.name):
            names = queue.names(queue.layout.running_folder(member.name))
            if tickets := [ticket for name in names if (ticket := parse_ticket(name))]:
                found.append(Estate(member.name, member.channels, tickets))
    return found


def take_over(fleet: Fleet, estates: list[Estate]) -> int:
    """Make their claims those of `fleet`; how many there were.

    The fleet's bridge must be registered with the channels of the dead before: whoever comes after it has to find them.
    """
    for estate in estates:
        for ticket in estate.tickets:
            with contextlib.suppress(OSError):  # a full disk: the next look finds it again
                _take(fleet, estate.owner, ticket)
    fleet.next_check = 0.0
    return sum(len(estate.tickets) for estate in estates)


def _take(fleet: Fleet, owner: str, ticket: Ticket) -> None:
    queue = fleet.queue
    try:
        spec = records.read_spec(queue, ticket.id)
    except NbtasksError as error:
        spec = records.damaged_spec(ticket.id, error)
    if outcome := records.find_whole_outcome(queue, ticket):  # it had ended; only the commit was missing
        queue.settle(spec, ticket, owner, outcome)
        return
    mine = ticket.put_back()  # the files of the other's delivery are its own
    source, target = (queue.layout.running_folder(name) for name in (owner, fleet.me))
    if queue.disk.move(f"{source}/{ticket}", f"{target}/{mine}"):
        flight = Flight(spec, mine, _keys(queue, ticket))
        flight.taken = tokens.try_inherit(queue, spec, mine, fleet.me)
        if flight.is_errand:  # it was never there
            fleet.add(flight)
            fleet.landing.lose(flight, Death())
            return
        flight.sent_at = 0.0
        flight.copy_files(queue, ticket.delivery)
        fleet.add(flight)


def _keys(queue: Queue, ticket: Ticket) -> tuple[str, ...]:
    """By which deliveries the engine may know it: the last one, or one before that was taken over in its turn."""
    found = []
    for delivery in range(ticket.delivery, 0, -1):
        earlier = ticket._replace(delivery=delivery)
        if delivery < ticket.delivery and records.find_whole_outcome(queue, earlier) is not None:
            break
        found.append(wire.key_of(earlier))
    return tuple(found)
