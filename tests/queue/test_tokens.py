"""Tokens, gates and rates by hand: what is taken together, what is given back, who is said to have it."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

import msgspec
import pytest

from nbtasks import config, processes
from nbtasks.errors import QueueUnsafe
from nbtasks.needs import Needs
from nbtasks.queue import holders, needy, rates, shortage, tokens
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import HostLayout
from nbtasks.queue.leases import Lease
from nbtasks.queue.needy import Needy
from nbtasks.queue.rates import Starts
from nbtasks.queue.tokens import NEVER, NOW, Taken
from nbtasks.spec import Spec
from tests.queue.tools import ENV, Child, Gate, put

PLACE = f"default@{ENV}"
_kept: list[object] = []  # a lock that nobody refers to is given back


@pytest.fixture(autouse=True)
def host(tmp_path: Path) -> HostLayout:
    config.configure(host_dir=str(tmp_path / "host"))
    _kept.clear()
    return HostLayout(str(tmp_path / "host"))


def put_needy(queue: Queue, needs: Needs, **fields: object) -> Spec:
    return put(queue, need=needs.code, needs=needs.fields, **fields)


def take(queue: Queue, *, fresh: bool = False, slot: str = "s-1") -> Taken | None:
    taken = Needy(queue, [PLACE]).try_claim(slot, fresh=fresh)
    if taken is not None:
        _kept.append(taken)
        taken.introduce(Spec(id=taken.ticket.id, name="train"), slot)
    return taken


def test_at_most_so_many_are_claimed_and_the_next_when_one_is_given_back(queue: Queue) -> None:
    needs = Needs(limits={"api": 2})
    specs = [put_needy(queue, needs) for _ in range(4)]
    first, second = take(queue), take(queue)
    assert first
    assert second
    assert [first.ticket.id, second.ticket.id] == [spec.id for spec in specs[:2]]
    assert take(queue) is None
    assert tokens.look(queue, needs) == NEVER
    first.release()
    third = take(queue)
    assert third
    assert third.ticket.id == specs[2].id
    assert tokens.look(queue, Needs(limits={"api": 3})) == NOW, "a larger limit of the same key has a third token"


def test_one_line_that_lacks_a_token_does_not_hold_up_another(queue: Queue) -> None:
    early, late = put_needy(queue, Needs(limits={"a": 1})), put_needy(queue, Needs(limits={"a": 1}))
    other = put_needy(queue, Needs(limits={"b": 1}))
    assert [taken.ticket.id for taken in (take(queue), take(queue)) if taken] == [early.id, other.id]
    assert late.id not in os.listdir(queue.layout.running_folder("s-1"))


def test_a_fresh_one_is_for_a_fresh_slot(queue: Queue) -> None:
    put_needy(queue, Needs(fresh=True, limits={"a": 1}))
    assert take(queue) is None
    assert take(queue, fresh=True)


def test_a_claim_that_fails_gives_all_back(queue: Queue) -> None:
    needs = Needs(limits={"a": 1}, rates={"a": (1, 60.0)}, resources={"gpu": (2, 2)})
    assert tokens.try_take(queue, needs, lambda: None) is None
    assert tokens.look(queue, needs) == NOW


def test_what_lacks_one_of_two_holds_none(queue: Queue, host: HostLayout) -> None:
    other = Lease(host.resource("gpu", 1))
    assert other.try_take()
    needs = Needs(limits={"a": 1}, resources={"gpu": (1, 1)})
    put_needy(queue, needs)
    assert take(queue) is None
    assert tokens.look(queue, Needs(limits={"a": 1})) == NOW
    other.release()
    assert take(queue)


def test_two_that_want_the_same_two_never_block_each_other(queue: Queue) -> None:
    """Many at once, each wanting both: one has both, none has one."""
    needs = Needs(limits={"a": 1, "b": 1})
    for _ in range(8):
        put_needy(queue, needs)

    def race(number: int) -> bool:
        for _ in range(20):
            if taken := take(queue, slot=f"s-{number}"):
                gate.tell(f"has{number}")
                gate.pass_through()
                taken.release()
                return True
        return False

    with Gate() as gate:
        children = [Child(race, number) for number in range(4)]
        (winner,) = gate.hear(1)
        losers = [child.result() for number, child in enumerate(children) if f"has{number}" != winner]
    assert losers == [False] * 3
    assert children[int(winner[3:])].result()


def test_a_gate_that_is_held_by_a_stopped_process_blocks_for_a_second_only(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_PATIENCE", 0.02)
    gate = Lease(queue.layout.gate())
    assert gate.try_take()
    put_needy(queue, Needs(limits={"a": 1}))
    assert take(queue) is None
    gate.release()
    assert take(queue)


# Who has it.


def test_the_dead_hold_nothing_whatever_is_written(queue: Queue) -> None:
    put_needy(queue, Needs(limits={"a": 1}))
    put_needy(queue, Needs(limits={"a": 1}))

    def claim_and_wait() -> None:
        assert take(queue)
        gate.tell("taken")
        gate.pass_through()

    with Gate() as gate:
        child = Child(claim_and_wait)
        gate.hear()
        holder = holders.read(queue.layout.limit("a", 1))
        assert holder
        assert holder.process.pid == child.pid
        assert holder.is_at_it
        assert take(queue) is None
        child.kill()
        assert shortage.blocking(queue, Needs(limits={"a": 1})) == []
        assert take(queue, slot="s-2")


def test_a_task_that_closes_all_descriptors_holds_its_token_all_the_same(queue: Queue) -> None:
    put_needy(queue, Needs(limits={"a": 1}))
    taken = take(queue)
    assert taken
    taken._held[0][1].release()  # what closing the descriptor does
    put_needy(queue, Needs(limits={"a": 1}))
    assert take(queue) is None
    queue.disk.move(f"{queue.layout.running_folder('s-1')}/{taken.ticket}", f"{queue.root}/gone")
    assert take(queue), "until its delivery is over"


def test_it_says_for_whom_a_task_waits(queue: Queue, host: HostLayout) -> None:
    needs = Needs(resources={"licence": (1, 2)})
    specs = [put_needy(queue, needs) for _ in range(4)]
    assert take(queue)
    assert take(queue)
    short = [spec.short for spec in specs]
    expected = f"for licence: 2 of 2 in use by {short[0]} (train, 00:00) and {short[1]} (train, 00:00)"
    assert queue.record(specs[2].id).reason.partition(";")[0] == expected
    assert queue.record(specs[3].id).reason.partition(";")[0] == f"2nd in line, {expected}"
    big = put_needy(queue, Needs(resources={"licence": (2, 2)}))
    assert queue.record(big.id).reason.startswith("for licence: 2 wanted, 2 of 2 in use by ")


def test_a_token_file_with_anything_in_it_is_a_token(queue: Queue) -> None:
    for content in (b"", b"{", b"\0" * 100, b'{"what": 3}'):
        path = queue.layout.limit("a", 1)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).write_bytes(content)
        assert tokens.look(queue, Needs(limits={"a": 1})) == NOW
        assert shortage.of_needs(queue, Needs(limits={"a": 1}).code, Needs(limits={"a": 1}).fields) == ""


@pytest.mark.parametrize("lost", [True, False])
def test_needs_that_are_lost_or_damaged_are_read_from_the_task(queue: Queue, lost: bool) -> None:
    needs = Needs(limits={"a": 1})
    put_needy(queue, needs)
    put_needy(queue, needs)
    path = Path(queue.layout.need(needs.code))
    path.unlink() if lost else path.write_bytes(Needs(limits={"a": 9}).content)
    assert take(queue)
    assert take(queue) is None


def test_needs_of_a_newer_version_are_left_alone_and_it_says_so(queue: Queue) -> None:
    spec = put(queue, need="x0123456789abcdef", needs={"phase": "of the moon"})
    assert take(queue) is None
    assert "only a newer worker takes it" in queue.record(spec.id).reason


def test_a_call_that_cannot_be_read_needs_nothing_so_that_it_ends(queue: Queue) -> None:
    needs = Needs(limits={"a": 1})
    spec = put_needy(queue, needs)
    Path(queue.layout.need(needs.code)).unlink()
    Path(queue.layout.call(spec.id)).write_bytes(b"rubbish\n")
    assert take(queue)


def test_a_host_folder_of_others_is_refused(host: HostLayout) -> None:
    tokens.host_layout()
    os.chmod(host.root, 0o777)
    with pytest.raises(QueueUnsafe, match="NBTASKS_HOST_DIR"):
        tokens.host_layout()


def test_the_folder_of_an_old_line_goes_when_it_is_empty(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    put_needy(queue, Needs(limits={"a": 1}))
    assert take(queue)
    monkeypatch.setattr("nbtasks.queue.claims._STALE", -1.0)
    monkeypatch.setattr(needy, "_STALE", -1.0)
    seen = Needy(queue, [PLACE])
    assert [seen.find_ready() for _ in range(3)] == [None] * 3
    assert os.listdir(queue.layout.queued) == []
    put_needy(queue, Needs(limits={"b": 1}))
    assert seen.find_ready()


# Rates.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock and the wall clock of `rates`."""
    now = [1000.0, 1.5e9]
    monkeypatch.setattr(rates.time, "monotonic", lambda: now[0])  # type: ignore[attr-defined]
    monkeypatch.setattr(rates.time, "time", lambda: now[1])  # type: ignore[attr-defined]
    return now


