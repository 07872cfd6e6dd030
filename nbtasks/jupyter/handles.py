"""Tasks by the names that people have for them: a variable that holds the handle, or a part of the id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbtasks import api
from nbtasks.errors import TaskNotFound
from nbtasks.handle import Task
from nbtasks.jupyter.lines import did_you_mean


def handles(namespace: Mapping[str, Any]) -> dict[str, Task[Any]]:
    """The variables of the notebook that hold a task."""
    return {name: value for name, value in namespace.items() if name[:1] != "_" and isinstance(value, Task)}


def find_task(name: str, namespace: Mapping[str, Any]) -> Task[Any]:
    """The task that a variable of the notebook holds, else the one with this (part of an) id.

    Raises TaskNotFound, with what is near.
    """
    held = namespace.get(name)
    if isinstance(held, Task):
        return held
    try:
        return api.get(name)
    except TaskNotFound as error:
        hint = did_you_mean(name, handles(namespace), "")
        if not hint or any(name in id for id in error.matches):  # a part of several ids is no misspelled name
            raise
        raise TaskNotFound(f"no task {name!r}; {hint}", matches=()) from None
