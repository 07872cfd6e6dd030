"""What goes to the page: displays and their updates, sent from any thread under the header of the right cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_RATE = 45_000  # bytes per second to the page
_BURST = 200_000
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Sent:
    """One display, or an update of it wherever it is shown."""

    data: Mapping[str, Any]
    display_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent: object = None  # the header of the message that ran its cell; None: of the running cell
    new: bool = False  # False: an update

    @property
    def size(self) -> int:
        """About as many bytes as it takes on the wire."""
        return 1000 + sum(len(value) for value in self.data.values() if isinstance(value, str))


Send = Callable[[Sent], None]


def about(task: str, queue: str, part: str) -> dict[str, Any]:
    """The metadata by which an output is known to be ours: in a saved file, and after a restart of the kernel."""
    return {"nbtasks": {"task": task, "queue": queue, "part": part}}


def view_of(model: str) -> dict[str, Any]:
    """The bundle that shows a widget. Viewers without widgets show nothing: the static card says it all."""
    return {WIDGET: {"version_major": 2, "version_minor": 0, "model_id": model}, "text/plain": ""}


def sender(shell: Any) -> Send | None:
    """What sends a display to the page; None in a terminal, where nothing can be updated."""
    publisher = getattr(shell, "display_pub", None)
    session, socket = getattr(publisher, "session", None), getattr(publisher, "pub_socket", None)
    if session is None or socket is None:
        return None

    def send(sent: Sent) -> None:
        # Not through the publisher: in a thread it would name the latest cell as the parent, and flush its streams.
        kind = "display_data" if sent.new else "update_display_data"
        transient = {"display_id": sent.display_id} if sent.display_id else {}
        content = {"data": dict(sent.data), "metadata": dict(sent.metadata), "transient": transient}
        session.send(socket, session.msg(kind, content, parent=sent.parent), ident=b"display_data")

    return send


def show_here(sent: Sent) -> None:
    """Display in the running cell, or print in a terminal."""
    from IPython.display import display

    display(dict(sent.data), raw=True, metadata=dict(sent.metadata), display_id=sent.display_id or None)


class Budget:
    """How many bytes may go to the page: a bounded rate, and a burst after some calm."""

    def __init__(self) -> None:
        self._credit, self._paid = float(_BURST), time.monotonic()

    def afford(self, count: int) -> bool:
        """Whether there is credit for so many bytes; they are paid then."""
        now = time.monotonic()
        self._credit = min(_BURST, self._credit + _RATE * (now - self._paid))
        self._paid = now
        if count > self._credit and self._credit < _BURST:
            return False
        self._credit -= count
        return True