def test_a_rate_holds_in_every_window(queue: Queue, clock: list[float]) -> None:
    started: list[float] = []
    for step in range(600):
        clock[0] = 1000.0 + step * 0.37
        if rates.left(queue, "api", (5, 60.0)) == 0.0:
            rates.add(queue, "api", (5, 60.0), f"m{step}")
            started.append(clock[0])
    assert len(started) == 5 * math.ceil(600 * 0.37 / 60)
    assert all(later - earlier >= 60 for earlier, later in zip(started, started[5:], strict=False))


def test_it_says_when_the_next_may_start(queue: Queue, clock: list[float]) -> None:
    rates.add(queue, "api", (2, 60.0), "a")
    clock[0] += 10
    assert rates.left(queue, "api", (2, 60.0)) == 0.0
    rates.add(queue, "api", (2, 60.0), "b")
    assert rates.left(queue, "api", (2, 60.0)) == 50.0
    needs = Needs(rates={"api": (2, 60.0)})
    assert shortage.of_needs(queue, needs.code, needs.fields) == "for rate api (2/m): next in 50.0 s"
    assert rates.left(queue, "api", (3, 60.0)) == 0.0


def test_a_start_counts_from_the_moment_of_the_users_code(queue: Queue, clock: list[float]) -> None:
    rates.add(queue, "api", (1, 60.0), "a")
    clock[0] += 20  # what it imports took so long
    rates.add(queue, "api", (1, 60.0), "a")
    clock[0] += 50
    assert rates.left(queue, "api", (1, 60.0)) == 10.0
    rates.remove(queue, "api", "a")
    assert rates.left(queue, "api", (1, 60.0)) == 0.0


