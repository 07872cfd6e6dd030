"""A notebook as a task: checked where it is submitted, and frozen as it is then."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from nbtasks import caching, notebook_files, notebook_parameters, payload, submitting
from nbtasks.cache_finding import NotKeyable
from nbtasks.errors import NbtasksError, OptionError
from nbtasks.frames import Part
from nbtasks.handle import Task
from nbtasks.notebook_cached import Wanted
from nbtasks.notebook_ends import CELL, RUN, STATE
from nbtasks.notebook_files import NotebookCall
from nbtasks.notebook_keys import Kernel
from nbtasks.options import Fields
from nbtasks.previews import preview
from nbtasks.queue import records
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.spec import seconds
from nbtasks.status import Status
from nbtasks.submitting import Call

_PYTHON = ("python", "ipython", "python3", "")
_LOOKED_AT = 1000  # newest tasks of that name among which an earlier run is looked for


def submit(
    path: str | os.PathLike[str], parameters: Mapping[str, object] | None, fields: Fields, **options: Any
) -> Task[Any]:
    """Put a notebook into the queue; see `nbtasks.submit_notebook`. Raises OptionError; then nothing is stored."""
    max_age = fields.get("cache")
    fields = {**own_fields(fields), **caching.without(fields)}
    notebook = _prepare(path, parameters, **options)
    if not max_age:
        return submitting.put_call(notebook.packed(), notebook.name, fields)
    queue = submitting.here().queue
    wanted = Wanted(notebook.call, notebook.given, not notebook.arguments.references, notebook.kernel)
    try:
        key, frozen = wanted.key(queue)
    except NotKeyable as error:
        task = submitting.put_call(notebook.packed(), notebook.name, fields)
        caching.warn(notebook.name, error)
        return task
    packed = notebook.packed(key.files)
    fields["cache_key"] = key.text
    return caching.settle(
        lambda: wanted.find(queue, key.text, max_age),
        lambda record: wanted.take(queue, record),
        lambda found: submitting.put_call(packed, notebook.name, fields, frozen, found.claim),
    )


def own_fields(fields: Fields) -> Fields:
    """What the spec of a notebook has that others have not."""
    # As with cells: what a half-done notebook did to the world must not happen twice unasked.
    return {"kind": "notebook", "need": "c", "at_most_once": not fields.get("retries")}


class _Notebook(NamedTuple):
    """A notebook that can be put."""

    name: str
    call: NotebookCall
    given: dict[str, object]  # parameters as they are put into a cell, unless one of them waits for a task
    arguments: Part
    kernel: Kernel
    earlier: list[Part]  # what a run before left

    def packed(self, files: tuple[tuple[str, str], ...] | None = None) -> Call:
        """As a call; `files` are those that its key in the cache stands for."""
        call = dataclasses.replace(self.call, files=files)
        parts = [payload.dump("notebook", call, where="the notebook"), self.arguments, *self.earlier]
        summary = submitting.summarize(os.path.basename(self.call.path), (), self.given)
        return Call(parts, self.arguments.references, summary)


def _prepare(
    path: str | os.PathLike[str], parameters: Mapping[str, object] | None = None, *,
    output: str | os.PathLike[str] | None = None, kernel_name: str | None = None,
    timeout_per_cell: float | str | None = None, resume: bool = False, html: bool = False,
) -> _Notebook:  # fmt: skip
    path, content = notebook_files.read(path)
    if not isinstance(parameters, (Mapping, type(None))):
        raise OptionError(
            f"the parameters cannot be {preview(parameters)}: give a dict of their values by name, {{'alpha': 0.1}}"
        )
    given = dict(parameters or {})
    _check_packages(html or str(output or "").endswith(".html"))
    kernel, folder = _kernel(path, content, kernel_name, bool(given))
    call = NotebookCall(
        path=path,
        content=notebook_files.without_outputs(content),
        kernel=kernel.name,
        kernel_folder=folder,
        cell_timeout=_limit(timeout_per_cell),
        resume=_flag("resume", resume),
        **notebook_files.plan_output(path, output, _flag("html", html), list(given)),
    )
    given, arguments = _check_parameters(call, given)
    name = os.path.splitext(os.path.basename(path))[0]
    earlier = _earlier_parts(submitting.here().queue, name, path) if resume else []
    return _Notebook(name, call, given, arguments, kernel, earlier)


def recurring(path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> tuple[Call, str, Fields]:
    """A notebook that is to recur: its call, its name, and the fields that it has. Raises OptionError."""
    if kwargs.get("resume"):
        raise OptionError("resume has no meaning for what recurs: each run begins at the beginning")
    caching.refuse_in_schedules({"cache": kwargs.pop("cache", None)})
    notebook = _prepare(path, *args, **kwargs)
    return notebook.packed(), notebook.name, own_fields({})


def _check_parameters(call: NotebookCall, given: dict[str, object]) -> tuple[dict[str, object], Part]:
    """The parameters, checked as far as they are known, and as a part: tasks among them will bring theirs."""
    known = notebook_parameters.parameters_of(call.content)
    notebook_parameters.check_names(given, known, call.path)
    arguments = payload.dump("arguments", given, references=True, where="the parameters")
    if not arguments.references:
        return notebook_parameters.check_all(given, call.content, call.path), arguments
    for name, value in given.items():
        if not payload.dump("arguments", value, references=True, where=f"the parameter {name}").references:
            notebook_parameters.check_value((known or {})[name], value)
    submitting.check_arguments(arguments, (), given, "parameter")
    return given, arguments


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise OptionError(f"{name}={value!r} cannot be: give True or False")
    return value


def _limit(value: float | str | None) -> float | None:
    limit = seconds("timeout_per_cell", value)
    if limit == 0:
        raise OptionError("timeout_per_cell=0 cannot be: give a duration above zero, or leave it out")
    return limit


def _check_packages(page: bool) -> None:
    wanted = {"nbclient": "to run notebooks", **({"nbconvert": "to write HTML"} if page else {})}
    for name, use in wanted.items():
        if importlib.util.find_spec(name) is None:
            raise OptionError(f"{name} is needed {use}, and is not installed here: pip install {name}")


def _kernel(path: str, content: notebook_files.Content, asked: str | None, parameters: bool) -> tuple[Kernel, str]:
    """The kernel that runs the notebook, and the folder of its specification. Raises OptionError when there is none, naming those that are there."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # heavy

    if asked is not None and not isinstance(asked, str):
        raise OptionError(f"kernel_name={asked!r} cannot be: give the name of a kernel, 'python3'")
    named, _ = notebook_files.kernel_of(content)
    name = asked or named
    manager = KernelSpecManager()
    if not name:
        raise OptionError(
            f"{os.path.basename(path)} names no kernel: give one, kernel_name={_example(manager)!r}{_listed(manager)}"
        )
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        env = f"in the environment that has it: python -m ipykernel install --user --name {name}"
        raise OptionError(f"the kernel {name!r} is not installed{_listed(manager)}. To install it, {env}") from None
    if parameters and spec.language.lower() not in _PYTHON:
        raise OptionError(f"parameters are for notebooks in Python, and {name!r} is a kernel for {spec.language}")
    return Kernel(name, spec.language, spec.argv, spec.env), spec.resource_dir


