"""Workers by hand: see tests/worker/fixtures.py. No process of a test outlives it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.roles import kill_roles
from tests.worker.fixtures import gate, notes, start

__all__ = ["gate", "notes", "start"]


@pytest.fixture(autouse=True)
def _no_role_survives() -> Iterator[None]:
    yield
    kill_roles()
