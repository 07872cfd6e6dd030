"""Which short tasks travel together."""

from __future__ import annotations

import math

import pytest

from nbtasks.engines import batches
from nbtasks.engines.batches import Durations
from nbtasks.engines.foreign import Shipment
from nbtasks.errors import FrameError
from nbtasks.outcome import Outcome
from nbtasks.spec import Spec
from nbtasks.status import Status

SPEC = Spec(id="20261120-220611-482913-k7q2", name="step", need="f")


def ended(seconds: float, status: Status = Status.SUCCEEDED) -> Outcome:
    return Outcome(id=SPEC.id, delivery=1, status=status, started=0.0, ended=seconds)


def shipments(count: int, size: int = 100) -> list[Shipment]:
    return [Shipment(f"{number}.1", "default", 5, f"step {number}", bytes([number]) * size) for number in range(count)]


def keys(found: list[Shipment]) -> list[int]:
    return [len(one.keys) for one in found]


def test_what_was_seen_to_be_short_is_expected_to_be() -> None:
    durations = Durations()
    for _ in range(3):
        assert durations.expect(SPEC) == math.inf
        durations.note(SPEC, ended(0.005))
    assert durations.expect(SPEC) == 0.005
    durations.note(SPEC, ended(0.5))
    durations.note(SPEC, ended(0.005))
    assert durations.expect(SPEC) == 0.25
    durations.doubt(SPEC)
    assert durations.expect(SPEC) == math.inf


def test_a_failure_says_nothing_of_how_long_it_takes() -> None:
    durations = Durations()
    for _ in range(5):
        durations.note(SPEC, ended(0.005, Status.FAILED))
    assert durations.expect(SPEC) == math.inf


@pytest.mark.parametrize("facts", [{"kind": "cell"}, {"need": "c"}, {"at_most_once": True}, {"timeout": 5.0}], ids=str)
def test_what_has_to_be_looked_after_goes_alone(facts: dict[str, object]) -> None:
    durations = Durations()
    for _ in range(3):
        durations.note(SPEC, ended(0.005))
    assert durations.expect(Spec(**({"id": SPEC.id, "name": "step", "need": "f"} | facts))) == math.inf  # type: ignore[arg-type]


def test_a_batch_is_bounded_in_time_number_and_size() -> None:
    assert keys(batches.gather(shipments(12), lambda one: 0.012, 8)) == [6, 6]
    assert keys(batches.gather(shipments(12), lambda one: 0.001, 8)) == [8, 4]
    assert keys(batches.gather(shipments(4, 6000), lambda one: 0.001, 8)) == [2, 2]
    assert keys(batches.gather(shipments(3), lambda one: 0.05, 8)) == [1, 1, 1]


def test_what_is_long_or_of_another_priority_goes_alone_and_in_its_turn() -> None:
    first, second, third, *_, last = shipments(5)
    sent = [first, second, third._replace(priority=9), last]
    found = batches.gather(sent, lambda one: math.inf if one is last else 0.001, 8)
    assert [one.keys for one in found] == [("0.1", "1.1"), ("2.1",), ("4.1",)]


def test_all_bundles_come_out_again() -> None:
    (batch,) = batches.gather(shipments(3), lambda one: 0.001, 8)
    assert batches.split(batch.bundle) == [one.bundle for one in shipments(3)]
    assert batches.split(b"one alone") == [b"one alone"]
    with pytest.raises(FrameError, match="the batch"):
        batches.split(batch.bundle[:-7])
