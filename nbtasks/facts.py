"""What there is to know about a task, as its handle tells it: read from its files whenever it is asked for."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

from nbtasks import ends, hooks, outputs
from nbtasks.ends import Ending
from nbtasks.errors import TaskNotFound
from nbtasks.queue import lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import submitted_at
from nbtasks.queue.lookup import Place
from nbtasks.queue.records import Record
from nbtasks.spec import Spec
from nbtasks.status import Status


class Facts:
    """The part of `nbtasks.handle.Task` that only looks."""

    queue: Queue
    id: str
    bell: str
    generation: int
    _spec: Spec | None
    _place: Place | None  # once it has ended
    _ending: Ending | None

    def look(self) -> bool:
        """Look on the disk whether it has ended. True: it has."""
        raise NotImplementedError

    def note_end(self, place: Place) -> None:
        """Take note that it has ended."""
        raise NotImplementedError

    def _remarks(self) -> tuple[str, ...]:
        """Sentences for its card that only this handle knows."""
        return ()

    def _get_place(self) -> Place:
        assert self._place is not None
        return self._place

    def _read_ending(self) -> Ending:
        if self._ending is None:
            self._ending = ends.read_ending(self.queue, self._get_place())
        return self._ending

    @property
    def spec(self) -> Spec:
        """How it is run. Raises TaskNotFound when it was removed."""
        if self._spec is None:
            self._spec = records.read_spec(self.queue, self.id)
            self.bell = self._spec.bell
        return self._spec

    @property
    def record(self) -> Record:
        """All that its files tell, as of now."""
        self.look()
        return records.read_record(self.queue, self.id, self._place)

    @property
    def name(self) -> str:
        """What it is called."""
        return self.spec.name

    @property
    def short(self) -> str:
        """The last part of the id, which is what people type."""
        return self.id.rpartition("-")[2]

    @property
    def status(self) -> Status:
        """One of waiting, queued, running, succeeded, failed, cancelled."""
        if not self.look():
            place = lookup.locate(self.queue, self.spec)
            if place is not None and not place.status.ended:
                return place.status
            if place is not None and place.ticket.delivery >= self.generation:
                self.note_end(place)
            if place is None:
                raise TaskNotFound(f"{self.id} is gone from {self.queue.root}", matches=())
        return self._place.status if self._place is not None else Status.QUEUED

    @property
    def reason(self) -> str:
        """Why it stands where it stands, in words."""
        return self.record.reason

    @property
    def attempt(self) -> int:
        """The number of the present or last attempt, from 1."""
        return self.record.attempt

    @property
    def progress(self) -> dict[str, Any] | None:
        """Its bars and message as last reported, or None."""
        return self.record.progress()

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self.record.read_log().decode("utf-8", "replace")

    @property
    def logs(self) -> dict[int, str]:
        """What each attempt has printed, by its number: earlier ones are kept when a task is tried again."""
        record = self.record
        return {one.attempt: record.log_of(one.attempt) for one in record.earlier} | {record.ticket.attempt: self.log}

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """What it has printed and displayed so far, as outputs of a notebook (nbformat)."""
        record = self.record
        return outputs.outputs(record.log_pieces(), record.events())

    @property
    def traceback(self) -> str:
        """The text of what it raised, coloured when it was a cell; "" when it has not failed."""
        outcome = self._read_ending().outcome if self.look() else None
        return outcome.failure.traceback if outcome is not None and outcome.failure is not None else ""

    @property
    def value(self) -> Any:
        """What the code returned, also when it was cancelled and returned all the same; None until it has ended."""
        if not self.look():
            return None
        frame = self._read_ending().frame
        return ends.value_in(frame) if frame is not None else None

    @property
    def vars(self) -> dict[str, Any]:
        """The names a cell assigned or changed, with their values, freshly loaded; empty until it has ended."""
        frame = self._read_ending().frame if self.look() else None
        return ends.variables_in(frame) if frame is not None else {}

    @property
    def submitted(self) -> datetime:
        """When it was submitted (UTC)."""
        return datetime.fromtimestamp(submitted_at(self.id), UTC)

    @property
    def started(self) -> datetime | None:
        """When the present or last delivery began (UTC), or None."""
        return _moment(self.record.started)

    @property
    def ended(self) -> datetime | None:
        """When it ended (UTC), or None."""
        return _moment(self.record.ended)

    # Showing.

    def show(self) -> None:
        """Show its card here."""
        bundle = self._repr_mimebundle_()
        with contextlib.suppress(ImportError):
            from IPython.core.getipython import get_ipython

            if get_ipython() is not None:
                from IPython.display import display

                display(bundle, raw=True)
                return
        print(bundle["text/plain"])

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        from nbtasks.jupyter import render  # a handle at the end of a cell shows its card

        record = self.record
        said = hooks.told(self.id)
        kept, notes = said or ({}, ())
        return render.card(
            record,
            kept=kept,
            notes=(*notes, *self._remarks()),
            bound=said is not None,
            outputs=outputs.outputs(record.log_pieces(), record.events()),
        )


def _moment(stamp: float | None) -> datetime | None:
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC)
