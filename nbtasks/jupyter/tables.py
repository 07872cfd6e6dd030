"""Many tasks as one table, in HTML and in plain text."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from nbtasks.jupyter import bars, markup, words
from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.shown import MARKS, Shown
from nbtasks.status import Status

_COLUMNS = ("id", "task", "status", "time", "submitted", "")
# In HTML fewer columns hold the same, so that a line can break where the page is narrow.
_HEADS = ("task", "status", "", "submitted")
_CELL = "text-align:left;vertical-align:top;padding:3px 12px 3px 0;border:none"


def table(
    tasks: Iterable[Shown], *, now: float | None = None, limit: int = 100, notes: Sequence[str] = ()
) -> dict[str, str]:
    """`tasks` as ``{"text/html": …, "text/plain": …}``, in the order given, at most `limit` of them.

    `notes` are sentences below the table, such as the size of the queue.
    """
    moment = time.time() if now is None else now
    found = list(islice(tasks, limit + 1))
    shown, more = found[:limit], len(found) > limit
    summary = _summary(shown, more)
    rows = [_row(task, moment) for task in shown]
    return {"text/html": _html(shown, rows, summary, notes), "text/plain": _text(shown, rows, summary, notes)}


def _summary(tasks: list[Shown], more: bool) -> str:
    if not tasks:
        return "no tasks"
    counts = Counter(task.status for task in tasks)
    parts = [f"{counts[status]:,} {status}" for status in Status if counts[status]]
    return ", ".join(parts) + (f" among the first {len(tasks):,}; there are more" if more else "")


def _row(task: Shown, now: float) -> tuple[str, ...]:
    return (
        task.spec.short,
        one_line(task.spec.name, 60),
        str(task.status),
        _took(task, now),
        words.moment_near(task.submitted, now),
        one_line(_about(task), 120),
    )


def _took(task: Shown, now: float) -> str:
    if task.status is Status.RUNNING and task.started:
        return words.clock(now - task.started)
    if task.outcome is not None and task.outcome.started:
        return words.duration(task.outcome.seconds)
    return ""


def _about(task: Shown) -> str:
    """The one thing worth saying: how far, why not yet, what came out, what went wrong."""
    outcome = task.outcome
    if task.status is Status.RUNNING:
        shown = bars.bars_of(task.progress())[:1]
        parts = [f"{bar.label} {bar.count}".strip() for bar in shown]
        parts += [f"{bar.fraction:.0%}" for bar in shown if bar.fraction is not None]
        parts += [note for bar in shown for note in bar.notes if note.endswith(" left")]
        return " · ".join([*parts, *filter(None, [task.reason])])
    if outcome is None:
        return task.reason
    if outcome.status is Status.FAILED and outcome.failure and not outcome.kind:
        return f"{outcome.failure.type}: {outcome.failure.message}".removesuffix(": ")
    if outcome.status is not Status.SUCCEEDED:
        return outcome.reason or outcome.kind
    names = [variable.name for variable in outcome.variables if not variable.left_out]
    return outcome.preview or ", ".join(names[:8])


def _html(tasks: list[Shown], rows: list[tuple[str, ...]], summary: str, notes: Sequence[str]) -> str:
    quiet = "font-size:12px;opacity:0.72"
    lines = [
        '<div class="tex2jax_ignore mathjax_ignore" style="max-width:860px;margin:4px 0;font-size:13px;'
        "line-height:1.45;font-family:var(--jp-ui-font-family,system-ui,sans-serif);"
        'color:var(--jp-ui-font-color1,inherit)">',
        f'<div style="{quiet}">{markup.escape(summary)}</div>',
    ]
    if rows:
        head = "".join(f'<th style="{_CELL};font-weight:normal;{quiet}">{name}</th>' for name in _HEADS)
        lines += ['<table style="border-collapse:collapse;table-layout:auto;margin:2px 0;border:none;font-size:13px">']
        lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>"]
        lines += [_html_row(task, row) for task, row in zip(tasks, rows, strict=True)]
        lines += ["</tbody>", "</table>"]
    lines += [f'<div style="{quiet}">{markup.escape(note)}</div>' for note in notes]
    return "\n".join([*lines, "</div>"])


def _html_row(task: Shown, row: tuple[str, ...]) -> str:
    icon, word = markup.mark(task.status)
    _, name, _, took, submitted, about = map(markup.escape, row)
    took = f' <span style="white-space:nowrap;opacity:0.72">{took}</span>' if took else ""
    cells = [
        f"{markup.code(task.spec.short)}&ensp;<b>{name}</b>",
        f'<span style="white-space:nowrap">{icon} {word}</span>{took}',
        about,
        f'<span style="white-space:nowrap;opacity:0.72">{submitted}</span>',
    ]
    return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>"


def _text(tasks: list[Shown], rows: list[tuple[str, ...]], summary: str, notes: Sequence[str]) -> str:
    lines = []
    if rows:
        widths = [max(_width(row[at]) for row in [_COLUMNS, *rows]) for at in range(len(_COLUMNS))]
        lines.append("    " + _aligned(_COLUMNS, widths))
        lines += [f"{MARKS[task.status].text} {_aligned(row, widths)}" for task, row in zip(tasks, rows, strict=True)]
    return "\n".join([*lines, summary, *map(one_line, notes)])


def _aligned(row: Sequence[str], widths: list[int]) -> str:
    return "  ".join(text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)).rstrip()


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
