"""Claims: the best ticket first, each taken once, whoever else claims, submits or leaves strange files."""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path

import pytest

from nbtasks.queue import lookup, recovery
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import id_at
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status
from tests.queue.tools import ENV, LINE, VALUE, Child, Gate, claim, outcome, places, put

NOON = 1_795_176_000_000_000


def drain(queue: Queue, *lines: str) -> list[str]:
    """The names of all that can be claimed, in that order."""
    claimer = Claimer(queue, "s-1", list(lines or (LINE,)))
    found = []
    while ticket := claimer.try_claim():
        found.append(queue.record(ticket.id).name)
    return found


def test_an_empty_queue(queue: Queue) -> None:
    claimer = Claimer(queue, "s-1", [LINE])
    assert claimer.try_claim() is None
    assert claimer.find_head() is None


def test_a_claim_moves_the_ticket(queue: Queue) -> None:
    spec = put(queue)
    assert claim(queue, "s-7") == Ticket(spec.id)
    assert os.listdir(queue.layout.running_folder("s-7")) == [f"{spec.id}.1.0.0"]
    assert places(queue) == [(f"{spec.id}.1.0.0", Status.RUNNING)]


def test_first_in_first_out_over_seconds_minutes_and_days(queue: Queue) -> None:
    moments = [0.0, 0.5, 1, 59, 60, 61, 3600, 86400, 86401]
    shuffled = random.Random(1).sample(moments, len(moments))
    for seconds in shuffled:
        put(queue, str(seconds), id=id_at(NOON + int(seconds * 1e6), "aaaa"))
    assert drain(queue) == [str(seconds) for seconds in moments]


def test_higher_priorities_first(queue: Queue) -> None:
    for priority in (0, 9, 5, 9, 1):
        put(queue, str(priority), priority=priority)
    assert drain(queue) == ["9", "9", "5", "1", "0"]


def test_a_better_one_that_comes_meanwhile_is_taken_next(queue: Queue) -> None:
    for _ in range(3):
        put(queue, "low", priority=3)
    claimer = Claimer(queue, "s-1", [LINE])
    assert claimer.try_claim() is not None
    put(queue, "high", priority=7)
    put(queue, "low", priority=3)
    assert drain_with(queue, claimer) == ["high", "low", "low", "low"]


def drain_with(queue: Queue, claimer: Claimer) -> list[str]:
    found = []
    while ticket := claimer.try_claim():
        found.append(queue.record(ticket.id).name)
    return found


def test_only_the_lines_that_are_served(queue: Queue) -> None:
    put(queue, "gpu", lane="gpu")
    put(queue, "cell", need="c")
    put(queue, "mine")
    assert drain(queue) == ["mine"]
    assert drain(queue, f"gpu@{ENV}@f") == ["gpu"]
    assert drain(queue, "default@other@c", f"default@{ENV}@c") == ["cell"]


def test_several_lines_are_one_order(queue: Queue) -> None:
    put(queue, "a", lane="gpu")
    put(queue, "b")
    put(queue, "c", lane="gpu")
    put(queue, "d", priority=9)
    put(queue, "e", lane="gpu", priority=6)
    assert drain(queue, LINE, f"gpu@{ENV}@f") == ["d", "e", "a", "b", "c"]


def test_nothing_is_claimed_while_paused(queue: Queue) -> None:
    put(queue)
    Path(queue.layout.paused).write_text("")
    claimer = Claimer(queue, "s-1", [LINE])
    assert claimer.try_claim() is None
    os.remove(queue.layout.paused)
    assert claimer.try_claim() is not None


def test_a_claim_that_another_was_faster_with_takes_the_next(queue: Queue) -> None:
    specs = [put(queue) for _ in range(3)]
    slow = Claimer(queue, "s-slow", [LINE])
    assert slow.try_claim() == Ticket(specs[0].id)  # it has listed all three
    assert claim(queue, "s-fast") == Ticket(specs[1].id)
    assert slow.try_claim() == Ticket(specs[2].id)
    assert slow.try_claim() is None


def test_what_comes_after_the_list_was_read_is_found(queue: Queue) -> None:
    put(queue, "a")
    claimer = Claimer(queue, "s-1", [LINE])
    assert claimer.try_claim() is not None
    assert claimer.try_claim() is None
    put(queue, "b")
    assert claimer.find_head() is not None
    assert claimer.try_claim() is not None


