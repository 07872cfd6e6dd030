"""What people call: submit, map, using, get, tasks, wait, as_completed, gather."""

from __future__ import annotations

import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED
from datetime import timedelta
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from nbtasks import notebooks, processes, run, scheduling
from nbtasks.cycles import refuse_cycles
from nbtasks.decorate import Using, task
from nbtasks.errors import OptionError
from nbtasks.handle import Task, attach, renew
from nbtasks.hooks import bind_names, lending
from nbtasks.run import Running
from nbtasks.scheduling import Schedule, ScheduleList
from nbtasks.spec import seconds
from nbtasks.spreading import MapTask
from nbtasks.status import LIVE, Status
from nbtasks.submitting import here, put
from nbtasks.tasklist import TaskList

__all__ = [
    "Ended", "Schedule", "ScheduleList", "TaskList", "Using", "as_completed", "cron", "current_task", "every", "gather", "get",
    "get_schedule", "map", "put", "schedules", "submit", "submit_notebook", "task", "tasks", "using", "wait",
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


@overload
def map(function: Callable[..., T], items: Task[Any], /, *more: Any) -> MapTask[T]: ...
@overload
def map(function: Callable[..., T], /, *iterables: Iterable[Any]) -> TaskList[T]: ...
def map(function: Callable[..., T], /, *iterables: Any) -> TaskList[T] | MapTask[T]:
    """Run ``function(item)`` in the background for each item, each as a task of its own.

    With several iterables it gets one item of each, and the shortest decides, as in Python's own map. An iterable may be
    a Task: the items are those of its value, the tasks are made when it is there, and what is given is a `MapTask`.
    Raises PayloadError when one item cannot be pickled; then nothing is stored.
    """
    made: TaskList[T] | MapTask[T] = _PLAIN.map(function, *iterables)
    return made


def submit_notebook(
    path: str | os.PathLike[str], parameters: Mapping[str, object] | None = None, *,
    output: str | os.PathLike[str] | None = None, kernel_name: str | None = None,
    timeout_per_cell: float | str | None = None, resume: bool = False, html: bool = False,
    cache: bool | float | str | timedelta | None = None,
) -> Task[Any]:  # fmt: skip
    """Run a notebook, as it is now, in the background: in its kernel (or `kernel_name`) and its folder.

    `parameters` replace the defaults in its cell tagged ``parameters``; a Task among them is waited for. The executed
    copy goes to `output`, by default ``{name}-{id}.ipynb`` beside the notebook, where ``{name}``, ``{id}``, ``{date}``,
    ``{time}`` and the parameters may stand; it is written after every cell. ``html=True`` writes a page beside it, an
    `output` that ends in ``.html`` the page alone. A cell that takes longer than `timeout_per_cell` is interrupted, and the
    task fails. ``resume=True`` goes on where the last run failed, if all before is unchanged.

    The result is what the notebook gave to `return_`, else the path of the copy. Raises OptionError for a notebook,
    parameter, kernel or output that cannot be; then nothing is stored.
    """
    return _PLAIN.submit_notebook(
        path, parameters, output=output, kernel_name=kernel_name, timeout_per_cell=timeout_per_cell, resume=resume,
        html=html, cache=cache,
    )  # fmt: skip


def using(**options: Any) -> Using:
    """Options for ``.submit(…)``, ``.map(…)`` and ``.task``: how to run what is submitted.

    ``name``; ``lane``; ``priority`` 0 to 9, higher is sooner (5); ``retries`` after a failure (0), the first
    after ``retry_delay`` (0), which doubles; ``timeout``; ``grace`` to stop in when cancelled (5 s); ``after`` other tasks
    that must have succeeded; ``at_most_once``: never again on its own once it has started; ``cache=True``, or
    the age that a result may have (``"7d"``): give the task that has run, or is running, the same call. Later: ``delay``, or ``at`` a
    datetime or ``"03:00"`` (in the time zone ``tz``); ``expires`` after a duration or at a moment, if it has not
    started by then. At most so many at once: ``limit=2`` of this name, ``limit={"api": 2}`` of all with that key;
    ``rate="30/m"`` or ``{"api": "5/s"}``: so many starts; ``resources={"licence": 1}``: of what the settings say this machine has. For what recurs: ``tz``, ``missed``, ``overlap``; see `every`. Durations are seconds or text such
    as ``"10m"``. Raises OptionError.
    """
    return Using(options)


def every(interval: float | str, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Schedule:
    """Run ``function(*args, **kwargs)`` again and again: every ``"10m"``, or so many seconds, for the first time after one.

    It is stored with the code and the arguments of now, under the name of the function or the one that `using` gives:
    ``nbtasks.using(name="nightly", missed="all").every("1d", function, x)``. Registering a name again replaces it. It
    runs while a worker lives; what is printed says when next. ``missed`` says what is done about moments at which none
    lived: ``"once"`` (one run for all of them; the default), ``"skip"`` or ``"all"``, which leaves none out.
    ``overlap=True`` lets a run begin while the one before goes on; else that moment is left out. Of `submit_notebook`
    the notebook itself recurs: ``every("1d", nbtasks.submit_notebook, "report.ipynb", output="{name}-{date}.ipynb")``.
    Raises OptionError and PayloadError; then nothing is registered.
    """
    return _PLAIN.every(interval, function, *args, **kwargs)


def cron(line: str, function: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Schedule:
    """As `every`, at the moments of a cron line: ``cron("0 3 * * *", function)`` is every day at 03:00.

    By the clocks of this machine's time zone, or of another: ``using(tz="Europe/Berlin").cron(…)``.
    """
    return _PLAIN.cron(line, function, *args, **kwargs)


def schedules() -> ScheduleList:
    """All that recurs in the queue: a list that shows when next, the code's date, and what became of the last moments."""
    return scheduling.find_schedules()


def get_schedule(name: str) -> Schedule:
    """The schedule of that name: ``.pause()``, ``.resume()``, ``.run()``, ``.remove()``, ``.history()``. Raises OptionError."""
    return scheduling.get_schedule(name)


scheduling.CALLS[submit_notebook] = notebooks.recurring  # every(…, submit_notebook, path) runs the notebook itself


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
    refuse_cycles(wanted)
    with lending():
        done, not_done = concurrent.futures.wait(wanted, seconds("timeout", timeout), return_when)
    bind_names()
    return Ended(done, not_done)  # type: ignore[arg-type]  # typeshed has sets of Future, these are tasks


def as_completed(tasks: Iterable[Task[T]], timeout: float | str | None = None) -> Iterator[Task[T]]:
    """The tasks one by one as they end. Raises TimeoutError when not all have after `timeout`."""
    wanted = _flatten([tasks])
    refuse_cycles(wanted)
    ending: Iterator[Any] = concurrent.futures.as_completed(wanted, seconds("timeout", timeout))
    while True:
        with lending():
            task = next(ending, None)
        if task is None:
            return
        bind_names()
        yield task


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
