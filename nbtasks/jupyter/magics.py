"""The magics ``%%background``, ``%tasks``, ``%task`` and ``%wait``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from typing import Any, TypeVar

import psutil
from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.display import display

from nbtasks import api, config
from nbtasks.errors import NbtasksError, OptionError
from nbtasks.handle import Task
from nbtasks.jupyter import render
from nbtasks.jupyter.binding import Binder
from nbtasks.jupyter.lines import CELL, Parser, cell_options
from nbtasks.jupyter.live import Live, sender
from nbtasks.jupyter.sending import Origin, submit_cell
from nbtasks.queue.directory import Queue
from nbtasks.spec import seconds
from nbtasks.status import Status


def _plainly(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of ours are shown as one sentence: a traceback through our own code helps nobody."""

    @wraps(magic)
    def run(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # also above an exception that a task raised
        try:
            return magic(*args, **kwargs)
        except (OptionError, LookupError) as error:
            if not isinstance(error, NbtasksError):
                raise
            raise UsageError(str(error)) from None
        except NbtasksError as error:
            _shown_as(error, f"{type(error).__name__}: {error}")
            raise

    return run


Raised = TypeVar("Raised", bound=BaseException)


def _shown_as(error: Raised, text: str) -> Raised:
    """`error`, which IPython then shows as `text` instead of its traceback."""
    error._render_traceback_ = partial(str.splitlines, text)  # type: ignore[attr-defined]
    return error


def _tasks_parser() -> Parser:
    parser = Parser("%tasks", "List tasks, the newest first.")
    parser.add_argument("status", nargs="*", metavar="STATUS", help="only these: " + ", ".join(Status))
    parser.add_argument("-a", "--all", action="store_true", help="without limit")
    parser.add_argument("-l", "--lane", help="only tasks of this lane")
    parser.add_argument("-n", "--name", help="only tasks of this name")
    return parser


def _task_parser() -> Parser:
    parser = Parser("%task", "Show a task, or do something about it.")
    parser.add_argument(
        "id", metavar="ID", help="the name of a handle, or any unique part (3 characters or more) of an id"
    )
    parser.add_argument(
        "verb", nargs="?", default="show", metavar="VERB", help="show, logs, result, vars, cancel, retry"
    )
    return parser


def _wait_parser() -> Parser:
    parser = Parser("%wait", "Wait until tasks have ended, and bind what they brought back.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids or handles (default: all of this notebook that live)")
    parser.add_argument("--timeout", metavar="TIME", help="give up after 90, 10m, 2h")
    return parser


TASKS, TASK, WAIT = _tasks_parser(), _task_parser(), _wait_parser()


@magics_class
class TaskMagics(Magics):
    """The magics of one shell, with its cards and what it is owed."""

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.binder = Binder(shell.user_ns, self._on_bound)
        self.live = Live(sender(shell), self.binder.said)
        self._kernel_start = psutil.Process().create_time()

    def _on_bound(self, id: str) -> None:
        self.live.update(id)

    def begin_cell(self, *_: object) -> None:
        """A cell begins: what has ended is bound, and updates of cards go under its header."""
        self.live.cell = self._parent()
        self.binder.bind_ended()

    def catch_up(self, *_: object) -> None:
        """Bind what has ended, and show it: at the end of a cell, and before a wait returns."""
        self.binder.bind_ended()
        self.live.catch_up()

    @cell_magic
    @_plainly
    def background(self, line: str, cell: str) -> None:
        """Run the cell in the background."""
        options = cell_options(line)
        if not cell.strip():
            raise OptionError("%%background: the cell is empty")
        queue = Queue.open()
        owed = submit_cell(queue, cell, options, self.shell.user_ns, self._origin())
        self.binder.expect(owed)
        task = api.get(owed.spec.id)
        if options.handle:
            self.shell.user_ns[options.handle] = task
        self._show(task)
        if options.wait or config.settings().wait:
            self._wait([task], None)
            self._raise_if_failed(task)

    def _raise_if_failed(self, task: Task[Any]) -> None:
        """A cell that was waited for fails as a plain one would: Run All, nbclient and papermill stop here."""
        __tracebackhide__ = True
        if task.status is Status.FAILED and (error := task.exception()) is not None:
            said = f"{type(error).__name__}: {error}"
            raise _shown_as(error, f"{said}\n\nthe card of {task.name} {task.short} has the traceback") from None

    @line_magic
    @_plainly
    def tasks(self, line: str) -> None:
        """List tasks."""
        options = TASKS.parse_line(line)
        for status in options.status:
            if status not in list(Status):
                raise OptionError(f"%tasks: {status!r} is no status; there are {', '.join(Status)}")
        queue = Queue.open()
        wanted = Status(options.status[0]) if len(options.status) == 1 else None
        found = queue.records(status=wanted, lane=options.lane, name=options.name)
        chosen = (record for record in found if not options.status or record.status in options.status)
        display(render.table(chosen, limit=sys.maxsize - 1 if options.all else 50), raw=True)

    @line_magic
    @_plainly
    def task(self, line: str) -> Any:
        """Show a task, or do something about it."""
        options = TASK.parse_line(line)
        verbs: Mapping[str, Callable[[Task[Any]], Any]] = {
            "show": self._show, "logs": self._logs, "result": self._result, "vars": self._vars,
            "cancel": self._cancel, "retry": self._retry,
        }  # fmt: skip
        if options.verb not in verbs:
            raise OptionError(f"%task: {options.verb!r} cannot be done; there are {', '.join(verbs)}")
        __tracebackhide__ = True
        return verbs[options.verb](self._find(options.id))

    def _find(self, name: str) -> Task[Any]:
        """The task that a variable of the notebook holds, else the one with this (part of an) id."""
        held = self.shell.user_ns.get(name)
        return held if isinstance(held, Task) else api.get(name)

    def _show(self, task: Task[Any]) -> None:
        self.live.show(task.queue, task.id, self._parent())

    def _logs(self, task: Task[Any]) -> None:
        print(task.log, end="")

    def _result(self, task: Task[Any]) -> Any:
        __tracebackhide__ = True
        self._wait([task], None)
        return task.result()

    def _vars(self, task: Task[Any]) -> Any:
        self._wait([task], None)
        return dict(task.vars)

    def _cancel(self, task: Task[Any]) -> None:
        if task.done() or not task.cancel():
            print(f"{task.name} {task.short} had ended before: {task.status}")
        self._refresh(task)

    def _retry(self, task: Task[Any]) -> None:
        self._refresh(task.retry())

    def _refresh(self, task: Task[Any]) -> None:
        self._show(task)
        self.live.update(task.id)

    @line_magic
    @_plainly
    def wait(self, line: str) -> None:
        """Wait until tasks have ended, and bind what they brought back."""
        options = WAIT.parse_line(line)
        tasks = [self._find(name) for name in options.ids] or None
        pending = self._wait(tasks, seconds("--timeout", options.timeout))
        if pending:
            names = ", ".join(f"{task.name} {task.short} ({task.status})" for task in pending[:5])
            message = f"the time is up; still there: {names}{' …' if len(pending) > 5 else ''}"
            raise _shown_as(TimeoutError(message), message)

    def _wait(self, tasks: Sequence[Task[Any]] | None, timeout: float | None) -> list[Task[Any]]:
        """Wait for tasks (default: all of this kernel that live) and show how they ended; those that have not."""
        try:
            ended = api.wait(tasks, timeout=timeout)
        except KeyboardInterrupt as stopped:
            who = f"{tasks[0].name} {tasks[0].short} goes" if tasks and len(tasks) == 1 else "the tasks go"
            raise _shown_as(stopped, f"KeyboardInterrupt: only the waiting was stopped; {who} on") from None
        self.binder.bind_ended()
        for task in ended.done:
            self.live.update(task.id)
        return sorted(ended.not_done, key=lambda task: task.id)

    def _parent(self) -> object:
        return getattr(self.shell.display_pub, "parent_header", None)

    def _origin(self) -> Origin:
        kernel = getattr(self.shell, "kernel", None)
        message = kernel.get_parent("shell") if kernel is not None else {}
        return Origin(
            number=_number(self.shell) if kernel is not None else None,
            cell_id=(message.get("metadata") or {}).get("cellId"),
            notebook=_notebook(self.shell.user_ns),
            kernel_start=self._kernel_start,
        )


def _number(shell: Any) -> int:
    """The number of the running cell. `shell.execution_count` is that of the next one since IPython 9."""
    return len(shell.history_manager.input_hist_parsed) - 1


def _notebook(namespace: Mapping[str, Any]) -> str | None:
    """The name of the notebook's file, from what front ends tell: VS Code in a variable, Jupyter's server outside."""
    path = namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return os.path.basename(path) if isinstance(path, str) and path else None


TaskMagics.background.__doc__ = CELL.format_help()
TaskMagics.tasks.__doc__ = TASKS.format_help()
TaskMagics.task.__doc__ = TASK.format_help()
TaskMagics.wait.__doc__ = WAIT.format_help()
