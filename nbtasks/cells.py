"""A notebook cell as a call: what it takes along, how it runs in a slot, what it gives back.

The door to the rest: `names_read` and `names_assigned` say beforehand what a cell needs and gives (`cell_names`),
`read_looks` what it should look like (`cell_looks`), `run_cell` runs it in IPython (`cell_shell`), and `pack_result`
makes the bytes that come back (`cell_results`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from nbtasks import cell_looks, payload
from nbtasks.cell_looks import read as read_looks
from nbtasks.cell_names import find_names, names_assigned, names_read, syntax_tree
from nbtasks.cell_results import CellRun, pack_result
from nbtasks.cell_scopes import VALUE
from nbtasks.errors import PayloadError

__all__ = [
    "Cell",
    "CellRun",
    "find_names",
    "names_assigned",
    "names_read",
    "pack_result",
    "read_looks",
    "run_cell",
    "syntax_tree",
]

# Cannot be changed in place, or counts as code.
_CONSTANT = (
    type(None), bool, int, float, complex, str, bytes, range, type, ModuleType, FunctionType, BuiltinFunctionType,
)  # fmt: skip

Emit = Callable[[str, dict[str, Any]], object]


@dataclass
class Cell:
    """One cell to run: its source, the variables it gets, and what is wanted back."""

    source: str
    inputs: dict[str, object] = field(default_factory=dict)
    outputs: tuple[str, ...] | None = None  # named by hand; None: what the cell assigns and changes
    number: int | None = None  # the notebook's In[number]
    shell: dict[str, Any] = field(default_factory=dict)  # what `read_looks` gave
    first_line: int = 1  # where `source` begins in the notebook's cell: 2 below a line `%%background`


def run_cell(cell: Cell, emit: Emit) -> CellRun:
    """Run a cell in this process, whose ``__main__`` becomes its namespace; never raises for what its code does.

    What it shows goes to `emit`. A process runs one cell, in general: the namespace is not emptied afterwards.
    """
    main = sys.modules["__main__"]
    namespace = main.__dict__
    cell_looks.apply(cell.shell)
    from nbtasks import cell_shell  # brings IPython: only cells pay for it

    shell = cell_shell.shell_for(main, emit, cell.shell.get("kind", ""))
    shell.first_line = cell.first_line
    shell.extend(cell.source, cell.shell.get("extensions", ()))
    shell.show_plots()
    shell.execution_count = cell.number or 1
    for name, (number, _) in cell.shell.get("sources", {}).items():
        shell.compile._filename_map[name] = number
    namespace.update(cell.inputs)
    before = dict(namespace)
    digests = _digests(cell.inputs)
    value, error = _run(shell, cell.source)
    if error is not None:
        _hint(error, cell.shell.get("names", ()))
    return CellRun(
        value=value,
        assigned=_assigned(cell, namespace, before, set(shell.user_ns_hidden)),
        changed=_changed(cell.inputs, namespace, digests),
        error=error,
        traceback="" if error is None else shell.describe(error),
        where="" if error is None else shell.where(error, cell.number is None),
    )


def _run(shell: Any, source: str) -> tuple[object, BaseException | None]:
    try:
        result = shell.run_cell(source, store_history=True)
    except BaseException as error:  # an interrupt between two steps of IPython's own
        return None, error
    return result.result, result.error_before_exec or result.error_in_exec


def _hint(error: BaseException, others: tuple[str, ...]) -> None:
    name = getattr(error, "name", None)
    if isinstance(error, NameError) and name in others:
        error.add_note(f"the notebook has {name!r}, but this cell did not seem to read it: add `-i {name}`")


def _digests(inputs: Mapping[str, object]) -> dict[str, str | None]:
    return {name: _digest(value) for name, value in inputs.items() if not isinstance(value, _CONSTANT)}


def _digest(value: object) -> str | None:
    """None when it cannot be told: then it counts as unchanged if it could not be told before either."""
    try:
        return payload.digest(value)
    except (PayloadError, RecursionError):
        return None


def _changed(
    inputs: Mapping[str, object], namespace: Mapping[str, object], before: Mapping[str, str | None]
) -> dict[str, object]:
    """The inputs that are still under their names and are not what they were."""
    return {
        name: inputs[name]
        for name, digest in before.items()
        if namespace.get(name) is inputs[name] and _digest(inputs[name]) != digest
    }


def _assigned(
    cell: Cell, namespace: Mapping[str, object], before: Mapping[str, object], hidden: set[str]
) -> dict[str, object]:
    """The names that are new or hold another object; modestly, but for those that were asked for."""
    wanted = cell.outputs or ()
    try:
        kinds, stars = find_names(cell.source).assigned, find_names(cell.source).stars
    except SyntaxError:  # nothing ran
        return {}
    found: dict[str, object] = {}
    for name, value in namespace.items():
        if name in wanted:
            found[name] = value
        elif (name not in before or before[name] is not value) and not name.startswith("_") and name not in hidden:
            kind = kinds.get(name)
            if kind == VALUE or (kind is None and not _is_imported(name, value, stars)):
                found[name] = value
    return {name: value for name, value in found.items() if name in wanted or not isinstance(value, ModuleType)}


def _is_imported(name: str, value: object, stars: list[str]) -> bool:
    """A name that the syntax tree does not tell of: from ``import *``, or imported by code that the cell called."""
    if any(getattr(sys.modules.get(star), name, None) is value for star in stars):
        return True
    is_code = isinstance(value, (type, FunctionType, BuiltinFunctionType))
    return is_code and getattr(value, "__module__", None) != "__main__"
