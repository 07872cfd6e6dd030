"""The examples of the README and of docs/ do what they say: blocks fenced as ```python run are executed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from notebooks.run import stop_workers, surroundings

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python run\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in DOCUMENTS if BLOCK.search(page.read_text())]


def script_of(text: str) -> str:
    """The blocks of a page as one script, each at its own line, so that a traceback points into the page."""
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_pages_with_examples_are_found() -> None:
    assert ROOT / "README.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    script = tmp_path / f"{page.stem}.py"
    script.write_text(script_of(page.read_text()))
    environment = surroundings(str(tmp_path))
    try:
        done = subprocess.run(
            [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
        )
    finally:
        stop_workers(environment)
    if done.returncode:
        pytest.fail(f"{page.relative_to(ROOT)}:\n{done.stdout}\n{done.stderr}", pytrace=False)
