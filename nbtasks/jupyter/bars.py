"""Progress bars of a task as parts of a card. The numbers come from the task, so none of them is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.shown import Bar
from nbtasks.jupyter.words import clock, number, size

_BARS = 6


def bars_of(progress: Mapping[str, Any] | None, *, live: bool = True) -> tuple[Bar, ...]:
    """The bars worth showing, outermost first: the open ones; when all are closed, those that did not get to their end.

    (An exception closes the bars that it goes through.) When all did, the last one.

    Not `live`: without rate and time left, which ended with the task.
    """
    found = progress.get("bars") if isinstance(progress, Mapping) else None
    states = [state for state in found if isinstance(state, Mapping)] if isinstance(found, list) else []
    shown = [state for state in states if not state.get("closed")] or list(filter(_is_cut_short, states)) or states[-1:]
    return tuple(_bar(state, live) for state in shown[:_BARS])


def _is_cut_short(state: Mapping[str, Any]) -> bool:
    done, total = _finite(state.get("n")), _finite(state.get("total"))
    return done is not None and total is not None and done < total


def message_of(progress: Mapping[str, Any] | None) -> str:
    """What the task says of its progress beside the bars, on one line."""
    return one_line(progress.get("message") or "") if isinstance(progress, Mapping) else ""


def _bar(state: Mapping[str, Any], live: bool) -> Bar:
    done, total, rate = (_finite(state.get(key)) for key in ("n", "total", "rate"))
    done = done or 0.0
    rate = rate if rate and rate > 1e-9 else None
    unit = one_line(state.get("unit") or "it", 20)
    fraction = min(1.0, done / total) if total else None
    count = "/".join(_amount(value, unit) for value in ((done, total) if total else (done,)))
    if unit not in ("it", "B"):
        count += f" {unit}"
    notes = [_rate(rate, unit)] if rate and live else []
    if rate and total and live and not state.get("closed") and done < total:
        notes.append(f"{clock((total - done) / rate)} left")
    elif not total and (elapsed := _finite(state.get("elapsed"))):
        notes.append(clock(elapsed))
    postfix = one_line(state.get("postfix") or "", 80)
    return Bar(one_line(state.get("desc") or "", 60), fraction, count, tuple(notes + [postfix] * bool(postfix)))


def _finite(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e15:
        return float(value)
    return None


def _amount(value: float, unit: str) -> str:
    return size(value) if unit == "B" else number(value)


def _rate(rate: float, unit: str) -> str:
    if unit == "B":
        return f"{size(rate)}/s"
    if rate < 1:
        return f"{_short(1 / rate)} s/{unit}"
    return f"{_short(rate)} {unit}/s"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.3g}"
