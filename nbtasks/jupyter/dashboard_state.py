"""Where a person stands in a dashboard: page, selection, the open task, and a cancel that waits for its second press."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from nbtasks.jupyter.dashboard_filters import Filters, Order
from nbtasks.jupyter.dashboard_work import RETRIABLE
from nbtasks.jupyter.words import plural
from nbtasks.queue.catalogue import Catalogue

_CONFIRM = 10.0  # seconds in which the second press of a bulk cancel counts


@dataclass
class State:
    """All that the controls have set so far."""

    filters: Filters
    order: Order = Order.LIVE
    page: int = 0
    shown: list[str] = field(default_factory=list)  # ids of the rows on the page
    selected: dict[str, None] = field(default_factory=dict)  # in the order of selection
    opened: str = ""  # the task whose card is shown
    pane: str = "Workers"
    touched: float = 0.0  # monotonic
    armed: frozenset[str] = frozenset()  # what a second press would cancel
    armed_until: float = 0.0

    def turn(self, ids: list[str], size: int, *, hold: bool) -> list[str]:
        """The ids on the present page of `ids`. `hold`: the rows stay where they are while something is selected."""
        last = max(0, (len(ids) - 1) // size)
        self.page = min(self.page, last)
        if not (hold and self.selected and self.shown):
            self.shown = ids[self.page * size : (self.page + 1) * size]
        return self.shown

    def select(self, id: str, on: bool) -> None:
        """Select a task, which opens it, or do so no more."""
        self.armed = frozenset()
        if on:
            self.selected[id] = None
            self.opened = id
            self.pane = self.pane if self.pane in ("Card", "Log") else "Card"
        else:
            self.selected.pop(id, None)
            if self.opened == id:
                self.opened = next(reversed(self.selected), id)

    def clear(self) -> None:
        """Select nothing; the open task stays open."""
        self.selected.clear()
        self.armed = frozenset()

    def cancellable(self, catalogue: Catalogue) -> list[str]:
        """Those of the selected tasks that have not ended."""
        places = catalogue.places
        return [id for id in self.selected if id in places and not places[id].status.ended]

    def retriable(self, catalogue: Catalogue) -> list[str]:
        """Those of the selected tasks that can run again."""
        places = catalogue.places
        return [id for id in self.selected if id in places and places[id].status in RETRIABLE]

    def confirm(self, ids: list[str]) -> bool:
        """Whether these may be cancelled now: one at once, more with the second press."""
        wanted, now = frozenset(ids), time.monotonic()
        if len(ids) == 1 or (wanted and wanted <= self.armed and now < self.armed_until):
            self.armed = frozenset()
            return bool(ids)
        self.armed, self.armed_until = wanted, now + _CONFIRM
        return False

    @property
    def is_armed(self) -> bool:
        """True while a second press is awaited."""
        if self.armed and time.monotonic() > self.armed_until:
            self.armed = frozenset()
        return bool(self.armed)

    def cancel_words(self, ids: list[str], name: str) -> tuple[str, str, bool]:
        """Text and tip of the cancel button, and whether it can be pressed. `name` is that of a single task."""
        if self.is_armed:
            return (
                f"Really cancel {len(self.armed):,}?",
                f"Press again to cancel {plural(len(self.armed), 'task')}",
                True,
            )
        return _words("Cancel", ids, name)

    def retry_words(self, ids: list[str], name: str) -> tuple[str, str, bool]:
        """The same for the retry button."""
        return _words("Retry", ids, name)


def _words(verb: str, ids: list[str], name: str) -> tuple[str, str, bool]:
    if len(ids) == 1:
        short = ids[0].rpartition("-")[2]
        return f"{verb} {short}", f"{verb} {short} ({name})", True
    return f"{verb} {len(ids):,}" if ids else verb, f"{verb} the {plural(len(ids), 'selected task')}", bool(ids)
