"""In the kernel of a notebook task: while a cell waits for another task, the slot's place may be used by it.

Else a notebook that submits tasks and waits for them could wait for ever, where there is but one slot.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from nbtasks import hooks
from nbtasks.process_table import MARK
from nbtasks.queue.directory import Queue

VARIABLE = "NBTASKS_NOTEBOOK"  # set in the kernel of a notebook task


def register() -> None:
    """Lend the slot's place at every wait of this process, if it is such a kernel."""
    slot = os.environ.get(MARK)
    if slot and VARIABLE in os.environ:
        hooks.before_wait.append(lambda: _lend(slot))


@contextlib.contextmanager
def _lend(slot: str) -> Iterator[None]:
    queue = Queue.open()
    queue.ring_workers(f"lend {slot}")
    try:
        yield
    finally:
        queue.ring_workers(f"back {slot}")
