"""Schedules as a table, in HTML and in plain text: when, when next, the code's date, and the row of marks."""

from __future__ import annotations

from collections.abc import Sequence

from nbtasks.errors import NbtasksError
from nbtasks.jupyter import markup, words
from nbtasks.jupyter.shown import MARKS
from nbtasks.schedule_words import BAD, GOOD, LIVE, Moment, moment_words, next_words
from nbtasks.scheduling import Schedule
from nbtasks.status import Status

_HEADS = ("schedule", "when", "next", "code of", "history")
_CELL = "text-align:left;vertical-align:top;padding:3px 12px 3px 0;border:none"
_QUIET = "opacity:0.72"
_STATUS = {GOOD: Status.SUCCEEDED, BAD: Status.FAILED, LIVE: Status.RUNNING}
_NONE = "no schedules; nbtasks.every('10m', function) makes one"

Row = tuple[str, str, str, str, list[Moment]]


def bundle(found: Sequence[Schedule], sentence: str = "") -> dict[str, str]:
    """Schedules as ``{"text/html": …, "text/plain": …}``, with a sentence below."""
    rows = [row_of(one) for one in found]
    return {"text/html": _html(rows, sentence), "text/plain": text(rows, sentence)}


def row_of(schedule: Schedule) -> Row:
    """Name, when, next, the code's date, and the last moments of a schedule."""
    try:
        entry = schedule.entry
        soon = next_words(entry).removeprefix("next ")
        return entry.name, entry.when, soon, words.moment(entry.registered), schedule.history()
    except NbtasksError as error:  # removed since, or damaged
        return schedule.name, str(error), "", "", []


def marks(moments: Sequence[Moment]) -> str:
    """The row of marks, the latest last: ``✓ ✓ ✕ – …``."""
    return " ".join(moment.mark for moment in moments)


def text(rows: Sequence[Row], sentence: str = "") -> str:
    """The table in plain text."""
    if not rows:
        return _NONE
    cells = [_HEADS, *((*row[:4], marks(row[4])) for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(_HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, *filter(None, [sentence])])


def _html(rows: Sequence[Row], sentence: str) -> str:
    if not rows:
        return markup.plain(_NONE)
    quiet = f"font-size:12px;{_QUIET}"
    head = "".join(f'<th style="{_CELL};font-weight:normal;{quiet}">{name}</th>' for name in _HEADS)
    lines = [
        '<div class="tex2jax_ignore mathjax_ignore" style="max-width:860px;margin:4px 0;font-size:13px;line-height:1.45;'
        'font-family:var(--jp-ui-font-family,system-ui,sans-serif);color:var(--jp-ui-font-color1,inherit)">',
        '<table style="border-collapse:collapse;margin:2px 0;border:none;font-size:13px">',
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>", *map(_html_row, rows), "</tbody>", "</table>",
    ]  # fmt: skip
    lines += [f'<div style="{quiet}">{markup.escape(sentence)}</div>'] if sentence else []
    return "\n".join([*lines, "</div>"])


def _html_row(row: Row) -> str:
    name, when, soon, code, moments = row
    cells = [
        f"<b>{markup.escape(name)}</b>", markup.escape(when), markup.escape(soon), markup.escape(code),
        " ".join(map(_mark, moments)),
    ]  # fmt: skip
    return "<tr>" + "".join(f'<td style="{_CELL}">{cell}</td>' for cell in cells) + "</tr>"


def _mark(moment: Moment) -> str:
    about = markup.escape(f"{moment_words(moment.time)}: {moment.why}")
    status = _STATUS.get(moment.mark)
    look = f"color:{MARKS[status].colour};font-weight:bold" if status else _QUIET
    return f'<span style="{look}" title="{about}">{moment.mark}</span>'
