"""A queue of one's own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks.queue.directory import Queue
from tests.queue.tools import new_queue


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    """An empty queue, with somebody who seems to flush it."""
    with new_queue(str(tmp_path / ".nbtasks")) as queue:
        yield queue
