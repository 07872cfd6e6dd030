"""A task that waits for one which cannot start before it ends would wait for ever: refused, in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nbtasks import run
from nbtasks.errors import OptionError
from nbtasks.queue import dependencies


def refuse_cycles(tasks: Iterable[Any]) -> None:
    """Raise OptionError when, in a task, one of `tasks` is waited for that is itself, or hangs on it. Else nothing."""
    running = run.current()
    if running is None:
        return
    here = f"{running.name} {running.spec.short}"
    for task in tasks:
        chain = dependencies.find_chain(task.queue, task.id, running.id)
        if len(chain) == 1:
            raise OptionError(f"{here} waits for itself: it would never end. Return the value, and wait for it outside")
        if chain:
            raise OptionError(
                f"{here} waits for {task.name} {task.short}, which itself waits for {here}: neither would ever end. "
                "Return first, and let what comes after take this task as its argument"
            )
