"""The whole life of a card, as a person sees it: in JupyterLab 4 and Notebook 7, light and dark. Look at the pictures."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOAD, Opener
from tests.browser.pages import NotebookPage, gate

WIDGET = "application/vnd.jupyter.widget-view+json"
# One slot, so that what is submitted second is queued; it is the worker's, which the kernel starts.
ONE_SLOT = f"%env NBTASKS_SLOTS=1\n{LOAD}"
TRAIN = f"""%%background --as train -n train_model
import time
from tqdm.auto import tqdm
import matplotlib.pyplot as plt
losses = []
for epoch in tqdm(range(4), desc="epoch"):
    for batch in tqdm(range(50), desc="batch", leave=False):
        losses.append(1 / (1 + 50 * epoch + batch))
        if batch == 30:
            time.sleep(0.15)  # tqdm itself counts anew ten times a second
    if epoch == 2:
        for batch in tqdm(range(50), desc="check"):
            if batch == 20:
                time.sleep(0.15)
            if batch == 21:
                print("epoch 2, check 21, loss", round(losses[-1], 4))
                {gate("go-train").replace(chr(10), chr(10) + " " * 16)}
fig, ax = plt.subplots(figsize=(5, 2))
ax.plot(losses)
ax.set_title("loss")
plt.show()
"""
RAISE = """%%background --as parsed
# parse the rows
def parse(row):
    return int(row)

rows = ["1", "2", "n/a"]
numbers = [parse(row) for row in rows]
"""
LONG = """%%background --as long
# simulate
import time
for step in range(100_000):
    time.sleep(0.01)
    if step % 50 == 0:
        print("step", step)
