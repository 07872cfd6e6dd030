"""nbtasks: notebook cells and functions that run in the background and outlive the kernel.

::

    submit map task using get tasks            tasks: make and find them
    submit_notebook return_                    whole notebooks as tasks
    every cron schedules get_schedule          tasks that recur
    pipeline get_pipeline                      tasks that feed each other, as one
    wait as_completed gather                   wait for them
    Task TaskList MapTask Pipeline Executor    what people hold
    progress current_task lock                 inside a task
    configure                                  settings
    NbtasksError …                             what may be raised; the tree is in `nbtasks.errors`

Each name is loaded when it is first used: ``import nbtasks`` stands at the top of every notebook.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # of our own: `typing` alone would take half of the time that this import may take

if TYPE_CHECKING:
    from typing import Any

    from nbtasks.api import (
        as_completed,
        cron,
        current_task,
        every,
        gather,
        get,
        get_schedule,
        map,
        schedules,
        submit,
        submit_notebook,
        task,
        tasks,
        using,
        wait,
    )
    from nbtasks.bars import progress
    from nbtasks.config import configure
    from nbtasks.errors import (
        FrameDamaged,
        FrameError,
        FrameForged,
        FrameNewer,
        NbtasksError,
        NoKeyboard,
        OptionError,
        PayloadError,
        QueueError,
        QueueNewer,
        QueueUnsafe,
        SubmitUncertain,
        TaskFailed,
        TaskLost,
        TaskNotFound,
        TaskTimedOut,
        UpstreamFailed,
    )
    from nbtasks.executor import Executor
    from nbtasks.graph import Pipeline, get_pipeline, pipeline
    from nbtasks.handle import Task
    from nbtasks.locking import lock
    from nbtasks.notebook_given import return_
    from nbtasks.scheduling import Schedule
    from nbtasks.spreading import MapTask
    from nbtasks.status import Status
    from nbtasks.tasklist import TaskList

__all__ = [
    "Executor", "FrameDamaged", "FrameError", "FrameForged", "FrameNewer", "MapTask", "NbtasksError", "NoKeyboard",
    "OptionError", "PayloadError", "Pipeline", "QueueError", "QueueNewer", "QueueUnsafe", "Schedule", "Status",
    "SubmitUncertain", "Task", "TaskFailed", "TaskList", "TaskLost", "TaskNotFound", "TaskTimedOut", "UpstreamFailed",
    "as_completed", "configure", "cron", "current_task", "every", "gather", "get", "get_pipeline", "get_schedule",
    "lock", "map", "pipeline", "progress", "return_", "schedules", "submit", "submit_notebook", "task", "tasks", "using",
    "wait",
]  # fmt: skip

_HOMES = {
    "nbtasks.bars": "progress",
    "nbtasks.config": "configure",
    "nbtasks.executor": "Executor",
    "nbtasks.graph": "Pipeline get_pipeline pipeline",
    "nbtasks.handle": "Task",
    "nbtasks.locking": "lock",
    "nbtasks.notebook_given": "return_",
    "nbtasks.scheduling": "Schedule",
    "nbtasks.spreading": "MapTask",
    "nbtasks.status": "Status",
    "nbtasks.tasklist": "TaskList",
    "nbtasks.api": "as_completed cron current_task every gather get get_schedule map schedules submit submit_notebook task tasks using wait",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nbtasks' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOME.get(name, "nbtasks.errors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext nbtasks``."""
    from nbtasks.jupyter.extension import load_ipython_extension as load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext nbtasks``."""
    from nbtasks.jupyter.extension import unload_ipython_extension as unload

    unload(shell)
