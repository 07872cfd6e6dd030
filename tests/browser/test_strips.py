"""The live strip in a real JupyterLab and Notebook: it lives, answers, survives, and leaves nothing behind."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import WebSocket, expect

from tests.browser.conftest import LOAD, Opener
from tests.browser.pages import NotebookPage

WIDGET = "application/vnd.jupyter.widget-view+json"
WINDOW = 3.0  # seconds over which a flood is measured

TRAIN = """%%background -n train_model
import os, time
import matplotlib.pyplot as plt
from tqdm.auto import tqdm
plt.figure(figsize=(4, 1.6)); plt.plot([1, 4, 2]); plt.show()
for epoch in tqdm(range(1000), desc="epoch"):
    for batch in tqdm(range(5), desc="batch", leave=False):
        time.sleep(0.05)
    print("epoch", epoch, "loss", round(1 / (epoch + 1), 3))
    if os.path.exists("gate"):
        break
"""


def start(page: NotebookPage, cell: int = 1) -> None:
    """Load the extension, run the background cell, and wait for its bars."""
    page.run(0)
    page.run(cell)
    page.wait_text(cell, "batch")


def let_it_end(page: NotebookPage) -> None:
    (page.path.parent / "gate").touch()


def parts(page: NotebookPage, cell: int = 1) -> list[str]:
    """The parts of ours that the saved file has in a cell's outputs, without those that are empty."""
    saved = page.save()
    return [one.metadata["nbtasks"]["part"] for one in saved["cells"][cell].outputs if one.get("data")]


@pytest.mark.parametrize(
    ("on", "theme"), [pytest.param("lab", "light", marks=pytest.mark.torture), ("notebook", "dark")]
)
def test_a_strip_lives_with_its_task_and_leaves_no_widget(open_notebook: Opener, on: str, theme: str) -> None:
    page = open_notebook([LOAD, TRAIN], on=on, theme=theme)
    start(page)
    page.wait_text(1, re.compile(r"as of 20\d\d-.* shows now.*batch", re.DOTALL))
    assert page.output(1).locator("img").count() == 1, "the picture is there while the task runs"
    for word in ("Cancel", "Log", "Notify me", "Copy id"):
        title = page.button(word, 1).get_attribute("title") or ""
        assert "(train_model)" in title, "a screen reader says which task a button is for"
    page.shot("running", 1)
    let_it_end(page)
    page.wait_text(1, "succeeded")
    expect(page.output(1).locator("button")).to_have_count(0)
    page.shot("ended", 1)
    assert parts(page) == ["card"]
    assert WIDGET not in page.path.read_text()
    assert not [line for line in page.messages if "widget" in line and line.startswith(("error", "exception"))]


def test_cancel_while_the_kernel_is_busy_leaves_its_figure_alone(open_notebook: Opener) -> None:
    busy = """import time, os, matplotlib.pyplot as plt
plt.figure(figsize=(3, 1)); plt.plot([1, 2])
print("drawing")
while not os.path.exists("go on"): time.sleep(0.05)
plt.plot([2, 1]); print(len(plt.gca().lines), "lines")"""
    page = open_notebook([LOAD, TRAIN, busy])
    start(page)
    page.start(2)
    page.wait_text(2, "drawing")
    pressed = time.monotonic()
    page.press("Cancel", 1)
    page.wait_text(1, "cancelled")
    page.took("cancelled after", time.monotonic() - pressed, 2)
    assert page.output(2).locator("img").count() == 0, "the open figure is not drawn by a press of a button"
    (page.path.parent / "go on").touch()
    page.wait_prompt(2)
    page.wait_text(2, "2 lines")
    assert page.output(2).locator("img").count() == 1


def test_a_reloaded_page_has_its_strip_back(open_notebook: Opener) -> None:
    page = open_notebook([LOAD, TRAIN])
    start(page)
    assert parts(page) == ["card", "strip"]
    page.reload()
    connected = time.monotonic()
    page.button("Cancel", 1).wait_for()
    before = page.text(1)
    assert "as of 20" in before
    page.page.wait_for_function(
        "([text]) => document.querySelector('.jp-Notebook').textContent.indexOf(text) < 0", arg=[before]
    )
    page.took("live again after", time.monotonic() - connected, 3)
    page.shot("reloaded", 1)
    page.press("Cancel", 1)
    page.wait_text(1, "cancelled")
    page.shot("ended", 1)
    page.press("Retry", 1)
    page.wait_text(1, "batch")
    let_it_end(page)
    page.wait_text(1, "succeeded")
    assert parts(page) == ["card", "strip"], "the strip holds the final state: updates do not reach this page's card"


