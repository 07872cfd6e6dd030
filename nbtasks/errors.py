"""Every exception that nbtasks raises, as one tree. Each says what is wrong, where, and what to do.

::

    NbtasksError
    ├── OptionError (ValueError)        an option, setting or name that cannot be
    ├── QueueError                      the directory
    │   ├── QueueUnsafe                 not ours, or others may write to it
    │   ├── QueueNewer                  written by a newer nbtasks
    │   └── SubmitUncertain             an I/O error left open whether the task exists
    ├── EngineError                     an engine that does not answer, or refuses
    ├── TaskNotFound (LookupError)      no task, or several, by that id
    ├── PayloadError                    a value that cannot be pickled or unpickled
    │   └── FrameError                  a file of the queue that cannot be trusted
    │       ├── FrameDamaged            cut short or altered
    │       ├── FrameForged             its signature is not ours
    │       └── FrameNewer              of a newer format
    ├── NoKeyboard (EOFError)           input() in the background
    └── TaskFailed                      the task ended failed; carries the remote traceback
        ├── TaskLost                    nobody saw its process die, or it was killed
        ├── TaskTimedOut (TimeoutError) it ran over its time limit
        └── UpstreamFailed              a task that it needs failed

All survive pickling: an exception crosses processes here as a matter of course.
"""

from __future__ import annotations

from typing import Any


class NbtasksError(Exception):
    """The root: ``except nbtasks.NbtasksError`` catches whatever nbtasks itself raises."""

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        self.__dict__.update(facts)

    def __reduce__(self) -> tuple[Any, ...]:
        # The default __reduce__ calls cls(*args) and would lose keyword facts of subclasses.
        return _rebuild, (type(self), self.args, dict(self.__dict__))


def _rebuild(cls: type[NbtasksError], args: tuple[Any, ...], facts: dict[str, Any]) -> NbtasksError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(facts)
    return error


class OptionError(NbtasksError, ValueError):
    """An option, a setting or a name that cannot be; nothing was done."""


class QueueError(NbtasksError):
    """Something about the queue directory as a whole."""


class QueueUnsafe(QueueError):
    """The directory is not ours, or others may write to it; the message has the command that mends it."""


class QueueNewer(QueueError):
    """The directory was written by a newer nbtasks than this one."""


class SubmitUncertain(QueueError):
    """An I/O error during submit left open whether the task exists.

    ``id`` is the id that was chosen; submitting with it again is harmless.
    """

    id: str = ""


class EngineError(NbtasksError):
    """An engine beside the worker's own (Dask, Celery, RQ, Huey) does not answer, refuses, or its library is missing."""


class TaskNotFound(NbtasksError, LookupError):
    """No task has this id, or more than one has. ``matches`` lists the candidates."""

    matches: tuple[str, ...] = ()


class PayloadError(NbtasksError):
    """A value that cannot be pickled or unpickled; the message names it, its type and the cure."""


class FrameError(PayloadError):
    """A file of the queue that cannot be trusted."""


class FrameDamaged(FrameError):
    """The file was cut short or altered."""


class FrameForged(FrameError):
    """The signature is missing or was not made with this user's key."""


class FrameNewer(FrameError):
    """The file has a newer format than this nbtasks reads."""


class NoKeyboard(NbtasksError, EOFError):
    """``input()`` and its kin in a background task: there is nobody to answer."""


class TaskFailed(NbtasksError):
    """A task ended failed. ``remote_traceback`` is the full text of what it raised, ``id`` the task."""

    id: str = ""
    remote_traceback: str = ""


class TaskLost(TaskFailed):
    """The task's process died: killed, crashed, out of memory, or with its host."""


class TaskTimedOut(TaskFailed, TimeoutError):
    """The task ran over its time limit."""


class UpstreamFailed(TaskFailed):
    """A task that this one needs failed or was cancelled. ``parent`` is its id."""

    parent: str = ""
