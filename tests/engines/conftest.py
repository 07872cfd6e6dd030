"""Workers by hand: see tests/worker/fixtures.py."""

from tests.worker.fixtures import gate, notes, start

__all__ = ["gate", "notes", "start"]
