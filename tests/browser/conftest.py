"""Real JupyterLab 4 and Notebook 7 in a headless Chromium.

How to write a test here::

    from tests.browser.conftest import LOAD, Opener

    @pytest.mark.parametrize("on", ["lab", "notebook"])
    def test_something(open_notebook: Opener, on: str) -> None:
        page = open_notebook([LOAD, "%%background --as fit\\nprint('hello')"], on=on, theme="dark")
        page.run(0)                             # cells count from 0; returns with the prompt; start(i) does not wait
        page.run(1)
        page.wait_text(1, "succeeded")          # in the outputs of cell 1, for at most 30 s
        page.press("Cancel k7q2 (fit)")         # by accessible name or title; also a compiled pattern
        page.execute("fit.result()")            # in a new cell at the end; gives the text of its outputs
        page.reload(); page.restart_kernel(); saved = page.save(); page.shot("after")

`page` is `tests.browser.pages.NotebookPage`; ``page.page`` is Playwright's page, ``page.output(i)`` a locator.
Each notebook lies in a folder of its own, with a queue of its own (``page.path.parent``); its kernel and workers are
gone after the test. Servers and browser start once, when first wanted, and end with the last test of this folder:
Playwright's event loop runs in this thread, so nothing in this folder can call ``asyncio.run`` (use a subprocess).
Pictures are kept in ``artefacts/TIME/``, one also of every page of a test that failed, with what its console said.
The browser reaches this machine only.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import nbformat
import pytest
from nbformat.sign import NotebookNotary
from playwright.sync_api import BrowserContext, sync_playwright

from nbtasks.queue.directory import Queue
from tests.browser.pages import NotebookPage
from tests.browser.servers import Server
from tests.conftest import stop_workers

LOAD = "%load_ext nbtasks\nimport nbtasks"
ARTEFACTS = Path(__file__).parent / "artefacts" / time.strftime("%Y%m%d-%H%M%S")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-dev-shm-usage --force-color-profile=srgb
"""
_HERE_ONLY = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
_REPORT = pytest.StashKey[pytest.TestReport]()


class Opener(Protocol):
    """Opens notebooks; what it opened is closed after the test, and its kernels and workers are gone."""

    def __call__(
        self, notebook: Sequence[str] | nbformat.NotebookNode | Path, *, on: str = "lab", theme: str = "light",
        trusted: bool = True, width: int = 1000, height: int = 1200,
    ) -> NotebookPage: ...  # fmt: skip


@pytest.fixture(scope="package")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    """A headless Chromium, with what all pages share: a cache on disk, so that only the first page loads JupyterLab slowly.

    It has a profile for that: to a page in private Chromium gives no code that is compiled already.
    """
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if path is None:
        pytest.skip("there is no Chromium: `make browser` installs it, or says how")
    profile, flags = tmp_path_factory.mktemp("chromium"), [*_FLAGS.split(), _HERE_ONLY]
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(profile, executable_path=path, args=flags)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield context
        context.close()


@pytest.fixture(scope="package")
def server_env(home: str) -> dict[str, str]:
    """The environment of servers, their kernels and workers: nothing of the person's own, no setting of ours."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("NBTASKS_", "JUPYTER", "JPY_"))}
    folders = {"XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config", "MPLCONFIGDIR": "mpl"}
    settings = {"NBTASKS_HOST_DIR": f"{home}/host", "NBTASKS_IDLE_EXIT": "60"}
    return own | {name: f"{home}/{folder}" for name, folder in folders.items()} | settings


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory, server_env: dict[str, str]) -> Iterator[Server]:
    """A JupyterLab 4."""
    with Server("lab", tmp_path_factory.mktemp("lab"), server_env) as server:
        yield server


@pytest.fixture(scope="package")
def notebook7(tmp_path_factory: pytest.TempPathFactory, server_env: dict[str, str]) -> Iterator[Server]:
    """A Notebook 7."""
    with Server("notebook", tmp_path_factory.mktemp("notebook"), server_env) as server:
        yield server


@pytest.fixture
def open_notebook(request: pytest.FixtureRequest, context: BrowserContext) -> Iterator[Opener]:
    """Open a notebook: the sources of its cells, a notebook as nbformat has it, or a file below a server's root.

    `on` is "lab" or "notebook", `theme` "light" or "dark". What is there is trusted, unless told otherwise.
    """
    pages: list[NotebookPage] = []
    name = re.sub(r"\W+", "-", request.node.name).strip("-")
    numbers = itertools.count(1)

    def open_one(
        notebook: Sequence[str] | nbformat.NotebookNode | Path, *, on: str = "lab", theme: str = "light",
        trusted: bool = True, width: int = 1000, height: int = 1200,
    ) -> NotebookPage:  # fmt: skip
        server: Server = request.getfixturevalue("lab" if on == "lab" else "notebook7")
        server.set_theme(theme)
        path = notebook if isinstance(notebook, Path) else server.root / f"{name}-{next(numbers)}" / "notebook.ipynb"
        if not isinstance(notebook, Path):
            _write(notebook, path)
        if trusted:
            _sign(path, server)
        page = NotebookPage(context.new_page(), server, path, ARTEFACTS / name)
        pages.append(page)
        page.page.set_viewport_size({"width": width, "height": height})
        page.open()
        return page

    yield open_one
    failed = request.node.stash.get(_REPORT, None)
    for page in pages:
        if failed is not None and failed.failed:
            _keep(page)
        page.finish()
    for folder in {page.path.parent for page in pages}:
        if (folder / ".nbtasks").exists():
            stop_workers(Queue.open(str(folder / ".nbtasks")))


def _write(notebook: Sequence[str] | nbformat.NotebookNode, path: Path) -> None:
    if not isinstance(notebook, nbformat.NotebookNode):
        cells = [nbformat.v4.new_code_cell(source) for source in notebook]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)


def _sign(path: Path, server: Server) -> None:
    notary = NotebookNotary(data_dir=server.env["JUPYTER_DATA_DIR"])
    notary.sign(nbformat.read(path, as_version=4))
    notary.store.close()


def _keep(page: NotebookPage) -> None:
    if not page.page.is_closed():
        page.shot("failed").with_suffix(".txt").write_text("\n".join([*page.messages, *page.dialogs]))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_REPORT] = report
    return report
