"""Workers by hand, so that each test says itself who lives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbtasks import config
from nbtasks.queue.directory import Queue
from tests.worker.tools import Worker


@pytest.fixture
def start(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Worker]]:
    """``start("-w", "1")`` starts a worker; none starts by itself."""
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    config.reset()
    workers: list[Worker] = []

    def make(*options: str, **more: object) -> Worker:
        workers.append(Worker(queue, *options, **more))  # type: ignore[arg-type]
        return workers[-1]

    yield make
    for worker in workers:
        worker.stop()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[str]:
    """A file that is not there yet; tasks wait for it (or for another, ``-2``). It is there at the end, so that none waits on."""
    path = tmp_path / "gate"
    yield str(path)
    path.touch()
    Path(f"{path}-2").touch()


@pytest.fixture
def notes(tmp_path: Path) -> str:
    """A file outside of the queue, into which tasks write lines."""
    return str(tmp_path / "notes")
