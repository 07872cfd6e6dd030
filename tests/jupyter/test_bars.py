"""Progress bars on a card."""

from __future__ import annotations

from typing import Any

import pytest

from nbtasks.jupyter.bars import bars_of, message_of
from tests.jupyter.samples import bar, state


@pytest.mark.parametrize(
    ("one", "label", "fraction", "words"),
    [
        (bar("epoch", 7, 20, rate=1 / 18.4), "epoch", 0.35, ["7/20", "18.4 s/it", "3:59 left"]),
        (bar("batch", 248, 400, postfix="loss=0.31"), "batch", 0.62, ["248/400", "loss=0.31"]),
        (bar("", 1204, None, rate=52.1, elapsed=42), "", None, ["1204", "52.1 it/s", "0:42"]),
        (bar("get", 3 << 20, 12 << 20, rate=1 << 20, unit="B"), "get", 0.25, ["3 MB/12 MB", "1 MB/s", "0:09 left"]),
        (bar("files", 12_000, 48_000, rate=1500, unit="file"), "files", 0.25, ["12,000/48,000 file", "1,500 file/s", "0:24 left"]),
        (bar("over", 30, 20, rate=1), "over", 1.0, ["30/20", "1 it/s"]),
        (bar("done", 20, 20, rate=5, closed=True), "done", 1.0, ["20/20", "5 it/s"]),
        (bar("empty", 0, 0), "empty", None, ["0", "2:11"]),
    ],
)  # fmt: skip
def test_a_bar_in_words(one: dict[str, Any], label: str, fraction: float | None, words: list[str]) -> None:
    (found,) = bars_of(state(one))
    assert (found.label, found.fraction, [found.count, *found.notes]) == (label, fraction, words)


def test_open_bars_are_shown_outermost_first() -> None:
    labels = [b.label for b in bars_of(state(bar("run", 1, 3), bar("old", 9, 9, closed=True), bar("batch", 2, 9)))]
    assert labels == ["run", "batch"]


def test_when_all_are_closed_the_last_is_shown() -> None:
    assert [b.label for b in bars_of(state(bar("a", 9, 9, closed=True), bar("b", 9, 9, closed=True)))] == ["b"]


def test_an_ended_task_has_no_time_left() -> None:
    (found,) = bars_of(state(bar("epoch", 7, 20, rate=0.1)), live=False)
    assert found.notes == ()


def test_a_great_number_of_bars_is_cut() -> None:
    assert len(bars_of(state(*[bar(f"b{n}", n, 50) for n in range(50)]))) == 6


@pytest.mark.parametrize(
    "progress",
    [
        None, {}, {"bars": None}, {"bars": "x"}, {"bars": [None, 3, "x"]}, {"bars": {"a": 1}}, [], "text",
        {"bars": [{}]},
        {"bars": [{"n": "7", "total": [], "rate": {}, "unit": 5, "desc": None, "postfix": 3}]},
        {"bars": [{"n": float("nan"), "total": float("inf"), "rate": -1.0, "elapsed": 1e400}]},
        {"bars": [{"n": 10**400, "total": -5, "rate": 1e-320}]},
        {"bars": [{"n": True, "total": False}]},
        {"bars": [{"n": 1, "total": 1e-320, "rate": 5e-324}]},
    ],
)  # fmt: skip
def test_nonsense_from_a_task_does_no_harm(progress: Any) -> None:
    assert all(found.fraction is None or 0 <= found.fraction <= 1 for found in bars_of(progress))
    assert message_of(progress) == ""