def test_the_head_of_the_lines_is_there_to_be_taken(queue: Queue) -> None:
    first, second = put(queue), put(queue)
    claimer = Claimer(queue, "s-1", [LINE, f"gpu@{ENV}@f"])
    assert claimer.find_head() is not None
    assert claim(queue, "s-2") == Ticket(first.id)
    head = claimer.find_head()
    assert head is not None
    assert (head.ticket, head.line.name) == (Ticket(second.id), LINE)
    Path(queue.layout.paused).write_text("")
    assert claimer.find_head() is None
    os.remove(queue.layout.paused)
    assert claimer.try_claim() == Ticket(second.id), "looking takes nothing"


def test_a_ticket_that_was_put_back_is_claimed_under_its_new_name(queue: Queue) -> None:
    spec = put(queue)
    ticket = claim(queue)
    queue.put_back(spec, ticket.lost(), f"{queue.layout.running_folder('s-1')}/{ticket}")
    assert claim(queue) == Ticket(spec.id, 2, 0, 1)


def test_strangers_do_not_stop_the_line(queue: Queue) -> None:
    spec = put(queue, "a", id=id_at(NOON + 60_000_000, "aaaa"))
    folder = queue.layout.queued_folder(LINE, 5, spec.id)
    earlier = queue.layout.queued_folder(LINE, 9, id_at(NOON, "aaaa"))
    os.makedirs(earlier)
    strangers = [
        f"{queue.layout.queued}/{LINE}/.DS_Store", f"{queue.layout.queued}/{LINE}/0.txt", f"{earlier}/notes.txt",
        f"{earlier}/.{spec.id}.1.0.0", f"{folder}/zzz", f"{folder}/.nfs000001", os.path.dirname(folder) + "/0",
    ]  # fmt: skip
    for path in strangers:
        Path(path).write_text("")
    claimer = Claimer(queue, "s-1", [LINE])
    head = claimer.find_head()
    assert head is not None
    assert head.ticket == Ticket(spec.id)
    assert claimer.try_claim() == Ticket(spec.id)
    assert claimer.try_claim() is None
    assert claimer.find_head() is None
    assert all(os.path.exists(path) for path in strangers), "they are left alone"


def age(root: str) -> None:
    for folder, _, _ in os.walk(root, topdown=False):
        os.utime(folder, (time.time() - 60, time.time() - 60))


def test_empty_folders_are_removed_once_they_are_old(queue: Queue) -> None:
    spec = put(queue)
    folder = queue.layout.queued_folder(LINE, 5, spec.id)
    drain(queue)
    assert os.path.isdir(folder), "a young one may be about to be filled"
    for _ in range(4):  # from the inside out
        age(f"{queue.layout.queued}/{LINE}")
        drain(queue)
    assert os.listdir(f"{queue.layout.queued}/{LINE}") == []
    assert drain(queue) == []
    put(queue, "again")
    assert drain(queue) == ["again"]


