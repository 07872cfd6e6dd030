"""Strips of an earlier kernel, made again by this one: live tasks of this notebook, and what its saved file shows.

A page asks for a widget by an id that follows from the task, so whoever makes a widget of that id answers. A page that
was opened before finds it only when it is loaded again; so what no page shows after a moment is shown below the cell
that loaded the extension.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nbtasks.errors import NbtasksError
from nbtasks.jupyter import markup, strips
from nbtasks.jupyter.cards import Card
from nbtasks.jupyter.live import STRIPS, Live
from nbtasks.queue import lookup, records
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import ID

_MOST_IN_FILE = 100
_LARGEST_FILE = 20_000_000  # bytes
_MOST_LIVE = 2_000  # specs that are read to find those of this notebook
_PATIENCE = 3.0  # seconds that pages get to ask for what was made
_SHOWN = 5
_NEEDLE = b'"nbtasks"'


def notebook_path(namespace: Mapping[str, Any]) -> str | None:
    """The file of the notebook, from what front ends tell: VS Code in a variable, Jupyter's server outside."""
    path = namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return path if isinstance(path, str) and path else None


def start(live: Live, path: str | None, parent: object) -> threading.Thread | None:
    """Make the strips of the notebook at `path` again, in a thread; `parent` is the header of the running cell."""
    if path is None:
        return None
    thread = threading.Thread(target=_revive, args=(live, path, parent), name="nbtasks-revive", daemon=True)
    thread.start()
    return thread


def _revive(live: Live, path: str, parent: object) -> None:
    try:
        queue = Queue.open(create=False)
        made = [_make(live, queue, id, parent) for id in dict.fromkeys([*_live(queue, path), *_in_file(queue, path)])]
    except (NbtasksError, OSError):  # there is no queue here, or not ours
        return
    cards = [card for card in made if card is not None and card.live]
    if not parent or not cards:
        return
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit and not all(card.strip and card.strip.is_seen for card in cards):
        time.sleep(0.1)
    for card in [card for card in cards if card.live and not (card.strip and card.strip.is_seen)][:_SHOWN]:
        live.show_late(card)


def _make(live: Live, queue: Queue, id: str, parent: object) -> Card | None:
    try:
        return live.revive(queue, id, parent)
    except NbtasksError:  # it was removed: the page must not show a widget that nobody can show
        sentence = f"the task {id.rpartition('-')[2]} is no longer in the queue"
        strip = strips.Strip(strips.model_id(queue.uuid, id), lambda verb: None)
        strip.show(strips.Face("#757575", markup.plain(sentence)))
        return None


def _live(queue: Queue, path: str) -> list[str]:
    """The newest live tasks that were submitted from a notebook of this name."""
    name = os.path.basename(path)
    found = []
    for at, place in enumerate(lookup.live_tickets(queue)):
        if at >= _MOST_LIVE:
            break
        try:
            if records.read_spec(queue, place.ticket.id).notebook == name:
                found.append(place.ticket.id)
        except (NbtasksError, OSError):
            continue
    return sorted(found, reverse=True)[:STRIPS]


def _in_file(queue: Queue, path: str) -> list[str]:
    """The tasks of this queue whose strips stand in the saved notebook."""
    try:
        if os.path.getsize(path) > _LARGEST_FILE:
            return []
        with open(path, "rb") as file:
            content = file.read()
        notebook = json.loads(content) if _NEEDLE in content else {}
    except (OSError, ValueError):
        return []
    return list(_strips_in(notebook, queue.uuid))[:_MOST_IN_FILE]


def _strips_in(notebook: Any, queue: str) -> Iterator[str]:
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    for cell in cells if isinstance(cells, list) else []:
        for output in cell.get("outputs") or [] if isinstance(cell, dict) else []:
            metadata = output.get("metadata") if isinstance(output, dict) else None
            ours = metadata.get("nbtasks") if isinstance(metadata, dict) else None
            if (
                isinstance(ours, dict)
                and ours.get("part") == "strip"
                and ours.get("queue") == queue
                and output.get("data")
            ):
                id = ours.get("task")
                if isinstance(id, str) and ID.fullmatch(id):
                    yield id
