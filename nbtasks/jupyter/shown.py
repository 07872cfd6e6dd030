"""What the cards need to know of a task, and the parts that a card is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from nbtasks.jupyter.ansi import LINES
from nbtasks.outcome import Outcome
from nbtasks.queue.members import Usage
from nbtasks.spec import Spec
from nbtasks.status import Status


class Shown(Protocol):
    """A task at one moment; ``nbtasks.queue.records.Record`` is one. Times are seconds since 1970."""

    @property
    def spec(self) -> Spec: ...
    @property
    def status(self) -> Status: ...
    @property
    def reason(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def outcome(self) -> Outcome | None: ...
    @property
    def submitted(self) -> float: ...
    @property
    def started(self) -> float | None: ...
    @property
    def ended(self) -> float | None: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def earlier(self) -> tuple[Outcome, ...]: ...

    def log_tail(self, lines: int = 200, size: int = 20_000) -> str: ...
    def progress(self) -> dict[str, Any] | None: ...
    def events(self) -> list[dict[str, Any]]: ...


class Piece(NamedTuple):
    """A stretch of text in a sentence: ``look`` is empty, ``code`` or ``strong``."""

    text: str
    look: str = ""


Line = tuple[Piece, ...]


class Mark(NamedTuple):
    """How a status looks: an icon, the same in plain characters, and a colour that can be read on white and black."""

    icon: str
    text: str
    colour: str


MARKS: dict[Status, Mark] = {
    Status.WAITING: Mark("◷", "(.)", "#757575"),
    Status.QUEUED: Mark("◷", "(.)", "#757575"),
    Status.RUNNING: Mark("●", "(o)", "#1976d2"),
    Status.SUCCEEDED: Mark("✓", "(v)", "#2f8336"),
    Status.FAILED: Mark("✕", "(x)", "#d83a3a"),
    Status.CANCELLED: Mark("■", "(-)", "#d06000"),
}


@dataclass(frozen=True)
class Bar:
    """One progress bar: its label, how far it is (0 to 1, None when nobody knows), and the rest in words."""

    label: str
    fraction: float | None
    count: str  # "7/20"
    notes: tuple[str, ...] = ()  # "18.4 s/it", "4:03 left", "loss=0.31"


@dataclass(frozen=True)
class Picture:
    """An image for an ``<img>``: a checked data URI."""

    source: str
    alt: str
    width: int | None = None


@dataclass(frozen=True)
class Block:
    """The last `lines` lines of a text, under a summary that can be opened; without one they are simply shown."""

    text: str
    summary: str = ""
    open: bool = False
    lines: int = LINES


@dataclass(frozen=True)
class View:
    """Everything on a card, in words, before it becomes HTML or plain text."""

    status: Status
    name: str
    ref: str
    facts: tuple[str, ...] = ()
    error: tuple[str, str] | None = None  # type and message
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    trace: Block | None = None
    log: Block | None = None
    texts: tuple[str, ...] = ()  # what was displayed as text
    pictures: tuple[Picture, ...] = ()
    after: tuple[Line, ...] = ()  # sentences that come below what the task wrote
    foot: Line = ()
