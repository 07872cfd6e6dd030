"""Workers by hand: see tests/worker/fixtures.py."""

import pytest

from tests.worker.fixtures import gate, notes, start

pytest.register_assert_rewrite("tests.engines.foreign_contract")

__all__ = ["gate", "notes", "start"]
