"""Which tasks are wanted and in what order: what ``%tasks`` was asked, and what the controls of the dashboard say."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from nbtasks.errors import OptionError
from nbtasks.status import ENDED, LIVE, Status

_GROUPS = {"live": LIVE, "ended": ENDED}
WORDS = (*Status, *_GROUPS)  # what may stand for a choice of statuses


class Order(StrEnum):
    """How the tasks are sorted. The values are the words on the control."""

    LIVE = "running first"
    NEWEST = "newest first"
    OLDEST = "oldest first"
    LONGEST = "longest first"
    MEMORY = "most memory first"
    NAME = "by name"

    @property
    def needs_outcomes(self) -> bool:
        """True when the order rests on how tasks ended, which stands in files of their own."""
        return self in (Order.LONGEST, Order.MEMORY)

    @property
    def needs_specs(self) -> bool:
        """True when the order rests on what was asked."""
        return self is Order.NAME


@dataclass(frozen=True)
class Filters:
    """Which tasks are wanted; the default is all of them."""

    statuses: tuple[Status, ...] = ()
    lane: str | None = None
    name: str | None = None  # a part of it, in any case
    mine: bool = False  # of this notebook, or submitted by this kernel
    all: bool = False  # the static table: without limit
    notebook: str | None = None  # the name of this notebook's file, for `mine`

    @property
    def needs_specs(self) -> bool:
        """True when more than the tickets must be looked at."""
        return bool(self.lane or self.name or self.mine)

    @property
    def words(self) -> str:
        """The same in words, for a sentence; "" when everything is wanted."""
        parts = [" or ".join(self.statuses)] if self.statuses else []
        parts += [f"lane {self.lane}"] if self.lane else []
        parts += [f"name {self.name!r}"] if self.name else []
        parts += ["of this notebook"] if self.mine else []
        return ", ".join(parts)


def statuses_of(words: Iterable[str], magic: str = "%tasks") -> tuple[Status, ...]:
    """The statuses that `words` stand for: those of `Status`, "live" and "ended". OptionError, with the nearest."""
    found: dict[Status, None] = {}
    for word in words:
        if word in list(Status):
            found[Status(word)] = None
        elif word in _GROUPS:
            found.update(dict.fromkeys(status for status in Status if status in _GROUPS[word]))
        else:
            near = difflib.get_close_matches(word.lower(), WORDS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(WORDS)}"
            raise OptionError(f"{magic}: {word!r} is no status; {hint}")
    return tuple(found)
