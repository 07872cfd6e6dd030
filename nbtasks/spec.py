"""How to run a task: the frozen record that travels as plain JSON at the top of its call file."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nbtasks.errors import OptionError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)?\s*")
_UNITS = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to run one task. Durations are seconds, times are seconds since 1970 (UTC).

    The later fields are reserved from the start, so that every reader knows them.
    """

    id: str
    name: str
    kind: str = "function"  # function | cell | notebook
    lane: str = "default"
    env: str = ""  # tag of the Python environment that can unpickle it
    need: str = "f"  # f function, c cell or notebook, x… what `needs` says (needs are seen before claiming)
    priority: int = 5  # 0 to 9, higher is sooner
    parents: tuple[str, ...] = ()  # tasks whose values are arguments
    after: tuple[str, ...] = ()  # tasks that have to succeed before it, for order alone
    retries: int = 0
    retry_delay: float = 0.0  # before the first retry; doubles with each, up to an hour
    timeout: float | None = None
    grace: float = 5.0
    at_most_once: bool = False
    context: str = ""  # blob: working directory, path, environment, project sources
    bell: str = ""  # the submitter's bell
    host: str = ""  # where it was submitted
    pid: int = 0
    summary: str = ""  # one line about the call, e.g. "train(1, epochs=20)"
    notebook: str | None = None
    cell_id: str | None = None
    source_hash: str | None = None
    digests: dict[str, str] = {}  # of each input of a cell, the same in every process; "" when it has none
    origins: dict[str, str] = {}  # inputs of a cell that another task brings: its id
    kernel_start: float | None = None
    notify: bool = False  # somebody wants to be told when it has ended
    notify_command: tuple[str, ...] = ()  # what is run then: program and arguments, as set at submit
    due: float | None = None  # not before this moment
    expires: float | None = None  # a task that has not started at this moment is cancelled
    schedule: str | None = None  # the schedule that made it, for the moment `due`
    needs: dict[str, Any] = {}  # limits, rates and resources, as in `nbtasks.needs`
    seed: int | None = None
    checkpoint: bool = False
    group: str | None = None
    cache_key: str | None = None

    @property
    def short(self) -> str:
        """The last part of the id, which is what people type: ``k7q2``."""
        return self.id.rpartition("-")[2]

    @property
    def is_fresh(self) -> bool:
        """Whether it wants a process of its own."""
        return self.need == "c" or bool(self.needs.get("fresh"))

    @property
    def dependencies(self) -> tuple[str, ...]:
        """All tasks that must end before this one: parents, then ``after``."""
        return self.parents + self.after


def check_name(what: str, name: str) -> str:
    """`name` if it may become a folder name (a lane, a group), else OptionError."""
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise OptionError(
            f"{what} {name!r} cannot be: use 1 to 31 characters of a-z, 0-9, '-' and '_', beginning with a letter or digit"
        )
    return name


def seconds(what: str, value: float | str | None) -> float | None:
    """A duration as seconds: a number as it is, or text such as ``"90"``, ``"10m"``, ``"2h"``, ``"1.5d"``.

    Raises OptionError, naming the option `what`, for anything else and for negative numbers.
    """
    if value is None:
        return None
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match:
            return float(match[1]) * _UNITS[match[2]]
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    raise OptionError(f"{what}={value!r} is no duration: give seconds, or text such as '90s', '10m', '2h', '1d'")


def duration_words(seconds: float) -> str:
    """A duration for people: "0.5 s", "2:05", "1 h 02"."""
    whole = round(seconds)
    if seconds < 60:
        return f"{seconds:g} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours} h {rest // 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def check_spec(spec: Spec) -> Spec:
    """`spec` if its options can be, else OptionError naming the first that cannot."""
    check_name("lane", spec.lane)
    if not (isinstance(spec.priority, int) and 0 <= spec.priority <= 9):
        raise OptionError(f"priority={spec.priority!r} cannot be: give 0 to 9, higher is sooner (default 5)")
    if not (isinstance(spec.retries, int) and 0 <= spec.retries <= 1000):
        raise OptionError(f"retries={spec.retries!r} cannot be: give how often to run again after a failure, 0 to 1000")
    if spec.timeout is not None and spec.timeout <= 0:
        raise OptionError(f"timeout={spec.timeout!r} cannot be: give a duration above zero, or leave it out")
    return spec
