"""A saved notebook far from its queue: untrusted, as HTML, as Markdown, printed, and in viewers without any theme."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from markdown_it import MarkdownIt
from nbconvert import HTMLExporter, MarkdownExporter
from playwright.sync_api import BrowserContext, Page

from tests.browser.conftest import ARTEFACTS, LOAD, Opener
from tests.jupyter.page import Page as Markup

PLOT = """%%background
# fit the model
import matplotlib.pyplot as plt
for epoch in range(2):
    print("# epoch", epoch, "\\n\\n   \\n* loss", 1 / (epoch + 1))
fig, ax = plt.subplots(figsize=(5, 2))
ax.plot([3, 2, 1])
plt.show()
score = 42
"""
RAISE = """%%background
# parse the rows
def parse(row):
    return int(row)

numbers = [parse(row) for row in ["1", "n/a"]]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, server_env: dict[str, str]) -> Path:
    """An executed notebook, where no queue is: one task succeeded with a plot, one failed."""
    folder = tmp_path_factory.mktemp("finished")
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in (LOAD, PLOT, RAISE)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "run.ipynb")
    env = server_env | {"NBTASKS_WAIT": "1", "NBTASKS_IDLE_EXIT": "0.1"}
    options = ["--execute", "--allow-errors", "--inplace"]  # in a process of its own, as it runs an event loop
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", *options, "run.ipynb"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return folder / "run.ipynb"


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty page, without Jupyter."""
    page = context.new_page()
    page.set_viewport_size({"width": 900, "height": 900})
    return page


def bundles(path: Path) -> list[dict[str, str]]:
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.outputs]
    return [dict(output.data) for output in outputs if output.get("data")]


def keep(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"saved-{name}.png", full_page=True)


def assert_is_whole(page: Page) -> None:
    """Both cards can be read, and the plot is drawn."""
    text = page.locator("body").inner_text()
    for part in ("fit the model", "succeeded", "# epoch 0", "* loss 1.0", "score", "parse the rows", "failed", "'n/a'"):
        assert part in text
    assert page.locator("img[src^='data:image/png']").first.evaluate("img => img.naturalWidth") > 300


def test_an_untrusted_notebook_shows_all_but_the_themes_colours(open_notebook: Opener, finished: Path) -> None:
    page = open_notebook(nbformat.read(finished, as_version=4), trusted=False, theme="dark")
    page.wait_text(1, "succeeded")
    assert_is_whole(page.page)
    page.wait_text(2, "return int(row)")
    card = page.output(1).locator("div[style]").first
    assert card.evaluate("card => getComputedStyle(card).borderLeftColor") == "rgb(47, 131, 54)"
    assert page.page.locator(".jp-Notebook .jupyter-widgets").count() == 0
    page.shot("untrusted")


def test_html_by_nbconvert(finished: Path, page: Page) -> None:
    path = finished.with_suffix(".html")
    path.write_text(HTMLExporter().from_filename(str(finished))[0], "utf-8")
    page.goto(path.as_uri(), wait_until="domcontentloaded")  # its scripts lie elsewhere
    assert_is_whole(page)
    keep(page, "html")
    page.emulate_media(media="print")
    keep(page, "print")
    printed = page.pdf(format="A4")
    (ARTEFACTS / "saved-print.pdf").write_bytes(printed)
    assert printed.startswith(b"%PDF")
    assert b"/Image" in printed, "with the plot"
    page.close()


def test_markdown_by_nbconvert(finished: Path, page: Page) -> None:
    text, _ = MarkdownExporter().from_filename(str(finished))
    page.set_content(MarkdownIt("commonmark", {"html": True}).render(text))
    assert_is_whole(page)
    assert page.locator("h1, h2, li").count() == 0, "nothing of a log is taken for Markdown"
    assert page.locator("pre pre, pre img").count() == 0
    keep(page, "markdown")
    page.close()


def test_the_bundle_needs_nothing_of_its_viewer(finished: Path, page: Page) -> None:
    """As in VS Code, or a viewer without a theme: no scripts, no style sheets, no variables without a value to fall back on."""
    shown = bundles(finished)
    assert len(shown) == 2
    for bundle in shown:
        assert set(bundle) == {"text/html", "text/plain"}
        assert Markup(bundle["text/html"]).wrong == []
        assert re.findall(r"var\([^,)]*\)", bundle["text/html"]) == []
        assert 'class="jp-' not in bundle["text/html"]
    page.set_content("".join(bundle["text/html"] for bundle in shown))
    assert_is_whole(page)
    keep(page, "no-theme")
    page.emulate_media(color_scheme="dark")
    page.set_content(f"<body style='background:#1e1e1e;color:#ccc'>{''.join(bundle['text/html'] for bundle in shown)}")
    keep(page, "no-theme-dark")
    page.close()


def test_without_any_style_it_still_reads_in_order(finished: Path, page: Page) -> None:
    """GitHub takes every style attribute away."""
    page.set_content("".join(re.sub(r' style="[^"]*"', "", bundle["text/html"]) for bundle in bundles(finished)))
    assert_is_whole(page)
    first = page.locator("body > div").first.inner_text().splitlines()
    assert re.fullmatch(r"✓\s+fit the model\s+\w{4}\s+succeeded\s+in .*", first[0])
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 520, "the plot is 500 wide"
    keep(page, "bare")
    page.close()


def test_at_400_pixels_nothing_is_cut_off(finished: Path, page: Page) -> None:
    page.set_viewport_size({"width": 400, "height": 900})
    page.set_content("".join(bundle["text/html"] for bundle in bundles(finished)))
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 400
    keep(page, "narrow")
    page.close()


def test_as_text_it_says_the_same(finished: Path) -> None:
    good, bad = (bundle["text/plain"] for bundle in bundles(finished))
    assert good.startswith("(v) fit the model")
    assert "score" in good
    assert "# epoch 1" in good
    assert bad.startswith("(x) parse the rows")
    assert "ValueError: invalid literal for int() with base 10: 'n/a'" in bad
    assert "return int(row)" in bad
