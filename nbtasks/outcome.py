"""How a task ended: the record at the top of an outcome file. Lists and cards read it without unpickling."""

from __future__ import annotations

from typing import Any

import msgspec

from nbtasks.status import Status

_LONGEST = 200  # characters of a reason in a line of a log


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An exception as text and parts, for showing and for when the object itself cannot travel."""

    type: str  # "ValueError", or with its module when not a builtin
    message: str = ""
    traceback: str = ""  # text as Python prints it, ending in the exception line; may hold ANSI colours
    where: str = ""  # "cell [12], line 3" or "helper.py, line 40"


class Variable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One name of a cell that came back, was kept, or was left out."""

    name: str
    preview: str = ""  # kind and shape: "DataFrame 20 × 4", "dict, 4 items"
    size: int = 0  # bytes, when known
    changed: bool = False  # an input that was changed in place, not assigned
    bind: bool = True  # False: kept in task.vars only
    left_out: str = ""  # why it did not travel; then it is in neither place


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one delivery of a task ended. Times are seconds since 1970 (UTC)."""

    id: str
    delivery: int
    status: Status
    reason: str = ""
    started: float = 0.0
    ended: float = 0.0
    attempt: int = 1
    failure: Failure | None = None
    kind: str = ""  # what went wrong when the exception is ours: lost | killed | timed out | upstream | damaged
    preview: str = ""  # of the value
    has_value: bool = False
    variables: tuple[Variable, ...] = ()
    progress: dict[str, Any] | None = None  # the last bars, so that they outlive the task
    host: str = ""
    pid: int = 0
    slot: str = ""
    signal: int | None = None
    exit_code: int | None = None
    peak_memory: int = 0  # bytes
    cpu: float = 0.0  # seconds

    @property
    def seconds(self) -> float:
        """How long the user's code ran."""
        return max(0.0, self.ended - self.started)

    @property
    def line(self) -> str:
        """For a worker's log: ``succeeded in 0.012s``, ``failed in 0.012s: ValueError: invalid literal …``."""
        why = self.reason
        if not why and self.failure is not None:
            why = f"{self.failure.type}: {self.failure.message}".removesuffix(": ")
        printable = "".join(one if one.isprintable() else " " for one in why)  # it is user code that has chosen it
        short = printable if len(printable) <= _LONGEST else f"{printable[:_LONGEST]} …"
        return f"{self.status} in {self.seconds:.3f}s" + (f": {short}" if short else "")
