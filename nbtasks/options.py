"""What people may say about how a task is run: checked once, where it is said, and never mixed with their own arguments."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from nbtasks.errors import OptionError
from nbtasks.handle import Task
from nbtasks.queue.directory import Queue
from nbtasks.spec import Spec, check_spec, seconds

NAMES = ("name", "lane", "priority", "retries", "retry_delay", "timeout", "grace", "after", "at_most_once")
_LONGEST_NAME = 100

Fields = dict[str, Any]  # of a Spec


def parse(options: Mapping[str, Any]) -> Fields:
    """The fields of a Spec from options as people give them; None means the default.

    Raises OptionError for a name that is no option, saying which is near, and for a value that cannot be.
    """
    fields: Fields = {}
    for name, value in options.items():
        if name not in NAMES:
            raise OptionError(_unknown(name))
        if value is not None:
            fields[name] = _PARSERS[name](name, value) if name in _PARSERS else value
    check_spec(Spec(id="", **{"name": "", **fields}))
    return fields


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
    return f"there is no option {name!r}; {hint} Arguments of the function itself go to submit(function, …)"


def _name(option: str, value: object) -> str:
    text = " ".join(str(value).split())
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise OptionError(f"{option}={value!r} cannot be: give one line of 1 to {_LONGEST_NAME} characters")
    return text


def _yes_or_no(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{option}={value!r} cannot be: give True or False")
    return value


def _whole(option: str, value: Any) -> Any:
    if isinstance(value, bool):
        raise OptionError(f"{option}={value!r} cannot be: give a whole number")
    return value  # check_spec knows the limits


def _after(option: str, value: object) -> tuple[str, ...]:
    """Full ids of tasks given as handles, ids or parts of ids, one or many."""
    if isinstance(value, Task):
        return (value.id,)
    if isinstance(value, str):
        return (Queue.open().find(value),)
    if isinstance(value, Iterable):
        return tuple(dict.fromkeys(id for one in value for id in _after(option, one)))
    raise OptionError(f"{option}={value!r} cannot be: give a task, its id, or a list of these")


_PARSERS = {
    "name": _name, "retry_delay": seconds, "timeout": seconds, "grace": seconds, "after": _after,
    "at_most_once": _yes_or_no, "priority": _whole, "retries": _whole,
}  # fmt: skip