def _installed(manager: Any) -> list[str]:
    return sorted(manager.find_kernel_specs())


def _example(manager: Any) -> str:
    there = _installed(manager)
    return "python3" if "python3" in there or not there else there[0]


def _listed(manager: Any) -> str:
    there = _installed(manager)
    return f" (there are {', '.join(there)})" if there else " (there is none: pip install ipykernel)"


# Going on from an earlier run.


def _earlier_parts(queue: Queue, name: str, path: str) -> list[Part]:
    """What the last run of this notebook left to go on from, when it failed or was cancelled."""
    for record in queue.records(name=name, limit=_LOOKED_AT):
        if record.spec.kind != "notebook" or not record.status.ended or not _is_of(queue, record, path):
            continue
        if record.status is Status.SUCCEEDED:
            return []
        try:
            parts = records.read_outcome_frame(queue, record.ticket).parts
        except (OSError, NbtasksError):  # it never ran, or was removed
            return []
        return [parts[part] for part in (RUN, CELL, STATE) if part in parts]
    return []


def _is_of(queue: Queue, record: Record, path: str) -> bool:
    try:
        call = payload.load(records.read_call(queue, record.id).parts["notebook"])
    except (OSError, NbtasksError, KeyError):
        return False
    return isinstance(call, NotebookCall) and os.path.realpath(call.path) == os.path.realpath(path)


__all__ = ["recurring", "submit"]
