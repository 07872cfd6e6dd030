"""The graph of a pipeline on a page: live, and then the same in the saved file, trusted or not."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOAD, Opener
from tests.browser.pages import gate

FLOW = f"""import time
def load(year, wait):
    time.sleep(0.2)
    if wait:
        {gate("go").replace(chr(10), chr(10) + "        ").strip()}
    return list(range(year, year + 40))
def clean(rows): return rows
def fit(row):
    if row == 2003: raise ValueError("could not convert 'n/a' in row 2003")
    return row
def compare(*fits): return len(fits)
with nbtasks.pipeline("nightly") as p:
    old = nbtasks.using(name="load 1990").submit(load, 1990, False)
    new = nbtasks.using(name="load 2000").submit(load, 2000, True)
    both = [nbtasks.submit(clean, one) for one in (old, new)]
    fits = nbtasks.map(fit, both[0])
    best = nbtasks.submit(compare, fits, both[1])
    report = nbtasks.using(name="write the report", after=[old]).submit(compare, best)
p"""


@pytest.mark.parametrize(
    ("on", "theme"), [pytest.param("lab", "light", marks=pytest.mark.torture), ("notebook", "dark")]
)
def test_a_graph_lives_and_stays(open_notebook: Opener, on: str, theme: str) -> None:
    page = open_notebook([LOAD, FLOW], on=on, theme=theme, width=1100, height=900)
    page.run(0)
    page.run(1)
    page.wait_text(1, "1 failed")
    page.wait_text(1, "running")
    page.shot("running", 1)
    page.open_gate("go")
    page.wait_text(1, "4 failed")
    page.output(1).locator("summary").first.click()
    page.shot("failed", 1)
    page.execute("p.cancel()")
    page.save()

    again = open_notebook(page.path, on=on, theme=theme, trusted=False, width=1100, height=900)
    expect(again.output(1)).to_contain_text("write the report")
    boxes = again.output(1).locator("div[title^='clean']").first
    frame, inner = again.output(1).locator("[role=group], div[style*='overflow']").first, boxes.bounding_box()
    outer = frame.bounding_box()
    assert inner is not None
    assert outer is not None
    assert inner["x"] > outer["x"] + 100, (
        "the boxes stand where they belong, though no style sheet and no SVG is let through"
    )
    assert again.output(1).locator("img").first.evaluate("one => one.naturalWidth") > 300
    again.shot("untrusted", 1)