def test_a_restarted_kernel_has_the_strip_back(open_notebook: Opener) -> None:
    page = open_notebook([LOAD, TRAIN])
    start(page)
    page.save()
    page.restart_kernel()
    page.run(0)
    page.wait_text(0, "batch")
    page.shot("restarted")
    page.reload()
    page.wait_text(1, "batch")
    page.press("Cancel", 1)
    page.wait_text(1, "cancelled")
    page.wait_no_text(1, "model not found")
    page.restart_kernel()
    page.run(0)
    page.reload()
    page.wait_text(1, "cancelled")
    page.wait_no_text(1, "model not found")


def test_a_failure_can_be_debugged_from_its_strip(open_notebook: Opener) -> None:
    cell = "%%background -n parse\nimport os, time\nwhile not os.path.exists('gate'): time.sleep(0.05)\nint('x')"
    page = open_notebook([LOAD, cell], width=400, height=900)
    page.run(0)
    page.run(1)
    page.button("Cancel", 1).wait_for()
    page.save()
    page.reload()
    page.button("Cancel", 1).wait_for()
    for button in page.output(1).locator("button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 400, "buttons wrap where the page is narrow"
    page.shot("narrow")
    let_it_end(page)
    page.wait_text(1, "ValueError")
    page.press("Debug here", 1)
    line = page.wait_for(1, "input[type=text]")
    expect(line).to_have_value(re.compile(r"%task \w+ here"))
    page.shot("failed")
    assert page.page.evaluate("navigator.clipboard.readText()") == line.input_value()


def test_a_notification_comes_once_when_it_was_asked_for(open_notebook: Opener) -> None:
    page = open_notebook([LOAD, TRAIN])
    page.page.context.grant_permissions(["notifications"])
    page.page.evaluate(
        """() => { window.told = []; const real = window.Notification
        window.Notification = new Proxy(real, {construct(kind, args) { window.told.push(args[0]); return new kind(...args) }}) }"""
    )
    start(page)
    page.press("Notify me", 1)
    page.button("Notify: on", 1).wait_for()
    let_it_end(page)
    page.wait_text(1, "succeeded")
    page.page.wait_for_function("() => window.told.length")
    expect(page.output(1).locator("button")).to_have_count(0)
    assert page.page.evaluate("window.told") == ["train_model succeeded"]
    assert parts(page) == ["card"]


def test_a_flood_leaves_the_page_responsive(open_notebook: Opener) -> None:
    flood = "%%background -n flood\nimport os\nwhile not os.path.exists('gate'): print('x' * 60)"
    page = open_notebook([LOAD, flood])
    received: list[tuple[float, int]] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framereceived", lambda data: received.append((time.monotonic(), len(data))))

    page.page.on("websocket", listen)
    page.reload()  # so that its connection is heard
    page.run(0)
    page.run(1)
    page.wait_text(1, "xxx")
    page.page.wait_for_timeout(4000)  # what came at once is over
    begun = time.monotonic()
    waits = []
    while time.monotonic() - begun < WINDOW:
        waits.append(page.page.evaluate(
            """() => new Promise(done => { const begun = performance.now()
            setTimeout(() => requestAnimationFrame(() => done(performance.now() - begun)), 0) })"""
        ))  # fmt: skip
        page.page.wait_for_timeout(50)
    let_it_end(page)
    page.took("95 % of clicks answered within", sorted(waits)[int(len(waits) * 0.95)] / 1000, 0.1)
    assert sorted(waits)[len(waits) // 2] < 100
    rate = sum(size for moment, size in received if begun <= moment <= begun + WINDOW) / WINDOW
    assert 0 < rate < 50_000
    page.wait_text(1, "succeeded")
