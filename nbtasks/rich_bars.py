"""rich's progress as bars of the card instead of a drawing that is made anew ten times a second.

What is replaced are the few methods of ``rich.progress.Progress`` that draw; counting and timing stay rich's own. A
progress that the user sends to a file stays as it is. Other live displays of rich (tables, spinners) show their last
state when they end: in a notebook rich draws them by a widget, which a task has not.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from nbtasks.bars import bars_here

_BYTES = frozenset({"DownloadColumn", "FileSizeColumn", "TotalFileSizeColumn", "TransferSpeedColumn"})
_ROWS = "_nbtasks_rows"
_FIELDS = 4  # values beside a bar


class RichRow:
    """A task of a progress, read when the state is sent; its last figures once it is over."""

    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task = progress, task
        self._last: dict[str, Any] = {}

    @property
    def closed(self) -> bool:
        """True when it is complete, or its progress has stopped."""
        return bool(self._task is None or self._task.finished)

    def row(self) -> dict[str, Any]:
        """Its entry in the state."""
        if self._task is not None:
            self._last = _read(self._progress, self._task)
        return {**self._last, "closed": self.closed}

    def close(self) -> None:
        """Read the figures for the last time."""
        self.row()
        self._progress = self._task = None


def _read(progress: Any, task: Any) -> dict[str, Any]:
    elapsed = task.elapsed or 0.0
    speed = task.finished_speed or task.speed or (task.completed / elapsed if elapsed else None)
    in_bytes = any(type(column).__name__ in _BYTES for column in progress.columns)
    return {
        "desc": _plain(task.description), "n": task.completed, "total": task.total, "unit": "B" if in_bytes else "it",
        "rate": round(speed, 6) if speed else None, "elapsed": round(elapsed, 3), "postfix": _fields(task.fields),
    }  # fmt: skip


def _plain(text: Any) -> str:
    """A description without its markup."""
    from rich.text import Text  # there already, or there would be no bar

    try:
        return str(Text.from_markup(str(text)).plain)
    except Exception:  # brackets that are no markup
        return str(text)


def _fields(fields: Mapping[str, Any]) -> str:
    shown = [(name, value) for name, value in fields.items() if isinstance(value, (str, int, float)) and value != ""]
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={_plain(value)}"
        for name, value in shown[:_FIELDS]
    )


def _is_ours(console: Any) -> bool:
    """Whether a console writes to where the task prints, and somebody takes the bars."""
    ours = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return bars_here().emit is not None and console.file in ours and not console.record


def _sync(progress: Any) -> None:
    """Bring the rows up to date with the tasks that are there and to be seen."""
    rows: dict[Any, RichRow] = progress.__dict__.setdefault(_ROWS, {})
    tasks = {task.id: task for task in progress.tasks if task.visible}
    for id in [id for id in rows if id not in tasks]:
        bars_here().drop(rows.pop(id))
    for id, task in tasks.items():
        if id not in rows:
            rows[id] = row = RichRow(progress, task)
            bars_here().add(row)
    bars_here().changed()


# What takes the place of a method is called with the method itself behind `self`.


def _start(self: Any, plain: Any) -> None:
    if self.disable or not _is_ours(self.console):
        plain(self)
        return
    self.live._started = True  # `track` counts for as long as it is; nothing is drawn
    _sync(self)


def _stop(self: Any, plain: Any) -> None:
    if _ROWS not in self.__dict__ or self.live._refresh_thread is not None:
        plain(self)
        return
    self.live._started = False
    rows: dict[Any, RichRow] = self.__dict__.pop(_ROWS)
    for row in rows.values():
        row.close()
        if self.live.transient:
            bars_here().drop(row)
    bars_here().changed()


def _refresh(self: Any, plain: Any) -> None:
    if _ROWS in self.__dict__:
        bars_here().changed()
    else:
        plain(self)


def _add_task(self: Any, plain: Any, *args: Any, **kwargs: Any) -> Any:
    id = plain(self, *args, **kwargs)
    if not self.disable and _is_ours(self.console):
        _sync(self)
    return id


def _update(self: Any, plain: Any, *args: Any, **kwargs: Any) -> None:
    plain(self, *args, **kwargs)
    if _ROWS in self.__dict__:
        if kwargs.get("visible") is not None:
            _sync(self)
        bars_here().changed()


def _advance(self: Any, plain: Any, *args: Any, **kwargs: Any) -> None:
    plain(self, *args, **kwargs)
    if _ROWS in self.__dict__ and not bars_here().waiting:
        bars_here().changed()


def _remove_task(self: Any, plain: Any, *args: Any, **kwargs: Any) -> None:
    plain(self, *args, **kwargs)
    if _ROWS in self.__dict__:
        _sync(self)


def _refresh_live(self: Any, plain: Any) -> None:
    if not (self.console.is_jupyter and _is_ours(self.console)):
        plain(self)


def _stop_live(self: Any, plain: Any) -> None:
    ours = self.is_started and self.console.is_jupyter and _is_ours(self.console)
    shown = self.renderable if ours and not self.transient and not self._nested else None
    plain(self)
    if shown is not None:
        self.console.print(shown)


_PROGRESS = {
    "start": _start, "stop": _stop, "refresh": _refresh, "add_task": _add_task, "update": _update,
    "advance": _advance, "remove_task": _remove_task,
}  # fmt: skip


def adapt(module: ModuleType) -> None:
    """Take over ``rich.progress``."""
    _replace(module.Progress, _PROGRESS)


def adapt_live(module: ModuleType) -> None:
    """Take over ``rich.live`` where it would draw by a widget."""
    _replace(module.Live, {"refresh": _refresh_live, "stop": _stop_live})


def _replace(cls: Any, methods: Mapping[str, Any]) -> None:
    for name, ours in methods.items():
        setattr(cls, name, functools.partialmethod(ours, getattr(cls, name)))
