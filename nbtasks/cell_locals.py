"""Which names are local to a function, class or comprehension; the rest are looked up outside of it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass
class Scope:
    """One function, class or comprehension: the names that are its own."""

    is_class: bool = False
    is_comprehension: bool = False
    local: set[str] = field(default_factory=set)
    declared_global: set[str] = field(default_factory=set)


def arguments(args: ast.arguments) -> Iterator[ast.arg]:
    """All parameters of a signature."""
    yield from (*args.posonlyargs, *args.args, *args.kwonlyargs)
    yield from (arg for arg in (args.vararg, args.kwarg) if arg is not None)


def collect(nodes: Iterable[ast.AST], scope: Scope) -> None:
    """The names that a function's body assigns, and those that it declares global; not those of functions in it."""
    for node in nodes:
        if isinstance(node, ast.Global):
            scope.declared_global |= set(node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            scope.local.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            scope.local |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        for name in ("name", "rest"):  # of handlers, patterns, nested functions and classes
            if isinstance(text := getattr(node, name, None), str) and not isinstance(node, ast.alias):
                scope.local.add(text)
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            walrus = [part.target for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
            collect(walrus, scope)
        elif not isinstance(node, SCOPES):
            collect(ast.iter_child_nodes(node), scope)


def called(node: ast.AST) -> str:
    """``suppress`` of ``contextlib.suppress(…)``."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
