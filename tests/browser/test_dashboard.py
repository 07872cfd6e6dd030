"""The dashboard on a page: filter, sort, page, cancel, retry, a kernel restarted, in light and dark, wide and narrow."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Locator, expect

from nbtasks.queue.directory import Queue
from tests.browser.conftest import LOAD, Opener
from tests.browser.pages import NotebookPage

TASKS = """import time
def load(n):
    return list(range(n))
def fit(n):
    if n % 4 == 3: raise ValueError(f"could not convert 'n/a' in row {n}")
    return n / 100
def train(n):
    for epoch in nbtasks.progress(range(600), desc="epoch"):
        if epoch % 20 == 0: print("epoch", epoch, "loss", 1 / (epoch + 1))
        time.sleep(0.2)
ended = [*nbtasks.map(load, range(20)), *nbtasks.map(fit, range(12))]
nbtasks.wait(ended)
first = nbtasks.using(name="train").submit(train, 1)
last = nbtasks.using(name="report", after=[first]).submit(load, 3)
more = nbtasks.map(train, range(20))"""


def board(page: NotebookPage, cell: int) -> Locator:
    """The dashboard, once it is there."""
    return page.wait_for(cell, ".jupyter-widgets.widget-vbox")


def box(page: NotebookPage, cell: int, row: int) -> Locator:
    """The checkbox of a row, counted from 0."""
    return page.output(cell).locator(".widget-checkbox input[type=checkbox]").nth(row + 2)  # behind "mine" and "all"


def rows(page: NotebookPage, cell: int) -> Locator:
    """The rows of the table, without its head."""
    return page.output(cell).locator("[role=table] [role=row]:has([role=cell])")


def choose(page: NotebookPage, cell: int, label: str, value: str) -> None:
    """Choose in a list, found by its label."""
    page.output(cell).get_by_label(label, exact=True).select_option(value)


def queue_of(page: NotebookPage) -> Queue:
    return Queue.open(str(page.path.parent / ".nbtasks"))


@pytest.mark.parametrize(
    ("on", "theme", "width"),
    [pytest.param("lab", "light", 1400, marks=pytest.mark.torture), ("notebook", "dark", 1000)],
)
def test_a_queue_is_looked_through_and_tidied_up(open_notebook: Opener, on: str, theme: str, width: int) -> None:
    page = open_notebook([LOAD, TASKS, "%tasks"], on=on, theme=theme, width=width)
    page.messages.clear()  # what the front end says of itself while it starts
    page.run_all(60)
    board(page, 2)
    page.wait_text(2, "epoch")
    page.shot("start", 2)
    expect(rows(page, 2)).to_have_count(15)

    page.press(re.compile("Next"), 2)
    page.wait_text(2, "16–30 of 54")
    page.press(re.compile("Back"), 2)
    choose(page, 2, "status", "failed")
    page.wait_text(2, "1–3 of 3")
    page.shot("failed", 2)
    box(page, 2, 0).check()
    page.wait_text(2, "Traceback")
    page.shot("card", 2)
    page.press("Clear", 2)

    page.output(2).get_by_label("all", exact=True).check()
    page.press("Retry 3", 2)
    page.wait_text(2, "3 tasks put back to run again")
    page.press("Clear", 2)
    choose(page, 2, "status", "all")
    choose(page, 2, "order", "oldest first")
    expect(rows(page, 2).first).to_contain_text("load")
    page.output(2).get_by_label("task", exact=True).fill("trai")
    page.wait_text(2, "1–15 of 21")
    page.press("Timeline", 2)
    page.wait_text(2, "now")
    page.shot("timeline", 2)

    page.press("Select all", 2)
    page.press("Cancel 21", 2)
    page.wait_text(2, "Press again within 10 s")
    page.shot("confirm", 2)
    page.press("Really cancel 21?", 2)
    page.wait_text(2, "21 tasks cancelled")
    expect(rows(page, 2).last).to_contain_text("cancelled")
    page.output(2).get_by_label("task", exact=True).fill("")
    page.press("Close", 2)
    page.wait_text(2, "%tasks -a shows all")
    expect(page.output(2).locator("button")).to_have_count(0)
    page.shot("closed", 2)
    assert {task.status for task in queue_of(page).records() if task.name == "train"} == {"cancelled"}
    assert not [message for message in page.messages if message.startswith(("error", "exception"))], page.messages


@pytest.mark.torture  # as a card is, in test_life.py
def test_a_running_task_is_cancelled_while_the_kernel_is_busy(open_notebook: Opener) -> None:
    page = open_notebook([LOAD, TASKS, "%tasks", "time.sleep(100)"])
    for cell in range(3):
        page.run(cell, 60)
    board(page, 2)
    page.wait_text(2, "epoch")
    page.start(3)
    box(page, 2, 0).check()
    page.wait_text(2, re.compile("selected"))
    pressed = time.monotonic()
    page.press(re.compile(r"Cancel \w{4}$"), 2)
    page.wait_text(2, "1 task cancelled")
    expect(rows(page, 2).first).to_contain_text("cancelled")
    page.took("cancelled after", time.monotonic() - pressed, 5)
    assert page.text(3) == "", "and the kernel is busy all the while"
    page.interrupt_kernel()


def test_tasks_of_others_and_a_kernel_restarted_and_a_page_reloaded(open_notebook: Opener) -> None:
    page = open_notebook([LOAD, "nbtasks.using(name='early', lane='gpu').submit(print)", "%tasks"])
    page.run_all()
    board(page, 2)
    page.wait_text(2, "early")
    page.restart_kernel()
    page.run(0)
    page.run(2)
    page.wait_text(2, "early")
    page.execute("nbtasks.using(name='after the restart', lane='gpu').submit(print)")
    page.wait_text(2, "after the restart")
    page.save()
    page.reload()
    board(page, 2)
    page.execute("nbtasks.using(name='after the reload', lane='gpu').submit(print)")
    page.wait_text(2, "after the reload")
    box(page, 2, 0).check()
    page.wait_text(2, "finds it from any kernel")
    page.save()
    page.restart_kernel()
    page.run(0)
    page.reload()
    page.wait_text(2, "after the reload")  # without running the cell again
    page.press("Workers", 2)
    page.wait_text(2, "started by itself")
    page.shot("reloaded", 2)


def test_it_can_be_used_on_a_narrow_page_and_by_keyboard(open_notebook: Opener) -> None:
    page = open_notebook([LOAD, TASKS, "%tasks"], width=500)
    page.run_all(60)
    shown = board(page, 2)
    page.wait_text(2, "epoch")
    width = shown.bounding_box()
    assert width is not None
    assert width["width"] < 400
    inside = shown.evaluate("e => e.scrollWidth - e.clientWidth")
    assert inside <= 1, "nothing has to be scrolled to the side"
    page.shot("narrow", 2)
    for control in page.output(2).locator("button:visible, input:visible, select:visible").all():
        name = control.evaluate("e => e.textContent || e.title || e.labels?.[0]?.textContent || e.placeholder")
        assert name.strip(), control.evaluate("e => e.outerHTML")
    box(page, 2, 0).focus()
    page.page.keyboard.press("Space")
    page.wait_text(2, "1 selected")
    page.output(2).get_by_role("button", name=re.compile(r"^Cancel \w{4}$")).focus()
    page.page.keyboard.press("Enter")
    page.wait_text(2, "1 task cancelled")
