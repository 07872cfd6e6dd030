"""The grammar of tickets: what is written is read back, and what is none is left alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbtasks.queue import layout
from nbtasks.queue.tickets import Ticket, parse_ended, parse_ticket, parse_until, until_name
from nbtasks.status import Status

ID = "20261120-220611-482913-k7q2"

ids = st.builds(layout.id_at, st.integers(0, 4_000_000_000_000_000), st.text(layout.ALPHABET, min_size=4, max_size=13))
tickets = st.builds(
    Ticket, ids, st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**6)
)  # fmt: skip


@given(tickets)
def test_a_ticket_is_read_back(ticket: Ticket) -> None:
    assert parse_ticket(str(ticket)) == ticket


@given(tickets, st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.CANCELLED]))
def test_an_ended_ticket_is_read_back(ticket: Ticket, status: Status) -> None:
    assert parse_ended(f"{ticket}.{status}") == (ticket, status)
    assert parse_ticket(f"{ticket}.{status}") is None


@given(tickets, st.integers(0, 4_000_000_000_000))
def test_a_due_ticket_is_read_back_to_the_millisecond(ticket: Ticket, milliseconds: int) -> None:
    parsed = parse_until(until_name(milliseconds / 1000, ticket))
    assert parsed is not None
    assert parsed[1] == ticket
    assert abs(parsed[0] - milliseconds / 1000) <= 0.001


@given(st.one_of(st.text(), st.from_regex(rf"{ID}\.[0-9+_ ]{{1,3}}\.[0-9]{{1,2}}\.[0-9]{{1,2}}", fullmatch=True)))
def test_nothing_that_reads_differently_is_a_ticket(name: str) -> None:
    parsed = parse_ticket(name)
    assert parsed is None or (str(parsed) == name and parsed.delivery >= 1)
    assert parse_ended(name) is None
    parse_until(name)


@pytest.mark.parametrize(
    "name",
    [
        f"{ID}", f"{ID}.1.0", f"{ID}.0.0.0", f"{ID}.01.0.0", f"{ID}.1.0.-1", f"{ID}.1.0.0.", f".{ID}.1.0.0", f"{ID}.1.0.x",
        f"{ID}.1.0.0.running", f"{ID}.1.0.0\n", f"{ID}.+1.0.0", f"{ID}.١.0.0", "notes.txt", "", ".", "a.1.0.0",
        f"{ID}.call", f"{ID}.1.outcome",
    ],
)  # fmt: skip
def test_strange_names_are_no_tickets(name: str) -> None:
    assert parse_ticket(name) is None
    assert parse_ended(name) is None
    assert parse_until(name) is None


@pytest.mark.parametrize("name", [f"{ID}.1.0.0", f"x-{ID}.1.0.0", f"-5-{ID}.1.0.0", f"1.5-{ID}.1.0.0", f"12-{ID}"])
def test_strange_names_are_not_due(name: str) -> None:
    parsed = parse_until(name)
    assert parsed is None


@given(tickets)
def test_no_name_is_used_twice(ticket: Ticket) -> None:
    after = {str(ticket), str(ticket.failed()), str(ticket.lost()), str(ticket.put_back())}
    assert len(after) == 4
    for following in (ticket.failed(), ticket.lost(), ticket.put_back()):
        assert following.delivery == ticket.delivery + 1, "the delivery fences: it names the files of that run"


def test_only_failures_count_as_attempts() -> None:
    ticket = Ticket(ID)
    assert ticket.attempt == 1
    assert ticket.lost().put_back().attempt == 1
    assert ticket.lost().failed().attempt == 2
    assert ticket.lost().failed() == Ticket(ID, 3, 1, 1)


def test_tickets_sort_as_their_tasks_were_submitted() -> None:
    earlier, later = Ticket(ID, 10), Ticket("20261120-220611-482914-aaaa", 1)
    assert sorted([str(later), str(earlier)]) == [str(earlier), str(later)]
