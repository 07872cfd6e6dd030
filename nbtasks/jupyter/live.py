"""The cards of a notebook, kept up to date by one thread.

A card is displayed once, in its cell, under a display id made from the task's id; the thread then sends updates to
that id. It is woken by the queue's bell, looks five times a second while something changes and once a second
otherwise, and ends when no card is live. It prints nothing and binds no names.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nbtasks import ends, outputs
from nbtasks.errors import NbtasksError
from nbtasks.hooks import Told
from nbtasks.jupyter import render
from nbtasks.queue.directory import Queue
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.records import Record
from nbtasks.status import Status

_QUICK, _CALM = 0.2, 1.0  # seconds between two looks while something changes, and otherwise
_AT_ONCE = 25  # live cards looked at in one round; a thousand take turns
_RATE = 50_000  # bytes per second to the page
_BURST = 200_000
_IMAGES = 4_000_000  # bytes of displays that a live card reads; the rest comes when the task has ended

Send = Callable[[str, Mapping[str, str], object], None]
Said = Callable[[str], Told | None]


@dataclass
class Card:
    """One card on the page."""

    queue: Queue
    id: str
    parent: object  # the header of its cell's message, for updates before any other cell ran
    shown: int = 0  # a hash: a card may hold megabytes of pictures
    live: bool = True

    @property
    def display_id(self) -> str:
        """The same for every showing of this task, so that one update reaches all."""
        return f"nbtasks-{self.queue.uuid[:8]}-{self.id}"


class Live:
    """All cards of one kernel. `send` updates a display; `said` gives what binding has to say about a task."""

    def __init__(self, send: Send | None, said: Said) -> None:
        self._send, self._said = send, said
        self._cards: dict[str, Card] = {}
        self._lock = threading.Lock()  # of the list of cards and of the thread
        self._sending = threading.RLock()  # so that an older state never arrives after a newer one
        self._thread: threading.Thread | None = None
        self.cell: object = None  # the header of the running cell's message
        self._bells: dict[str, Bell] = {}
        self._credit, self._paid = float(_BURST), time.monotonic()

    def show(self, queue: Queue, id: str, parent: object = None) -> None:
        """Display the card of a task in the running cell, and keep it up to date until the task has ended."""
        card = Card(queue, id, parent)
        record = queue.record(id)
        bundle = self.bundle(record)
        _display(card, bundle)
        card.shown, card.live = _hash(bundle), not record.status.ended
        self._keep(card)

    def update(self, id: str) -> None:
        """Show a card anew: its task has ended, was retried, or the notebook bound its names."""
        card = self._cards.get(id)
        if card is not None:
            self._look(card, forced=True)
            if card.live:
                self._keep(card)

    def catch_up(self) -> None:
        """Show the end of every task that has ended: before a wait returns, and at the end of a cell.

        What runs notebooks without a page (nbclient, papermill) takes no update after a cell, nor one under
        the header of an earlier cell.
        """
        by_queue: dict[str, list[Card]] = {}
        with self._lock:
            for card in self._cards.values():
                if card.live:
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
            self._cards.clear()
            thread = self._thread
        if thread is not None:
            thread.join()

    def bundle(self, record: Record) -> dict[str, str]:
        """The card of a task as this notebook shows it."""
        said = self._said(record.id)
        kept, notes = said or ({}, ())
        displays = _outputs(record)
        return render.card(record, now=time.time(), kept=kept, notes=notes, bound=said is not None, outputs=displays)

    def _keep(self, card: Card) -> None:
        with self._lock:
            self._cards[card.id] = card
            if self._send is None or not card.live:
                return
            if card.queue.root not in self._bells:
                self._bells[card.queue.root] = card.queue.bell("watch", f"cards-{os.getpid()}-{secrets.token_hex(3)}")
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._refresh, name="nbtasks-cards", daemon=True)
                self._thread.start()

    def _refresh(self) -> None:
        pause = 0.0
        while bells := self._bells_if_live():
            bells[0].wait(pause, *(bell.fd for bell in bells[1:] if bell.fd >= 0))
            ended = {hint.partition(".")[0] for bell in bells for hint in bell.drain()}
            changed = [self._try_look(card) for card in self._turn(ended)]
            pause = 0.0 if any(changed) else min(_CALM - _QUICK, pause + _QUICK)
            time.sleep(_QUICK)  # whatever rings: a burst of bells is one round

    def _bells_if_live(self) -> list[Bell]:
        """The bells to wait at; none when no card is live, and then this thread is over."""
        with self._lock:
            if not any(card.live for card in self._cards.values()):
                for bell in self._bells.values():
                    bell.close()
                self._bells.clear()
                self._thread = None
            return list(self._bells.values())

    def _turn(self, ended: set[str]) -> list[Card]:
        with self._lock:
            live = [card for card in self._cards.values() if card.live]
            first = [card for card in live if card.id in ended]
            turn = first + [card for card in live if card.id not in ended][:_AT_ONCE]
            for card in turn:  # to the end of the line
                self._cards[card.id] = self._cards.pop(card.id)
        return turn

    def _try_look(self, card: Card, *, forced: bool = False) -> bool:
        try:
            return self._look(card, forced=forced)
        except (NbtasksError, OSError):  # the task or the whole queue was removed
            card.live = False
            return False

    def _look(self, card: Card, *, forced: bool = False) -> bool:
        """Send what is new about a card; True when something was."""
        with self._sending:
            record = card.queue.record(card.id)
            bundle = self.bundle(record)
            card.live = not record.status.ended
            if _hash(bundle) == card.shown or (card.live and not forced and not self._afford(bundle)):
                return False
            card.shown = _hash(bundle)
            if self._send is not None:
                self._send(card.display_id, bundle, self.cell or card.parent)
            else:
                _display(card, bundle)
            return True

    def _afford(self, bundle: Mapping[str, str]) -> bool:
        """Whether there is credit for an update, by bytes; it is paid then."""
        now = time.monotonic()
        self._credit = min(_BURST, self._credit + _RATE * (now - self._paid))
        self._paid = now
        cost = sum(map(len, bundle.values()))
        if cost > self._credit and self._credit < _BURST:
            return False
        self._credit -= cost
        return True


def _hash(bundle: Mapping[str, str]) -> int:
    return hash(tuple(bundle.values()))


def _display(card: Card, bundle: dict[str, str]) -> None:
    from IPython.display import display

    display(bundle, raw=True, display_id=card.display_id)


def _outputs(record: Record) -> list[dict[str, Any]]:
    """What a task displayed, as nbformat outputs; its printed text is read from the log by the card itself."""
    with contextlib.suppress(OSError, ValueError):
        if record.events_path is None or record.status in (Status.WAITING, Status.QUEUED):
            return []
        if not record.status.ended and os.path.getsize(record.events_path) > _IMAGES:
            return []
        return outputs.outputs(b"", record.events())
    return []


def sender(shell: Any) -> Send | None:
    """What sends an update of a display to the page; None in a terminal, where nothing can be updated."""
    publisher = getattr(shell, "display_pub", None)
    session, socket = getattr(publisher, "session", None), getattr(publisher, "pub_socket", None)
    if session is None or socket is None:
        return None

    def send(display_id: str, bundle: Mapping[str, str], parent: object) -> None:
        # Not through the publisher: in a thread it would name the latest cell as the parent, and flush its streams.
        content = {"data": dict(bundle), "metadata": {}, "transient": {"display_id": display_id}}
        message = session.msg("update_display_data", content, parent=parent)
        session.send(socket, message, ident=b"display_data")

    return send
