"""A notebook as a task: checked where it is submitted, and frozen as it is then."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from nbtasks import notebook_files, notebook_parameters, payload, submitting
from nbtasks.errors import NbtasksError, OptionError
from nbtasks.frames import Part
from nbtasks.handle import Task
from nbtasks.notebook_ends import CELL, RUN, STATE
from nbtasks.notebook_files import NotebookCall
from nbtasks.options import Fields
from nbtasks.queue import records
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.spec import seconds
from nbtasks.status import Status
from nbtasks.submitting import Call

_PYTHON = ("python", "ipython", "python3", "")
_LOOKED_AT = 1000  # newest tasks of that name among which an earlier run is looked for


def submit(
    path: str | os.PathLike[str], parameters: Mapping[str, object] | None, fields: Fields, *, output: str | os.PathLike[str] | None,
    kernel_name: str | None, timeout_per_cell: float | str | None, resume: bool, html: bool,
) -> Task[Any]:  # fmt: skip
    """Put a notebook into the queue; see `nbtasks.submit_notebook`. Raises OptionError; then nothing is stored."""
    packed, name = prepare(
        path,
        parameters,
        output=output,
        kernel_name=kernel_name,
        timeout_per_cell=timeout_per_cell,
        resume=resume,
        html=html,
    )
    return submitting.put_call(packed, name, {**own_fields(fields), **fields})


def own_fields(fields: Fields) -> Fields:
    """What the spec of a notebook has that others have not."""
    # As with cells: what a half-done notebook did to the world must not happen twice unasked.
    return {"kind": "notebook", "need": "c", "at_most_once": not fields.get("retries")}


def prepare(
    path: str | os.PathLike[str], parameters: Mapping[str, object] | None = None, *,
    output: str | os.PathLike[str] | None = None, kernel_name: str | None = None,
    timeout_per_cell: float | str | None = None, resume: bool = False, html: bool = False,
) -> tuple[Call, str]:  # fmt: skip
    """A notebook as a call that can be put, and what it is called. Raises OptionError."""
    path, content = notebook_files.read(path)
    given = dict(parameters or {})
    _check_packages(html or str(output or "").endswith(".html"))
    kernel, folder = _kernel(path, content, kernel_name, bool(given))
    call = NotebookCall(
        path=path,
        content=notebook_files.without_outputs(content),
        kernel=kernel,
        kernel_folder=folder,
        cell_timeout=_limit(timeout_per_cell),
        resume=_flag("resume", resume),
        **notebook_files.plan_output(path, output, _flag("html", html), list(given)),
    )
    packed = _pack(call, given)
    name = os.path.splitext(os.path.basename(path))[0]
    earlier = _earlier_parts(submitting.here().queue, name, path) if resume else []
    return packed._replace(parts=[*packed.parts, *earlier]), name


def recurring(path: str | os.PathLike[str], *args: Any, **kwargs: Any) -> tuple[Call, str, Fields]:
    """The same of a notebook that is to recur, with the fields that it has. Raises OptionError."""
    if kwargs.get("resume"):
        raise OptionError("resume has no meaning for what recurs: each run begins at the beginning")
    return *prepare(path, *args, **kwargs), own_fields({})


def _pack(call: NotebookCall, given: Mapping[str, object]) -> Call:
    """The call with its parameters, checked as far as they are known: tasks among them will bring theirs."""
    known = notebook_parameters.parameters_of(call.content)
    notebook_parameters.check_names(given, known, call.path)
    arguments = payload.dump("arguments", dict(given), references=True, where="the parameters")
    if not arguments.references:
        notebook_parameters.check_all(given, call.content, call.path)
    else:
        for name, value in given.items():
            if not payload.dump("arguments", value, references=True, where=f"the parameter {name}").references:
                notebook_parameters.check_value((known or {})[name], value)
    notebook = payload.dump("notebook", call, where="the notebook")
    return Call(
        [notebook, arguments], arguments.references, submitting.summarize(os.path.basename(call.path), (), given)
    )


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


def _kernel(path: str, content: notebook_files.Content, asked: str | None, parameters: bool) -> tuple[str, str]:
    """The kernel that runs the notebook, and the folder of its specification. Raises OptionError when there is none, naming those that are there."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # heavy

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
    return name, spec.resource_dir


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


__all__ = ["prepare", "recurring", "submit"]
