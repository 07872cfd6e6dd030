"""The table of those live tasks of a page for which there is no strip: one is enough for a thousand."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from nbtasks.errors import NbtasksError
from nbtasks.jupyter import tables
from nbtasks.jupyter.page import Sent, about
from nbtasks.queue.catalogue import Catalogue
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.status import Status

_EVERY = 2.0  # seconds
_ROWS = 10


class _Card(Protocol):
    id: str
    queue: Queue
    status: Status | None
    parent: object


class _Desk(Protocol):
    def put(self, sent: Sent) -> None: ...
    def afford(self, count: int) -> bool: ...
    def refresh(self, card: Any) -> None: ...


class Rest:
    """A static table, displayed in the running cell, that the refresher keeps up to date."""

    def __init__(self, desk: _Desk, queue: Queue, cards: Callable[[], list[Any]]) -> None:
        self.queue = queue
        self._desk, self._cards = desk, cards
        self._catalogue = Catalogue(queue)
        self._display = f"nbtasks-{queue.uuid[:8]}-rest-{time.time_ns():x}"
        self._due = 0.0
        self._shown: Mapping[str, str] = {}
        self._ended: set[str] = set()
        self._put(self._bundle([]), new=True)

    @property
    def is_live(self) -> bool:
        """While there are cards without a strip."""
        return bool(self._cards())

    def look(self, ended: set[str]) -> bool:
        """Send the table when it has changed; look at the cards whose tasks have another status now."""
        self._ended |= ended
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + _EVERY
        self._catalogue.look(self._ended)
        self._ended.clear()
        cards: list[_Card] = [card for card in self._cards() if card.queue is self.queue]
        places = self._catalogue.places
        moved = [card for card in cards if (place := places.get(card.id)) and place.status is not card.status]
        for card in moved[:_ROWS]:
            self._desk.refresh(card)
        bundle = self._bundle(cards)
        if bundle == self._shown or not self._desk.afford(sum(map(len, bundle.values()))):
            return bool(moved)
        self._put(bundle)
        return True

    def _put(self, bundle: Mapping[str, str], *, new: bool = False) -> None:
        self._shown = bundle
        self._desk.put(Sent(bundle, self._display, about("", self.queue.uuid, "table"), new=new))

    def _bundle(self, cards: list[_Card]) -> dict[str, str]:
        places = self._catalogue.places
        status = {card.id: places[card.id].status if card.id in places else card.status for card in cards}
        running = [id for id, where in status.items() if where is Status.RUNNING]
        records = [record for id in running[:_ROWS] if (record := self._record(id)) is not None]
        counts = Counter(one for one in status.values() if one is not None)
        return tables.table(
            records, limit=_ROWS, counts=counts, notes=["the tasks of this notebook without a strip; %tasks shows all"]
        )

    def _record(self, id: str) -> Record | None:
        try:
            return self.queue.record(id)
        except (NbtasksError, OSError):
            return None
