"""Which of certain names code reads when it runs: what a cell waits for, so nothing that only looks like it.

Functions and classes that a cell defines and does not use read nothing yet; what it calls does, also when it was defined
earlier. A name within a text counts where the text is code: ``df.query("x > @limit")``, ``sql("select … from sales")``.
"""

from __future__ import annotations

import ast
import copy
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from nbtasks import cells
from nbtasks.jupyter.touched import magic_of

_OURS = frozenset({"background", "task", "tasks", "wait"})  # what they read they see to themselves
_AT = re.compile(r"@([^\W\d]\w*)")
_SELECT = re.compile(r"\bselect\b", re.IGNORECASE)
_FROM = re.compile(r"\b(?:from|join)\s+([^\W\d]\w*)", re.IGNORECASE)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class _Unknown:
    """Stands for a value that is not there yet; large, so that a mere word in a text does not ask for it."""

    nbytes = 1 << 60


def names_awaited(tree: ast.Module, namespace: Mapping[str, object], wanted: Collection[str]) -> list[str]:
    """Those of `wanted` that the cell reads when it runs in `namespace`, be it in the functions that it calls."""
    unknown = _Unknown()
    source = ast.unparse(_without_unused(_without_ours(copy.deepcopy(tree))))
    try:
        read = dict.fromkeys(cells.names_read(source, {**namespace, **dict.fromkeys(wanted, unknown)}))
        read |= dict.fromkeys(name for text in cells.find_names(source).texts for name in _in_code(text))
    except SyntaxError:  # code that is no source, as other transformers may make it
        return []
    return [name for name in read if name in wanted]


def _in_code(text: str) -> Iterator[str]:
    yield from _AT.findall(text)
    if _SELECT.search(text):
        yield from _FROM.findall(text)


def _without_ours(tree: ast.Module) -> ast.Module:
    class Drop(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.AST:
            magic = magic_of(node)
            return ast.Constant(None) if magic is not None and magic.name in _OURS else self.generic_visit(node)

    dropped: ast.Module = Drop().visit(tree)
    return ast.fix_missing_locations(dropped)


def _without_unused(tree: ast.Module) -> ast.Module:
    """Without the bodies of functions that the cell defines and does not name again."""
    left = [node for node in tree.body if isinstance(node, (*_DEFINITIONS, ast.ClassDef))]
    emptied = True
    while emptied:
        emptied = False
        for node in list(left):
            if not _is_used(node, tree):
                emptied = True
                left.remove(node)
                _empty(node)
    return tree


def _is_used(node: ast.stmt, tree: ast.Module) -> bool:
    if not isinstance(node, ast.ClassDef) and getattr(node, "decorator_list", None):
        return True  # who knows what the decorator does with it
    name = getattr(node, "name", "")
    return _loads(tree)[name] > _loads(node)[name]


def _loads(tree: ast.AST) -> Counter[str]:
    return Counter(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))


def _empty(node: ast.stmt) -> None:
    if isinstance(node, _DEFINITIONS):
        node.body = [ast.Pass()]
    elif isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, _DEFINITIONS) and not inner.decorator_list:
                inner.body = [ast.Pass()]
