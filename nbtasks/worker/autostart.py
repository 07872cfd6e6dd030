"""Starting a worker when a task is there and nobody lives who could run it: detached, and never awaited."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping

from nbtasks import config, processes
from nbtasks.queue.directory import Queue

_PATIENCE = 5.0  # seconds that a starting worker is given before another is started
_MAX_LOG = 5_000_000
_started: dict[tuple[str, str], float] = {}
_children: list[subprocess.Popen[bytes]] = []


def ensure_worker(queue: Queue, lane: str, env: str, environ: Mapping[str, str] | None = None) -> bool:
    """Start a worker for LANE@ENV, with `environ` (default: our own), unless one was just started. True when one was.

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
                env={**(os.environ if environ is None else environ), **processes.mark_environment()},
            )
        )  # fmt: skip
    return True


def _reap() -> None:
    _children[:] = [child for child in _children if child.poll() is None]
