"""``limit``, ``rate`` and ``resources``: checked where they are said, and made needs when a task is submitted."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nbtasks import config, needs
from nbtasks.errors import OptionError
from nbtasks.needs import Needs
from nbtasks.queue import tokens

NAMES = ("limit", "rate", "resources")
_NAMES = frozenset(NAMES)
_LONGEST = 100  # characters of a key
_ITS_NAME = None  # the key of what counts by the task's name

Fields = dict[str, Any]
T = TypeVar("T")
Counts = dict[str | None, int]
Rates = dict[str | None, tuple[int, float]]


def limit(option: str, value: object) -> Counts:
    """How many may run at once, by key: of ``2``, ``{"api": 2}`` or ``("api", 2)``."""
    return _by_key(option, value, needs.count)


def rate(option: str, value: object) -> Rates:
    """How many may start in how many seconds, by key: of ``30``, ``"30/m"``, ``{"api": "30/m"}``, ``("api", "30/m")``."""
    return _by_key(option, value, needs.rate)


def resources(option: str, value: object) -> Counts:
    """How many of each resource: of ``{"licence": 1}``. Whether there are so many is looked up at submit."""
    if not isinstance(value, Mapping) or not value:
        raise OptionError(f"{option}={value!r} cannot be: give what is needed and how many of it, {{'licence': 1}}")
    return _by_key(option, value, needs.count)


PARSERS = {"limit": limit, "rate": rate, "resources": resources}


def _by_key(option: str, value: object, parse: Callable[[str, object], T]) -> dict[str | None, T]:
    if isinstance(value, tuple) and len(value) == 2:
        value = dict([value])
    if not isinstance(value, Mapping):
        return {_ITS_NAME: parse(option, value)}
    if not value:
        raise OptionError(f"{option}={{}} says nothing: leave it out")
    return {_key(option, key): parse(f"{option}[{key!r}]", one) for key, one in value.items()}


def _key(option: str, key: object) -> str | None:
    if key is _ITS_NAME and option != "resources":
        return None
    if not isinstance(key, str) or not key.strip() or len(key) > _LONGEST or not key.isprintable():
        raise OptionError(f"{option}: {key!r} is no name: give one line of 1 to {_LONGEST} characters")
    return key.strip()


def resolve(fields: Fields, name: str) -> Fields:
    """Fields of a Spec, with need and needs in place of limit, rate and resources.

    `name` is the task's when the fields have none. OptionError when there is less of a resource than is asked for.
    """
    if _NAMES.isdisjoint(fields):
        return fields
    key = fields.get("name", name)
    found = Needs(
        fresh=fields.get("need") == "c",
        limits=_named(fields.get("limit", {}), key),
        rates=_named(fields.get("rate", {}), key),
        resources={one: (count, _available(one, count)) for one, count in fields.get("resources", {}).items()},
    )
    if found.resources:
        tokens.host_layout()
    others = {one: value for one, value in fields.items() if one not in NAMES}
    return {**others, "need": found.code, "needs": found.fields}


def _named(found: dict[str | None, T], name: str) -> dict[str, T]:
    return {key or name: value for key, value in found.items()}


def _available(name: str, count: int) -> int:
    there = config.settings().resources
    if name not in there:
        near = difflib.get_close_matches(name, there, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise OptionError(
            f"resources: nobody has said how many {name!r} this machine has; {hint}Say it in pyproject.toml, "
            f"[tool.nbtasks.resources] {name} = {count}, or by {config.variable('resources')}={name}={count}"
        )
    if there[name] < count:
        raise OptionError(
            f"resources: {name}={count} was asked, this machine has {there[name]} ({config.origin('resources')}): refused"
        )
    return there[name]
