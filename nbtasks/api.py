"""What people call: submit, map, using, get, tasks, wait, as_completed, gather."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED
from typing import Any, NamedTuple, ParamSpec, TypeVar

from nbtasks import processes, run
from nbtasks.decorate import Using, task
from nbtasks.errors import OptionError
from nbtasks.handle import Task, attach, renew
from nbtasks.hooks import bind_names, lending
from nbtasks.run import Running
from nbtasks.spec import seconds
from nbtasks.status import LIVE, Status
from nbtasks.submitting import here, put
from nbtasks.tasklist import TaskList

__all__ = [
    "Ended", "TaskList", "Using", "as_completed", "current_task", "gather", "get", "map", "put", "submit", "task", "tasks",
    "using", "wait",
]  # fmt: skip

P = ParamSpec("P")
T = TypeVar("T")

_PLAIN = Using({})
_FLAT = (list, tuple, set, frozenset)


class Ended(NamedTuple):
    """What `wait` gives: tasks that have ended, and those that have not."""

    done: set[Task[Any]]
    not_done: set[Task[Any]]


def submit(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Task[T]:
    """Run ``function(*args, **kwargs)`` in the background; the handle of the new task.

    When this returns, the task is stored. A Task among the arguments, also inside lists and dicts, is waited for, and the
    function gets its value. Options go to `using`: ``nbtasks.using(retries=3).submit(function, x)``. Raises
    PayloadError, naming what cannot be pickled; then nothing is stored.
    """
    return _PLAIN.submit(function, *args, **kwargs)


def map(function: Callable[..., T], /, *iterables: Iterable[Any]) -> TaskList[T]:
    """Run ``function(item)`` in the background for each item, each as a task of its own.

    With several iterables it gets one item of each, and the shortest decides, as in Python's own map.
    Raises PayloadError when one item cannot be pickled; then nothing is stored.
    """
    return _PLAIN.map(function, *iterables)


def using(**options: Any) -> Using:
    """Options for ``.submit(…)``, ``.map(…)`` and ``.task``: how to run what is submitted.

    ``name``; ``lane``; ``priority`` 0 to 9, higher is sooner (5); ``retries`` after a failure (0), the first
    after ``retry_delay`` (0), which doubles; ``timeout``; ``grace`` to stop in when cancelled (5 s); ``after`` other tasks
    that must have succeeded; ``at_most_once``: never again on its own once it has started. Durations are seconds
    or text such as ``"10m"``. Raises OptionError.
    """
    return Using(options)


def get(id: str | Task[T]) -> Task[Any]:
    """The task with this id, or any unique part of it (``k7q2``). Raises TaskNotFound, with the close ones."""
    if isinstance(id, Task):
        return renew(id)
    if not isinstance(id, str):
        raise OptionError(f"get({id!r}) cannot be: give a task's id, or a part of it such as 'k7q2'")
    queue = here().queue
    return renew(attach(queue, queue.find(id)))


def tasks(
    status: Status | str | None = None, *, lane: str | None = None, name: str | None = None, limit: int | None = None
) -> TaskList[Any]:
    """The tasks of the queue, newest first: those of a status, a lane or a name, at most `limit`."""
    if status is not None and status not in list(Status):
        raise OptionError(f"status={status!r} cannot be: give one of {', '.join(Status)}")
    queue = here().queue
    wanted = Status(status) if status is not None else None
    found = queue.records(status=wanted, lane=lane, name=name, limit=limit)
    return TaskList(queue, [record.id for record in found])


def current_task() -> Running | None:
    """Inside a task: what runs (``id``, ``name``, ``attempt``, ``spec``). Outside: None."""
    return run.current()


def wait(
    tasks: Task[Any] | Iterable[Task[Any]] | None = None,
    timeout: float | str | None = None,
    return_when: str = ALL_COMPLETED,
) -> Ended:
    """Wait until tasks have ended (`return_when` as in `concurrent.futures.wait`), or `timeout`; what has and what not.

    Without tasks: for all live ones that this process submitted. Raises nothing for tasks that fail.
    """
    wanted = _mine() if tasks is None else _flatten([tasks])
    with lending():
        done, not_done = concurrent.futures.wait(wanted, seconds("timeout", timeout), return_when)
    bind_names()
    return Ended(done, not_done)  # type: ignore[arg-type]


def as_completed(tasks: Iterable[Task[T]], timeout: float | str | None = None) -> Iterator[Task[T]]:
    """The tasks one by one as they end. Raises TimeoutError when not all have after `timeout`."""
    ending = concurrent.futures.as_completed(_flatten([tasks]), seconds("timeout", timeout))
    while True:
        with lending():
            task = next(ending, None)
        if task is None:
            return
        bind_names()
        yield task  # type: ignore[misc]


def gather(*tasks: Any, return_exceptions: bool = False) -> list[Any]:
    """Wait for all and give their values in order: ``gather(a, b)``, ``gather(list_of_tasks)``.

    Of several arguments each list becomes a list of values. The first (in order) that failed raises, as
    `Task.result` does; with ``return_exceptions=True`` the exceptions stand in place of values.
    """
    if len(tasks) == 1 and not isinstance(tasks[0], Task):
        return _gather_list(tasks[0], return_exceptions)
    return [
        _gather_list([one], return_exceptions)[0] if isinstance(one, Task) else _gather_list(one, return_exceptions)
        for one in tasks
    ]


def _gather_list(tasks: Any, keep: bool) -> list[Any]:
    if isinstance(tasks, TaskList):
        return tasks.results(errors="return" if keep else "raise")
    values = []
    for one in _flatten([tasks]):
        try:
            values.append(one.result())
        except Exception as error:
            if not keep:
                raise
            values.append(error)
    return values


def _flatten(given: Iterable[Any]) -> list[Task[Any]]:
    found: list[Task[Any]] = []
    for one in given:
        if isinstance(one, Task):
            found.append(one)
        elif isinstance(one, Iterable) and not isinstance(one, str):
            found += _flatten(one)
        else:
            raise OptionError(f"{one!r} is no task; get(…) gives the task of an id")
    return found


def _mine() -> list[Task[Any]]:
    at = here()
    found = (record for status in LIVE for record in at.queue.records(status=status))
    return [
        attach(at.queue, record.id)
        for record in found
        if record.spec.pid == at.pid and record.spec.host == processes.host_name()
    ]
