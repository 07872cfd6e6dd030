"""Many tasks in one table."""

from __future__ import annotations

from nbtasks.jupyter import render
from nbtasks.status import Status
from tests.jupyter.page import Page
from tests.jupyter.samples import NOW, ended, gallery, sample


def test_a_table_says_one_thing_of_each_task() -> None:
    text = render.table(gallery(), now=NOW, notes=["queue 1.2 GB"])["text/plain"].split("\n")
    assert text[0].split() == ["id", "task", "status", "time", "submitted"]
    assert text[1].split("  ")[0] == "(.) m3x9"
    said = {line[4:8]: line for line in text[1:-2]}
    assert "3rd in line" in said["m3x9"]
    assert "no worker: starting one" in said["b7ee"]
    assert "killed, out of memory" in said["z0ka"]
    assert "ValueError: could not convert string to float: 'n/a'" in said["p2vh"]
    assert "DataFrame 1200 × 8" in said["s0re"]
    assert any("epoch 7/20 · 35% · 3:59 left" in line for line in text)
    assert text[-2:] == ["1 waiting, 2 queued, 1 running, 2 succeeded, 5 failed, 2 cancelled", "queue 1.2 GB"]


def test_columns_are_aligned_also_with_wide_characters() -> None:
    tasks = [
        sample("訓練", Status.QUEUED, "aaaa"),
        sample("train", Status.QUEUED, "bbbb"),
        sample("e\u0301t", Status.QUEUED),
    ]
    lines = render.table(tasks, now=NOW)["text/plain"].split("\n")
    assert lines[1] == "(.) aaaa  訓練   queued        11:57"
    assert lines[2] == "(.) bbbb  train  queued        11:57"
    assert lines[3] == "(.) k7q2  e\u0301t     queued        11:57"


def test_html_has_the_same() -> None:
    page = Page(render.table(gallery(), now=NOW, notes=["queue 1.2 GB"])["text/html"])
    assert page.wrong == []
    assert page.tags.count("tr") == 14
    for said in (
        "m3x9\u2002fit forest",
        "● running2:11",
        "✓ succeeded6:20",
        "killed, out of memory",
        "queue 1.2 GB",
        "11:57",
    ):
        assert said in page.text


def test_no_tasks() -> None:
    bundle = render.table([], now=NOW)
    assert bundle["text/plain"] == "no tasks"
    assert "no tasks" in bundle["text/html"]
    assert "<table" not in bundle["text/html"]


def test_a_long_table_is_cut_and_says_so() -> None:
    tasks = (sample("t", Status.QUEUED) for _ in range(1000))
    bundle = render.table(tasks, now=NOW, limit=20)
    assert bundle["text/html"].count("<tr>") == 21
    assert "20 queued among the first 20; there are more" in bundle["text/plain"]


def test_counts_are_of_all_and_it_says_how_to_see_the_rest() -> None:
    tasks = (sample("t", Status.QUEUED) for _ in range(1000))
    counts = {Status.QUEUED: 1000, Status.SUCCEEDED: 9240}
    bundle = render.table(tasks, now=NOW, limit=20, counts=counts, total=10_240, more="%tasks -a shows all")
    assert bundle["text/plain"].split("\n")[-2:] == [
        "1,000 queued, 9,240 succeeded",
        "the first 20 of 10,240; %tasks -a shows all",
    ]
    assert "the first 20 of 10,240; %tasks -a shows all" in Page(bundle["text/html"]).text


def test_times_stand_right() -> None:
    tasks = [ended("a", Status.SUCCEEDED, "aaaa", took=4320), ended("b", Status.SUCCEEDED, "bbbb", took=0.35)]
    lines = render.table(tasks, now=NOW)["text/plain"].split("\n")
    assert lines[1].index("1 h 12") + len("1 h 12") == lines[2].index("0.35 s") + len("0.35 s")


def test_who_a_task_waits_for_is_said() -> None:
    line = render.table(gallery(), now=NOW)["text/plain"].split("\n")[3]
    assert line.endswith("for clean_prices p2vh (running)")


def test_names_that_came_back_stand_for_a_value() -> None:
    from nbtasks.outcome import Variable

    task = ended("t", Status.SUCCEEDED, variables=(Variable(name="model"), Variable(name="x", left_out="no")))
    line = render.table([task], now=NOW)["text/plain"].split("\n")[1]
    assert line.endswith("model")


def test_a_task_of_another_day_has_its_date() -> None:
    assert "2026-11-20" in render.table([sample("t", Status.QUEUED)], now=NOW + 86_400)["text/plain"]
