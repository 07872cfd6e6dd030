"""The HTML of the live dashboard: counts, rows of one page, workers, throughput, timeline. All inline, all escaped.

The rows stand beside widgets of the same height, so nothing in them may break a line: what has no room is cut, and on
a narrow page the last columns wrap into the hidden part of the row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from nbtasks.jupyter import markup, words
from nbtasks.jupyter.dashboard_crew import Crew, SlotNow, WorkerNow
from nbtasks.jupyter.shown import MARKS
from nbtasks.jupyter.tables import Row
from nbtasks.queue import members
from nbtasks.status import Status

ROW = 28  # pixels
_MINUTES = 15
_LISTED = 20  # tasks of one worker
_SHORTEST = 10.0  # seconds on the timeline
_FONT = (
    "font-size:13px;line-height:1.45;font-family:var(--jp-ui-font-family,system-ui,sans-serif);"
    "color:var(--jp-ui-font-color1,inherit)"
)
_QUIET = "opacity:0.72"
_CUT = "overflow:hidden;text-overflow:ellipsis"
_NUMBER = f"text-align:right;{_QUIET}"
# What rows share stands once, above them: a page of rows goes over the wire each second. The width is that of the page,
# and never that of a long text.
_TABLE = f"width:0;min-width:100%;line-height:{ROW}px;white-space:nowrap;font-variant-numeric:tabular-nums"
_LINE = f"display:flex;flex-wrap:wrap;height:{ROW}px;overflow:hidden;column-gap:10px"
# Status, name, time, what there is to say, submitted: the width that each asks for, and what it takes of the rest.
_CELLS = (
    "flex:0 0 88px",
    f"flex:1 1 96px;{_CUT}",
    f"flex:0 0 52px;{_NUMBER}",
    f"flex:3 1 90px;{_CUT}",
    f"flex:0 0 70px;{_NUMBER}",
)
_HEADS = ("status", "task", "time", "", "submitted")
_FITS = 12  # characters of a name that always have room
_FULL, _EMPTY = MARKS[Status.RUNNING].colour, "rgba(128,128,128,0.35)"
_TRACK = (
    "display:inline-block;width:56px;height:6px;border-radius:3px;background:rgba(128,128,128,0.22);margin-right:8px"
)


class Span(NamedTuple):
    """One task on the timeline; times are seconds since 1970."""

    start: float
    end: float
    status: Status
    name: str
    short: str


def box(*blocks: str) -> str:
    """What stands in one HTML widget."""
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{_FONT}">{"".join(blocks)}</div>'


def printed(marked: str) -> str:
    """What a task printed, which is marked up already."""
    look = (
        f"{markup.MONO};margin:6px 0 0 0;padding:5px 9px;border-radius:3px;background:rgba(128,128,128,0.1);"
        "color:inherit;white-space:pre-wrap;overflow-wrap:break-word;overflow:auto;max-height:320px"
    )
    return f'<pre tabindex="0" aria-label="log" style="{look}">{marked}</pre>'


# Above the table.


def summary(counts: Mapping[Status, int], about: Sequence[str], minutes: Mapping[int, int], now: float) -> str:
    """How many tasks have each status, what else there is to say, and the throughput as a small chart.

    `minutes` says how many ended in each minute, counted since 1970.
    """
    parts = [
        f'<span style="white-space:nowrap">{markup.mark(status)[0]} <b>{counts[status]:,}</b> {status}</span>'
        for status in Status
        if counts.get(status)
    ]
    said = [f'<span style="white-space:nowrap">{markup.escape(text)}</span>' for text in about if text]
    line = "&ensp; ".join(parts) or "no tasks yet"
    quiet = f'<div style="font-size:12px;{_QUIET}">{" · ".join(said)}</div>' if said else ""
    return box(
        '<div style="display:flex;flex-wrap:wrap;gap:4px 24px;align-items:flex-end">',
        f'<div style="flex:1 1 200px">{line}{quiet}</div>{throughput(minutes, now)}</div>',
    )


def throughput(minutes: Mapping[int, int], now: float) -> str:
    """Tasks that ended in each of the last minutes, as bars with the same in words; "" when none did."""
    last = int(now // 60)
    found = [minutes.get(minute, 0) for minute in range(last - _MINUTES + 1, last + 1)]
    if not any(found):
        return ""
    most = max(found)
    said = f"{sum(found):,} ended in {_MINUTES} min"
    listed = ", ".join(map(str, found))
    bars = "".join(
        f'<i style="width:6px;height:{max(1, round(24 * count / most))}px;background:{_FULL if count else _EMPTY}"></i>'
        for count in found
    )
    label = f"{said}; in each, up to now: {listed}"
    return (
        f'<div style="text-align:right"><div role="img" aria-label="{label}" title="{label}" '
        f'style="height:24px;display:flex;column-gap:2px;align-items:flex-end;justify-content:flex-end">{bars}</div>'
        f'<div style="font-size:12px;white-space:nowrap;{_QUIET}">{said}</div></div>'
    )


def said(text: str) -> str:
    """What came of the last press, read out by screen readers."""
    return box(f'<div role="status" style="font-size:12px;min-height:18px">{markup.escape(text)}</div>')


# The table.


def rows(shown: Sequence[Row], selected: Collection[int], empty: str) -> str:
    """One page of the table; `selected` are indices of rows, `empty` is what stands there when there are none."""
    lines = [f'<div role="row" style="{_LINE};font-size:12px;{_QUIET}">{_cells(_HEADS, "columnheader")}</div>']
    lines += [_row(row, at in selected) for at, row in enumerate(shown)]
    if not shown:
        lines.append(f'<div style="{_LINE};{_QUIET}">{markup.escape(empty)}</div>')
    return box(f'<div role="table" aria-label="tasks" style="{_TABLE}">{"".join(lines)}</div>')


def _row(row: Row, selected: bool) -> str:
    look = MARKS[row.status]
    about = markup.escape(row.about)
    if row.bar is not None and row.bar.fraction is not None:
        fill = f"display:block;width:{row.bar.fraction:.0%};height:6px;border-radius:3px;background:{look.colour}"
        about = f'<span style="{_TRACK}"><span style="{fill}"></span></span>{about}'
    elif row.status is Status.FAILED:
        about = f'<span style="color:{look.colour}">{about}</span>'
    name = markup.escape(row.name)
    tip = f' title="{name}"' if len(row.name) > _FITS else ""
    status = f'<b style="color:{look.colour};font-weight:600">{look.icon} {row.status}</b>'
    cells = (status, f"<b{tip}>{name}</b>", markup.escape(row.time), about, markup.escape(row.submitted))
    back = ";background:rgba(25,118,210,0.12)" if selected else ""
    line = f"{_LINE};box-sizing:border-box;border-top:1px solid rgba(128,128,128,0.16){back}"
    return f'<div role="row" style="{line}">{_cells(cells)}</div>'


def _cells(texts: Sequence[str], role: str = "cell") -> str:
    return "".join(
        f'<span role="{role}" style="{look}">{text}</span>' for text, look in zip(texts, _CELLS, strict=True)
    )


# Below the table.


def workers(crew: Crew, names: Mapping[str, str], now: float, notes: Sequence[str] = ()) -> str:
    """Every worker with its slots: what each runs, since when, with how much memory. `names` of tasks, by id."""
    blocks = [_worker(worker, names, now) for worker in crew.workers]
    if not any(worker.member for worker in crew.workers):
        blocks.append("<div>no worker lives; the next submit starts one, or <code>nbtasks worker</code></div>")
    blocks += [f'<div style="{_QUIET}">{markup.escape(note)}</div>' for note in notes]
    return box(*blocks)


def _worker(worker: WorkerNow, names: Mapping[str, str], now: float) -> str:
    member = worker.member
    if member is None:
        head = "<b>slots of no worker here</b>"
    else:
        facts = [f"pid {member.process.pid}", f"lanes {', '.join(member.lanes)}" if member.lanes else ""]
        facts += [] if members.is_foreign(member) else [words.plural(member.slots, "slot")]
        facts += [member.engine]
        facts += [f"since {words.moment_near(member.started, now)}", "started by itself" if member.auto else ""]
        said = markup.escape(" · ".join(filter(None, facts)))
        head = f'<b>worker {markup.escape(member.name[2:])}</b>&ensp;<span style="{_QUIET}">{said}</span>'
    busy = sum(bool(slot.id) for slot in worker.slots)
    is_here = member is not None and not members.is_foreign(member)
    idle = member.slots - busy if member is not None and is_here else 0
    lines = [_slot(slot, names, now) for slot in worker.slots[:_LISTED] if slot.id]
    if busy > _LISTED:
        lines.append(f'<div style="padding-left:16px;{_QUIET}">and {words.plural(busy - _LISTED, "task")} more</div>')
    if idle > 0:
        lines.append(f'<div style="padding-left:16px;{_QUIET}">{words.plural(idle, "slot")} idle</div>')
    return f'<div style="margin-bottom:6px"><div>{head}</div>{"".join(lines)}</div>'


def _slot(slot: SlotNow, names: Mapping[str, str], now: float) -> str:
    icon = markup.mark(Status.RUNNING)[0]
    facts = [words.clock(now - slot.since)] if slot.since else []
    facts += [words.size(slot.memory)] if slot.memory else []
    facts += [f"{slot.cores:.1f} cores"] if slot.cores is not None else []
    name = markup.escape(names.get(slot.id, ""))
    return (
        f'<div style="padding-left:16px;display:flex;column-gap:12px"><span style="white-space:nowrap;{_CUT}">{icon} <b>{name}</b> '
        f'{markup.code(slot.id.rpartition("-")[2])}</span><span style="white-space:nowrap;{_QUIET};'
        f'font-variant-numeric:tabular-nums">{" · ".join(facts)}</span></div>'
    )


def timeline(spans: Sequence[Span], now: float, listed: int = 8) -> str:
    """Tasks as bars over time, as many lines as ran at once, and the last of them in words."""
    if not spans:
        return box(f'<div style="{_QUIET}">nothing ran in the last {_MINUTES} minutes</div>')
    begin = max(now - _MINUTES * 60, min(now - _SHORTEST, *(span.start for span in spans)))
    width = now - begin
    lanes = "".join(
        f'<div style="position:relative;height:14px;margin:2px 0;background:rgba(128,128,128,0.08)">'
        f"{''.join(_bar(span, begin, width) for span in lane)}</div>"
        for lane in _lanes(spans)
    )
    axis = (
        f'<div style="display:flex;justify-content:space-between;font-size:12px;{_QUIET}">'
        f"<span>{words.moment(begin).split()[1]}</span><span>now</span></div>"
    )
    last = sorted(spans, key=lambda span: span.end, reverse=True)[:listed]
    said = "".join(f"<div>{_said(span, now)}</div>" for span in last)
    label = f"{words.plural(len(spans), 'task')} since {words.moment(begin).split()[1]}, listed below"
    return box(f'<div role="img" aria-label="{label}">{lanes}</div>{axis}<div style="margin-top:6px">{said}</div>')


def _lanes(spans: Sequence[Span], most: int = 10) -> list[list[Span]]:
    """The spans on as few lines as they fit without overlapping."""
    lanes: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: span.start):
        free = next((lane for lane in lanes if lane[-1].end <= span.start), None)
        if free is not None:
            free.append(span)
        elif len(lanes) < most:
            lanes.append([span])
    return lanes


def _bar(span: Span, begin: float, width: float) -> str:
    left = max(0.0, (span.start - begin) / width * 100)
    share = max(0.3, (span.end - max(span.start, begin)) / width * 100)
    label = markup.escape(f"{span.name} {span.short} {span.status}")
    return (
        f'<span title="{label}" style="position:absolute;left:{min(left, 99.7):.2f}%;width:{min(share, 100 - left):.2f}%;'
        f"min-width:3px;height:14px;border-radius:2px;background:{MARKS[span.status].colour};background-clip:padding-box;"
        f'box-sizing:border-box;border-right:1px solid transparent;opacity:0.85"></span>'
    )


def _said(span: Span, now: float) -> str:
    icon, word = markup.mark(span.status)
    took = words.clock(now - span.start) if span.status is Status.RUNNING else words.duration(span.end - span.start)
    when = words.moment(span.start).split()[1]
    return (
        f'<span style="{_QUIET};font-variant-numeric:tabular-nums">{when}</span>&ensp;{icon} {word} '
        f'<b>{markup.escape(span.name)}</b> {markup.code(span.short)} <span style="{_QUIET}">{took}</span>'
    )
