"""All that lives on the page of one notebook, kept up to date by one thread.

The thread is woken by the queue's bell, looks five times a second while something changes and once a second
otherwise, and ends when nothing is live. It prints nothing and binds no names.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nbtasks import ends
from nbtasks.errors import NbtasksError
from nbtasks.handle import Task
from nbtasks.hooks import Told
from nbtasks.jupyter import comms, render
from nbtasks.jupyter.cards import Card
from nbtasks.jupyter.page import Budget, Send, Sent, sender, show_here
from nbtasks.jupyter.rest import Rest
from nbtasks.jupyter.shown import View
from nbtasks.queue.directory import Queue
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.records import Record

__all__ = ["Live", "LiveView", "sender"]

STRIPS = 20  # at once; for the rest there is one table
_QUICK, _CALM = 0.2, 1.0  # seconds between two looks while something changes, and otherwise
_SELDOM = 5.0  # seconds between two looks at a card, when there are many and its files do not change
_FEW = 5  # cards whose clocks tick each second
_MINUTE = 60.0
_AT_ONCE = 25  # cards without a strip that are looked at in one round; a thousand take turns
_MANY = 100  # live cards that are not all looked for at the end of each cell

Said = Callable[[str], Told | None]


class LiveView(Protocol):
    """Something else on the page that the thread keeps up to date, such as the dashboard."""

    @property
    def is_live(self) -> bool:
        """False: it is looked at no more."""
        ...

    def look(self, ended: set[str]) -> bool:
        """Send what is new; True when something was. `ended` are ids of tasks that are said to have ended."""
        ...


class Live:
    """The cards and views of one kernel. `send` reaches the page; `said` gives what binding has to say about a task."""

    def __init__(self, send: Send | None, said: Said) -> None:
        self._send, self._said = send, said
        self._shell: Any = None
        self._cards: dict[str, Card] = {}
        self._views: list[LiveView] = []
        self._rest: Rest | None = None
        self._lock = threading.Lock()  # of the lists and of the thread
        self._sending = threading.RLock()  # so that an older state never arrives after a newer one
        self._thread: threading.Thread | None = None
        self.cell: object = None  # the header of the running cell's message
        self._bells: dict[str, Bell] = {}
        self._woken = False
        self._attended = False
        self._looked_at = 0.0  # monotonic; when `catch_up` looked for all
        self._budget = Budget()

    def use_widgets(self, shell: Any) -> None:
        """From now on cards have strips, where a page may show them."""
        self._shell = shell if comms.have_widgets(shell) and self._send is not None else None
        if self._shell is not None:
            import ipywidgets  # noqa: F401  # now, so that a page which connects later finds it, and no cell waits for it

    @property
    def has_widgets(self) -> bool:
        """Whether the running cell may show widgets: they are installed, and somebody sits before a page."""
        return self._shell is not None and comms.is_attended(self._shell)

    @property
    def can_revive(self) -> bool:
        """Whether strips of an earlier kernel can be made again: at its start a kernel does not know who will come."""
        return self._shell is not None and (self.has_widgets or not comms.has_cell(self._shell))

    # What cells show.

    def show(self, queue: Queue, id: str, parent: object = None) -> None:
        """Display the card of a task in the running cell, and keep it up to date until the task has ended."""
        with self._sending:
            card = self._cards.get(id) or Card(self, queue, id, parent)
            self._attended = self.has_widgets
            strips = sum(1 for other in self._cards.values() if other.has_strip and other.is_busy)
            card.display(parent, with_strip=self._attended and strips < STRIPS)
            if self._attended and card.live and not card.has_strip and self._rest is None:
                self._rest = Rest(self, queue, self._others)
        self._keep(card)

    def _others(self) -> list[Card]:
        """The live cards without a strip."""
        with self._lock:
            return [card for card in self._cards.values() if card.live and not card.has_strip]

    def revive(self, queue: Queue, id: str, parent: object) -> Card | None:
        """Make the strip of a task again, for a page that shows it from an earlier kernel. None: there is one."""
        with self._sending:
            if id in self._cards:
                return None
            card = Card(self, queue, id, parent)
            card.is_revived = True
            card.open_strip()
            card.look(forced=True)
        self._keep(card)
        return card

    def show_late(self, card: Card) -> None:
        """Display a card under the header that it was made with, though that cell runs no more."""
        with self._sending:
            card.is_revived = False  # what this page shows is a static part and a strip as usual
            card.display(card.parent, with_strip=True, late=True)

    def update(self, id: str) -> None:
        """Show a card anew: its task has ended, was retried, or the notebook bound its names."""
        card = self._cards.get(id)
        if card is not None:
            self.refresh(card)

    def refresh(self, card: Card) -> None:
        """Look at a card now."""
        self._try_look(card, forced=True)
        if card.is_busy:
            self._keep(card)

    def notify(self, task: Task[Any]) -> None:
        """Tell the person on the page when this task has ended."""
        card = self._cards.get(task.id)
        if card is not None:
            card.notify()

    def catch_up(self) -> None:
        """Show the end of every task that has ended: before a wait returns, and at the end of a cell.

        What runs notebooks without a page (nbclient, papermill) takes no update after a cell, nor one under
        the header of an earlier cell.
        """
        by_queue: dict[str, list[Card]] = {}
        with self._lock:
            live = [card for card in self._cards.values() if card.live]
        now = time.monotonic()
        if len(live) > _MANY and now - self._looked_at < _CALM:
            return  # a cell must not cost more because of them; the thread shows them in a moment
        self._looked_at = now
        for card in live:
            by_queue.setdefault(card.queue.root, []).append(card)
        for cards in by_queue.values():
            with contextlib.suppress(OSError):
                ended = ends.find_ends(cards[0].queue, [card.id for card in cards])
                for card in cards:
                    if card.id in ended:
                        self._try_look(card, forced=True)

    def close(self) -> None:
        """Leave all cards as they are; the thread is gone when this returns."""
        with self._lock:
            cards = list(self._cards.values())
            self._cards.clear()
            self._views.clear()
            self._rest, thread = None, self._thread
        if thread is not None:
            self.wake()
            thread.join()
        for card in cards:
            card.close()

    # What a card says.

    def bundle(self, record: Record, shown: list[dict[str, Any]] | None = None) -> dict[str, str]:
        """The card of a task as this notebook shows it; `shown` is what the task displayed."""
        said = self._said(record.id)
        kept, notes = said or ({}, ())
        return render.card(record, now=time.time(), kept=kept, notes=notes, bound=said is not None, outputs=shown or ())

    def view(self, record: Record, shown: list[dict[str, Any]]) -> View:
        """The same, in words."""
        said = self._said(record.id)
        kept, notes = said or ({}, ())
        if said is None and record.outcome is not None:
            kept = {variable.name: "" for variable in record.outcome.variables}
        return render.look(record, now=time.time(), ref="", kept=kept, notes=notes, outputs=shown)

    # What goes to the page.

    def display(self, display_id: str, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Display something in the running cell."""
        self.put(Sent(data, display_id, metadata, new=True))

    def update_display(self, display_id: str, data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Show something else wherever `display_id` is shown. From any thread."""
        self.put(Sent(data, display_id, metadata))

    def put(self, sent: Sent) -> None:
        """Send to the page; in a terminal, print."""
        if self._send is None or (sent.new and sent.parent is None):
            if sent.data:
                show_here(sent)
            return
        # Without a page, only what stands under the running cell is taken.
        here = not (sent.new and self._attended)
        parent = self.cell if here and self.cell else sent.parent
        self._send(Sent(sent.data, sent.display_id, sent.metadata, parent, sent.new))

    def afford(self, count: int) -> bool:
        """Whether there is credit to send so many bytes; they are paid then."""
        return self._budget.afford(count)

    # The thread.

    def add_view(self, view: LiveView) -> None:
        """Keep `view` up to date, too. If it has a `queue`, the ends of its tasks wake the thread."""
        with self._lock:
            self._views = [one for one in self._views if one.is_live and one is not view] + [view]
            self._start(getattr(view, "queue", None))

    def wake(self) -> None:
        """Have the thread look now."""
        self._woken = True
        with self._lock:
            for bell in self._bells.values():
                if bell.fd >= 0:
                    with contextlib.suppress(OSError):
                        os.write(bell.fd, b"\n")

    def _keep(self, card: Card) -> None:
        with self._lock:
            self._cards[card.id] = card
            if self._send is not None and card.is_busy:
                self._start(card.queue)

    def _start(self, queue: Queue | None) -> None:
        if queue is not None and queue.root not in self._bells:
            self._bells[queue.root] = queue.bell("watch", f"cards-{os.getpid()}-{secrets.token_hex(3)}")
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._refresh, name="nbtasks-cards", daemon=True)
            self._thread.start()

    def _refresh(self) -> None:
        pause = 0.0
        while (bells := self._bells_if_live()) is not None:
            if bells and not self._woken:
                bells[0].wait(pause, *(bell.fd for bell in bells[1:] if bell.fd >= 0))
            self._woken = False
            ended = {hint.partition(".")[0] for bell in bells for hint in bell.drain()} - {""}
            changed = [self._try_look(card, every=every) for card, every in self._turn(ended)]
            changed += [view.look(ended) for view in self._all_views()]
            pause = 0.0 if any(changed) else min(_CALM - _QUICK, pause + _QUICK)
            time.sleep(_QUICK)  # whatever rings: a burst of bells is one round

    def _bells_if_live(self) -> list[Bell] | None:
        """The bells to wait at; None when nothing is live, and then this thread is over."""
        with self._lock:
            self._views = [view for view in self._views if view.is_live]
            if not self._views and not any(card.is_busy for card in self._cards.values()):
                for bell in self._bells.values():
                    bell.close()
                self._bells.clear()
                self._thread = self._rest = None
                return None
            return list(self._bells.values())

    def _all_views(self) -> list[LiveView]:
        with self._lock:
            return [*self._views, *([self._rest] if self._rest is not None else [])]

    def _turn(self, ended: set[str]) -> list[tuple[Card, float]]:
        """The cards to look at in this round, and how often their clocks tick."""
        with self._lock:
            busy = [card for card in self._cards.values() if card.is_busy]
            strips = [card for card in busy if card.has_strip]
            others = [card for card in busy if not card.has_strip]
            for card in others[:_AT_ONCE]:  # to the end of the line
                self._cards[card.id] = self._cards.pop(card.id)
        every, now = _CALM if len(busy) <= _FEW else _SELDOM, time.monotonic()
        # The table tells of those without a strip; their cards follow the files.
        calm = every if self._rest is None else _MINUTE
        turn = [(card, calm) for card in others if card.id in ended]
        turn += [(card, every) for card in strips if card.id in ended or card.is_due(now)]
        return turn + [(card, calm) for card in others[:_AT_ONCE] if card.id not in ended and card.is_due(now)]

    def _try_look(self, card: Card, *, forced: bool = False, every: float = _CALM) -> bool:
        try:
            with self._sending:
                return card.look(forced=forced, every=every)
        except (NbtasksError, OSError):  # the task or the whole queue was removed
            card.live = False
            return False
