"""tqdm of any flavour as bars of the card instead of text on stderr, from the moment it is imported.

What is replaced are the few methods of ``tqdm.std.tqdm`` that draw; counting, timing and nesting stay tqdm's own.
A bar that the user sends to a file stays as it is, and so do all bars where nobody listens (a child process).
"""

from __future__ import annotations

import importlib
import sys
import time
import weakref
from types import ModuleType
from typing import Any

from nbtasks.bars import bars_here
from nbtasks.imports import when_imported

_installed = False


def install() -> None:
    """Adapt tqdm now or when it is imported."""
    global _installed
    if not _installed:
        _installed = True
        when_imported("tqdm.std", _adapt)
        when_imported("tqdm.notebook", lambda module: _replace(module, "tqdm_notebook"))
        when_imported("tqdm.rich", lambda module: _replace(module, "tqdm_rich"))


class TqdmRow:
    """A bar of tqdm, read when the state is sent; its last figures once it is closed."""

    def __init__(self, bar: Any) -> None:
        self._bar = weakref.ref(bar)
        self._last: dict[str, Any] = {}
        self._started = time.monotonic()
        self.closed = False

    def row(self) -> dict[str, Any]:
        """Its entry in the state."""
        bar = self._bar()
        if bar is not None and not self.closed:
            self._last = self._read(bar)
        return {**self._last, "closed": self.closed}

    def close(self, keep: bool) -> None:
        """Read the figures for the last time; without `keep` the bar is gone, as tqdm's ``leave=False`` has it."""
        self.row()
        self.closed = True
        if not keep:
            bars_here().drop(self)
        bars_here().changed()

    def _read(self, bar: Any) -> dict[str, Any]:
        elapsed = time.monotonic() - self._started
        done = bar.n - (bar.initial or 0)
        factor = 1 if isinstance(bar.unit_scale, bool) or not bar.unit_scale else bar.unit_scale
        row = {
            "desc": (bar.desc or "").removesuffix(": "), "n": _plain(bar.n * factor),
            "total": None if bar.total is None else _plain(bar.total * factor), "unit": bar.unit,
            "rate": round(float(done * factor) / elapsed, 6) if elapsed > 0 and done else None,
            "elapsed": round(elapsed, 3), "postfix": str(bar.postfix or ""),
        }  # fmt: skip
        if bar.unit_scale:
            row["divisor"] = bar.unit_divisor
        return row


def _plain(number: Any) -> float:
    """numpy's numbers as Python's: they go into JSON."""
    return number.item() if hasattr(number, "item") else number  # type: ignore[no-any-return]  # whatever it is, it is a number


def _find_row(bar: Any) -> TqdmRow | None:
    """The row of a bar that we draw; None when tqdm shall draw it."""
    row: TqdmRow | None = bar.__dict__.get("_nbtasks_row")
    if row is not None:
        return row if bars_here().emit is not None else None
    if bars_here().emit is None or getattr(bar, "fp", None) not in (
        sys.stderr,
        sys.stdout,
        sys.__stderr__,
        sys.__stdout__,
    ):
        return None
    row = bar._nbtasks_row = TqdmRow(bar)
    if bar.dynamic_miniters:
        # Guessed from the speed so far, it would leave the bar behind when a quick loop turns slow;
        # tqdm mends that by a thread, which a task that forks shall not have.
        bar.dynamic_miniters, bar.miniters = False, 1
    bars_here().add(row)
    return row


def _adapt(module: ModuleType) -> None:
    cls: Any = module.tqdm
    cls.monitor_interval = 0
    draw, clear, close, moveto = cls.display, cls.clear, cls.close, cls.moveto

    def display(self: Any, msg: str | None = None, pos: int | None = None) -> Any:
        if _find_row(self) is None:
            return draw(self, msg, pos)
        bars_here().changed()
        return True

    def clear_line(self: Any, nolock: bool = False) -> None:
        if _find_row(self) is None:
            clear(self, nolock)

    def move_line(self: Any, n: int) -> None:
        if _find_row(self) is None:
            moveto(self, n)

    def close_bar(self: Any) -> None:
        row = self.__dict__.get("_nbtasks_row")
        if row is None or row.closed or bars_here().emit is None:
            close(self)
            return
        self.disable = True
        self._decr_instances(self)
        row.close(keep=self.leave or (self.leave is None and not self.pos))

    cls.display, cls.clear, cls.moveto, cls.close = display, clear_line, move_line, close_bar


def _replace(module: ModuleType, name: str) -> None:
    """A flavour that draws by itself (widgets, rich) becomes the plain one, under its own names."""
    std: Any = importlib.import_module("tqdm.std")

    def init(self: Any, *args: Any, display: bool = True, options: Any = None, **kwargs: Any) -> None:
        std.tqdm.__init__(self, *args, **kwargs)

    cls = type(name, (std.tqdm,), {"__init__": init, "__module__": module.__name__})

    def trange(*args: Any, **kwargs: Any) -> Any:
        return cls(range(*args), **kwargs)

    short = name.removeprefix("tqdm_")[0]  # tnrange, trrange
    for attribute, value in {name: cls, "tqdm": cls, "trange": trange, f"t{short}range": trange}.items():
        setattr(module, attribute, value)
