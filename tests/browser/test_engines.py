"""A card and the dashboard when the task is at another engine: waiting for a worker there, running, the broker gone and back.

Look at the pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.browser.conftest import LOAD, Opener
from tests.browser.pages import NotebookPage, gate
from tests.engines.servers import Place, Rq, opened

_FITS = "one => one.getBoundingClientRect().right <= one.closest('.widget-hbox').getBoundingClientRect().right"
TRAIN = """%%background --as train
# train
import time
from tqdm.auto import tqdm
losses = []
for epoch in tqdm(range(4), desc="epoch"):
    time.sleep(0.15)  # tqdm itself counts anew ten times a second
    losses.append(1 / (1 + epoch))
    print("epoch", epoch, "loss", losses[-1])
    if epoch == 1:
        """


@pytest.fixture
def place(home: str) -> Iterator[Place]:
    with opened(Rq, home) as place:
        yield place


def both_themes(page: NotebookPage, name: str) -> None:
    page.shot(f"{name}-{page.theme}")
    page.set_theme("light" if page.theme == "dark" else "dark")
    page.shot(f"{name}-{page.theme}")


@pytest.mark.torture  # the card is that of test_life.py, and what it says at an engine is in tests/engines
@pytest.mark.timeout(180)
def test_a_card_at_an_engine(open_notebook: Opener, place: Place) -> None:
    place.kill_workers()
    engine = f"%env NBTASKS_ENGINE={place.url}\n{LOAD}"
    page = open_notebook([engine, "", "%tasks"], height=1500)
    go = page.folder / "go"
    page.change(1, TRAIN + gate(str(go)).replace("\n", "\n        "))
    page.run_all()
    page.wait_text(1, "not begun: it waits for a worker at rq+unix://")
    page.wait_text(2, re.compile(r"1 task at rq\+unix://"))
    both_themes(page, "1-no-worker-there")
    place.start_workers(1)
    page.wait_text(1, "epoch 1 loss 0.5")
    page.wait_text(1, "1/4")
    page.wait_text(2, re.compile(r"1 task at rq\+unix://"))
    both_themes(page, "2-running")
    place.stop_broker()
    page.wait_text(1, "does not answer")
    both_themes(page, "3-the-broker-is-gone")
    table = page.output(2).get_by_role("table", name="tasks")
    assert table.evaluate(_FITS), "a long reason pushes no column out"
    place.start_broker()
    page.wait_no_text(1, "does not answer")
    go.touch()
    page.wait_text(1, "succeeded")
    both_themes(page, "4-succeeded")
    assert page.execute("print(len(losses))").strip() == "4", "what it assigned came back"
    page.save()
    page.reload()
    page.wait_text(1, "epoch 3 loss 0.25")
    page.shot("5-reloaded")
