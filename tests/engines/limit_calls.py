"""What the tests of limits run at an engine. The far side does not have this file: it travels with the tasks."""

from __future__ import annotations

import nbtasks
from tests.engines.contract_calls import wait
from tests.worker.calls import occupy


def occupy_locked(folder: str) -> None:
    """Take the only place for a moment, under a lock."""
    with nbtasks.lock("db"):
        occupy(folder, 1, 0.01)


def hold(gate: str) -> str:
    """Have the lock until the gate is there."""
    with nbtasks.lock("db"):
        wait(gate)
    return "held"
