"""The worked examples, executed as a person would run them; what they print is what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.source import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """All texts of each executed notebook, by its name; html left out."""
    texts = {}
    for path in NOTEBOOKS:
        output = tmp_path_factory.mktemp("executed") / path.name
        run = [sys.executable, str(ROOT / "notebooks" / "run.py"), str(path), "--output", str(output)]
        done = subprocess.run(run, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        texts[path.stem] = _texts(output)
    return texts


def _texts(path: Path) -> str:
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.get("outputs", ())]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.mark.timeout(300)
def test_background_cells(executed: dict[str, str]) -> None:
    text = executed["01-background-cells"]
    assert re.search(r"forest: +0\.9\d+\n", text), "fitted in another process, and it predicts here"
    assert re.search(r"network: 0\.9\d+ after 30 epochs", text)
    assert text.count("succeeded") >= 3
    assert "(changed in place)" in text
    assert "ValueError: could not convert string to float: 'n/a'" in text
    assert "done before it failed: [12.5, 8.0]" in text
    assert "fit the network is succeeded" in text, "asked from another kernel"
    assert not re.search(r"\(\.\) |\(o\) ", text.partition("status     time")[0]), "no card is left in mid-air"