"""
KILLED = f"""%%background --as doomed
# eat all memory
import os
print("pid", os.getpid(), flush=True)
half = "done"
{gate("never")}"""
CELLS = [source.strip() for source in (ONE_SLOT, TRAIN, RAISE, LONG, KILLED)]


def both_themes(page: NotebookPage, name: str) -> None:
    page.shot(f"{name}-{page.theme}")
    page.set_theme("light" if page.theme == "dark" else "dark")
    page.shot(f"{name}-{page.theme}")


@pytest.mark.parametrize("on", ["lab", pytest.param("notebook", marks=pytest.mark.torture)])
def test_the_whole_life_of_a_card(open_notebook: Opener, on: str) -> None:
    page = open_notebook(CELLS, on=on, height=1500)
    page.run(0)
    _queued_and_running(page)
    _succeeded_and_failed(page)
    _cancelled_while_the_kernel_is_busy(page)
    _killed(page)
    _saved(page)
    _opened_again_without_a_kernel(page)


def _queued_and_running(page: NotebookPage) -> None:
    page.run(1)
    page.run(2)
    page.wait_text(1, "epoch 2, check 21")
    page.wait_text(1, "2/4")
    page.wait_text(1, "21/50")
    page.wait_text(2, "queued")
    page.wait_text(2, "next in line")
    expect(page.button(re.compile(r"Cancel \w+ \(train_model\)"), 1)).to_be_visible()
    both_themes(page, "1-queued-and-running")


def _succeeded_and_failed(page: NotebookPage) -> None:
    page.open_gate("go-train")
    page.wait_text(1, "succeeded")
    picture = page.wait_for(1, "img")
    assert picture.evaluate("img => img.naturalWidth") > 300, "the plot is drawn"
    page.wait_text(2, "ValueError")
    page.wait_text(2, "invalid literal for int() with base 10: 'n/a'")
    page.wait_text(2, "return int(row)")
    page.wait_no_text(1, "as of")
    both_themes(page, "2-succeeded-and-failed")
    assert page.execute("print(len(losses))").strip() == "200", "what it assigned came back"


def _cancelled_while_the_kernel_is_busy(page: NotebookPage) -> None:
    page.run(3)
    page.wait_text(3, "step 50")
    busy = page.append(f"{gate('go-busy')}print('still here')")
    page.start(busy)
    page.wait_text(3, "running")
    pressed = time.monotonic()
    page.press(re.compile(r"Cancel \w+ \(simulate\)"), 3)
    page.wait_status(page.queue.find(_ref(page, 3)), "cancelled")
    page.took("cancelled after", time.monotonic() - pressed, 2)
    page.wait_text(3, "cancelled")
    assert page.text(busy) == "", "and the kernel is busy all the while"
    both_themes(page, "3-cancelled")
    page.open_gate("go-busy")
    page.wait_text(busy, "still here")
    page.wait_prompt(busy)


def _killed(page: NotebookPage) -> None:
    page.run(4)
    page.wait_text(4, re.compile(r"pid \d+"))
    found = re.search(r"pid (\d+)", page.text(4))
    assert found is not None
    os.kill(int(found[1]), signal.SIGKILL)
    page.wait_text(4, "failed")
    page.wait_text(4, "killed by signal 9")
    page.wait_text(4, "pid")
    both_themes(page, "4-killed")


def _ref(page: NotebookPage, cell: int) -> str:
    return page.output(cell).locator("code").first.inner_text()


def _saved(page: NotebookPage) -> None:
    """All ended in this page: the file has final cards, and no widgets."""
    cells = page.save()["cells"]
    for number, status in enumerate(["succeeded", "failed", "cancelled", "failed"], 1):
        shown = [output for output in cells[number]["outputs"] if output.get("data")]
        assert [set(output["data"]) for output in shown] == [{"text/html", "text/plain"}]
        assert f"  {status}  " in shown[0]["data"]["text/plain"]
        assert shown[0]["metadata"]["nbtasks"]["part"] == "card"
    assert "data:image/png;base64," in cells[1]["outputs"][0]["data"]["text/html"]


def _opened_again_without_a_kernel(page: NotebookPage) -> None:
    page.shut_kernel()
    page.reload()  # which starts a kernel that knows nothing of nbtasks, or none
    page.wait_text(1, "succeeded")
    assert page.wait_for(1, "img").evaluate("img => img.naturalWidth") > 300
    page.wait_text(2, "ValueError")
    page.wait_text(3, "cancelled")
    page.wait_text(4, "signal 9")
    everything = page.page.locator(".jp-Notebook").inner_text()
    assert "not found" not in everything
    assert "Error displaying" not in everything
    assert page.page.locator(".jp-Notebook .jupyter-widgets").count() == 0
    both_themes(page, "5-opened-again")


@pytest.mark.parametrize("on", ["lab", pytest.param("notebook", marks=pytest.mark.torture)])
def test_a_server_is_restarted_while_a_task_runs(open_notebook: Opener, server_env: dict[str, str], on: str) -> None:
    """The notebook was saved meanwhile: its file tells the truth, and a kernel that knows nbtasks says the rest."""
    train = f"%%background\n# train\nprint('begun')\n{gate('go')}model = 6 * 7"
    page = open_notebook([LOAD, train], on=on, height=700)
    page.run(0)
    page.run(1)
    running = re.compile(r"train[\s\S]*running[\s\S]*as of .*shows now")  # the static card is before the strip
    page.wait_text(1, running)
    ref = _ref(page, 1)
    page.save()
    page.server.stop()
    page.server.start()
    page.open()
    page.wait_text(1, running)
    page.wait_text(1, "Error displaying widget")  # what JupyterLab says of a widget that no kernel knows
    expect(page.output(1).get_by_text("Error displaying widget")).to_be_hidden()
    page.shot("before-loading")
    page.open_gate("go")
    page.wait_status(ref, "succeeded")
    page.run(0)
    page.reload()  # a page asks for its widgets in the first seconds, which the cell above may miss
    page.wait_text(1, "succeeded")
    page.wait_no_text(1, "not found")
    page.shot("after-loading")
    assert page.execute(f"print(nbtasks.get({ref!r}).vars['model'])") == "42", "the next kernel has its names"
    refresh = [sys.executable, "-m", "nbtasks", "refresh", str(page.path)]
    subprocess.run(refresh, env=server_env, check=True, timeout=60)
    (card,) = [output for output in page.read()["cells"][1]["outputs"] if output["data"]]
    assert "  succeeded  " in card["data"]["text/plain"], "the saved file is mended without a kernel"
    assert WIDGET not in card["data"]
