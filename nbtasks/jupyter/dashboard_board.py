"""One live dashboard: what its controls do, and what the refresher sends.

What people press only changes files and what they want to see; the refresher of `live` then sends it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from nbtasks.errors import NbtasksError
from nbtasks.jupyter import comms, dashboard_html, strips
from nbtasks.jupyter.dashboard_filters import Filters, Order, statuses_of
from nbtasks.jupyter.dashboard_state import State
from nbtasks.jupyter.dashboard_view import Contents
from nbtasks.jupyter.dashboard_widgets import EVERY, PAGE, PANES, Controls
from nbtasks.jupyter.dashboard_work import Work
from nbtasks.jupyter.live import Live
from nbtasks.jupyter.page import about, view_of
from nbtasks.queue.directory import Queue
from nbtasks.status import LIVE, Status

_OPEN = 600.0  # seconds that it stays when nothing lives and nobody touches it
_UNSEEN = 300.0  # seconds that it stays when no page shows it
_CLOCK, _SOON = 1.0, 0.4  # seconds after which running times are shown anew, and what has changed
_LISTED = 3  # names in a question


def model_of(queue: Queue) -> str:
    """The id of the widget that shows a queue, the same in every kernel."""
    return strips.model_id(queue.uuid, "dashboard", "root")


def new_id(queue: Queue) -> str:
    """A fresh display id."""
    return f"nbtasks-{queue.uuid[:8]}-tasks-{secrets.token_hex(4)}"


class Dashboard:
    """One live dashboard: a view of `Live`, looked at by its refresher thread."""

    opened: ClassVar[dict[str, Dashboard]] = {}  # by the uuid of their queues

    def __init__(self, live: Live, contents: Contents, filters: Filters) -> None:
        self.queue = contents.queue
        self.live, self._contents = live, contents
        self._work = Work(self.queue, contents.catalogue)
        self._state = State(filters, touched=time.monotonic())
        self._lock = threading.RLock()  # callbacks and the refresher take turns
        self._setting = False  # true while we change a control ourselves
        self._moved = True  # something was pressed: show it at once
        self._changed = False  # something is new, and was not shown yet
        self._shown_at = 0.0  # monotonic
        self._table, self._strip = new_id(self.queue), new_id(self.queue)
        self._collapsed = False  # the static table is one line
        self.is_live = True
        self._controls = Controls(model_of(self.queue))
        self._listen()
        self._controls.free(comms.free)

    # Coming and going.

    def display(self) -> None:
        """Show it in the running cell: the static table first, the dashboard below it."""
        now = time.time()
        self._collapsed = comms.is_page_known()
        state = self._state
        bundle = self._contents.line(now) if self._collapsed else self._contents.table(state.filters, state.order, now)
        self.live.display(self._table, bundle, about("", self.queue.uuid, "table"))
        self._show(forced=True)
        self.live.display(self._strip, view_of(self._controls.root.model_id), about("", self.queue.uuid, "strip"))
        self.live.add_view(self)

    def close(self) -> None:
        """Take the dashboard away; the static table shows the last state."""
        with self._lock:
            if not self.is_live:
                return
            self.is_live = False
            self.live.update_display(self._strip, {}, {})
            self._show_table()
            self._controls.shut()
            if self.opened.get(self.queue.uuid) is self:
                del self.opened[self.queue.uuid]

    def _show_table(self) -> None:
        bundle = self._contents.table(self._state.filters, self._state.order, time.time())
        self.live.update_display(self._table, bundle, about("", self.queue.uuid, "table"))

    # What people do.

    def _listen(self) -> None:
        controls, state = self._controls, self._state
        self._set_filters()
        for widget, then in (
            (controls.status, self._on_filter), (controls.lane, self._on_filter), (controls.name, self._on_filter),
            (controls.mine, self._on_filter), (controls.order, self._on_order), (controls.page, self._on_page),
            (controls.all, self._on_all), (controls.pane, self._on_pane),
        ):  # fmt: skip
            widget.observe(self._guarded(then), "value")
        for at, box in enumerate(controls.boxes):
            box.observe(self._guarded(partial(self._on_box, at)), "value")
        for button, press in (
            (controls.back, lambda _: self._turn(-1)), (controls.next, lambda _: self._turn(1)),
            (controls.cancel, self._on_cancel), (controls.retry, self._on_retry),
            (controls.everything, self._on_everything), (controls.clear, lambda _: state.clear()),
            (controls.close, lambda _: self.close()),
        ):  # fmt: skip
            button.on_click(self._guarded(press))

    def _set_filters(self) -> None:
        """Let the controls show what was asked for."""
        filters, controls = self._state.filters, self._controls
        given = filters.statuses
        found = next((word for word in ("live", "ended", *Status) if set(statuses_of([word])) == set(given)), EVERY)
        if given and not found:
            found = " ".join(given)
            controls.status.options = [*controls.status.options, (" or ".join(given), found)]
        controls.status.value = found if given else EVERY
        controls.name.value, controls.mine.value = filters.name or "", filters.mine

    def _guarded(self, act: Callable[[Any], None]) -> Callable[[Any], None]:
        """`act` with what was set, unless we set it ourselves; then the refresher shows what came of it."""

        def run(change: Any) -> None:
            with self._lock:
                if self._setting or not self.is_live:
                    return
                self._state.touched = time.monotonic()
                self._moved = True
                try:
                    act(change["new"] if isinstance(change, dict) else None)
                except (NbtasksError, OSError) as error:  # a full disk: nobody would see a traceback
                    self._work.said = str(error)
            self.live.wake()

        return run

    def _on_filter(self, _: object) -> None:
        controls, state = self._controls, self._state
        state.filters = Filters(
            statuses=statuses_of(controls.status.value.split()), lane=controls.lane.value or None,
            name=controls.name.value.strip() or None, mine=controls.mine.value, notebook=state.filters.notebook,
        )  # fmt: skip
        state.page, state.shown = 0, []

    def _on_order(self, value: str) -> None:
        self._state.order, self._state.page, self._state.shown = Order(value), 0, []

    def _on_page(self, value: int) -> None:
        self._state.page, self._state.shown = value - 1, []

    def _turn(self, step: int) -> None:
        self._on_page(self._state.page + 1 + step)

    def _on_box(self, at: int, value: bool) -> None:
        if at < len(self._state.shown):
            self._state.select(self._state.shown[at], value)

    def _on_all(self, value: bool) -> None:
        opened, pane = self._state.opened, self._state.pane
        for id in self._state.shown:
            self._state.select(id, value)
        self._state.opened, self._state.pane = opened, pane

    def _on_pane(self, value: str) -> None:
        self._state.pane = value

    def _on_everything(self, _: object) -> None:
        state = self._state
        state.armed = frozenset()
        state.selected = dict.fromkeys(self._contents.facts.ids(state.filters, state.order))

    def _on_cancel(self, _: object) -> None:
        state = self._state
        ids = state.cancellable(self._contents.catalogue)
        if state.confirm(ids):
            self._work.start("cancel", ids)
        elif ids:
            names = [f"{self._contents.name(id)} {id.rpartition('-')[2]}" for id in ids[:_LISTED]]
            rest = f" and {len(ids) - _LISTED:,} more" if len(ids) > _LISTED else ""
            self._work.said = f"cancel {', '.join(names)}{rest}? Press again within 10 s"

    def _on_retry(self, _: object) -> None:
        self._work.start("retry", self._state.retriable(self._contents.catalogue))

    # What the refresher does.

    def look(self, ended: set[str]) -> bool:
        """Look at what has changed, and send what is new; True when something was."""
        with self._lock:
            if not self.is_live:
                return False
            try:
                return self._look(ended)
            except Exception as error:  # the queue was removed, say: the cards of the same thread go on
                self.is_live = False
                self._controls.said.value = dashboard_html.said(f"this has stopped ({error}); %tasks shows it again")
                return False

    def _look(self, ended: set[str]) -> bool:
        state, now = self._state, time.monotonic()
        changed = self._work.go_on()
        changed = self._contents.look(ended, state) or changed
        if state.armed and not state.is_armed:  # the second press did not come
            self._work.said, self._moved = "", True
        self._collapse()
        if self._is_idle(now):
            self.close()
            return True
        self._changed |= changed
        due = now >= self._shown_at + (_SOON if self._changed else _CLOCK)
        if not (due or self._moved):
            return changed
        forced, self._moved, self._changed, self._shown_at = self._moved, False, False, now
        return self._show(forced=forced)

    def _collapse(self) -> None:
        """The static table becomes one line once a page shows the dashboard; it comes back when none does."""
        if self._controls.is_seen and not self._collapsed:
            self._collapsed = True
            self.live.update_display(self._table, self._contents.line(time.time()), about("", self.queue.uuid, "table"))

    def _is_idle(self, now: float) -> bool:
        untouched, counts = now - self._state.touched, self._contents.catalogue.counts
        if not self._controls.is_seen:
            return untouched > _UNSEEN
        return untouched > _OPEN and not any(counts[status] for status in LIVE)

    def _show(self, *, forced: bool) -> bool:
        state, contents, controls, now = self._state, self._contents, self._controls, time.time()
        ids = contents.facts.ids(state.filters, state.order)
        shown = state.turn(ids, PAGE, hold=True)
        rows = contents.rows(shown, now)
        ticked = [id in state.selected for id in shown]
        empty = "no task fits the filters" if contents.catalogue.places else "no tasks yet"
        self._setting = True
        try:
            controls.show_boxes([row.short for row in rows], [row.name for row in rows], ticked)
            controls.show_page(state.page + 1, max(1, -(-len(ids) // PAGE)))
            controls.show_lanes(contents.facts.lanes(), state.filters.lane or EVERY)
            self._show_actions()
            controls.pane.value = state.pane if state.pane in PANES else PANES[0]
        finally:
            self._setting = False
        marked = [at for at, on in enumerate(ticked) if on]
        parts = [
            (controls.rows, dashboard_html.rows(rows, marked, empty)),
            (controls.summary, contents.summary(now)),
            (controls.where, contents.where(ids, state, PAGE)),
            (controls.said, dashboard_html.said(self._work.said)),
            (controls.below, contents.pane(state, now)),
        ]
        sent = [self._set(widget, html, forced) for widget, html in parts]
        return any(sent)

    def _show_actions(self) -> None:
        state, contents = self._state, self._contents
        cancel, retry = state.cancellable(contents.catalogue), state.retriable(contents.catalogue)
        names = [contents.name(ids[0]) if len(ids) == 1 else "" for ids in (cancel, retry)]
        self._controls.show_actions(
            state.cancel_words(cancel, names[0]), state.retry_words(retry, names[1]), state.is_armed
        )

    def _set(self, widget: Any, html: str, forced: bool) -> bool:
        if widget.value == html or not (self.live.afford(len(html)) or forced):
            return False
        widget.value = html
        return True
