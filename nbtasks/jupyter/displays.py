"""What a task displayed that a card cannot hold: HTML, plotly and their kin go to the page as displays of their own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nbtasks import outputs
from nbtasks.jupyter.page import WIDGET
from nbtasks.queue.records import Record
from nbtasks.status import Status

_LIVE = 4_000_000  # bytes of displays that are read while a task lives; the rest comes when it has ended
_MOST = 20
_BYTES = 10_000_000
_RICH = ("text/html", "text/markdown", "text/latex", "application/", "video/", "audio/")


def is_rich(output: Mapping[str, Any]) -> bool:
    """Whether an nbformat output has a form that a card does not show, and none that it does."""
    data = output.get("data")
    if not isinstance(data, Mapping) or any(kind.startswith("image/") for kind in data):
        return False
    return any(kind.startswith(_RICH) and kind != WIDGET for kind in data)


def plain(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The outputs that a card shows."""
    return [dict(output) for output in found if not is_rich(output)]


def rich(found: Iterable[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Data and metadata of the other ones, within a limit."""
    room = _BYTES
    for output in [output for output in found if is_rich(output)][:_MOST]:
        # A widget of another process can be shown by nobody.
        data = {kind: value for kind, value in output["data"].items() if kind != WIDGET}
        room -= sum(len(str(value)) for value in data.values())
        if room < 0:
            return
        metadata = output.get("metadata")
        yield data, dict(metadata) if isinstance(metadata, Mapping) else {}


class Reader:
    """What one task displayed, read again when it has displayed more."""

    def __init__(self) -> None:
        self._known: tuple[object, list[dict[str, Any]]] = (None, [])

    def read(self, record: Record) -> list[dict[str, Any]]:
        """As nbformat outputs; what it printed stands in its log, which is not read here."""
        path = record.events_path if record.status not in (Status.WAITING, Status.QUEUED) else None
        stat = stat_of(path) if path else None
        if path is None or stat is None or (not record.status.ended and stat[1] > _LIVE):
            return []
        if self._known[0] != (path, stat):
            with contextlib.suppress(OSError, ValueError):
                self._known = ((path, stat), outputs.outputs(b"", record.events()))
        return self._known[1]


def stat_of(path: str) -> tuple[int, int] | None:
    """When a file was written last, and its size; None when it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
