"""What a task needs beside a slot: tokens of limits and resources, and room under rates. Pure values."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from nbtasks.errors import OptionError

MOST = 10_000  # starts within one span that are kept account of
_SPANS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_RATE = re.compile(r"\s*(\d+)\s*/\s*(s|m|min|h|d)\s*")


class Needs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that tasks of one line ask for. Equal needs have an equal code, which is the NEED of their line."""

    fresh: bool = False  # a process of its own: a cell or a notebook
    limits: dict[str, int] = {}  # key → at most so many at once
    rates: dict[str, tuple[int, float]] = {}  # key → so many starts within so many seconds
    resources: dict[str, tuple[int, int]] = {}  # name → how many are wanted, of how many there are

    @property
    def content(self) -> bytes:
        """The same bytes for the same needs: what lies in ``needs/``."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def code(self) -> str:
        """``x`` and a hash of the content."""
        return f"x{hashlib.sha256(self.content).hexdigest()[:16]}"

    @property
    def fields(self) -> dict[str, Any]:
        """As they stand in a spec."""
        found: dict[str, Any] = msgspec.json.decode(self.content)
        return found


_decoder = msgspec.json.Decoder(Needs)


def decode(content: bytes, code: str) -> Needs | None:
    """The needs in a file or spec; None when they are not those of `code`: damaged, or of a newer version."""
    try:
        needs = _decoder.decode(content)
    except msgspec.DecodeError:
        return None
    return needs if needs.code == code else None


def of_fields(fields: dict[str, Any], code: str) -> Needs | None:
    """The needs of a spec; None when they are not those of `code`."""
    return decode(msgspec.json.encode(fields), code)


def count(option: str, value: object) -> int:
    """A whole number of at least 1, else OptionError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{option}={value!r} cannot be: give a whole number of at least 1")
    return value


def whole_text(option: str, text: str) -> int:
    """The number in a text, as `count` takes it."""
    return count(option, int(text) if text.strip().isdecimal() else text)


def rate(option: str, value: object) -> tuple[int, float]:
    """How many starts within how many seconds: of 30 (a minute), ``"30/m"``, ``"5/s"``, ``"100/h"``. Else OptionError."""
    found: tuple[int, float] | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        found = value, _SPANS["m"]
    elif isinstance(value, str) and (match := _RATE.fullmatch(value)):
        found = int(match[1]), _SPANS[match[2]]
    elif isinstance(value, str) and value.strip().isdecimal():
        found = int(value), _SPANS["m"]
    if found is None or found[0] < 1:
        raise OptionError(
            f"{option}={value!r} is no rate: give starts a minute, or text such as '30/m', '5/s', '100/h'"
        )
    if found[0] > MOST:
        raise OptionError(
            f"{option}={value!r} cannot be: at most {MOST:,} starts are counted; say it for a shorter time, as '5/s'"
        )
    return found


def rate_words(value: tuple[int, float]) -> str:
    """``30/m``."""
    unit = next(name for name, span in _SPANS.items() if span == value[1])
    return f"{value[0]}/{unit}"
