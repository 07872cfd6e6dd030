"""Whatever a task is called, prints, raises or returns: in a trusted notebook nothing of it runs, loads or covers the page."""

from __future__ import annotations

import json
import re

import pytest

from nbtasks.jupyter import markup
from tests.browser.conftest import LOAD, Opener
from tests.browser.corpus import CORPUS
from tests.browser.pages import NotebookPage

READ = f"{LOAD}\nimport json, sys\nCORPUS = json.load(open('corpus.json'))"
# One task for each string, which stands in every place that a task can write to. They run here, one after another.
EACH = """\
%%capture
def say(text, fails):
    print(text)
    print(text, file=sys.stderr)
    for _ in nbtasks.progress([1], desc=text, unit=text):
        pass
    if fails:
        raise type(text[:200].replace("\\0", ""), (ValueError,), {})(text)
    return text

nbtasks.configure(engine="inline")
def name(text):  # other characters are refused
    return "".join(filter(str.isprintable, text))[-100:]

done = [nbtasks.using(name=name(text)).submit(say, text, at % 2) for at, text in enumerate(CORPUS)]
nbtasks.configure(engine="processes")
"""
BATCH = 40  # outputs of one cell; more than 50 are shown only on demand
SHOW = [f"for task in done[{at}:{at + BATCH}]:\n    display(task)" for at in range(0, len(CORPUS), BATCH)]
LIVE = """\
%%background -i CORPUS --as live -n "<img src=x onerror=window.top.hit=1>"
import os, sys, time, nbtasks
bars = [nbtasks.progress(range(9), desc=text, unit=text) for text in CORPUS[:5]]
for bar in bars:
    next(iter(bar))
for text in sorted(CORPUS, key=lambda text: text.isprintable() and len(text) < 200):  # what erases the screen first
    print(text, file=sys.stdout if len(text) % 2 else sys.stderr, flush=True)
display({"text/plain": CORPUS[0], "image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg' onload='window.top.hit=1'/>"}, raw=True)
print("all said", flush=True)
while not os.path.exists("go"):
    time.sleep(0.01)
kept = dict(enumerate(CORPUS))
a, b, c, d = CORPUS[20:24]
raise RuntimeError(CORPUS[5] + CORPUS[30])
"""

# All that could act, or come from somewhere, in the outputs of the notebook. What is printed as text is Jupyter's own
# business (it makes links of addresses).
_WRONG = """(ours) => {
    const wrong = []
    for (const area of document.querySelectorAll('.jp-Notebook .jp-OutputArea-output')) {
        if (area.matches('.jp-RenderedText')) continue
        for (const element of area.querySelectorAll('*')) {
            if (element.outerHTML === ours) continue
            for (const attribute of element.attributes) {
                if (/^on/i.test(attribute.name)) wrong.push(element.outerHTML.slice(0, 200))
                if (/javascript:|hostile/i.test(attribute.value) && !/^(aria-label|title|alt|value|placeholder)$/.test(attribute.name))
                    wrong.push(element.outerHTML.slice(0, 200))
            }
            if (/^(script|style|iframe|frame|object|embed|link|meta|base|form|svg|math|audio|video|template|dialog|a)$/i
                .test(element.tagName)) wrong.push(element.outerHTML.slice(0, 200))
            if (element.tagName === 'IMG' && !element.src.startsWith('data:image/')) wrong.push(element.outerHTML.slice(0, 200))
            if (getComputedStyle(element).position === 'fixed') wrong.push(element.outerHTML.slice(0, 200))
        }
    }
    return wrong
}"""


def assert_nothing_ran(page: NotebookPage) -> None:
    assert page.page.evaluate("() => window.top.hit === 1") is False
    assert page.dialogs == []
    assert [address for address in page.requests if not address.startswith((page.server.url, "data:", "blob:"))] == []
    assert [address for address in page.requests if "hostile.example" in address or address.endswith("/x")] == []
    assert page.page.evaluate(_WRONG, markup.NO_ERROR) == []


def test_there_are_enough_of_them() -> None:
    assert len(set(CORPUS)) == len(CORPUS) >= 200


def test_nothing_a_task_says_runs_in_the_page(open_notebook: Opener) -> None:
    page = open_notebook([READ, EACH, LIVE, "%tasks -a", "%tasks -a --static", "nbtasks.tasks()", *SHOW], height=1000)
    (page.folder / "corpus.json").write_text(json.dumps(CORPUS))
    page.run(0)
    page.run(1)
    assert page.execute("print(len(done), 'tasks')") == f"{len(CORPUS)} tasks"
    page.run(2)
    page.wait_text(2, "all said")
    page.press(re.compile("^Log"), 2)
    page.wait_text(2, CORPUS[90])
    _look_through_the_dashboard(page, 3)
    for cell in range(4, 6 + len(SHOW)):
        page.run(cell)
        assert page.output(cell).locator("div").count() > 1
    page.execute(f"%task {_ref(page)} logs")
    page.execute("done[0].result()\ndone[2]")
    page.shot("all")
    assert_nothing_ran(page)
    page.open_gate("go")
    page.wait_text(2, "RuntimeError")
    page.execute("live.exception()")
    page.execute("dict(live.vars)")
    assert_nothing_ran(page)
    page.save()
    page.reload()
    page.wait_text(2, "RuntimeError")
    assert page.page.get_by_text(CORPUS[0]).count() > 3
    assert_nothing_ran(page)


def _ref(page: NotebookPage) -> str:
    return page.output(2).locator("code").first.inner_text()


def _look_through_the_dashboard(page: NotebookPage, cell: int) -> None:
    page.run(cell)
    last, count = 0, 1
    while last < count:
        if last:
            page.press(re.compile("Next"), cell)
        page.wait_text(cell, re.compile(rf"\b{last + 1}–[\d,]+ of [\d,]+"))
        found = re.search(rf"\b{last + 1}–([\d,]+) of ([\d,]+)", page.text(cell))
        assert found is not None
        last, count = (int(number.replace(",", "")) for number in found.groups())
    assert count > len(CORPUS)


def test_the_check_sees_what_runs(open_notebook: Opener) -> None:
    """The corpus is not harmless: shown as HTML of the person's own, much of it runs, loads and acts."""
    show = "from IPython.display import HTML\nfor text in CORPUS[:30]:\n    display(HTML(text))"
    page = open_notebook([READ, show])
    (page.folder / "corpus.json").write_text(json.dumps(CORPUS))
    page.run(0)
    page.run(1)
    page.page.wait_for_function("() => window.top.hit === 1")
    assert any("hostile" in address for address in page.requests)
    with pytest.raises(AssertionError):
        assert_nothing_ran(page)
