"""Taking over what a dead bridge has left at the engine."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from nbtasks.engines import wire
from nbtasks.engines.bridged_task import BridgedTask
from nbtasks.engines.in_flight import InFlight
from nbtasks.errors import NbtasksError
from nbtasks.queue import members, records, tokens
from nbtasks.queue.deaths import Death
from nbtasks.queue.directory import Queue
from nbtasks.queue.tickets import Ticket, parse_ticket


class Leftover(NamedTuple):
    """What one dead bridge has left: its claims, and where the engine answers it."""

    owner: str
    channels: tuple[str, ...]
    tickets: list[Ticket]


def find_leftovers(queue: Queue, engine: str, me: str) -> list[Leftover]:
    """What dead bridges to that engine have left: the URL without password, as a bridge says it of itself."""
    found = []
    for member in members.list_slots(queue):
        if member.engine == engine and member.name != me and members.is_dead(queue, member.name):
            names = queue.names(queue.layout.running_folder(member.name))
            if tickets := [ticket for name in names if (ticket := parse_ticket(name))]:
                found.append(Leftover(member.name, member.channels, tickets))
    return found


def take_over(in_flight: InFlight, leftovers: list[Leftover]) -> int:
    """Make their claims those of `in_flight`; how many there were.

    The bridge of `in_flight` must be registered with the channels of the dead before: whoever comes after it has to find them.
    """
    for leftover in leftovers:
        for ticket in leftover.tickets:
            with contextlib.suppress(OSError):  # a full disk: the next look finds it again
                _take(in_flight, leftover.owner, ticket)
    in_flight.next_check = 0.0
    return sum(len(leftover.tickets) for leftover in leftovers)


def _take(in_flight: InFlight, owner: str, ticket: Ticket) -> None:
    queue = in_flight.queue
    try:
        spec = records.read_spec(queue, ticket.id)
    except NbtasksError as error:
        spec = records.damaged_spec(ticket.id, error)
    if outcome := records.find_whole_outcome(queue, ticket):  # it had ended; only the commit was missing
        queue.settle(spec, ticket, owner, outcome)
        return
    mine = ticket.put_back()  # the files of the other's delivery are its own
    source, target = (queue.layout.running_folder(name) for name in (owner, in_flight.me))
    if queue.disk.move(f"{source}/{ticket}", f"{target}/{mine}"):
        task = BridgedTask(spec, mine, _keys(queue, ticket))
        task.taken = tokens.try_inherit(queue, spec, mine, in_flight.me)
        if task.is_local:  # it was never there
            in_flight.add(task)
            in_flight.finishing.lose(task, Death())
            return
        task.sent_at = 0.0
        task.copy_files(queue, ticket.delivery)
        in_flight.add(task)


def _keys(queue: Queue, ticket: Ticket) -> tuple[str, ...]:
    """By which deliveries the engine may know it: the last one, or one before that was taken over in its turn."""
    found = []
    for delivery in range(ticket.delivery, 0, -1):
        earlier = ticket._replace(delivery=delivery)
        if delivery < ticket.delivery and records.find_whole_outcome(queue, earlier) is not None:
            break
        found.append(wire.key_of(earlier))
    return tuple(found)