def test_an_emptied_better_priority_does_not_make_each_claim_list_all(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(queue, "high", priority=9)
    ids = [put(queue, "low").id for _ in range(100)]
    folders = {queue.layout.queued_folder(LINE, 5, id) for id in ids}
    listed = []
    names = queue.names
    monkeypatch.setattr(queue, "names", lambda folder: listed.append(folder) or names(folder))
    assert len(drain(queue)) == 101
    assert sum(folder in folders for folder in listed) <= 2 * len(folders) + 2


# Many at once.


def claim_all(queue_root: str, slot: str, gate: Gate, total: int) -> list[str]:
    queue = Queue(queue_root)
    claimer = Claimer(queue, slot, [LINE])
    gate.tell("ready")
    gate.pass_through()
    mine: list[str] = []
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ticket = claimer.try_claim()
        if ticket is None:
            if sum(1 for _ in lookup.ended_tickets(queue)) >= total:
                break
            time.sleep(0.002)
            continue
        mine.append(ticket.id)
        spec = queue.record(ticket.id).spec
        assert queue.finish(spec, ticket, slot, outcome(ticket), VALUE)
    return mine


def submit_many(queue_root: str, gate: Gate, count: int) -> list[str]:
    queue = Queue(queue_root)
    gate.tell("ready")
    gate.pass_through()
    return [put(queue, priority=number % 10).id for number in range(count)]


def test_of_2000_tasks_by_2_submitters_each_is_claimed_once_by_4(queue: Queue) -> None:
    with Gate() as gate:
        claimers = [Child(claim_all, queue.root, f"s-{number}", gate, 2000) for number in range(4)]
        submitters = [Child(submit_many, queue.root, gate, 1000) for _ in range(2)]
        gate.hear(6)
    submitted = sorted(id for child in submitters for id in child.result())
    claimed = sorted(id for child in claimers for id in child.result())
    assert claimed == submitted
    assert len(set(claimed)) == 2000
    assert sorted(place.ticket.id for place in lookup.ended_tickets(queue)) == submitted
    assert all(place.ticket == Ticket(place.ticket.id) for place in lookup.ended_tickets(queue))
    assert list(lookup.live_tickets(queue)) == []


# Claims taken from the living: a commit by one that lost its claim is refused.


class Noting(Queue):
    """A queue that notes every commit in a file outside."""

    oracle = -1
    taken = 0

    def put_back(self, spec: Spec, ticket: Ticket, source: str, delay: float = 0.0) -> bool:
        moved = super().put_back(spec, ticket, source, delay)
        self.taken += moved
        return moved

    def after_end(self, spec: Spec, ticket: Ticket, status: Status, slot: str | None = None) -> None:
        os.write(self.oracle, f"{ticket}\n".encode())
        super().after_end(spec, ticket, status, slot)

    @classmethod
    def begin(cls, root: str, oracle: str, gate: Gate) -> Noting:
        queue = cls(root)
        queue.oracle = os.open(oracle, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        gate.tell("ready")
        gate.pass_through()
        return queue


def claim_and_dawdle(root: str, slot: str, oracle: str, gate: Gate, seed: int) -> int:
    """Claim on and on, and commit one of the claims now and then, the lost ones too. How many were refused."""
    queue = Noting.begin(root, oracle, gate)
    claimer = Claimer(queue, slot, [LINE])
    draw = random.Random(seed)
    held: list[Ticket] = []
    refused = 0
    while os.path.exists(f"{oracle}.go"):
        ticket = claimer.try_claim()
        if ticket is None:
            put(queue)
            continue
        held.append(ticket)
        if draw.random() < 0.1:
            late = held.pop(draw.randrange(len(held)) if draw.random() < 0.5 else -1)
            spec = Spec(id=late.id, name="train", env=ENV)
            refused += not queue.finish(spec, late, slot, outcome(late), VALUE)
    return refused


def take_from_the_living(root: str, me: str, slots: list[str], oracle: str, gate: Gate, steals: int) -> int:
    """Take claims from slots that live, by the rule for taking over, and put them back; how many there were."""
    queue = Noting.begin(root, oracle, gate)
    for slot in itertools.cycle(slots):
        recovery.evict_slot(queue, me, slot)
        if queue.taken >= steals:
            break
    return queue.taken


def steal_claims(queue: Queue, tmp_path: Path, steals: int) -> None:
    oracle, slots = str(tmp_path / "oracle"), ["s-1", "s-2"]
    Path(f"{oracle}.go").write_text("")
    for slot in slots:
        os.makedirs(queue.layout.running_folder(slot))
    with Gate() as gate:
        dawdlers = [Child(claim_and_dawdle, queue.root, slot, oracle, gate, seed) for seed, slot in enumerate(slots)]
        takers = [
            Child(take_from_the_living, queue.root, me, slots, oracle, gate, steals // 2) for me in ("w-1", "w-2")
        ]
        gate.hear(4)
    stolen = sum(child.result() for child in takers)
    os.remove(f"{oracle}.go")
    refused = sum(child.result() for child in dawdlers)
    committed = Path(oracle).read_text().split()
    ended = [place.ticket for place in lookup.ended_tickets(queue)]
    print(f"{stolen} claims taken from the living, {refused} late commits refused, {len(committed)} commits")
    assert refused > 10, "or nothing was proved"
    assert len(committed) > 10
    assert sorted(committed) == sorted(map(str, ended)), "what was said to be committed is, and nothing else"
    assert len({ticket.id for ticket in ended}) == len(ended), "no task was committed twice"
    live = [place.ticket.id for place in lookup.live_tickets(queue)]
    assert sorted(live + [ticket.id for ticket in ended]) == sorted(lookup.all_ids(queue)), "and none was lost"


def test_of_2e4_stolen_claims_none_is_committed_twice(queue: Queue, tmp_path: Path) -> None:
    steal_claims(queue, tmp_path, 20_000)


@pytest.mark.torture
def test_of_1e5_stolen_claims_none_is_committed_twice(queue: Queue, tmp_path: Path) -> None:
    steal_claims(queue, tmp_path, 100_000)
