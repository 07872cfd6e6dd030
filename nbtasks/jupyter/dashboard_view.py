"""What the dashboard shows at this moment, as HTML for its parts: read from the queue, a few milliseconds at a time."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from nbtasks import outputs
from nbtasks.jupyter import ansi, dashboard_html, displays, markup, tables, words
from nbtasks.jupyter.dashboard_crew import Crew, read_crew
from nbtasks.jupyter.dashboard_facts import Facts
from nbtasks.jupyter.dashboard_filters import Filters, Order
from nbtasks.jupyter.dashboard_html import Span
from nbtasks.jupyter.dashboard_size import Size
from nbtasks.jupyter.dashboard_state import State
from nbtasks.jupyter.tables import Row, row_of
from nbtasks.queue.catalogue import Catalogue
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.status import Status

_CREW_EVERY = _DRAWN_EVERY = 2.0  # seconds
_SPANS = 40  # running tasks on the timeline
_LINES = 200  # of a log
_FEW = 20  # rows of the static table
_FOR_SIZE = 0.03  # seconds for adding up the size of the queue; where that takes longer, it is left out

Bundle = Callable[[Record, list[dict[str, Any]]], dict[str, str]]


class Contents:
    """The parts of a dashboard on one queue. `bundle` makes the card of a task."""

    def __init__(self, queue: Queue, catalogue: Catalogue, bundle: Bundle) -> None:
        self.queue, self.catalogue = queue, catalogue
        self.facts = Facts(catalogue)
        self._bundle = bundle
        self._crew: tuple[float, Crew] | None = None
        self._size = Size(queue)
        self._card: tuple[object, str] = (None, "")
        self._drawn = (0.0, "")  # when the timeline was made, and what it is

    def look(self, ended: set[str], state: State) -> bool:
        """Bring everything up to date, in bounded time. True: something is new."""
        found = self.catalogue.look(ended)
        read = self.facts.read(state.filters, state.order)
        return bool(found | read | self._size.go_on())

    @property
    def crew(self) -> Crew:
        """The workers, read at most every two seconds."""
        now = time.monotonic()
        if self._crew is None or now - self._crew[0] > _CREW_EVERY:
            self._crew = (now, read_crew(self.queue, self.catalogue.places.values()))
        return self._crew[1]

    @property
    def is_paused(self) -> bool:
        """True while nothing is claimed."""
        return os.path.exists(self.queue.layout.paused)

    def summary(self, now: float) -> str:
        """Counts, workers, size, throughput."""
        about = [self.crew.words, self._size.words, "paused: nothing is claimed" if self.is_paused else ""]
        about += ["older tasks are not counted"] if self.catalogue.cut else []
        return dashboard_html.summary(self.catalogue.counts, about, self.catalogue.minutes, now)

    def table(self, filters: Filters, order: Order, now: float) -> dict[str, str]:
        """The static table, with the first tasks that are wanted."""
        self._size.go_on(_FOR_SIZE)
        said = [self.crew.words, self._size.words, "paused: nothing is claimed" if self.is_paused else ""]
        places = self.catalogue.places.values()
        wanted = sum(not filters.statuses or place.status in filters.statuses for place in places)
        return tables.table(
            self.facts.wanted(filters, order),
            now=now,
            limit=len(places) if filters.all else _FEW,
            counts=self.catalogue.counts,
            total=None if filters.needs_specs else wanted,
            more="%tasks -a shows all",
            notes=[*([f"only {filters.words}"] if filters.words else []), " · ".join(filter(None, said))],
        )

    def line(self, now: float) -> dict[str, str]:
        """What stands in place of the static table while the dashboard lives."""
        said = f"tasks as of {words.moment(now)}: {tables.summary(self.catalogue.counts)}; "
        html = markup.above_widgets(markup.quiet(f"{markup.escape(said)} {markup.code('%tasks')} shows now"))
        return {"text/html": html, "text/plain": f"{said}%tasks shows now"}

    def rows(self, ids: list[str], now: float) -> list[Row]:
        """The rows of one page. A task that was removed meanwhile keeps a row that says so."""
        found = []
        for id in ids:
            record = self.facts.record(id)
            found.append(row_of(record, now) if record is not None else _gone(id, now))
        return found

    def where(self, ids: list[str], state: State, size: int) -> str:
        """Which part of how many is shown."""
        total, first = len(ids), state.page * size
        said = f"{first + 1:,}–{min(first + size, total):,} of {total:,}" if total else "none"
        parts = [said, f"{self.facts.missing:,} still to be read" if self.facts.missing else ""]
        parts += [f"{len(state.selected):,} selected: rows keep their places"] if state.selected else []
        parts += ["" if self.catalogue.whole else "still counting"]
        return dashboard_html.box(f'<span style="font-size:12px">{" · ".join(filter(None, parts))}</span>')

    def name(self, id: str) -> str:
        """What a task is called."""
        record = self.facts.record(id)
        return record.name if record is not None else ""

    # The pane below the table.

    def pane(self, state: State, now: float) -> str:
        """What the chosen pane shows."""
        if state.pane == "Workers":
            names = {slot.id: self.name(slot.id) for worker in self.crew.workers for slot in worker.slots if slot.id}
            return dashboard_html.workers(self.crew, names, now)
        if state.pane == "Timeline":
            return self._timeline(now)
        record = self.facts.record(state.opened) if state.opened else None
        if record is None:
            said = "select a task to see it here" if not state.opened else "this task was removed"
            return dashboard_html.box(f'<div style="opacity:0.72">{said}</div>')
        return self._log(record) if state.pane == "Log" else self._card_of(record)

    def _timeline(self, now: float) -> str:
        if now - self._drawn[0] > _DRAWN_EVERY:
            self._drawn = (now, dashboard_html.timeline(self.spans(now), now))
        return self._drawn[1]

    def _card_of(self, record: Record) -> str:
        # The card of an ended task costs the most and stays the same.
        key = (record.id, record.place.path)
        if not record.status.ended or self._card[0] != key:
            self._card = (key, self._bundle(record, _displays(record))["text/html"])
        return self._card[1]

    def _log(self, record: Record) -> str:
        size = ansi.SIZE if record.status.ended else ansi.SIZE // 4
        log = record.log_tail(_LINES, size)
        head = f"<b>{markup.escape(record.name, 120)}</b> {markup.code(record.short)}"
        if not log.strip():
            return dashboard_html.box(f'<div>{head}&ensp;<span style="opacity:0.72">printed nothing</span></div>')
        return dashboard_html.box(f"<div>{head}</div>", dashboard_html.printed(ansi.to_html(log, size=size)))

    def spans(self, now: float) -> list[Span]:
        """What ran in the last minutes, with what runs."""
        last = self.catalogue.latest()
        last += [id for id, place in self.catalogue.places.items() if place.status is Status.RUNNING][:_SPANS]
        found = []
        for id in dict.fromkeys(last):
            record = self.facts.record(id)
            if record is not None and record.started:
                found.append(Span(record.started, record.ended or now, record.status, record.name, record.short))
        return found


def _displays(record: Record) -> list[dict[str, Any]]:
    """What an ended task displayed, as far as a card shows it. While it runs, its own cell has that."""
    with contextlib.suppress(OSError, ValueError):
        if record.status.ended:
            return displays.plain(outputs.outputs(b"", record.events()))
    return []


def _gone(id: str, now: float) -> Row:
    return Row(id.rpartition("-")[2], "(removed)", Status.CANCELLED, "", "", "it is no longer in the queue")
