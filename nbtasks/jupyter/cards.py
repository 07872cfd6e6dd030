"""One card on the page: a static part that is kept with the notebook, and a strip below it while the task lives."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from nbtasks import config
from nbtasks.errors import NbtasksError
from nbtasks.handle import attach
from nbtasks.jupyter import comms, displays, notify, strips
from nbtasks.jupyter.ansi import LINES, SIZE, one_line
from nbtasks.jupyter.page import Sent, about, view_of
from nbtasks.jupyter.shown import Block, View
from nbtasks.jupyter.snapshot import line_of
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import EVENTS, LOG, PROGRESS
from nbtasks.queue.records import Record
from nbtasks.status import Status

_MINUTE = 60.0
_UNSEEN = 3.0  # seconds that a page is given to show a strip; then the static part is the whole card

Bundle = Mapping[str, str]


class Desk(Protocol):
    """What cards need of `nbtasks.jupyter.live.Live`."""

    def bundle(self, record: Record, shown: list[dict[str, Any]] | None = None) -> dict[str, str]:
        """The static card."""
        ...

    def view(self, record: Record, shown: list[dict[str, Any]]) -> View:
        """All that is on the card, in words."""
        ...

    def put(self, sent: Sent) -> None:
        """Send to the page."""
        ...

    def afford(self, count: int) -> bool:
        """Whether so many bytes may be sent now."""
        ...

    def refresh(self, card: Card) -> None:
        """Look at a card now, because of a button."""
        ...


class Card:
    """A task on the page. All of it is called under the lock of its desk."""

    def __init__(self, desk: Desk, queue: Queue, id: str, parent: object) -> None:
        self.queue, self.id = queue, id
        self.parent = parent  # the header of its cell's message: what is sent later belongs there
        self.live = True
        self.status: Status | None = None
        self.strip: strips.Strip | None = None
        self.has_strip = False  # a strip is displayed, or was made for a page that shows it
        self.is_revived = False  # its strip was made for a page that shows it from an earlier kernel
        self._late = self._notify = False
        self._desk = desk
        self._born = time.monotonic()
        self._key: object = None  # of the static part that was sent last
        self._sent_at = 0.0
        self._reader = displays.Reader()
        self._rich_sent = False
        self._leaves_at: float | None = None  # when the strip of an ended task goes
        self._stamp: tuple[Any, ...] | None = None
        self._tick = 0.0

    @property
    def display_id(self) -> str:
        """The same for every showing of this task, so that one update reaches all."""
        return f"nbtasks-{self.queue.uuid[:8]}-{self.id}"

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to look for: the task lives, or its strip is about to go."""
        return self.live or self._leaves_at is not None

    # Displaying.

    def display(self, parent: object, *, with_strip: bool, late: bool = False) -> None:
        """Show it in the running cell, whose header is `parent`: the static part, and the strip if it may have one.

        `late`: the cell runs no more, or another thread asks.
        """
        self.parent, self._born, self._late = parent, time.monotonic(), late
        record = self.queue.record(self.id)
        self.live, self.status = not record.status.ended, record.status
        self.has_strip = self.live and (with_strip or self.strip is not None)
        self._put(self._static(record), "card", new=True)
        if self.has_strip:
            self._display_strip(new=True)
        elif record.status.ended:
            self._rich_sent = False
            self._send_rich(record, parent if late else None)

    @property
    def _model(self) -> str:
        return strips.model_id(self.queue.uuid, self.id)

    def _put(self, data: Mapping[str, Any], part: str, *, new: bool = False) -> None:
        display = self.display_id if part == "card" else f"{self.display_id}-{part}"
        parent = None if new and not self._late else self.parent
        self._desk.put(Sent(data, display, about(self.id, self.queue.uuid, part), parent, new))

    # Looking.

    def is_due(self, now: float) -> bool:
        """Whether a look is worth its time: something has changed on the disk, or its clock ticks."""
        if self._leaves_at is not None or now >= self._tick:
            return True
        return self._stamp is None or self._stamp != self._files(*self._stamp[:2])

    def _files(self, delivery: int, place: str) -> tuple[Any, ...]:
        file = self.queue.layout.file
        stats = [displays.stat_of(file(self.id, delivery, kind)) for kind in (LOG, EVENTS, PROGRESS)]
        return delivery, place, os.path.exists(place), *stats

    def look(self, *, forced: bool = False, every: float = 1.0) -> bool:
        """Send what is new about it; True when something was."""
        record = self.queue.record(self.id)
        now = time.monotonic()
        self._stamp = self._files(record.ticket.delivery, record.place.path)
        self._tick = now + (every if config.settings().activity else _MINUTE)
        was, self.status, self.live = self.live, record.status, not record.status.ended
        if self.live and not was:  # it was retried
            self._come_back()
        sent = self._show_strip(record, forced) if self.live or self._is_kept else False
        sent = self._show_static(record, now, forced) or sent
        if not self.live:
            self._end(record, now)
        return sent

    @property
    def _is_kept(self) -> bool:
        """A page that was loaded again shows the strip: it stays, for the static part there is an old one."""
        return self.strip is not None and (self.is_revived or self.strip.is_reattached)

    def _come_back(self) -> None:
        self._rich_sent, self._leaves_at = False, None
        if self.strip is not None:
            self.strip.wishes.stopping = False
        elif self.has_strip:
            self._display_strip(new=False)

    # The static part.

    def _is_line(self) -> bool:
        """Whether the static part is one line, because the strip has all."""
        if not self.live or not self.has_strip:
            return False
        seen = self.strip is not None and self.strip.is_seen
        return seen or (comms.is_page_known() and time.monotonic() - self._born < _UNSEEN)

    def _static(self, record: Record) -> Bundle:
        self._sent_at = time.monotonic()
        if self._is_line():
            self._key = record.status, True
            return line_of(record)
        bundle = self._desk.bundle(record, displays.plain(self._reader.read(record)))
        self._key = hash(tuple(bundle.values()))
        return bundle

    def _show_static(self, record: Record, now: float, forced: bool) -> bool:
        if self._is_line() and self._key == (record.status, True) and now - self._sent_at < _MINUTE:
            return False
        old, before = self._key, self._sent_at
        bundle = self._static(record)
        same = self._key == old and not self._is_line()
        if same or (self.live and not forced and not self._desk.afford(1000 + sum(map(len, bundle.values())))):
            self._key, self._sent_at = old, before
            return False
        self._put(bundle, "card")
        return True

    # The strip.

    def _show_strip(self, record: Record, forced: bool) -> bool:
        if not self.has_strip:
            return False
        wishes = (strip := self._opened()).wishes
        view = self._desk.view(record, self._reader.read(record))
        if wishes.log and record.status is Status.RUNNING and (log := record.log_tail(LINES, SIZE)).strip():
            view = replace(view, log=Block(log))
        face = strips.face_of(view, wishes)
        cost = strip.cost(face)
        if not cost or not (self._desk.afford(cost) or forced):
            return False
        strip.show(face)
        return True

    def _display_strip(self, *, new: bool) -> None:
        self._opened()  # before its view: a page that does not know a widget when it is to show it never does
        self._put(view_of(self._model), "strip", new=new)

    def _opened(self) -> strips.Strip:
        return self.strip if self.strip is not None and self.strip.is_open else self.open_strip()

    def open_strip(self) -> strips.Strip:
        """Make its widgets. What the person wished of an earlier strip stays."""
        before = self.strip.wishes if self.strip is not None else None
        self.has_strip = True
        self.strip = strips.Strip(self._model, self.press)
        self.strip.wishes = before or strips.Wishes(notify=self._notify or self.queue.record(self.id).spec.notify)
        if self.strip.wishes.notify:
            self._run(notify.ASK)
        return self.strip

    def notify(self) -> None:
        """The person on the page is to be told of the end."""
        self._notify = True
        if self.strip is not None:
            self.strip.wishes.notify = True
            self._run(notify.ASK)

    def _run(self, script: str) -> None:
        if self.strip is not None:
            self.strip.run(script)
            timer = threading.Timer(notify.KEEP, self.strip.forget_script)
            timer.daemon = True
            timer.start()

    def press(self, verb: str) -> None:
        """A button was pressed; called in any thread, and not under the lock."""
        strip = self.strip
        if strip is None:
            return
        wishes, wishes.line = strip.wishes, ""
        try:
            self._do(verb, wishes, strip.face.line)
        except (NbtasksError, OSError) as error:  # such as: it has succeeded meanwhile
            wishes.line = one_line(error, 200)
        self._desk.refresh(self)

    def _do(self, verb: str, wishes: strips.Wishes, line: str) -> None:
        if verb == "cancel":
            wishes.stopping = attach(self.queue, self.id).cancel()
        elif verb == "retry":
            attach(self.queue, self.id).retry()
        elif verb in ("log", "less"):
            wishes.log = verb == "log"
        elif verb in ("notify", "quiet"):
            wishes.notify = verb == "notify"
            if wishes.notify:
                self._run(notify.ASK)
        else:
            short = self.id.rpartition("-")[2]
            wanted = f"%task {short} here" if verb == "here" else short
            if line != wanted:  # pressed again, it goes
                wishes.line = wanted
                self._run(notify.copy(wanted))

    # The end.

    def _end(self, record: Record, now: float) -> None:
        self._send_rich(record, self.parent)
        strip = self.strip
        if strip is None or not strip.is_open:
            self._leave()
        elif self._leaves_at is not None:
            if now >= self._leaves_at:
                self._leave()
        elif strip.wishes.notify and strip.is_seen:
            self._run(notify.tell(self._desk.view(record, [])))
            strip.wishes.notify = False
            if not self._is_kept:
                strip.vanish()
                self._leaves_at = now + notify.KEEP
        elif not self._is_kept:
            self._leave()

    def _leave(self) -> None:
        """Take the strip out of the notebook: a saved file must not hold a widget that nobody can show."""
        self._leaves_at = None
        if self.has_strip and not self._is_kept:
            self._put({}, "strip")
            self.close()

    def close(self) -> None:
        """Close the strip's widgets."""
        if self.strip is not None:
            self.strip.close()
            self.strip = None

    def _send_rich(self, record: Record, parent: object) -> None:
        """What is no text and no image goes out once, as a display of its own below the card."""
        if self._rich_sent:
            return
        self._rich_sent = True
        metadata = about(self.id, self.queue.uuid, "display")
        for data, more in displays.rich(self._reader.read(record)):
            self._desk.put(Sent(data, "", {**more, **metadata}, parent, new=True))
