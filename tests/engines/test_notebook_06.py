"""Notebook 06 is true: with another engine in its one line, the same values and cards come back. On real servers.

In the nightly tier: what it shows has tests of its own on each engine, in the contract.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert.preprocessors.coalescestreams import CoalesceStreamsPreprocessor
from traitlets.config import Config

from notebooks.run import COLOURS, as_text, stop_workers, surroundings
from tests.engines import servers
from tests.source import ROOT

NOTEBOOK = ROOT / "notebooks" / "06-engines.ipynb"
# What is different each time, in the text of a card: the id behind the name, times, sizes.
VARYING = (
    (r"(?<=  )[0-9a-z]{4}(?=  )|(?<= from )[0-9a-z]{4}\b|(?<=get\(\")[0-9a-z]{4}\b|(?<=%task )[0-9a-z]{4}\b", "k7q2"),
    (r"\b\d[\d.]* m?s\b|\b(\d{4}-\d\d-\d\d )?\d+:\d\d(:\d\d)?\b", "0 s"),
    (r"\b\d[\d.]* [kMG]B\b", "0 MB"),
)
FOREIGN = [servers.HueySqlite, servers.Rq, servers.Celery, servers.Dask, servers.HueyRedis]

Shown = list[str]  # by each cell with code


def execute(engine: str, folder: Path, home: str) -> Shown:
    """What the cells show with that engine in the one line, without what is different each time."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    line = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    assert line.source == 'ENGINE = "processes"'
    line.source = f"ENGINE = {engine!r}"
    # The far side's workers have the key of this home.
    environment = surroundings(str(folder)) | {"XDG_STATE_HOME": f"{home}/state"}
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}})
    try:
        resources = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, timeout=90, config=config, resources=resources).execute(env=environment)
    finally:
        stop_workers(environment)
    logs = "".join(path.read_text() for path in folder.glob(".nbtasks/**/*.log"))
    assert f" engine {engine}, " in logs, "that engine it was"
    notebook, _ = CoalesceStreamsPreprocessor().preprocess(notebook, {})
    return [_steady(cell) for cell in notebook.cells if cell.cell_type == "code"]


def _steady(cell: nbformat.NotebookNode) -> str:
    text = COLOURS.sub("", "\n".join(map(as_text, cell.outputs)))
    for pattern, word in VARYING:
        text = re.sub(pattern, word, text)
    return text


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, home: str) -> Shown:
    return execute("processes", tmp_path_factory.mktemp("here"), home)


@pytest.mark.torture
@pytest.mark.timeout(200)
def test_it_shows_what_it_promises(here: Shown) -> None:
    text = "\n".join(here)
    assert re.search(r"10\.0 +0\.9\d+ +0\.9\d+", text), "the grid"
    assert re.search(r"600 images: 0\.9\d+", text)
    assert re.search(r"right on 9\d\.\d% of 1197 unseen images, between 9\d\.\d% and 9\d\.\d%", text)
    assert re.search(r"^\d\nValueError\('X has 60 features.*\n\d$", text, re.M)
    assert "answered at attempt 2" in text
    assert re.search(r"\(v\) how many images are enough +k7q2 +succeeded", text)
    assert re.search(r"\(x\) read +k7q2 +failed", text)
    assert re.search(
        r"accuracy: succeeded +6\n.*read: failed +1\n.*read: succeeded +2\n.*resample: succeeded +10", text, re.S
    )


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind",
    [pytest.param(one, id=one.name) for one in FOREIGN],
)
def test_values_and_cards_are_the_same_elsewhere(
    kind: Callable[[Path], servers.Place], here: Shown, tmp_path: Path, home: str
) -> None:
    with servers.opened(kind, home) as place:
        assert execute(place.url, tmp_path, home) == here
