"""The card of a task, for every way in which it can stand."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from nbtasks.jupyter import render
from nbtasks.outcome import Failure, Variable
from nbtasks.status import Status
from tests.jupyter.page import Page
from tests.jupyter.samples import NOW, PYTHON_TRACEBACK, Sample, bar, ended, gallery, more, sample, state
from tests.jupyter.test_pictures import PNG, shown

BY_ID = {task.spec.short + task.status: task for task in [*gallery(), *more()]}


def card(task: render.Shown, **options: object) -> tuple[str, str]:
    """Text of the HTML with one line for each line of the source, and the plain text."""
    bundle = render.card(task, now=NOW, **options)  # type: ignore[arg-type]
    page = Page(bundle["text/html"])
    assert page.wrong == []
    return page.text.replace("\u2002", " "), bundle["text/plain"]


@pytest.mark.parametrize(
    ("short", "lines"),
    [
        ("m3x9queued", ["◷ fit forest m3x9 queued 3rd in line"]),
        ("b7eequeued", ["◷ load sales b7ee queued no worker: starting one"]),
        ("b8eequeued", ["◷ load sales b8ee queued next in line", "no worker: starting one"]),
        (
            "f3rtwaiting",
            [
                "◷ fetch rates f3rt waiting attempt 2 of 3 in 12 s",
                "attempt 1 failed after 4 s: ConnectionError: the server closed the connection",
            ],
        ),
        (
            "b1gtrunning",
            [
                "● big table b1gt running 11:40 · 4 GB",
                "the disk is full: needs 4.2 GB, 1.1 GB free; it tries again until there is room",
            ],
        ),
        ("q8ddwaiting", ["◷ train_b q8dd waiting for clean_prices p2vh (running)"]),
        (
            "k7q2running",
            [
                "● train_model k7q2 running 2:11 · attempt 1 of 3 · 3.6 cores · 1.2 GB",
                "warming up the cache",
                "epoch 35% · 7/20 · 18.4 s/it · 3:59 left",
                "batch 62% · 248/400 · loss=0.31",
                "epoch 11: loss 0.082  val 0.091",
                "as of 2026-11-20 12:06; %task k7q2 shows now",
            ],
        ),
        (
            "k7q2succeeded",
            [
                "✓ train_model k7q2 succeeded in 6:20 · peak 1.2 GB · 2026-11-20 12:06",
                "value 0.9731",
                "brought back model (changed in place), history DataFrame 20 × 4",
                "kept in task.vars: X_train ndarray (60000, 784) float64, 2.1 GB",
                "left out conn because sqlite3.Connection cannot be pickled",
                "accuracy 0.9731 on 10,000 digits",
                'nbtasks.get("k7q2") finds it from any kernel',
            ],
        ),
        (
            "s0resucceeded",
            ["returned DataFrame 1200 × 8", "output, 40 lines", 'nbtasks.get("s0re").result() finds it from any kernel'],
        ),
        (
            "p2vhfailed",
            [
                "✕ clean_prices p2vh failed after 4.2 s · 2026-11-20 12:06",
                "ValueError: could not convert string to float: 'n/a'",
                "files 10% · 3/31 file",
                'cell [12], line 3 · 2 frames of pandas folded: nbtasks.get("p2vh").traceback',
                "----> 3 prices = frame[\"price\"].astype(float)",
                "kept in task.vars: frame DataFrame 1200 × 8",
                "%task p2vh retry runs it again; %task p2vh here in this kernel, for %debug",
            ],
        ),
        (
            "z0kafailed",
            [
                "✕ simulate z0ka failed killed after 1 h 12 · 2026-11-20 12:06",
                "killed by signal 9 (SIGKILL), out of memory, peak memory 15.8 GB",
                "step 42% · 42,000/100,000",
                "step 42000: energy -1.2029e4",
            ],
        ),
        ("n1t3failed", ["✕ nightly n1t3 failed lost after 2 h 35 · 2026-11-20 12:06", "the host restarted at 03:12"]),
        (
            "r3ppfailed",
            ["report r3pp failed did not start", "clean_prices p2vh failed", "when the task that it needs is retried"],
        ),
        ("cr4wfailed", ["crawl cr4w failed timed out after 1 h", "over its limit of 1 h"]),
        (
            "d4nncancelled",
            ["■ grid search d4nn cancelled after 12:40, with what it had", "brought back best_so_far dict, 4 items"],
        ),
        ("e8ptcancelled", ["■ export e8pt cancelled before it started"]),
    ],
)  # fmt: skip
def test_every_status_says_what_is_so_and_what_one_can_do(short: str, lines: list[str]) -> None:
    html, text = card(BY_ID[short])
    at = 0
    for line in lines:
        assert line in html[at:], f"{line!r} is not on the card, or not in this order:\n{html}"
        at = html.index(line, at)
    assert lines[0].split(" ")[1] in text


def test_plain_text_for_terminals() -> None:
    _, text = card(BY_ID["k7q2running"])
    assert text.split("\n")[:4] == [
        "(o) train_model  k7q2  running  2:11  attempt 1 of 3  3.6 cores  1.2 GB",
        "    warming up the cache",
        "    epoch 7/20  |########----------------|   35%  18.4 s/it  3:59 left",
        "    batch 248/400  |###############---------|   62%  loss=0.31",
    ]
    assert text.split("\n")[-2:] == [
        "    | epoch 11: loss 0.082  val 0.091",
        "    as of 2026-11-20 12:06; %task k7q2 shows now",
    ]
    assert card(BY_ID["z0kafailed"])[1].startswith("(!) simulate  z0ka  failed  killed after 1 h 12")
    assert card(BY_ID["p2vhfailed"])[1].startswith("(x) clean_prices")


def test_progress_at_the_failure_stays_and_is_gone_after_a_success() -> None:
    bars = state(bar("epoch", 7, 20))
    failed = ended("t", Status.FAILED, failure=Failure(type="ValueError"), progress=bars)
    assert "35% · 7/20" in card(failed)[0]
    assert "7/20" not in card(ended("t", Status.SUCCEEDED, progress=bars))[0]


def test_a_short_traceback_is_open_and_a_long_one_closed() -> None:
    def html(traceback: str) -> str:
        failure = Failure(type="E", message="x", traceback=traceback, where="helper.py, line 40")
        return render.card(ended("t", Status.FAILED, failure=failure), now=NOW)["text/html"]

    assert " open>" in html(PYTHON_TRACEBACK)
    assert " open>" not in html("\n".join(["line"] * 60))
    assert html("").count("<details") == 0


def test_colours_of_a_traceback_are_plain_values() -> None:
    html = render.card(BY_ID["p2vhfailed"], now=NOW)["text/html"]
    assert '<span style="color:#2f8336">----&gt; 3</span>' in html


def test_images_are_on_the_card_and_named_in_text() -> None:
    output = shown({"image/png": PNG, "text/plain": "<Figure size 640x480 with 1 Axes>"})
    bundle = render.card(BY_ID["k7q2succeeded"], now=NOW, outputs=[output])
    assert f'<img alt="Figure size 640x480 with 1 Axes" src="data:image/png;base64,{PNG}"' in bundle["text/html"]
    assert "    [Figure size 640x480 with 1 Axes]\n" in bundle["text/plain"]


def test_images_that_are_too_many_are_somewhere_else() -> None:
    html, text = card(BY_ID["k7q2succeeded"], outputs=[shown({"image/png": PNG})] * 22)
    for said in (html, text):
        assert '2 more images in nbtasks.get("k7q2").outputs' in said


def test_the_value_of_a_cell_is_not_shown_twice() -> None:
    output = shown({"text/plain": "   a  b\n0  1  2"}, kind="execute_result")
    html, text = card(BY_ID["k7q2succeeded"], outputs=[output])
    assert "value 0.9731" not in html
    assert "   a  b\n0  1  2" in html
    assert "    |    a  b\n    | 0  1  2\n" in text


def test_none_is_a_result_like_any_other() -> None:
    assert "returned None" in card(ended("t", Status.SUCCEEDED, has_value=True, preview="None"))[0]


def test_what_the_notebook_has_to_say() -> None:
    html, text = card(
        BY_ID["k7q2succeeded"], kept={"model": "model was changed here"}, notes=["best still holds the old model"],
        ref="-k7q2",
    )  # fmt: skip
    for said in (html, text):
        assert "kept in task.vars: model (changed in place; model was changed here), X_train" in said
        assert "best still holds the old model" in said
        assert 'nbtasks.get("-k7q2")' in said


def test_a_cancelled_task_that_returned_brings_back_what_it_had() -> None:
    task = ended("t", Status.CANCELLED, spec_kind="cell", variables=(Variable(name="best", preview="dict, 4 items"),))
    assert "brought back best dict, 4 items" in card(task)[0]


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
def test_an_end_without_an_outcome_is_shown(status: Status) -> None:
    html, text = card(sample("t", status, reason="its call file was cut short"))
    assert "its call file was cut short" in html
    assert "its call file was cut short" in text


def test_every_outcome_may_be_bare() -> None:
    for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED):
        for started in (0.0, NOW - 3):
            card(ended("t", status, started=started))


def test_a_card_is_fit_for_git() -> None:
    for task in gallery():
        outcome = task.outcome and replace_outcome(task)
        private = replace(task, outcome=outcome, spec=_with_place(task))
        bundle = render.card(private, now=NOW)
        for said in bundle.values():
            assert not re.search(r"secrethost|anna|/home|4711|slot-9", said)
        # No buttons, no scripts, nothing that lives in a style sheet.
        assert not re.search(r"<(button|script|style|svg|form|input|a)\b", bundle["text/html"])


def replace_outcome(task: Sample) -> object:
    import msgspec

    assert task.outcome is not None
    return msgspec.structs.replace(task.outcome, host="secrethost", pid=4711, slot="slot-9")


def _with_place(task: Sample) -> object:
    import msgspec

    return msgspec.structs.replace(
        task.spec, host="secrethost", pid=4711, notebook="/home/anna/train.ipynb", summary="load('/home/anna')"
    )


def test_running_again_changes_few_lines_of_the_notebook() -> None:
    first = ended(
        "score", Status.SUCCEEDED, "s0re", took=0.35, has_value=True, preview="DataFrame 1200 × 8", log="done\n"
    )
    again = ended(
        "score", Status.SUCCEEDED, "a1b2", took=0.41, has_value=True, preview="DataFrame 1200 × 8", log="done\n"
    )
    old = render.card(first, now=NOW)["text/html"].split("\n")
    new = render.card(again, now=NOW + 86_400)["text/html"].split("\n")
    assert len(old) == len(new)
    assert sum(a != b for a, b in zip(old, new, strict=True)) == 2  # the first line, and how to get it


def test_what_carries_meaning_survives_an_untrusted_viewer() -> None:
    # JupyterLab drops from an untrusted output each declaration with var() in it.
    for task in gallery():
        html = render.card(task, now=NOW)["text/html"]
        for declaration in re.findall(r"[a-z-]+:[^;\"]*var\([^;\"]*", html):
            assert declaration.startswith(("font-family:", "color:var(--jp-ui-font-color1"))
        assert "border-left:4px solid #" in html


def test_a_bar_can_be_read_without_any_style() -> None:
    html, _ = card(BY_ID["k7q2running"])
    assert "epoch 35% · 7/20" in html
    assert "●" in html
    assert "running" in html


def test_a_long_output_says_that_it_is_the_end() -> None:
    task = ended("t", Status.SUCCEEDED, log="".join(f"line {n}\n" for n in range(1000)))
    assert "output, the last 200 lines" in card(task)[0]


def test_the_log_of_a_running_task_shows_its_end() -> None:
    log = "".join(f"line {n}\n" for n in range(1000)) + "\rlast\rLAST"
    html, _ = card(sample("t", Status.RUNNING, started=NOW, log=log))
    assert "LAST" in html
    assert "line 999" in html
    assert "line 900" not in html


def test_now_is_the_present_when_it_is_not_given() -> None:
    assert "as of 20" in render.card(BY_ID["m3x9queued"])["text/plain"]
