"""``%tasks``: a static table of the queue, and below it, where there are widgets, a live dashboard in its place.

There is one dashboard for each queue in a kernel: ``%tasks`` in another cell takes it there.
"""

from __future__ import annotations

import os
import threading
import time

from nbtasks.errors import NbtasksError
from nbtasks.jupyter.dashboard_board import Dashboard, model_of, new_id
from nbtasks.jupyter.dashboard_filters import Filters, Order
from nbtasks.jupyter.dashboard_view import Contents
from nbtasks.jupyter.live import Live
from nbtasks.jupyter.page import about
from nbtasks.queue.catalogue import Catalogue
from nbtasks.queue.directory import Queue

_LARGEST_FILE = 20_000_000  # bytes of a notebook
_making = threading.Lock()  # two widgets of one id would be one too many


def show(live: Live, queue: Queue, filters: Filters, *, static: bool = False) -> None:
    """Display the tasks of `queue` in the running cell: a table, and where there are widgets a live dashboard.

    `static`: the table alone. A dashboard of the same queue in another cell becomes a table there.
    """
    catalogue = Catalogue(queue)
    catalogue.look_at_all()
    contents = Contents(queue, catalogue, live.bundle)
    if static or not live.has_widgets:
        live.display(new_id(queue), contents.table(filters, Order.LIVE, time.time()), about("", queue.uuid, "table"))
        return
    with _making:
        if earlier := Dashboard.opened.pop(queue.uuid, None):
            earlier.close()
        board = Dashboard.opened[queue.uuid] = Dashboard(live, contents, filters)
    board.display()


def revive(live: Live, path: str | None) -> threading.Thread | None:
    """Make the dashboard again, in a thread, if the saved notebook at `path` shows one of an earlier kernel."""
    if path is None:
        return None
    thread = threading.Thread(target=_revive, args=(live, path), name="nbtasks-dashboard", daemon=True)
    thread.start()
    return thread


def _revive(live: Live, path: str) -> None:
    try:
        queue = Queue.open(create=False)
        with open(path, "rb") as file:
            shown = file.read(_LARGEST_FILE)
        if model_of(queue).encode() not in shown:
            return
        catalogue = Catalogue(queue)
        catalogue.look_at_all()
    except (NbtasksError, OSError):  # no queue, or no file, here
        return
    with _making:
        if queue.uuid in Dashboard.opened:
            return
        board = Dashboard(live, Contents(queue, catalogue, live.bundle), Filters(notebook=os.path.basename(path)))
        Dashboard.opened[queue.uuid] = board
    live.add_view(board)


def close_all(live: Live) -> None:
    """Every dashboard of `live` becomes a table."""
    for board in [board for board in Dashboard.opened.values() if board.live is live]:
        board.close()
