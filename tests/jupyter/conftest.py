"""Kernels for the tests of this folder; whatever workers they started are gone afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks.queue.directory import Queue
from tests import conftest
from tests.jupyter.kernel import Kernel

Env = dict[str, str]
# What a test left behind would bind its names in the next one.
_END_ALL = """
import nbtasks
for task in nbtasks.tasks():
    task.cancel()
nbtasks.wait(nbtasks.tasks(), timeout=30)
"""


@pytest.fixture(scope="session")
def env(home: str) -> Env:
    """The environment of kernels and workers: nothing of the person's own, no setting of ours."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("NBTASKS_")}
    folders = {"XDG_STATE_HOME": "state", "XDG_CONFIG_HOME": "config", "IPYTHONDIR": "ipython", "MPLCONFIGDIR": "mpl"}
    return own | {name: f"{home}/{folder}" for name, folder in folders.items()}


def stop_workers(folder: Path) -> None:
    """End the workers of the folder's queue, and wait until they are gone."""
    if (folder / ".nbtasks").exists():
        conftest.stop_workers(Queue.open(str(folder / ".nbtasks")))


@pytest.fixture
def folder(tmp_path: Path, env: Env) -> Iterator[Path]:
    """A folder for a notebook, with a queue of its own."""
    yield tmp_path
    stop_workers(tmp_path)


@pytest.fixture
def own_kernel(folder: Path, env: Env) -> Iterator[Kernel]:
    """A kernel with the extension loaded, for tests that restart or kill it."""
    with Kernel(folder, env) as kernel:
        kernel.load()
        yield kernel


@pytest.fixture(scope="module")
def _shared_kernel(tmp_path_factory: pytest.TempPathFactory, env: Env) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("notebook")
    with Kernel(folder, env) as kernel:
        kernel.load()
        yield kernel
    stop_workers(folder)


@pytest.fixture
def kernel(_shared_kernel: Kernel) -> Kernel:
    """A kernel with the extension loaded, and without names; starting one takes a second, so they share it."""
    _shared_kernel.forget()
    cell = _shared_kernel.run(f"{_END_ALL}\n%reset -f\nimport nbtasks")
    assert cell.status == "ok", cell.error
    return _shared_kernel
