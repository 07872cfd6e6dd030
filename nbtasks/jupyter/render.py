"""The card of a task: a record in, a MIME bundle out. No widgets, no state, nothing of the machine it ran on.

`card` gives HTML for the notebook, fit for git and for an untrusted viewer, and plain text for everywhere else.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbtasks.jupyter import ansi, bars, markup, pictures, traces, words
from nbtasks.jupyter.shown import MARKS, Bar, Block, Line, Piece, Shown, View
from nbtasks.jupyter.tables import table
from nbtasks.status import Status

__all__ = ["Shown", "card", "table"]

_FEW = 10  # lines of output that are simply shown
_LIVE = 8  # last lines of a running task
_SHORT = 25  # lines of a traceback that need no click


def card(
    task: Shown,
    *,
    now: float | None = None,
    ref: str = "",
    kept: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    bound: bool = True,
    outputs: Iterable[Mapping[str, Any]] = (),
) -> dict[str, str]:
    """The card of `task` as ``{"text/html": …, "text/plain": …}``.

    `now` is the moment shown (seconds since 1970), `ref` as much of the id as is unique (its last part by
    default), `kept` names this notebook did not bind and why, `notes` further sentences, and `outputs` what
    the task displayed, as nbformat outputs. ``bound=False``: the task is of another notebook or kernel.
    """
    kept = kept or {}
    if not bound and task.outcome is not None:
        kept = {variable.name: "" for variable in task.outcome.variables}
    view = look(task, now=time.time() if now is None else now, ref=ref, kept=kept, notes=notes, outputs=outputs)
    return {"text/html": markup.card(view), "text/plain": _text(view)}


def look(
    task: Shown,
    *,
    now: float,
    ref: str,
    kept: Mapping[str, str],
    notes: Sequence[str],
    outputs: Iterable[Mapping[str, Any]],
) -> View:
    """Everything that stands on the card of `task`, in words."""
    ref = ref or task.spec.short
    shown = list(outputs)
    images, texts, more = pictures.pictures_of(shown)
    progress = None if task.status is Status.SUCCEEDED else task.progress()
    message = bars.message_of(progress)
    lines = words.standing(task) + words.ending(task, pictures.has_result(shown)) + [(Piece(message),)] * bool(message)
    after = [*words.variables(task, kept), *((Piece(text),) for text in notes)]
    after += [(Piece(f"{more} "), Piece(f'nbtasks.get("{ref}").outputs', "code"))] if more else []
    early = task.status is not Status.FAILED  # a failure is first of all its traceback
    return View(
        status=task.status,
        name=task.spec.name,
        ref=ref,
        facts=words.facts(task, now),
        error=_error(task),
        lines=tuple(lines + after * early),
        bars=bars.bars_of(progress, live=not task.status.ended),
        trace=_trace(task, ref),
        log=_log(task),
        texts=texts,
        pictures=images,
        after=tuple(after * (not early)),
        foot=words.foot(task, ref, now),
    )


def _error(task: Shown) -> tuple[str, str] | None:
    failure = task.outcome.failure if task.outcome else None
    if failure is None or (task.outcome and task.outcome.kind) or not failure.type:
        return None
    return failure.type.removeprefix("builtins."), failure.message


def _trace(task: Shown, ref: str) -> Block | None:
    failure = task.outcome.failure if task.outcome else None
    if failure is None or not failure.traceback.strip():
        return None
    last = f"{failure.type}: {failure.message}" if failure.message else failure.type
    trace = traces.tidy(failure.traceback, last)
    where = traces.short_path(failure.where) if failure.where else "traceback"
    note = f'{trace.note}: nbtasks.get("{ref}").traceback' if trace.note else ""
    summary = " · ".join(filter(None, (where, note)))
    return Block(trace.text, summary, open=trace.text.count("\n") < _SHORT)


def _log(task: Shown) -> Block | None:
    if task.status in (Status.WAITING, Status.QUEUED):
        return None
    if task.status is Status.RUNNING:
        # A little more than is shown, as lines may be written over; the whole tail would cost 10 ms each time.
        log = task.log_tail(3 * _LIVE, ansi.SIZE // 5)
        return Block(log, lines=_LIVE) if log.strip() else None
    log = task.log_tail(ansi.LINES, ansi.SIZE)
    plain = ansi.to_text(log)
    if not plain:
        return None
    raised = task.status is Status.FAILED and task.outcome is not None and not task.outcome.kind
    if task.status is Status.FAILED and not raised:
        return Block(log, lines=_FEW)
    count = plain.count("\n") + 1
    if count <= _FEW and not raised:
        return Block(log)
    whole = count < ansi.LINES and len(log.encode(errors="replace")) < ansi.SIZE - 4
    return Block(log, f"output, {'' if whole else 'the last '}{words.plural(min(count, ansi.LINES), 'line')}")


def _text(view: View) -> str:
    """The card as plain text, for terminals and for files that are read as text."""
    died = view.status is Status.FAILED and view.facts[:1] and view.facts[0].startswith(("killed", "lost"))
    mark = "(!)" if died else MARKS[view.status].text
    head = [f"{mark} {ansi.one_line(view.name, 120)}", view.ref, str(view.status), *view.facts]
    body = [ansi.one_line(": ".join(filter(None, view.error)), 600)] if view.error else []
    body += [_plain(line) for line in view.lines]
    body += [_text_bar(bar) for bar in view.bars]
    if view.trace:
        body += [ansi.one_line(view.trace.summary), *_quoted(view.trace.text, 30)]
    body += _quoted(view.log.text, min(_FEW, view.log.lines)) if view.log else []
    for text in view.texts:
        body += _quoted(text, _FEW)
    body += [f"[{picture.alt}]" for picture in view.pictures]
    body += [_plain(line) for line in view.after]
    body += [_plain(view.foot)] if view.foot else []
    return "\n".join(["  ".join(head), *(f"    {line}" for line in body)])


def _plain(line: Line) -> str:
    return ansi.one_line("".join(piece.text for piece in line), 600)


def _text_bar(bar: Bar) -> str:
    parts = [f"{bar.label} {bar.count}".strip()]
    if bar.fraction is not None:
        done = round(bar.fraction * 24)
        parts += [f"|{'#' * done}{'-' * (24 - done)}|", f"{bar.fraction:4.0%}"]
    return "  ".join([*parts, *bar.notes])


def _quoted(text: str, most: int) -> list[str]:
    plain = ansi.to_text(text, lines=most)
    return [f"| {line}".rstrip() for line in plain.split("\n")] if plain.strip() else []
