"""Progress bars inside a task: ``nbtasks.progress`` and, through `tqdm_bars`, tqdm of every flavour.

A bar writes no text. The process keeps one list of bars and sends it whole, at most five times a second, as
``{"bars": [{"id", "desc", "n", "total", "unit", "rate", "elapsed", "postfix", "closed"}], "message", "time"}``.
What comes within the fifth of a second after a sending is sent at its end, so the card is never behind for long,
even when the next step takes an hour.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType, TracebackType
from typing import Any, Generic, Protocol, TypeVar

from nbtasks.imports import when_imported

Emit = Callable[[str, dict[str, Any]], object]
T = TypeVar("T")

_INTERVAL = 0.2  # seconds between two sendings
_KEPT = 8  # closed bars; a loop in a loop makes one bar a round


class Row(Protocol):
    """Something that can say how far it is."""

    @property
    def closed(self) -> bool:
        """True when it moves no more."""
        ...

    def row(self) -> dict[str, Any]:
        """Its entry in the state, without the id."""
        ...


class Bars:
    """The bars of this process, and where they are reported to. A forked child has none and reports nothing."""

    def __init__(self) -> None:
        self.emit: Emit | None = None
        self.message = ""
        self.waiting = False  # a timer will send what changes from now on: nothing to do until then
        self._rows: dict[int, Row] = {}
        self._last_id = 0
        self._sent = 0.0
        self._timer: threading.Timer | None = None
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def connect(self, emit: Emit | None) -> None:
        """Report to `emit` from now on, with no bars yet; None: report nowhere."""
        self.finish()
        self.emit = emit

    def add(self, row: Row) -> None:
        """Show a new bar, below those that are there."""
        with self._lock:
            self._last_id += 1
            self._rows[self._last_id] = row
            closed = [id for id, row in self._rows.items() if row.closed]
            for id in closed[: max(0, len(closed) - _KEPT)]:
                del self._rows[id]
        self.changed()

    def drop(self, row: Row) -> None:
        """Show a bar no longer."""
        with self._lock:
            for id in [id for id, other in self._rows.items() if other is row]:
                del self._rows[id]
        self.changed()

    def changed(self) -> None:
        """A bar moved: send now, or as soon as it may be."""
        if self.waiting or (self.emit is None and not self._rows):
            return
        wait = self._sent + _INTERVAL - time.monotonic()
        if wait <= 0:
            self.send()
        elif self.emit is not None:
            self._send_in(wait)

    def _send_in(self, wait: float) -> None:
        timer = threading.Timer(wait, self.send)
        timer.daemon = True
        timer.name = "nbtasks-progress"
        self.waiting, self._timer = True, timer
        try:
            timer.start()
        except RuntimeError:  # no more threads to be had, or the interpreter ends
            self.waiting, self._timer = False, None

    def send(self) -> None:
        """Send the state as it is."""
        with self._lock:
            self.waiting = False
            self._sent = time.monotonic()
            if self.emit is not None:
                self.emit("progress", self.state())
            elif self._rows:
                _print_line(*self._rows.values())

    def state(self) -> dict[str, Any]:
        """The bars as plain data."""
        with self._lock:
            rows = [{"id": id, **row.row()} for id, row in self._rows.items()]
        return {"bars": rows, "message": self.message, "time": round(time.time(), 3)}

    def finish(self) -> dict[str, Any] | None:
        """The task has ended: send the last state, give it, and begin with none. None when there was no bar."""
        if not self._rows and not self.message and self._timer is None:
            return None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join()
        with self._lock:
            state = self.state() if self._rows or self.message else None
            if state is not None and self.emit is not None:
                self.emit("progress", state)
            self._rows, self._last_id, self.message, self._sent, self.waiting = {}, 0, "", 0.0, False
        return state

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._rows, self.emit, self._timer, self.waiting, self.message = {}, None, None, False, ""


BARS = Bars()
_threads: dict[int, Bars] = {}  # by their numbers; empty but in a process whose threads run tasks


def bars_here() -> Bars:
    """The bars of this process, or of the calling thread if it runs a task beside others."""
    return _threads.get(threading.get_ident(), BARS) if _threads else BARS


def _print_line(*rows: Row) -> None:
    """Outside of a task: one line of text, written over and over."""
    row = rows[-1].row()
    total = "" if row["total"] is None else f"/{row['total']}"
    text = " ".join(part for part in (row["desc"], f"{row['n']}{total} {row['unit']}", row["postfix"]) if part)
    try:
        sys.stderr.write(f"\r{text:<60}" + ("\n" if row["closed"] else ""))
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # a closed or missing stderr is no reason to stop the loop
        return


class Bar(Generic[T]):
    """One bar: loop over it, or use it in a ``with`` and call `update` or `set`."""

    def __init__(
        self, iterable: Iterable[T] | None = None, *, desc: str = "", total: float | None = None, unit: str = "it"
    ) -> None:
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)  # type: ignore[arg-type]  # it has a length
        self.desc, self.total, self.unit, self.postfix = str(desc), total, unit, ""
        self.n: float = 0
        self.closed = False
        self._iterable = iterable
        self._started = time.monotonic()
        self._ended: float | None = None
        self._shown = iterable is not None or total is not None or bool(desc)
        self._bars = bars_here()
        if self._shown:
            self._bars.add(self)

    def __iter__(self) -> Iterator[T]:
        if self._iterable is None:
            raise TypeError("this bar has nothing to loop over: give progress() an iterable, or call .update()")
        bars = self._bars
        try:
            for item in self._iterable:
                yield item
                self.n += 1
                if not bars.waiting:
                    bars.changed()
        finally:
            self.close()

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("this bar has no total")
        return int(self.total)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Bar[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, n: float = 1, **postfix: object) -> None:
        """`n` more are done. Named values are shown beside the bar: ``bar.update(loss=0.31)``."""
        self.set(self.n + n, **postfix)

    def set(self, n: float, **postfix: object) -> None:
        """`n` are done in all."""
        self.n = n
        self._show_from_now()
        if postfix:
            self.postfix = ", ".join(f"{name}={_short(value)}" for name, value in postfix.items())
        self._bars.changed()

    def message(self, text: str) -> None:
        """Say something: beside the bar, or alone when ``progress()`` was given nothing to count."""
        if self._shown:
            self.postfix = str(text)
        else:
            self._bars.message = str(text)
            if self._bars.emit is None:
                sys.stderr.write(f"{text}\n")
        self._bars.changed()

    def close(self) -> None:
        """The bar moves no more."""
        if not self.closed:
            self.closed = True
            self._ended = time.monotonic()
            if self._bars.emit is None and self._shown:
                self._bars.send()  # the end of a line of text
            self._bars.changed()

    def _show_from_now(self) -> None:
        if not self._shown:
            self._shown = True
            self._bars.add(self)

    def row(self) -> dict[str, Any]:
        """Its entry in the state."""
        elapsed = (self._ended or time.monotonic()) - self._started
        return {
            "desc": self.desc, "n": self.n, "total": self.total, "unit": self.unit,
            "rate": round(self.n / elapsed, 6) if elapsed > 0 and self.n else None,
            "elapsed": round(elapsed, 3), "postfix": self.postfix, "closed": self.closed,
        }  # fmt: skip


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def progress(
    iterable: Iterable[T] | None = None, *, desc: str = "", total: float | None = None, unit: str = "it"
) -> Bar[T]:
    """A progress bar on the card of the running task.

    ``for x in progress(xs, desc="epoch")`` loops and counts; ``with progress(total=100) as bar: bar.update(5)``
    counts by hand; ``progress().message("loading")`` only says something. Outside of a task it prints one line.
    """
    return Bar(iterable, desc=desc, total=total, unit=unit)


_hooked = False


def part_thread() -> None:
    """Let the calling thread have bars of its own."""
    _threads[threading.get_ident()] = Bars()


def install_hook(emit: Emit) -> None:
    """Send the bars of this process (or thread) to `emit`, those of tqdm and rich too once they are imported.

    May be called again.
    """
    global _hooked
    from nbtasks import tqdm_bars  # below this file: it draws its bars here

    bars_here().connect(emit)
    tqdm_bars.install()
    if not _hooked:
        _hooked = True
        when_imported("rich.progress", _adapt_rich)
        when_imported("rich.live", _adapt_rich)


def _adapt_rich(module: ModuleType) -> None:
    from nbtasks import rich_bars  # likewise; and only those who use rich pay for it

    (rich_bars.adapt if module.__name__ == "rich.progress" else rich_bars.adapt_live)(module)
