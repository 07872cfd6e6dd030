"""The six statuses of a task, and the moves that are allowed between them."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a task stands. ``reason`` beside it says why, in words; there are no further statuses."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    def __repr__(self) -> str:
        """As the text that it is: ``fit.status`` at the end of a cell shows ``'running'``."""
        return repr(self.value)

    @property
    def ended(self) -> bool:
        """True for succeeded, failed and cancelled."""
        return self in ENDED


ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})
LIVE = frozenset(Status) - ENDED

# From each status, where one rename may take a ticket. A success never changes.
MOVES: dict[Status, frozenset[Status]] = {
    Status.WAITING: frozenset({Status.QUEUED, Status.RUNNING, Status.CANCELLED}),
    Status.QUEUED: frozenset({Status.RUNNING, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.QUEUED, Status.WAITING, Status.RUNNING, *ENDED}),
    Status.SUCCEEDED: frozenset(),
    Status.FAILED: frozenset({Status.QUEUED, Status.WAITING}),
    Status.CANCELLED: frozenset({Status.QUEUED, Status.WAITING}),
}
