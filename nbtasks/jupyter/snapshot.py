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
    done = [f"{bar.fraction:.0%}" for bar in bars.bars_of(task.progress()) if bar.fraction is not None][:1]
    since = " · ".join([*done, f"as of {words.moment(moment)}; "])
    ref, name = task.spec.short, one_line(task.spec.name, 120)
    what = markup.quiet(f"{markup.escape(name)}&ensp;{markup.code(ref)}")
    now_by = markup.quiet(f"{markup.escape(since)} {markup.code(f'%task {ref}')} shows now")
    text = "  ".join([f"{MARKS[task.status].text} {name}", ref, str(task.status), f"{since}%task {ref} shows now"])
    return {"text/html": markup.above_widgets("&ensp;".join([icon, what, word, now_by])), "text/plain": text}
