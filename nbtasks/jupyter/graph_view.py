"""The graph of a pipeline kept up to date on the page by the refresher of `live`, until all its tasks have ended."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

from nbtasks.errors import NbtasksError
from nbtasks.graph import Pipeline
from nbtasks.hooks import binding_hooks
from nbtasks.jupyter import graph_html
from nbtasks.jupyter.live import Live
from nbtasks.queue.lookup import Place

_SOON, _CLOCK = 0.4, 5.0  # seconds after which what has changed is shown, and times are shown anew
_SHARE = 20.0  # a look that took long is followed by a pause of so many times that
_LINGER = 5.0  # seconds that it is looked at after its end: a task may submit another one


def show(pipeline: Pipeline) -> None:
    """Display a pipeline in the running cell; where the extension is loaded, it stays up to date."""
    from IPython.core.getipython import get_ipython  # who calls this is IPython
    from IPython.display import display

    shell = get_ipython()
    magics = getattr(shell, "_nbtasks", None)
    if magics is None:
        display(graph_html.bundle(pipeline), raw=True)
        return
    GraphView(magics.live, pipeline, shell).display()


class GraphView:
    """One graph on the page: a view of `Live`."""

    def __init__(self, live: Live, pipeline: Pipeline, shell: Any) -> None:
        self.live, self.pipeline, self.queue = live, pipeline, pipeline.queue
        self.is_live = True
        self._shell = shell
        self._id = f"nbtasks-{self.queue.uuid[:8]}-{pipeline.name}-{secrets.token_hex(4)}"
        self._key: dict[str, Place] | None = None
        self._sent_at = self._look_at = 0.0
        self._ended_at: float | None = None
        self._is_over = False
        self._lock = threading.Lock()  # the refresher and a cell that waits take turns

    def display(self) -> None:
        """Show it in the running cell."""
        self._key, self._sent_at = self._standing(), time.monotonic()
        self.live.display(self._id, graph_html.bundle(self.pipeline), self._about())
        self.live.add_view(self)
        self._shell.events.register("post_run_cell", self.catch_up)
        binding_hooks.append(self.catch_up)

    def _about(self) -> dict[str, Any]:
        return {"nbtasks": {"task": "", "queue": self.queue.uuid, "part": "graph", "group": self.pipeline.group}}

    def _standing(self) -> dict[str, Place]:
        return {id: one.place for id, one in self.pipeline.look().items()}

    def look(self, ended: set[str]) -> bool:
        """Send the graph when a task of it has moved on; True when it was."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        sent = self._try_look(now, forced=False)
        self._look_at = now + max(_SOON, (time.monotonic() - now) * _SHARE)
        return sent

    def catch_up(self, *_: object) -> None:
        """Show how it stands now: before a wait returns, and at the end of a cell."""
        if self.is_live and not self._is_over:
            self._try_look(time.monotonic(), forced=True)

    def _close(self) -> None:
        self.is_live = False
        for hooks in (binding_hooks, self._shell.events.callbacks["post_run_cell"]):
            if self.catch_up in hooks:
                hooks.remove(self.catch_up)

    def _try_look(self, now: float, *, forced: bool) -> bool:
        try:
            with self._lock:
                return self._look(now, forced)
        except (NbtasksError, OSError):  # the queue was removed
            self._close()
            return False

    def _look(self, now: float, forced: bool) -> bool:
        places = self._standing()
        over = all(place.status.ended for place in places.values())
        sent = False
        if places != self._key or (not over and not forced and now - self._sent_at > _CLOCK):
            bundle = graph_html.bundle(self.pipeline)
            sent = over or forced or self.live.afford(sum(map(len, bundle.values())))
            if sent:
                self._key, self._sent_at = places, now
                self.live.update_display(self._id, bundle, self._about())
        self._is_over = over and self._key == places
        self._ended_at = (self._ended_at or now) if self._is_over else None
        if self._ended_at is not None and now - self._ended_at > _LINGER:
            self._close()
        return sent
