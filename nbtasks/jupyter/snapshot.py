"""The static card while a strip shows all the rest: one line."""

from __future__ import annotations

import time

from nbtasks.jupyter import bars, markup, words
from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.shown import MARKS, Shown


def line_of(task: Shown, now: float | None = None) -> dict[str, str]:
    """Where a task stands, as of when, and how to see the present: as HTML and plain text."""
    moment = time.time() if now is None else now
    icon, word = markup.mark(task.status)
    found = [bar for bar in bars.bars_of(task.progress()) if bar.fraction is not None][:1]
    facts = [f"{bar.fraction:.0%}" for bar in found if bar.fraction is not None]
    said = f"as of {words.moment(moment)}; "
    ref, name = task.spec.short, one_line(task.spec.name, 120)
    quiet = " · ".join([*facts, said])
    html = (
        '<div class="tex2jax_ignore mathjax_ignore" style="font-size:12px;line-height:1.45;margin:2px 0">'
        f'{icon}&ensp;<span style="opacity:0.72">{markup.escape(name)}&ensp;{markup.code(ref)}</span>&ensp;{word}&ensp;'
        f'<span style="opacity:0.72">{markup.escape(quiet)} {markup.code(f"%task {ref}")} shows now</span></div>'
    )
    text = "  ".join([f"{MARKS[task.status].text} {name}", ref, str(task.status), f"{quiet}%task {ref} shows now"])
    return {"text/html": html, "text/plain": text}
