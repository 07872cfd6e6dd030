"""A queue of one's own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks.queue.directory import Queue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """An empty queue, with somebody who seems to flush it: a submit without one flushes by itself, and takes long."""
    queue = Queue(str(tmp_path / ".nbtasks"))
    flusher = queue.bell("flush", "f-test")
    yield queue
    flusher.close()
