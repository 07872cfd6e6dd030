"""A pipeline on the page: its graph, a timeline, and the same as text.

The boxes are HTML with inline styles and the lines between them a picture, so that an untrusted viewer, which drops
SVG and style sheets, shows the same as a trusted one; where styles are dropped, too, the boxes are a list in order.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise

from nbtasks.graph import Member, Pipeline, status_counts, status_of
from nbtasks.jupyter import markup, words
from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.graph_shape import BOX, MOST, REST, Plan, Step, plan, steps_of
from nbtasks.jupyter.shown import MARKS
from nbtasks.status import LIVE, Status

_TEXT = (
    "font-size:13px;line-height:1.4;font-family:var(--jp-ui-font-family,system-ui,sans-serif);"
    "color:var(--jp-ui-font-color1,inherit)"
)
_QUIET = "opacity:0.72"
_CUT = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
_FRAME = "rgba(128,128,128,0.35)"
_LINE = "#8c8c8c"
_ROWS = 20  # of the timeline
_ORDER = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.RUNNING, Status.QUEUED, Status.WAITING)


def bundle(pipeline: Pipeline, *, now: float | None = None) -> dict[str, str]:
    """The pipeline as ``{"text/html": …, "text/plain": …}``."""
    members = pipeline.look(spans=True)
    moment = time.time() if now is None else now
    steps = steps_of(members)
    return {
        "text/html": _html(pipeline.name, members, steps, moment),
        "text/plain": text(pipeline.name, members, steps, moment),
    }


def head_of(members: Mapping[str, Member], now: float) -> list[str]:
    """What is said beside the name and the status: how many have ended, what went wrong, how long it took."""
    counts = status_counts(members)
    ended = sum(counts.get(status, 0) for status in Status if status.ended)
    facts = [
        f"{ended:,} of {words.plural(len(members), 'task')} ended"
        if ended < len(members)
        else words.plural(ended, "task")
    ]
    facts += [f"{counts[status]:,} {status}" for status in (Status.FAILED, Status.CANCELLED) if counts.get(status)]
    spans = [one.span for one in members.values() if one.span]
    if spans:
        begin, end = min(start for start, _ in spans), max(end or now for _, end in spans)
        live = any(counts.get(status) for status in LIVE)
        facts.append(words.clock(now - begin) if live else words.duration(end - begin))
    return facts


def _html(name: str, members: Mapping[str, Member], steps: list[Step], now: float) -> str:
    icon, word = markup.mark(status_of(status_counts(members)))
    facts = markup.escape(" · ".join(head_of(members, now)) if members else "no tasks yet")
    head = [icon, f"<b>{markup.escape(name)}</b>", word, f'<span style="{_QUIET}">{facts}</span>']
    lines = [
        f'<div class="tex2jax_ignore mathjax_ignore" style="margin:4px 0;overflow-wrap:break-word;{_TEXT}">',
        f'<div style="margin-bottom:8px">{"&ensp;".join(head)}</div>',
        *([_graph(name, steps, plan(steps), now), _timeline(steps, now)] if steps else []),
        *(
            [f'<div style="font-size:12px;{_QUIET}">{_put_together(members, steps)}</div>']
            if len(steps) < len(members)
            else []
        ),
    ]
    return "\n".join([*lines, "</div>"])


def _put_together(members: Mapping[str, Member], steps: Sequence[Step]) -> str:
    rest = next((step for step in steps if step.name == REST), None)
    more = f"; “{REST}” are those of rarer names" if rest else ""
    return (
        f"{len(members):,} tasks in {len(steps)} steps: of more than {MOST}, those of one name are put together{more}"
    )


# The graph.


def _graph(name: str, steps: Sequence[Step], laid: Plan, now: float) -> str:
    size = f"width:{laid.width}px;height:{laid.height}px"
    lines = (
        f'<img alt="" src="{_edges(laid)}" width="{laid.width}" height="{laid.height}" '
        f'style="position:absolute;left:0px;top:0px;{size};max-width:none;margin:0">'
        if laid.edges
        else ""
    )
    boxes = "\n".join(_box(step, steps, place, now) for step, place in zip(steps, laid.boxes, strict=True))
    label = markup.escape(f"graph of {name}: {words.plural(len(steps), 'step')}")
    return (
        f'<div role="group" aria-label="{label}" style="overflow:auto;max-height:640px;margin-bottom:6px">\n'
        f'<div style="position:relative;{size}">{lines}\n{boxes}</div>\n</div>'
    )


def _box(step: Step, steps: Sequence[Step], place: tuple[int, int], now: float) -> str:
    look = MARKS[step.status]
    after = ", ".join(steps[parent].name for parent in step.parents[:6])
    title = markup.escape(f"{step.name}: {_counted(step)}{f'; after {after}' if after else ''}")
    many = f' <span style="{_QUIET}">× {len(step.ids):,}</span>' if len(step.ids) > 1 else ""
    style = (
        f"position:absolute;left:{place[0]}px;top:{place[1]}px;width:{BOX[0]}px;height:{BOX[1]}px;box-sizing:border-box;"
        f"border:1px solid {_FRAME};border-left:4px solid {look.colour};border-radius:4px;padding:3px 8px;overflow:hidden;"
        "line-height:1.35"
    )
    return (
        f'<div title="{title}" style="{style}"><div style="{_CUT}"><span style="color:{look.colour};font-weight:bold">{look.icon}</span> '
        f"<b>{markup.escape(step.name, 60)}</b>{many}</div>{_below(step, now)}</div>"
    )


def _below(step: Step, now: float) -> str:
    """The second line of a box: id and time of one task, a bar of the statuses of many."""
    quiet = f"font-size:12px;{_QUIET};{_CUT}"
    if len(step.ids) == 1:
        facts = " · ".join(filter(None, (str(step.status), _took(step, now) or _not_run(step))))
        return f'<div style="{quiet}">{markup.code(step.short)} {markup.escape(facts)}</div>'
    total = len(step.ids)
    parts = [(status, step.counts[status]) for status in _ORDER if step.counts[status]]
    bar = "".join(
        f'<span style="display:inline-block;vertical-align:top;width:{100 * count / total:.4g}%;height:6px;'
        f'background:{MARKS[status].colour if status not in (Status.QUEUED, Status.WAITING) else "rgba(128,128,128,0.25)"}"></span>'
        for status, count in parts
    )
    track = f'<span style="display:inline-block;vertical-align:middle;width:84px;height:6px;line-height:0;overflow:hidden;border-radius:3px">{bar}</span>'
    done = sum(count for status, count in parts if status.ended)
    said = f"{step.counts[Status.FAILED]:,} failed" if step.counts[Status.FAILED] else f"{done:,}/{total:,}"
    return f'<div style="{_CUT}">{track} <span style="font-size:12px;{_QUIET}">{said}</span></div>'


def _counted(step: Step) -> str:
    return ", ".join(f"{step.counts[status]:,} {status}" for status in _ORDER if step.counts[status])


def _not_run(step: Step) -> str:
    return "did not run" if step.status is Status.FAILED else ""  # it failed with one that it needs


def _took(step: Step, now: float) -> str:
    if step.span is None:
        return ""
    start, end = step.span
    return words.clock(now - start) if end is None else words.duration(end - start)


def _edges(laid: Plan) -> str:
    """The lines between the boxes, as the address of a picture."""
    paths = "".join(f'<path d="{_path(points, laid.down)}"/>' for points in laid.edges)
    heads = "".join(f'<path d="{_head(points[-1], laid.down)}"/>' for points in laid.edges)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{laid.width}" height="{laid.height}">'
        f'<g fill="none" stroke="{_LINE}" stroke-width="1.2">{paths}</g><g fill="{_LINE}">{heads}</g></svg>'
    )
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def _path(points: Sequence[tuple[float, float]], down: bool) -> str:
    """A smooth line that leaves and arrives along the layers."""
    parts = [f"M{points[0][0]:.0f} {points[0][1]:.0f}"]
    for (x, y), (u, v) in pairwise(points):
        if down:
            middle = (y + v) / 2
            parts.append(f"C{x:.0f} {middle:.0f} {u:.0f} {middle:.0f} {u:.0f} {v:.0f}")
        else:
            middle = (x + u) / 2
            parts.append(f"C{middle:.0f} {y:.0f} {middle:.0f} {v:.0f} {u:.0f} {v:.0f}")
    return "".join(parts)


def _head(point: tuple[float, float], down: bool) -> str:
    x, y = point
    if down:
        return f"M{x:.0f} {y:.0f}l-3.5 -6h7z"
    return f"M{x:.0f} {y:.0f}l-6 -3.5v7z"


# The timeline.


def _timeline(steps: Sequence[Step], now: float) -> str:
    spans = [step.span for step in steps if step.span]
    if not spans:
        return ""
    begin = min(start for start, _ in spans)
    width = max(max(end or now for _, end in spans) - begin, 0.001)
    rows = "\n".join(_row(step, begin, width, now) for step in steps[:_ROWS] if step.span)
    axis = (
        f'<div style="display:flex;font-size:12px;{_QUIET}"><span style="flex:0 0 150px;width:150px">from {words.moment(begin).split()[-1]}</span>'
        f'<span style="flex:1 1 auto;text-align:right;padding-right:76px">+ {words.duration(width)}</span></div>'
    )
    return (
        '<details style="max-width:830px"><summary style="cursor:pointer">'
        f'<span style="{_QUIET}">timeline</span></summary>\n{rows}\n{axis}</details>'
    )


def _row(step: Step, begin: float, width: float, now: float) -> str:
    assert step.span is not None
    start, end = step.span
    left, share = (start - begin) / width * 100, ((end or now) - start) / width * 100
    many = f" × {len(step.ids):,}" if len(step.ids) > 1 else ""
    bar = (
        f"position:absolute;left:{min(left, 99.5):.2f}%;width:{max(share, 0.4):.2f}%;height:12px;top:4px;border-radius:2px;"
        f"background:{MARKS[step.status].colour}"
    )
    return (
        f'<div style="display:flex;height:20px;line-height:20px;font-size:12px"><span style="flex:0 0 150px;width:150px;{_CUT}">'
        f'{markup.escape(step.name, 60)}<span style="{_QUIET}">{many}</span></span><span style="flex:1 1 auto;position:relative;'
        f'height:20px;border-bottom:1px solid rgba(128,128,128,0.14)"><span style="{bar}"></span></span>'
        f'<span style="flex:0 0 70px;width:70px;text-align:right;{_QUIET}">{_took(step, now)}</span></div>'
    )


# As text.


def text(name: str, members: Mapping[str, Member], steps: Sequence[Step], now: float) -> str:
    """The pipeline in plain text: a line for each step, a layer further in than what it comes after."""
    status = status_of(status_counts(members))
    head = [f"{MARKS[status].text} pipeline {one_line(name, 60)}", str(status), *head_of(members, now)]
    return "\n".join(["  ".join(head), *(f"    {line}" for line in text_lines(steps, now))])


def text_lines(steps: Sequence[Step], now: float) -> list[str]:
    """One line for each step."""
    return [f"{MARKS[step.status].text} {label}" for step, label in zip(steps, labels(steps, now), strict=True)]


def labels(steps: Sequence[Step], now: float) -> list[str]:
    """What is said of each step on its line, indented by its layer."""
    names = [
        "  " * step.layer + one_line(step.name, 60) + (f" × {len(step.ids):,}" if len(step.ids) > 1 else "")
        for step in steps
    ]
    width = min(48, max(map(len, names), default=0))
    found = []
    for step, name in zip(steps, names, strict=True):
        facts = [step.short, str(step.status)] if step.short else [_counted(step)]
        facts += [_took(step, now) or (_not_run(step) if step.short else "")]
        after = ", ".join(dict.fromkeys(steps[parent].name for parent in step.parents))
        facts += [f"<- {one_line(after, 60)}"] if after else []
        found.append(f"{name:<{width}}  {'  '.join(filter(None, facts))}")
    return found
