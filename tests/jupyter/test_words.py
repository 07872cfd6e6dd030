"""Durations, sizes and sentences."""

from __future__ import annotations

import pytest

from nbtasks.jupyter import words
from nbtasks.jupyter.shown import Line
from nbtasks.outcome import Failure, Variable
from nbtasks.status import Status
from tests.jupyter.samples import NOW, VARIABLES, ended, sample


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (0.08, "80 ms"), (0.0996, "0.1 s"), (0.35, "0.35 s"), (4, "4 s"), (4.2, "4.2 s"), (9.96, "0:09"),
        (42, "0:42"), (59.99, "0:59"), (380, "6:20"), (3599, "59:59"), (3600, "1 h"), (4320, "1 h 12"), (4020, "1 h 07"),
        (86400, "1 d"), (3 * 86400 + 4 * 3600, "3 d 4 h"), (-5, "0 ms"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


def test_a_running_clock_has_whole_seconds() -> None:
    assert [words.clock(s) for s in (0.4, 4.9, 131, 4320, -3, 1e300)] == [
        "0:00", "0:04", "2:11", "1 h 12", "0:00", "11,574,074 d 1 h",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1 kB"),
        (839_680, "820 kB"),
        (2_254_857_830, "2.1 GB"),
        (2**60, "1,048,576 TB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert words.size(count) == text


def test_lists_and_numbers() -> None:
    assert words.listed([]) == ""
    assert words.listed(["a"]) == "a"
    assert words.listed("abc") == "a, b and c"
    assert [words.number(n) for n in (7, 42_000, 0.25, 9999)] == ["7", "42,000", "0.25", "9999"]
    assert words.plural(1, "line") == "1 line"
    assert words.plural(1200, "line") == "1,200 lines"


def said(lines: list[Line]) -> list[str]:
    return ["".join(piece.text for piece in line) for line in lines]


def test_what_came_back_was_kept_and_left_out() -> None:
    task = ended("train", Status.SUCCEEDED, spec_kind="cell", variables=VARIABLES)
    assert said(words.variables(task, {})) == [
        "brought back model (changed in place), history DataFrame 20 × 4",
        "kept in task.vars: X_train ndarray (60000, 784) float64, 2.1 GB",
        "left out conn because sqlite3.Connection cannot be pickled",
    ]


def test_a_name_that_the_notebook_did_not_bind_says_why() -> None:
    task = ended("train", Status.SUCCEEDED, spec_kind="cell", variables=VARIABLES[:2])
    assert said(words.variables(task, {"model": "model was changed here meanwhile"})) == [
        "brought back history DataFrame 20 × 4",
        "kept in task.vars: model (changed in place; model was changed here meanwhile)",
    ]


def test_after_a_failure_nothing_is_brought_back() -> None:
    task = ended("train", Status.FAILED, variables=VARIABLES[1:2], failure=Failure(type="ValueError"))
    assert said(words.variables(task, {})) == ["kept in task.vars: history DataFrame 20 × 4"]


def test_many_names_are_counted() -> None:
    task = ended("wide", Status.SUCCEEDED, variables=tuple(Variable(name=f"v{n}") for n in range(30)))
    assert said(words.variables(task, {}))[0].endswith("v10, v11 and 18 more")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"kind": "killed", "reason": "killed, signal 9, out of memory, peak 7.8 GB", "signal": 9, "peak_memory": 8 << 30},
         "signal 9, out of memory, peak 7.8 GB"),
        ({"kind": "killed", "reason": "killed", "signal": 11}, "killed by signal 11 (SIGSEGV)"),
        ({"kind": "killed", "reason": "killed: exit code 3", "exit_code": 3}, "exit code 3"),
        ({"kind": "killed", "exit_code": 3, "peak_memory": 2 << 30}, "exit code 3, peak memory 2 GB"),
        ({"kind": "killed", "signal": 999}, "killed by signal 999"),
        ({"kind": "lost", "reason": "lost, the host restarted at 03:12"}, "the host restarted at 03:12"),
        ({"kind": "upstream", "reason": "clean_prices p2vh failed"}, "clean_prices p2vh failed"),
        ({"kind": "damaged", "reason": "its call was cut short"}, "its call was cut short"),
    ],
)  # fmt: skip
def test_why_a_task_died(fields: dict[str, object], sentence: str) -> None:
    outcome = ended("simulate", Status.FAILED, **fields).outcome
    assert outcome is not None
    assert said([words.death(outcome)]) == [sentence]


def test_out_of_memory_stands_out() -> None:
    outcome = ended("s", Status.FAILED, kind="killed", reason="killed, out of memory", signal=9).outcome
    assert outcome is not None
    assert [piece.text for piece in words.death(outcome) if piece.look == "strong"] == ["out of memory"]


@pytest.mark.parametrize(
    ("status", "fields", "facts"),
    [
        (Status.SUCCEEDED, {}, ["in 6:20"]),
        (Status.SUCCEEDED, {"reason": "cached"}, ["in 6:20", "cached"]),
        (Status.SUCCEEDED, {"peak_memory": 3 << 30}, ["in 6:20", "peak 3 GB"]),
        (Status.FAILED, {"failure": Failure(type="ValueError")}, ["after 6:20"]),
        (Status.FAILED, {"kind": "killed", "peak_memory": 3 << 30}, ["killed after 6:20"]),
        (Status.FAILED, {"kind": "timed out"}, ["timed out after 6:20"]),
        (Status.FAILED, {"kind": "upstream", "started": 0.0}, ["did not start"]),
        (Status.FAILED, {"spec_retries": 2, "attempt": 3}, ["after 6:20", "attempt 3 of 3"]),
        (Status.CANCELLED, {}, ["after 6:20"]),
        (Status.CANCELLED, {"has_value": True}, ["after 6:20, with what it had"]),
    ],
)
def test_the_first_line_of_what_has_ended(status: Status, fields: dict[str, object], facts: list[str]) -> None:
    assert list(words.facts(ended("t", status, **fields), NOW)) == [*facts, "2026-11-20 12:06"]


@pytest.mark.parametrize(
    ("status", "fields", "facts"),
    [
        (Status.QUEUED, {"reason": "3rd in line"}, ["3rd in line"]),
        (Status.QUEUED, {"reason": "queued: no worker, starting one"}, ["no worker, starting one"]),
        (Status.WAITING, {"reason": "waiting for k7q2"}, ["for k7q2"]),
        (Status.WAITING, {"reason": "waitings"}, ["waitings"]),
        (Status.QUEUED, {}, []),
        (Status.RUNNING, {"started": NOW - 131}, ["2:11"]),
        (
            Status.RUNNING,
            {"started": NOW - 131, "spec_retries": 2, "reason": "attempt 1 of 3"},
            ["2:11", "attempt 1 of 3"],
        ),
        (Status.RUNNING, {"started": NOW + 60}, ["0:00"]),
        (Status.CANCELLED, {"reason": "before it started"}, ["before it started"]),
    ],
)
def test_the_first_line_of_what_lives(status: Status, fields: dict[str, object], facts: list[str]) -> None:
    assert list(words.facts(sample("t", status, **fields), NOW)) == facts
