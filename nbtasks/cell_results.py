"""What comes back from a cell: its value and its variables as one pickle, and a line about each of them.

A variable that cannot travel is left out by name, with the reason, and costs none of the others (nor the task).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbtasks import payload
from nbtasks.config import settings
from nbtasks.errors import PayloadError
from nbtasks.frames import Part
from nbtasks.outcome import Variable
from nbtasks.previews import preview, size_of

_DEEP = 3  # levels of containers that are looked into
_MANY = 1000  # items of each


@dataclass
class CellRun:
    """How a cell ran."""

    value: object = None  # of its last line; None when that ends in ";"
    assigned: dict[str, object] = field(default_factory=dict)
    changed: dict[str, object] = field(default_factory=dict)  # inputs, changed in place
    error: BaseException | None = None
    traceback: str = ""  # in colour, without our frames
    where: str = ""  # "cell [12], line 3"


def pack_result(run: CellRun, outputs: Sequence[str] | None = None) -> tuple[list[Part], tuple[Variable, ...]]:
    """One part ``cell``, the pickle of (value, {name: value}), and what there is to say about each name.

    `outputs` are the names that were asked for by hand; then only those come back, and one that the cell did not
    make is said to be missing. A value that does not travel is None in the pickle, and has a Variable without a name.
    """
    names = {**run.assigned, **run.changed}
    if outputs is not None:
        names = {name: names[name] for name in outputs if name in names}
    refused = {name: why for name, value in names.items() if (why := _refusal(value))}
    taken: dict[str, Any] = {name: _on_cpu(value) for name, value in names.items() if name not in refused}
    value: Any = _on_cpu(run.value)
    if why := _refusal(run.value):
        value, refused[""] = None, why
    part, failed = _dump(value, taken)
    refused |= failed
    variables = [_variable(run, name, value, refused.get(name, ""), outputs) for name, value in names.items()]
    variables += [Variable(name=name, bind=False, left_out="the cell did not assign it") for name in outputs or ()
                  if name not in names]  # fmt: skip
    if "" in refused:
        variables.append(Variable(name="", preview=preview(run.value), bind=False, left_out=refused[""]))
    return [part], tuple(variables)


def _dump(value: object, names: dict[str, Any]) -> tuple[Part, dict[str, str]]:
    """Everything in one pickle, so that what is one object stays one; what cannot travel is found and left out."""
    try:
        return payload.dump("cell", (value, names)), {}
    except (PayloadError, RecursionError):
        pass
    failed = {name: why for name, one in names.items() if (why := _why_not(one, f"the variable {name}"))}
    if why := _why_not(value, "the value of the cell"):
        value, failed[""] = None, why
    kept = {name: one for name, one in names.items() if name not in failed}
    try:
        return payload.dump("cell", (value, kept)), failed
    except (PayloadError, RecursionError) as error:  # each by itself can, all together cannot
        return payload.dump("cell", (None, {})), failed | dict.fromkeys(kept, _first_line(error))


def _why_not(value: object, where: str) -> str:
    try:
        payload.dump("cell", value, where=where)
    except (PayloadError, RecursionError) as error:
        return _first_line(error)
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]


def _variable(run: CellRun, name: str, value: object, refused: str, outputs: Sequence[str] | None) -> Variable:
    size = size_of(value)
    # Beyond the limit what nobody asked for stays with the task, to be had by `task.vars`.
    fits = outputs is not None or size <= settings().bring_back_limit
    return Variable(
        name=name,
        preview=preview(value),
        size=size,
        changed=name in run.changed and name not in run.assigned,
        bind=not refused and run.error is None and fits,
        left_out=refused,
    )


# ---------------------------------------------------------------------- what does not come back as it is


def _refusal(value: object) -> str:
    """Why a value is better left where it is; "" for nearly all."""
    if "matplotlib" in sys.modules and _is_drawn(value, _DEEP):
        return "figures are shown, not brought back"
    return ""


def _is_drawn(value: Any, depth: int) -> bool:
    """A figure, its axes, or anything on them: loaded in the notebook, it would be drawn there once more."""
    artist = getattr(sys.modules.get("matplotlib.artist"), "Artist", None)
    if artist is None:
        return False
    if isinstance(value, artist):
        return True
    if not isinstance(value, type) and type(value).__module__.startswith(("seaborn.", "matplotlib.container")):
        return True
    if depth == 0:
        return False
    if isinstance(value, dict):
        return _any_drawn(value.values(), depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _any_drawn(value, depth)
    if str(getattr(value, "dtype", "")) == "object" and hasattr(value, "flat"):  # plt.subplots(2, 2)
        return _any_drawn(value.flat, depth)
    return False


def _any_drawn(items: Iterable[object], depth: int) -> bool:
    return any(_is_drawn(item, depth - 1) for item, _ in zip(items, range(_MANY), strict=False))


def _on_cpu(value: Any, depth: int = _DEEP) -> Any:
    """Tensors and models of a GPU as those of the CPU: the notebook need not have that GPU, nor room on it."""
    if "torch" not in sys.modules and "cupy" not in sys.modules:
        return value
    if isinstance(value, type):
        return value
    if getattr(value, "is_cuda", False) is True and callable(getattr(value, "cpu", None)):
        return value.cpu()
    if callable(getattr(value, "parameters", None)) and callable(getattr(value, "cpu", None)):
        return value.cpu() if any(getattr(one, "is_cuda", False) for one in value.parameters()) else value
    if depth and type(value) is dict:
        return _same_or(value, {key: _on_cpu(item, depth - 1) for key, item in value.items()}, value.values())
    if depth and type(value) in (list, tuple) and len(value) <= _MANY:
        return _same_or(value, type(value)(_on_cpu(item, depth - 1) for item in value), value)
    return value


def _same_or(old: Any, new: Any, items: Iterable[object]) -> Any:
    """`old` itself unless something in it moved: two names of one list stay one list."""
    moved = new.values() if isinstance(new, dict) else new
    return old if all(a is b for a, b in zip(items, moved, strict=True)) else new
