"""What ``%task ID`` can do about a task, and waiting."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle

from nbtasks.api import get
from nbtasks.errors import OptionError, PayloadError
from nbtasks.handle import Task
from nbtasks.jupyter import pending
from nbtasks.jupyter.binding import Binder
from nbtasks.jupyter.here import run_here
from nbtasks.jupyter.lines import did_you_mean
from nbtasks.jupyter.live import Live
from nbtasks.jupyter.sentences import shown_as
from nbtasks.jupyter.words import listed, plural, size
from nbtasks.queue import removing
from nbtasks.status import Status

_NAMES = 12


class Verbs:
    """The verbs, for the tasks that one shell shows."""

    def __init__(self, shell: Any, live: Live, binder: Binder, parent: Callable[[], object]) -> None:
        self._shell, self._live, self._binder, self._parent = shell, live, binder, parent

    def do(self, verb: str, task: Task[Any], path: str | None) -> Any:
        """Do it, and give what is to be shown as the value of the line. OptionError for an unknown verb."""
        __tracebackhide__ = True
        verbs: dict[str, Callable[[Task[Any]], Any]] = {
            "show": self.show, "logs": self._logs, "result": self._result, "vars": self._vars, "here": self._here,
            "cancel": self._cancel, "retry": self._retry, "rm": self._rm,
        }  # fmt: skip
        if verb == "save":
            return self._save(task, path)
        if verb not in verbs:
            raise OptionError(f"%task: {verb!r} cannot be done; {did_you_mean(verb, [*verbs, 'save'])}")
        if path is not None:
            raise OptionError(f"%task: {path!r} is one too many: only save takes a path")
        return verbs[verb](task)

    def show(self, task: Task[Any]) -> None:
        """Show its card in the running cell."""
        self._live.show(task.queue, task.id, self._parent())

    def refresh(self, task: Task[Any]) -> None:
        """Show its card here, and bring it up to date elsewhere."""
        self.show(task)
        self._live.update(task.id)

    def _logs(self, task: Task[Any]) -> None:
        print(task.log, end="")

    def _result(self, task: Task[Any]) -> Any:
        __tracebackhide__ = True
        self.wait([task], None)
        return task.result()

    def _vars(self, task: Task[Any]) -> Any:
        self.wait([task], None)
        return dict(task.vars)

    def _here(self, task: Task[Any]) -> Any:
        """Run its call in this kernel, for ``%debug``; the notebook's variables stay as they are."""
        __tracebackhide__ = True
        return run_here(self._shell, task)

    def _cancel(self, task: Task[Any]) -> None:
        if task.done() or not task.cancel():
            print(f"{task.name} {task.short} had ended before: {task.status}")
        self.refresh(task)

    def _retry(self, task: Task[Any]) -> None:
        self.refresh(task.retry())

    def _save(self, task: Task[Any], path: str | None) -> None:
        """Value and names of an ended task, in a pickle of the person's own."""
        if path is None:
            raise OptionError(f"%task: save needs a path: %task {task.short} save result.pickle")
        self.wait([task], None)
        path = os.path.expanduser(path)
        kept = {"value": _value(task), "vars": dict(task.vars)}
        if kept["value"] is None and not kept["vars"]:
            raise OptionError(f"%task: {task.name} {task.short} {task.status}, and left nothing that could be saved")
        hidden = f"{path}.{secrets.token_hex(4)}"
        try:
            with open(hidden, "wb") as file:
                cloudpickle.dump(kept, file, protocol=5)
            os.replace(hidden, path)
        except OSError as error:
            raise OptionError(f"%task: {path} cannot be written: {error.strerror}") from None
        finally:
            if os.path.exists(hidden):
                os.remove(hidden)
        print(f"saved {_what(kept)} to {path} ({size(os.path.getsize(path))}). To load it anywhere:")
        print(f'import pickle; saved = pickle.load(open({path!r}, "rb"))  # saved["value"], saved["vars"]')

    def _rm(self, task: Task[Any]) -> None:
        if not removing.try_remove(task.queue, task.id):
            raise OptionError(
                f"%task: {task.name} {task.short} is {task.status}: only what has ended can be removed; "
                f"`%task {task.short} cancel` ends it"
            )
        print(f"removed {task.short} with what it printed, showed and gave")

    def wait(self, tasks: Sequence[Task[Any]] | None, timeout: float | None) -> list[Task[Any]]:
        """Wait for tasks (default: all of this kernel that live) and show how they ended; those that have not."""
        try:
            ended = pending.wait(None if tasks is None else list(tasks), timeout)
        except KeyboardInterrupt as stopped:
            who = f"{tasks[0].name} {tasks[0].short} goes" if tasks and len(tasks) == 1 else "the tasks go"
            raise shown_as(stopped, f"KeyboardInterrupt: only the waiting was stopped; {who} on") from None
        self._binder.bind_ended()
        for task in ended.done:
            self._live.update(task.id)
        return sorted(ended.not_done, key=lambda task: task.id)

    def raise_if_failed(self, task: Task[Any]) -> None:
        """A cell that was waited for fails as a plain one would: Run All, nbclient and papermill stop here."""
        __tracebackhide__ = True
        if task.status is Status.FAILED and (error := task.exception()) is not None:
            said = f"{type(error).__name__}: {error}"
            raise shown_as(error, f"{said}\n\nthe card of {task.name} {task.short} has the traceback") from None


def _value(task: Task[Any]) -> Any:
    try:
        return get(task).value
    except PayloadError:  # left out; the names are there all the same
        return None


def _what(kept: dict[str, Any]) -> str:
    names = list(kept["vars"])
    said = [] if kept["value"] is None else ["the value"]
    if names:
        said.append(listed(names) if len(names) <= _NAMES else plural(len(names), "name"))
    return " and ".join(said)
