"""The how-to pages are true: each is executed as a notebook, from top to bottom, beside a terminal.

What a block is, stands behind its language:

    python cell           a cell of one notebook (`python cell raises`: and it ends in an error)
    sh run                a command in a terminal, in the notebook's folder
    text output           what the block above shows; all lines in this order, others may be between them

`…` stands for any text of a line, `k7q2` for the task that was submitted last; times and dates may be any.
The comment ``<!-- restart -->`` restarts the kernel. Blocks of other kinds are only for reading.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

from nbtasks.queue.directory import Queue
from notebooks.run import COLOURS, as_text, surroundings
from tests.conftest import stop_workers
from tests.source import ROOT

PAGES = sorted((ROOT / "docs" / "howto").glob("*.md"))
# Pages whose engine has the contract, or whose subject has a file of tests.
AT_NIGHT = (
    "engines-celery", "from-a-laptop-to-a-dask-cluster", "from-huey-rq-celery", "notebooks-as-tasks", "use-the-redis-you-have",
)  # fmt: skip
BLOCK = re.compile(
    r"^```(python cell|python cell raises|sh run|text output)\n(.*?)^```$|^<!-- (restart) -->$", re.M | re.S
)
ID = "k7q2"
# In an expected line: what is different each time, and what may stand there instead.
VARYING = {
    re.escape(ID): r"[0-9a-z]{4,13}",
    r"\d{4}-\d\d-\d\d \d\d:\d\d": r"\d{4}-\d\d-\d\d \d\d:\d\d",
    r"\b\d[\d.]* m?s\b|\b\d+:\d\d\b": r"(?:\d[\d.]* m?s|\d+:\d\d)",
    "…": ".*?",
}


class Block(NamedTuple):
    """One block of a page."""

    kind: str
    text: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks that are executed or compared, in their order."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        yield Block(found[1] or found[3], found[2] or "", text.count("\n", 0, found.start()) + 1)


class Desk:
    """A notebook and a terminal in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        own = {"NBTASKS_QUEUE": str(self.folder / ".nbtasks"), "IPYTHONDIR": str(folder / "ipython")}
        self.environment = surroundings(str(folder)) | own
        self._notebook = nbformat.v4.new_notebook()
        # Sockets in our own folder: to a port, others on this machine could connect.
        config = Config({"KernelManager": {"transport": "ipc", "ip": str(folder / "kernel")}})
        resources = {"metadata": {"path": str(self.folder)}}
        self._client = NotebookClient(self._notebook, timeout=60, config=config, resources=resources, allow_errors=True)
        self._kernel = ExitStack()

    def __enter__(self) -> Desk:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        self._kernel.close()
        if os.path.exists(root := self.environment["NBTASKS_QUEUE"]):
            stop_workers(Queue.open(root))

    def restart(self) -> None:
        """Another kernel, which knows nothing of the one before."""
        self._kernel.close()
        self._kernel.enter_context(self._client.setup_kernel(env=self.environment, cleanup_kc=True))

    def cell(self, source: str) -> tuple[str, bool]:
        """What a cell shows, and whether it ended in an error."""
        cell = nbformat.v4.new_code_cell(self._with_id(source))
        self._notebook.cells.append(cell)
        self._client.execute_cell(cell, len(self._notebook.cells) - 1)
        shown = COLOURS.sub("", "\n".join(map(as_text, cell.outputs)))
        failed = any(output.output_type == "error" for output in cell.outputs) or shown.startswith("UsageError: ")
        return shown, failed

    def command(self, line: str) -> str:
        """What a command prints in a terminal."""
        done = subprocess.run(
            self._with_id(line),
            shell=True,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout + done.stderr

    def _with_id(self, text: str) -> str:
        if ID not in text:
            return text
        tasks = os.path.join(self.environment["NBTASKS_QUEUE"], "tasks")
        calls = [name for _, _, names in os.walk(tasks) for name in names if name.endswith(".call")]
        return text.replace(ID, max(calls).removesuffix(".call").rpartition("-")[2])


def execute(desk: Desk, page: Path) -> str:
    """Run a page from top to bottom; what is not true of it, "" when all is."""
    shown = ""
    for kind, text, line in blocks_of(page):
        if kind == "restart":
            desk.restart()
        elif kind == "sh run":
            shown = "\n".join(desk.command(command) for command in text.splitlines())
        elif kind == "text output":
            if not expected(text).search(shown):
                return f"{page.name}, line {line}: expected\n\n{text}\nand there was\n\n{shown}"
        else:
            shown, failed = desk.cell(text.rstrip("\n"))
            if failed != kind.endswith("raises"):
                return f"{page.name}, line {line}: the cell {'raised' if failed else 'did not raise'}\n\n{shown}"
    return ""


def expected(text: str) -> re.Pattern[str]:
    """What the lines of `text` match."""
    lines = []
    for line in text.strip("\n").splitlines():
        parts = re.split("(" + "|".join(VARYING) + ")", line.strip())
        lines.append(
            "".join(
                next((VARYING[one] for one in VARYING if re.fullmatch(one, part)), re.escape(part)) for part in parts
            )
        )
    return re.compile(r"[^\n]*\n(?:[^\n]*\n)*?[^\n]*?".join(lines))


def test_pages_are_found_and_have_cells() -> None:
    assert len(PAGES) >= 7
    assert [page.name for page in PAGES if not any(blocks_of(page))] == ["notebooks-in-git.md"]


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.torture if page.stem in AT_NIGHT else ())
        for page in PAGES
        if any(blocks_of(page))
    ],
    ids=lambda page: page.stem,
)
def test_page_is_true(page: Path, tmp_path: Path) -> None:
    with Desk(tmp_path) as desk:
        untrue = execute(desk, page)
    if untrue:
        pytest.fail(untrue, pytrace=False)
