"""Parameters of a notebook: the cell tagged ``parameters`` gives their names and defaults, a cell below it the values.

The tags are those of papermill, so that notebooks written for it run here, and the other way round.
"""

from __future__ import annotations

import ast
import datetime
import difflib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbtasks import cell_names
from nbtasks.errors import OptionError
from nbtasks.notebook_files import Cell, Content, source_of, tags_of

TAG, INJECTED = "parameters", "injected-parameters"

_NAMES = {"bool": bool, "int": int, "float": float, "str": str, "list": list, "dict": dict, "tuple": tuple, "set": set}
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_CURE = {
    bool: "give True or False", int: "give a whole number", float: "give a number", str: "give a text",
    list: "give a list", dict: "give a dict", tuple: "give a tuple", set: "give a set",
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """One name that the notebook's ``parameters`` cell assigns."""

    name: str
    default: str  # as it is written there
    kinds: tuple[type, ...] = ()  # what may be given; () when the notebook does not say
    said: str = ""  # the same in words: "0.6 (float)"


def parameters_of(content: Content) -> dict[str, Parameter] | None:
    """The parameters of a notebook in its order; None when no cell is tagged. Raises OptionError when that is no Python."""
    cell = next((cell for cell in content["cells"] if TAG in tags_of(cell) and cell.get("cell_type") == "code"), None)
    if cell is None:
        return None
    try:
        tree = _syntax_tree(source_of(cell))
    except SyntaxError as error:
        raise OptionError(f"the cell tagged {TAG!r} is no Python, line {error.lineno}: {error.msg}") from None
    found: dict[str, Parameter] = {}
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = _parameter(node.target.id, node.value, node.annotation)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found |= {name: _parameter(name, node.value, None) for name in names}
    return found


def _syntax_tree(source: str) -> ast.Module:
    try:
        return ast.parse(source)  # nearly always; to know magics takes IPython, a tenth of a second
    except SyntaxError:
        return cell_names.syntax_tree(source)


def _parameter(name: str, value: ast.expr | None, annotation: ast.expr | None) -> Parameter:
    text = ast.unparse(value) if value is not None else "nothing"
    kinds = _annotated(annotation) if annotation is not None else ()
    if annotation is not None and kinds:
        return Parameter(name, text, kinds, f"{name}: {ast.unparse(annotation)}")
    try:
        default = ast.literal_eval(value) if value is not None else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # computed: only the notebook knows
        return Parameter(name, text)
    if default is None:
        return Parameter(name, text)
    return Parameter(name, text, (type(default),), f"{_short(text)} ({type(default).__name__})")


def _annotated(node: ast.expr) -> tuple[type, ...]:
    """The plain types that an annotation allows; () when there is another one among them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return _annotated(ast.parse(node.value, mode="eval").body)
        except SyntaxError:
            return ()
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        left, right = _annotated(node.left), _annotated(node.right)
        return left + right if left and right else ()
    if isinstance(node, ast.Constant) and node.value is None:
        return (type(None),)
    if isinstance(node, ast.Subscript):  # list[int], Optional[float]
        base = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        if base == "Optional":
            inner = _annotated(node.slice)
            return (*inner, type(None)) if inner else ()
        node = node.value
    kind = _NAMES.get(node.id) if isinstance(node, ast.Name) else None
    return (kind,) if kind else ()


# Checking.


def check_names(given: Mapping[str, object], known: Mapping[str, Parameter] | None, path: str) -> None:
    """Raise OptionError for a parameter that the notebook does not have, naming the nearest one that it has."""
    if not given:
        return
    if known is None:
        raise OptionError(
            f"{os.path.basename(path)} takes no parameters: no cell is tagged {TAG!r}. Put the defaults "
            f"({next(iter(given))} = …) into a cell of their own and give it that tag"
        )
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            there = ", ".join(known) or "none: the cell assigns nothing"
            hint = f"did you mean {near[0]!r}?" if near else f"there are {there}"
            raise OptionError(f"{os.path.basename(path)} has no parameter {name!r}; {hint}")


def check_all(given: Mapping[str, object], content: Content, path: str) -> dict[str, object]:
    """The plain values to inject. Raises OptionError when one of them is unknown, or not of its default's type."""
    if not given:
        return {}
    known = parameters_of(content)
    check_names(given, known, path)
    return {name: check_value((known or {})[name], value) for name, value in given.items()}


def check_value(parameter: Parameter, value: object) -> object:
    """The plain value to inject. Raises OptionError when it is not of the default's type, or cannot stand in a cell."""
    plain = _plain(parameter.name, value)
    if parameter.kinds and not any(_fits(plain, kind) for kind in parameter.kinds):
        cures = dict.fromkeys(_CURE[kind] for kind in parameter.kinds if kind in _CURE)
        mend = ", or write the default as a float" if parameter.kinds == (int,) and type(plain) is float else ""
        raise OptionError(
            f"the parameter {parameter.name} cannot be {_short(repr(plain))} ({type(value).__name__}), the notebook has "
            f"{parameter.said}: {' or '.join(cures) or 'give another'}{mend}"
        )
    return plain


def _fits(value: object, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind in (float, complex):
        return isinstance(value, (int, kind))
    return isinstance(value, (list, tuple)) if kind in (list, tuple) else isinstance(value, kind)


def _plain(name: str, value: Any, depth: int = 0) -> object:
    """`value` as something that Python code can spell."""
    if type(value) in (type(None), bool, int, float, complex, str, bytes):
        return value
    if isinstance(value, (os.PathLike, datetime.date, datetime.datetime)):
        return os.fspath(value) if isinstance(value, os.PathLike) else value.isoformat()
    if depth < 50 and isinstance(value, Mapping):
        return {_plain(name, key, depth + 1): _plain(name, one, depth + 1) for key, one in value.items()}
    if depth < 50 and isinstance(value, (list, tuple, set, frozenset)):
        kind = next(one for one in (list, tuple, set, frozenset) if isinstance(value, one))
        return kind(_plain(name, one, depth + 1) for one in value)
    item = getattr(value, "item", None)  # a number of numpy
    if callable(item) and getattr(value, "ndim", None) == 0:
        return _plain(name, item(), depth + 1) if depth < 50 else value
    raise OptionError(
        f"the parameter {name} is a {type(value).__name__}, which cannot be written into a cell: give numbers, texts, "
        "lists and dicts, or save it to a file and give its path"
    )


def from_text(parameter: Parameter, text: str) -> object:
    """The value of ``-p name=text``, read as the type of the default. Raises OptionError when it cannot be."""
    for kind in parameter.kinds:
        try:
            return _READERS[kind](text)
        except (KeyError, ValueError, SyntaxError):
            continue
    if not parameter.kinds or str in parameter.kinds:
        return text if parameter.kinds else _guess(text)
    return check_value(parameter, _guess(text))  # says what is wrong with it


def _read_bool(text: str) -> bool:
    if text.lower() in _TRUE or text.lower() in _FALSE:
        return text.lower() in _TRUE
    raise ValueError


def _read_none(text: str) -> None:
    if text not in ("None", "null", ""):
        raise ValueError


def _read_literal(kind: type) -> Any:
    def read(text: str) -> object:
        value = _guess(text)
        if not isinstance(value, kind):
            raise ValueError
        return value

    return read


def _guess(text: str) -> object:
    """A literal of Python or JSON; else the text itself."""
    for reader in (ast.literal_eval, json.loads):
        try:
            return reader(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return text


_READERS: dict[type, Any] = {
    bool: _read_bool, int: int, float: float, str: str, type(None): _read_none,
    list: _read_literal(list), tuple: _read_literal(tuple), dict: _read_literal(dict), set: _read_literal(set),
}  # fmt: skip


# Injecting.


def inject(content: Content, values: Mapping[str, object]) -> Content:
    """The notebook with a cell that assigns `values`, behind the cell of the defaults, or in place of an older such cell."""
    if not values:
        return content
    old = next((at for at, cell in enumerate(content["cells"]) if INJECTED in tags_of(cell)), None)
    after = next((at for at, cell in enumerate(content["cells"]) if TAG in tags_of(cell)), -1)
    new = _cell(values, content)
    before = content["cells"][: after + 1] if old is None else content["cells"][:old]
    rest = content["cells"][after + 1 :] if old is None else content["cells"][old + 1 :]
    return {**content, "cells": [*before, new, *rest]}


def _cell(values: Mapping[str, object], content: Content) -> Cell:
    source = "\n".join(["# Parameters", *(f"{name} = {spell(value)}" for name, value in values.items())])
    cell: Cell = {
        "cell_type": "code", "execution_count": None, "metadata": {"tags": [INJECTED]}, "outputs": [], "source": source,
    }  # fmt: skip
    if (content.get("nbformat"), content.get("nbformat_minor", 0)) >= (4, 5):
        cell["id"] = INJECTED
    return cell


def spell(value: object) -> str:
    """`value` as Python code."""
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{spell(key)}: {spell(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(spell, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(spell, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, (set, frozenset)) and value:
        items = "{" + ", ".join(sorted(map(spell, value))) + "}"
        return items if isinstance(value, set) else f"frozenset({items})"
    return repr(value)


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
