"""Telling the outside that a task has ended: a command of the person's own, started and never waited for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from nbtasks import processes

_started: list[Any] = []  # subprocess.Popen: kept until they have ended, so that they leave no zombies


def start(command: Sequence[str], facts: Mapping[str, str], folder: str) -> str:
    """Start `command`, without a shell, in `folder`; "" or in words why it could not be.

    ``{name}`` and the like in its words are replaced by `facts`, which it also has in its environment:
    ``NBTASKS_TASK_NAME`` for ``name``.
    """
    import subprocess  # only the few tasks with a notice need it

    _started[:] = [child for child in _started if child.poll() is None]
    words = [_filled(word, facts) for word in command]
    known = {f"NBTASKS_TASK_{name.upper()}": value for name, value in facts.items()}
    try:
        # A session of its own and another mark: it must outlive the slot that starts it.
        _started.append(
            subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
                start_new_session=True, env={**os.environ, **processes.mark_environment(), **known},
            )
        )  # fmt: skip
    except (OSError, ValueError) as error:
        return f"notify_command {command[0]!r} could not be started: {getattr(error, 'strerror', None) or error}"
    return ""


def _filled(word: str, facts: Mapping[str, str]) -> str:
    for name, value in facts.items():
        word = word.replace(f"{{{name}}}", value.replace("\0", ""))
    return word


def find_fault(command: Sequence[str]) -> str:
    """In words why `command` cannot be run here; "" when it can, or there is none. For saying so early."""
    import shutil

    if not command or shutil.which(command[0]) is not None:
        return ""
    return f"notify_command: there is no program {command[0]!r} here, so nothing will be run when a task ends"
