"""What people may say about how a task is run: checked once, where it is said, and never mixed with their own arguments."""

from __future__ import annotations

import difflib
import math
import warnings
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from nbtasks import config, notices, timing, wishes
from nbtasks.errors import OptionError
from nbtasks.handle import Task
from nbtasks.queue.directory import Queue
from nbtasks.spec import Spec, check_spec, seconds

NAMES = (
    "name", "lane", "priority", "retries", "retry_delay", "timeout", "grace", "after", "at_most_once", "notify", "cache",
    *timing.NAMES, *wishes.NAMES,
)  # fmt: skip
_LONGEST_NAME = 100
_NOT_IN_SPEC = frozenset({*timing.NAMES, *wishes.NAMES, "cache"})

Fields = dict[str, Any]  # of a Spec; those of `timing` and `wishes` become so when a task is submitted


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
    if fields.get("notify"):
        fields["notify_command"] = notice_command()
    timing.check(fields)
    check_spec(Spec(id="", **{"name": "", **{name: fields[name] for name in fields if name not in _NOT_IN_SPEC}}))
    return fields


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, NAMES, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
    return f"there is no option {name!r}; {hint} Arguments of the function itself go to submit(function, …)"


def notice_command() -> tuple[str, ...]:
    """What is run when a task with a notice has ended. A program that is not there is warned of, here and now."""
    command = config.settings().notify_command
    if fault := notices.find_fault(command):
        warnings.warn(fault, stacklevel=2)
    return command


def _name(option: str, value: object) -> str:
    text = " ".join(str(value).split())
    if not text or len(text) > _LONGEST_NAME or not text.isprintable():
        raise OptionError(f"{option}={value!r} cannot be: give one line of 1 to {_LONGEST_NAME} characters")
    return text


def _yes_or_no(option: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{option}={value!r} cannot be: give True or False")
    return value


def _max_age(option: str, value: Any) -> float:
    """How old a result from the cache may be, in seconds: any age for True, 0 for no cache."""
    if isinstance(value, bool):
        return math.inf if value else 0.0
    try:
        found = seconds(option, value.total_seconds() if isinstance(value, timedelta) else value)
    except OptionError:
        found = None
    if not found:
        raise OptionError(
            f"{option}={value!r} cannot be: give True, or how old a result may be, such as '7d' or a timedelta"
        )
    return found


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
    "at_most_once": _yes_or_no, "notify": _yes_or_no, "cache": _max_age, "priority": _whole, "retries": _whole,
    **timing.PARSERS, **wishes.PARSERS,
}  # fmt: skip
