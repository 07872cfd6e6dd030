"""What a card says about a value: short, telling, and never an error."""

from __future__ import annotations

import datetime

import numpy
import pandas
import pytest

from nbtasks.previews import preview, size_of


class Plain:
    pass


class Broken:
    def __len__(self):
        raise RuntimeError("no")

    @property
    def shape(self):
        raise RuntimeError("no")

    def __repr__(self):
        raise RuntimeError("no")


class BrokenDict(dict):
    def __len__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (3, "3"),
        (3.14, "3.14"),
        (numpy.float64(0.5), "0.5"),
        ("text", "'text'"),
        ("x" * 100, "'" + "x" * 30 + "…', 100 characters"),
        (b"\0" * 2000, repr(b"\0" * 30)[:-1] + "…', 2,000 bytes"),
        ([1, 2, 3], "list, 3 items"),
        ((1,), "tuple, 1 item"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "dict, 4 items"),
        (set(range(2000)), "set, 2,000 items"),
        (numpy.zeros((1200, 8)), "ndarray (1200, 8) float64"),
        (numpy.zeros(3, dtype="int8"), "ndarray (3,) int8"),
        (pandas.DataFrame({c: range(20) for c in "abcd"}), "DataFrame 20 × 4"),
        (pandas.Series([1, 2], name="n"), "Series 'n' 2 int64"),
        (len, "function len"),
        (Plain, "class Plain"),
        (Plain(), "Plain"),
        (Broken(), "Broken"),
        (BrokenDict(), "BrokenDict"),
        (datetime.date(2026, 11, 20), "datetime.date(2026, 11, 20)"),
        (1 << 5000, "int of 5001 bits"),
    ],
)
def test_kind_and_shape(value, text):
    assert preview(value) == text


def test_is_one_bounded_line():
    for value in ["a\nb" * 50, list(range(10**6)), dict.fromkeys(range(1000), "x" * 99), 10**59]:
        assert len(preview(value)) <= 100
        assert "\n" not in preview(value)


def test_size_counts_what_containers_hold():
    array = numpy.zeros(125_000)
    assert size_of(array) == 1_000_000
    assert size_of({"a": array, "b": [array]}) == pytest.approx(1_000_000, rel=0.01), "the same array is one array"
    assert size_of(pandas.DataFrame({"a": array})) == pytest.approx(1_000_000, rel=0.01)
    holder = Plain()
    holder.weights = array
    assert size_of(holder) == pytest.approx(1_000_000, rel=0.01)


def test_size_of_the_large_is_a_sample():
    assert size_of(["x" * 951 for _ in range(50_000)]) == pytest.approx(50_000_000, rel=0.1)


def test_size_of_the_broken_and_the_cyclic():
    loop: list[object] = []
    loop.append(loop)
    assert size_of(loop) > 0
    assert size_of(Broken()) > 0
    assert size_of(BrokenDict()) >= 0