def test_setting_the_clock_gains_nothing_and_costs_nothing(queue: Queue, clock: list[float]) -> None:
    rates.add(queue, "api", (1, 60.0), "a")
    for jump in (3600.0, -7200.0):
        clock[1] += jump
        assert rates.left(queue, "api", (1, 60.0)) == 60.0


@pytest.mark.parametrize(("passed", "left"), [(20.0, 40.0), (90.0, 0.0), (-3600.0, 60.0)])
def test_starts_are_known_after_a_restart_of_the_machine(
    queue: Queue, clock: list[float], passed: float, left: float
) -> None:
    rates.add(queue, "api", (1, 60.0), "a")
    path = Path(queue.layout.rate("api"))
    known = msgspec.json.decode(path.read_bytes(), type=Starts)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(known, boot="before")))
    clock[0], clock[1] = 5.0, clock[1] + passed
    assert rates.left(queue, "api", (1, 60.0)) == pytest.approx(left)


def test_starts_that_cannot_be_read_are_none(queue: Queue) -> None:
    rates.add(queue, "api", (1, 60.0), "a")
    Path(queue.layout.rate("api")).write_bytes(b"\0\0")
    assert rates.left(queue, "api", (1, 60.0)) == 0.0


def test_who_dies_between_note_and_claim_has_started_nothing_and_it_counts(queue: Queue) -> None:
    needs = Needs(rates={"api": (1, 60.0)})
    put_needy(queue, needs)

    def die() -> None:
        os._exit(9)

    child = Child(tokens.try_take, queue, needs, die)
    assert child.wait() == 9
    assert 0 < tokens.look(queue, needs) <= 60.0


def test_holders_are_listed_oldest_first_and_three_of_many() -> None:
    me = processes.identify()
    found = [
        holders.Holder(what="a", name=f"n{age}", since=time.time() - age, process=me, id=f"20261120-220611-482913-id{age:02}")
        for age in (5, 70, 3700, 20)
    ]  # fmt: skip
    assert holders.listed(found) == "id3700 (n3700, 1:01:40), id70 (n70, 01:10), id20 (n20, 00:20) and 1 more"
    assert holders.listed(found[:1]) == "id05 (n5, 00:05)"
