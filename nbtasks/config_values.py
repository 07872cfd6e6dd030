"""What each setting may be: one parser per kind of value, pure. `config` adds where a bad value came from."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from nbtasks.engines.urls import parse_all
from nbtasks.errors import OptionError
from nbtasks.queue.layout import TAG
from nbtasks.spec import check_name, seconds

Parser = Callable[[str, Any], Any]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?\s*", re.IGNORECASE)


def _flag(name: str, value: Any) -> bool:
    word = str(value).strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise OptionError("give true or false")


def text(name: str, value: Any) -> str:
    """`value` if it is a text; the parser of every setting that has none in `PARSERS`."""
    if not isinstance(value, str):
        raise OptionError("give a text")
    return value


def _count(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(value, (bool, float)):
        raise OptionError("give a whole number of at least 1")
    return number


def _duration(name: str, value: Any) -> float:
    duration = seconds(name, value)
    if duration is None:
        raise OptionError("give seconds, or text such as '90s', '10m', '2h', '1d'")
    return duration


def _size(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise OptionError("give bytes, or text such as '64MB', '2GiB'")
    return int(float(match[1]) * 1024 ** " kmgt".index(match[2].lower() or " "))


def _durability(name: str, value: Any) -> str:
    if value not in ("second", "power"):
        raise OptionError("give 'second' or 'power'")
    return str(value)


def _pending(name: str, value: Any) -> str:
    word = "off" if value is False else value  # TOML and YAML people write false
    if word not in ("wait", "warn", "off"):
        raise OptionError("give 'wait', 'warn' or 'off'")
    return str(word)


def _command(name: str, value: Any) -> tuple[str, ...]:
    import shlex

    words: list[Any] = [None]
    with contextlib.suppress(TypeError, ValueError):  # something that is no list; a quote that is not closed
        words = shlex.split(value) if isinstance(value, str) else list(value)
    if not all(isinstance(word, str) and word and "\0" not in word for word in words):
        raise OptionError("give a program and its arguments: a list of texts, or one text as in a shell")
    return tuple(words)


def _resources(name: str, value: Any) -> dict[str, int]:
    """How many there are of each, on this machine: a table, or text such as ``licence=2,gpu=1``."""
    if isinstance(value, str):
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        value = {key.strip(): int(number) if number.strip().isdecimal() else None for key, _, number in pairs}
    fits = isinstance(value, dict) and all(
        isinstance(key, str) and key.strip() and type(number) is int and number >= 0 for key, number in value.items()
    )
    if not fits:
        raise OptionError("say how many there are of each: a table of whole numbers, or text such as 'licence=2,gpu=1'")
    return dict(value)


def _lane(name: str, value: Any) -> str:
    return check_name(name, text(name, value))


def _env(name: str, value: Any) -> str:
    if value and not TAG.fullmatch(text(name, value)):
        raise OptionError("give 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'")
    return text(name, value)


def _engine(name: str, value: Any) -> str:
    words = value if isinstance(value, (list, tuple)) else text(name, value)
    parse_all(words)
    return words if isinstance(words, str) else " ".join(words)


# Each takes the name of the setting and the value from a file, variable or call.
PARSERS: dict[str, Parser] = {
    "autostart": _flag,
    "slots": _count,
    "lane": _lane,
    "env": _env,
    "boot": _env,
    "durability": _durability,
    "idle_exit": _duration,
    "wait": _flag,
    "activity": _flag,
    "notify_command": _command,
    "pending": _pending,
    "grace": _duration,
    "resources": _resources,
    "engine": _engine,
    "capacity": _count,
    "lease": _duration,
    "log_limit": _size,
    "bring_back_limit": _size,
}
