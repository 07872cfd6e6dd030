"""Starting a worker when a task is there and nobody lives who could run it: detached, and never awaited."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from nbtasks import config, processes
from nbtasks.errors import NbtasksError
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import Layout

_PATIENCE = 5.0  # seconds that a starting worker is given before another is started
_MAX_LOG = 5_000_000
_started: dict[tuple[str, str], float] = {}
_children: list[subprocess.Popen[bytes]] = []


def ensure_worker(queue: Queue, lane: str, env: str, environ: Mapping[str, str] | None = None) -> bool:
    """Start a worker for LANE@ENV, with `environ` (default: our own), unless one was just started. True when one was.

    What was configured in this process and concerns workers, such as the engine, goes along.

    Two processes may do so at once: the second worker finds the lock taken and leaves.
    """
    settings = config.settings()
    place = f"{lane}@{env}"
    if not settings.autostart or env != config.env_tag() or queue.disk.exists(queue.layout.paused):
        return False
    now = time.monotonic()
    if now - _started.get((queue.root, place), -_PATIENCE) < _PATIENCE:
        return False
    _started[queue.root, place] = now
    _reap()
    os.makedirs(queue.layout.auto, 0o700, exist_ok=True)
    path = queue.layout.auto_log(place)
    with contextlib.suppress(OSError):
        if os.path.getsize(path) > _MAX_LOG:
            os.replace(path, f"{path}.1")
    with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as log:
        # A session of its own: Jupyter signals the whole process group of a kernel.
        _children.append(
            subprocess.Popen(
                [sys.executable, "-m", "nbtasks.worker.supervisor", queue.root, lane],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=queue.root,
                env={**(os.environ if environ is None else environ), **config.for_workers(), **processes.mark_environment()},
            )
        )  # fmt: skip
    return True


def note_refusal(root: str, lane: str, words: str) -> None:
    """Let the cards of what waits in a lane say why no worker could start. Never raises."""
    with contextlib.suppress(OSError, NbtasksError):
        path = Layout(root).auto_refused(f"{lane}@{config.env_tag()}")
        hidden = f"{os.path.dirname(path)}/.{os.getpid()}"
        with open(hidden, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(words)
        os.replace(hidden, path)


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]
