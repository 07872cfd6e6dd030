"""Many tasks as one table, in HTML and in plain text."""

from __future__ import annotations

import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from nbtasks.jupyter import bars, markup, words
from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.shown import MARKS, Bar, Shown
from nbtasks.status import Status

Reasons = Callable[[Shown], str]

_COLUMNS = ("id", "task", "status", "time", "submitted", "")
_TIME = 3  # the column whose numbers stand right
# In HTML fewer columns hold the same, so that a line can break where the page is narrow.
_HEADS = ("task", "status", "time", "", "submitted")
_CELL = "text-align:left;vertical-align:top;padding:3px 12px 3px 0;border:none"
_NUMBER = "text-align:right;vertical-align:top;padding:3px 12px 3px 0;border:none;font-variant-numeric:tabular-nums"
_QUIET = "opacity:0.72"


class Row(NamedTuple):
    """One task in a table, in words."""

    short: str
    name: str
    status: Status
    time: str  # how long it has run or ran
    submitted: str
    about: str  # the one thing worth saying
    bar: Bar | None = None  # of a running task: how far it is

    @property
    def texts(self) -> tuple[str, ...]:
        """The same as the columns of plain text."""
        return self.short, self.name, str(self.status), self.time, self.submitted, self.about


def table(
    tasks: Iterable[Shown],
    *,
    now: float | None = None,
    limit: int = 100,
    counts: Mapping[Status, int] | None = None,
    total: int | None = None,
    more: str = "",
    notes: Sequence[str] = (),
    reason_of: Reasons | None = None,
) -> dict[str, str]:
    """`tasks` as ``{"text/html": …, "text/plain": …}``, in the order given, at most `limit` of them.

    `counts` are those of all tasks, also of those that are not shown, and `total` how many would be shown without a
    limit; `more` says how to see them. `notes` are sentences below the table, such as the size of the queue.
    """
    moment = time.time() if now is None else now
    found = list(islice(tasks, limit + 1))
    shown, cut = found[:limit], len(found) > limit
    rows = [row_of(task, moment, reason_of(task) if reason_of else None) for task in shown]
    said = summary(counts if counts is not None else Counter(task.status for task in shown))
    page = [_page(len(shown), total, more)] if cut else []
    if cut and counts is None:
        said += f" among the first {len(shown):,}; there are more"
        page = []
    return {"text/html": _html(rows, said, [*page, *notes]), "text/plain": _text(rows, said, [*page, *notes])}


def summary(counts: Mapping[Status, int]) -> str:
    """How many tasks have each status, in words."""
    return ", ".join(f"{counts[status]:,} {status}" for status in Status if counts.get(status)) or "no tasks"


def _page(shown: int, total: int | None, more: str) -> str:
    of = f" of {total:,}" if total else ", there are more"
    return f"the first {shown:,}{of}" + f"; {more}" * bool(more)


def row_of(task: Shown, now: float, reason: str | None = None) -> Row:
    """What stands in the row of a task; `reason` in place of its own, which may be dear to find."""
    bar = next(iter(bars.bars_of(task.progress())), None) if task.status is Status.RUNNING else None
    return Row(
        task.spec.short,
        one_line(task.spec.name, 60),
        task.status,
        _took(task, now),
        words.moment_near(task.submitted, now),
        one_line(_about(task, bar, task.reason if reason is None else reason), 120),
        bar,
    )


def _took(task: Shown, now: float) -> str:
    if task.status is Status.RUNNING and task.started:
        return words.clock(now - task.started)
    if task.outcome is not None and task.outcome.started:
        return words.duration(task.outcome.seconds)
    return ""


def _about(task: Shown, bar: Bar | None, reason: str) -> str:
    """The one thing worth saying: how far, why not yet, what came out, what went wrong."""
    outcome = task.outcome
    if bar is not None:
        parts = [f"{bar.label} {bar.count}".strip()]
        parts += [f"{bar.fraction:.0%}"] if bar.fraction is not None else []
        parts += [note for note in bar.notes if note.endswith(" left")]
        return " · ".join([*parts, *filter(None, [reason])])
    if outcome is None:
        return reason or bars.message_of(task.progress() if task.status is Status.RUNNING else None)
    if outcome.status is Status.FAILED and outcome.failure and not outcome.kind:
        kind = outcome.failure.type.rpartition(".")[2]  # the card has its module
        return f"{kind}: {outcome.failure.message}".removesuffix(": ")
    if outcome.status is not Status.SUCCEEDED:
        return outcome.reason or outcome.kind
    names = [variable.name for variable in outcome.variables if not variable.left_out]
    return (outcome.preview if outcome.preview != "None" else "") or ", ".join(names[:8])


def _html(rows: list[Row], summary: str, notes: Sequence[str]) -> str:
    quiet = f"font-size:12px;{_QUIET}"
    lines = [
        '<div class="tex2jax_ignore mathjax_ignore" style="max-width:860px;margin:4px 0;font-size:13px;'
        "line-height:1.45;font-family:var(--jp-ui-font-family,system-ui,sans-serif);"
        'color:var(--jp-ui-font-color1,inherit)">',
        f'<div style="{quiet}">{markup.escape(summary)}</div>',
    ]
    if rows:
        heads = [(name, _NUMBER if name == "time" else _CELL) for name in _HEADS]
        head = "".join(f'<th style="{look};font-weight:normal;{quiet}">{name}</th>' for name, look in heads)
        lines += ['<table style="border-collapse:collapse;table-layout:auto;margin:2px 0;border:none;font-size:13px">']
        lines += [f"<thead><tr>{head}</tr></thead>", "<tbody>", *map(_html_row, rows), "</tbody>", "</table>"]
    lines += [f'<div style="{quiet}">{markup.escape(note)}</div>' for note in notes]
    return "\n".join([*lines, "</div>"])


def _html_row(row: Row) -> str:
    icon, word = markup.mark(row.status)
    quiet = f"white-space:nowrap;{_QUIET}"
    cells = [
        (_CELL, f"{markup.code(row.short)}&ensp;<b>{markup.escape(row.name)}</b>"),
        (_CELL, f'<span style="white-space:nowrap">{icon} {word}</span>'),
        (_NUMBER, f'<span style="{quiet}">{markup.escape(row.time)}</span>' if row.time else ""),
        (_CELL, markup.escape(row.about)),
        (_CELL, f'<span style="{quiet}">{markup.escape(row.submitted)}</span>'),
    ]
    return "<tr>" + "".join(f'<td style="{look}">{cell}</td>' for look, cell in cells) + "</tr>"


def _text(rows: list[Row], summary: str, notes: Sequence[str]) -> str:
    lines = []
    if rows:
        texts = [row.texts for row in rows]
        widths = [max(_width(row[at]) for row in [_COLUMNS, *texts]) for at in range(len(_COLUMNS))]
        lines.append("    " + _aligned(_COLUMNS, widths))
        lines += [f"{MARKS[row.status].text} {_aligned(row.texts, widths)}" for row in rows]
    return "\n".join([*lines, summary, *map(one_line, notes)])


def _aligned(row: Sequence[str], widths: list[int]) -> str:
    cells = []
    for at, (text, width) in enumerate(zip(row, widths, strict=True)):
        room = " " * (width - _width(text))
        cells.append(room + text if at == _TIME else text + room)
    return "  ".join(cells).rstrip()


def _width(text: str) -> int:
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )
