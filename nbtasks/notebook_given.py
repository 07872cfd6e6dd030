"""Inside the kernel of a notebook task: values handed back by `return_`, and what is kept when a cell fails.

The kernel is another process than the slot. What it gives goes into signed frames in a folder that the slot made for
this run; an environment variable of the kernel says where.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import msgspec

from nbtasks import cell_looks, context, payload
from nbtasks.cell_results import CellRun, pack_result
from nbtasks.errors import PayloadError
from nbtasks.frames import Part
from nbtasks.notebook_exchange import EARLIER, GIVEN, KEPT, Exchange
from nbtasks.notebook_lending import VARIABLE
from nbtasks.outcome import Variable
from nbtasks.previews import preview, size_of

_SHELL = frozenset({"In", "Out", "get_ipython", "exit", "quit", "open"})


def _exchange() -> Exchange | None:
    said = os.environ.get(VARIABLE)
    try:
        return msgspec.json.decode(said, type=Exchange) if said else None
    except msgspec.DecodeError:
        return None


_NOTHING = object()
_value: Any = _NOTHING
_named: dict[str, Any] = {}


def return_(value: Any = _NOTHING, /, **values: Any) -> None:
    """In a notebook that runs as a task: hand back a value, or values by name, for the task's ``result()``.

    ``return_(x)`` makes the result `x`, ``return_(score=0.9, n=3)`` a dict; with both, the names are in
    ``task.vars``. The notebook goes on. A later call replaces the same name, or the value. When the notebook is
    executed by hand nothing happens. Raises PayloadError, naming what cannot be pickled.
    """
    global _value
    exchange = _exchange()
    if exchange is None:
        return
    named = {**_named, **values}
    result = value if value is not _NOTHING else _value
    shown = named if result is _NOTHING else result
    part = _pack(shown, named)
    known = tuple(
        Variable(name=name, preview=preview(one), size=size_of(one), bind=False) for name, one in named.items()
    )
    exchange.write(GIVEN, [part], exchange.blank(preview=preview(shown), has_value=True, variables=known))
    _value = result
    _named.update(values)


def _pack(shown: object, named: Mapping[str, object]) -> Part:
    try:
        return payload.dump("cell", (shown, dict(named)), where="what return_() was given")
    except PayloadError:
        for name, one in named.items():  # which one it was
            payload.dump("cell", one, where=f"{name} of return_()")
        payload.dump("cell", shown, where="the value of return_()")
        raise


# What is kept of a notebook that failed. Called by the slot, in a silent cell.


def keep(asked: bool = False) -> None:
    """Lay down variables, looks and the exception of this kernel. More than the limit only when it was `asked` for."""
    exchange = _exchange()
    if exchange is None:
        return
    shell: Any = sys.modules["IPython"].get_ipython()
    raised = _exception_part(getattr(sys, "last_value", None))
    names = {name: value for name, value in shell.user_ns.items() if _is_users(name, value, shell)}
    if not asked and sum(map(size_of, names.values())) > exchange.limit:
        exchange.write(KEPT, raised, exchange.blank(reason="its variables are too large to be kept unasked"))
        return
    imported = {name: origin for name, value in names.items() if (origin := _origin(value))}
    run = CellRun(assigned={name: value for name, value in names.items() if name not in imported})
    parts, variables = pack_result(run)
    state = payload.dump("state", _surroundings(imported))
    kept = tuple(msgspec.structs.replace(variable, bind=False) for variable in variables)
    exchange.write(KEPT, [*parts, state, *raised], exchange.blank(variables=kept))


def _is_users(name: str, value: object, shell: Any) -> bool:
    if name.startswith("_") or name in _SHELL:
        return False
    return name not in shell.user_ns_hidden or shell.user_ns_hidden[name] is not value


def _origin(value: Any) -> tuple[str, str] | None:
    """Module and name of what was imported; None of all else."""
    if isinstance(value, ModuleType):
        return value.__name__, ""
    if not isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return None
    module, name = value.__module__ or "__main__", value.__qualname__
    there = getattr(sys.modules.get(module), name, None)
    return (module, name) if module != "__main__" and there is value else None


def _exception_part(error: BaseException | None) -> list[Part]:
    try:
        return [] if error is None else [payload.dump("exception", error)]
    except (PayloadError, RecursionError):
        return []  # its text is in the notebook


def _surroundings(imported: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    looks = cell_looks.read({}, {})
    return {
        "imported": dict(imported), "looks": {name: looks[name] for name in looks if name not in ("names", "sources")},
        "cwd": os.getcwd(), "path": list(sys.path), "environ": context.environment_changes(), "random": random.getstate(),
        "numpy": _numpy_random().get_state() if "numpy.random" in sys.modules else None,
    }  # fmt: skip


def _numpy_random() -> Any:
    return sys.modules["numpy.random"]


def restore(number: int) -> None:
    """Take up what an earlier run left; the next cell is the `number`-th. Raises whatever cannot be had."""
    exchange = _exchange()
    found = exchange.find(EARLIER) if exchange is not None else None
    if found is None:
        raise LookupError("there is nothing of an earlier run")
    parts, _ = found
    shell: Any = sys.modules["IPython"].get_ipython()
    state = payload.load(parts["state"])
    _settle(state)
    for name, (module, within) in state["imported"].items():
        __import__(module)
        shell.user_ns[name] = getattr(sys.modules[module], within) if within else sys.modules[module]
    for name in state["looks"].get("extensions", ()):
        shell.extension_manager.load_extension(name)
    cell_looks.apply(state["looks"])
    shell.user_ns.update(payload.load_cell(parts["cell"])[1])
    random.setstate(state["random"])
    if state["numpy"] is not None:
        __import__("numpy.random")
        _numpy_random().set_state(state["numpy"])
    shell.execution_count = number


def _settle(state: Mapping[str, Any]) -> None:
    for name, value in state["environ"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    os.chdir(state["cwd"])
    sys.path[:] = state["path"]


__all__ = ["keep", "restore", "return_"]
