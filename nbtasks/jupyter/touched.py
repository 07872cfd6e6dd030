"""Which of its inputs a cell probably changes in place: for those another cell that reads them has to wait.

Certainty comes only with the end of the task. Until then the syntax is all there is: ``model.fit(X, y)`` is taken to
change model, not X and y; ``df.head()`` to change nothing; ``df["z"] = …`` and ``scores.append(…)`` what they name.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import NamedTuple

from nbtasks import cells

_CONSTANT = (
    type(None), bool, int, float, complex, str, bytes, tuple, frozenset, range, type, ModuleType, FunctionType,
    BuiltinFunctionType, MethodType,
)  # fmt: skip
# What holds data: changed by the methods named here and no others.
_DATA = (
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "xarray",
    "geopandas",
    "datetime",
    "pathlib",
    "decimal",
    "logging",
)
_CHANGE = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "fill", "insert",
    "intersection_update", "itemset", "move_to_end", "partition", "pop", "popitem", "popleft", "put", "remove", "resize",
    "reverse", "rotate", "setdefault", "setflags", "shuffle", "sort", "subtract", "symmetric_difference_update", "update",
})  # fmt: skip
# How methods and functions are called that change what they are given, though their value is also used.
_VERBS = ("fit", "partial_fit", "train", "learn", "load", "compile", "step", "run", "set_", "add", "update", "optimi")
# And those that only look, though nobody takes their value.
_LOOKS = (
    "count", "decision", "describe", "display", "draw", "evaluate", "get", "has", "head", "info", "is", "items", "keys",
    "plot", "predict", "print", "repr", "sample", "save", "score", "show", "summar", "tail", "to_", "values", "write",
)  # fmt: skip


def probably_changed(source: str, inputs: Mapping[str, object]) -> frozenset[str]:
    """Those of the cell's inputs that it probably changes in place. Nothing when it is no Python."""
    own = {name: value for name, value in inputs.items() if not isinstance(value, _CONSTANT)}
    if not own:
        return frozenset()
    look = _Look(own)
    try:
        look.walk(source)
    except SyntaxError:
        return frozenset()
    return frozenset(look.found)


class Magic(NamedTuple):
    """A magic as it stands in a syntax tree; `body` is None for one of a line."""

    name: str
    line: str
    body: str | None


def magic_of(node: ast.AST) -> Magic | None:
    """The magic that ``get_ipython().run_cell_magic(…)`` or its kin calls; None for anything else."""
    function = node.func if isinstance(node, ast.Call) else None
    if not (
        isinstance(node, ast.Call) and isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call)
    ):
        return None
    texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    if function.attr == "run_line_magic" and len(texts) == 2:
        return Magic(texts[0], texts[1], None)
    return Magic(*texts) if function.attr == "run_cell_magic" and len(texts) == 3 else None


class _Look(ast.NodeVisitor):
    def __init__(self, inputs: Mapping[str, object]) -> None:
        self._inputs = inputs
        self.found: set[str] = set()

    def walk(self, source: str) -> None:
        """Look at all of it; the value of its last line is shown, so that line need not change anything."""
        tree = cells.syntax_tree(source)
        for statement in tree.body:
            if statement is tree.body[-1] and isinstance(statement, ast.Expr):
                self.visit(statement.value)
                call = statement.value.value if isinstance(statement.value, ast.Await) else statement.value
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                    self._receiver(call, call.func, does=not call.func.attr.startswith(_LOOKS))
            else:
                self.visit(statement)

    def visit_Subscript(self, node: ast.Subscript | ast.Attribute) -> None:
        if not isinstance(node.ctx, ast.Load) and (name := self._root(node)):
            self.found.add(name)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call whose value nobody takes is made for what it does."""
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call):
            self._call(call, dropped=True)
            for inner in ast.iter_child_nodes(call):
                self.visit(inner)
        else:
            self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if magic := magic_of(node):
            with contextlib.suppress(SyntaxError):
                self.walk(magic.body if magic.body is not None else magic.line)
        self._call(node, dropped=False)
        self.generic_visit(node)

    def _call(self, call: ast.Call, dropped: bool) -> None:
        function = call.func
        verb = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        does = verb.startswith(_VERBS) or (dropped and not verb.startswith(_LOOKS))
        if isinstance(function, ast.Attribute):
            self._receiver(call, function, does)
        if does:
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            self.found |= {name for name in self._names(given) if not _is_data(self._inputs[name])}

    def _receiver(self, call: ast.Call, function: ast.Attribute, does: bool) -> None:
        name = self._root(function)
        if name and (function.attr in _CHANGE or _in_place(call) or (does and not _is_data(self._inputs[name]))):
            self.found.add(name)

    def _names(self, nodes: Iterable[ast.AST]) -> set[str]:
        return {node.id for node in nodes if isinstance(node, ast.Name) and node.id in self._inputs}

    def _root(self, node: ast.AST) -> str:
        """``a`` of ``a.b[0].c``, when that is an input."""
        while isinstance(node, (ast.Attribute, ast.Subscript)):
            node = node.value
        return node.id if isinstance(node, ast.Name) and node.id in self._inputs else ""


def _in_place(call: ast.Call) -> bool:
    return any(keyword.arg == "inplace" and getattr(keyword.value, "value", None) is True for keyword in call.keywords)


def _is_data(value: object) -> bool:
    """Numbers, tables and containers, which are mostly given to be read."""
    return isinstance(value, (list, dict, set, bytearray)) or type(value).__module__.partition(".")[0] in _DATA
