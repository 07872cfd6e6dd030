"""Code as it counts in a cache key: what it does, not how it is written.

What Python compiled is the normal form of a function's source: comments, formatting and docstrings are not in it, and it is
what really runs, also when its file has changed since. The constants are resolved, because a docstring moves their numbers.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import weakref
from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple

from nbtasks.digests import constant_text

_DOCUMENTED = 0x4000000  # co_flags: has a docstring
_NOTES = frozenset({"__doc__", "__firstlineno__"})  # what the body of a class notes of its source
_CONSTANT, _NAME = frozenset(dis.hasconst), frozenset(dis.hasname)


class Import(NamedTuple):
    """One import statement within code: the dots before it, the module, and the names taken from it."""

    level: int
    module: str
    names: tuple[str, ...] = ()


class Code(NamedTuple):
    """What counts of a code object."""

    digest: bytes
    imports: tuple[Import, ...]
    reads_docs: bool  # it mentions __doc__


_known: weakref.WeakKeyDictionary[CodeType, Code] = weakref.WeakKeyDictionary()


def look(code: CodeType) -> Code:
    """What counts of `code`, with all code that lies within it."""
    found = _known.get(code)
    if found is None:
        inner = list(_all(code))
        imports = tuple(one for each in inner for one in _imports(each))
        reads = any("__doc__" in each.co_names for each in inner)
        found = _known[code] = Code(
            hashlib.sha256(_text(code).encode("utf-8", "surrogatepass")).digest(), imports, reads
        )
    return found


def _all(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all(constant)


def _text(code: CodeType) -> str:
    """All that decides what the code does."""
    steps: list[tuple[object, ...]] = []
    for step in dis.get_instructions(code):
        if step.opname == "STORE_NAME" and step.argval in _NOTES and steps:
            steps.pop()
        elif step.opcode in _CONSTANT:
            steps.append((step.opname, constant_text(step.argval, _text)))
        else:
            steps.append((step.opname, step.argrepr if step.opcode in _NAME else step.arg))
    return repr((
        code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & ~_DOCUMENTED, code.co_varnames,
        code.co_cellvars, code.co_freevars, code.co_exceptiontable, steps,
    ))  # fmt: skip


def _imports(code: CodeType) -> Iterator[Import]:
    before: list[dis.Instruction] = []
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME" and len(before) >= 2:
            level, names = before[-2].argval, before[-1].argval
            yield Import(level if isinstance(level, int) else 0, step.argval, tuple(names or ()))
        before = [*before[-1:], step]


# Functions.


def contents(cells: Iterable[CellType]) -> list[Any]:
    """What is in the cells of a closure, but for those that are empty."""
    found = []
    for cell in cells:
        try:
            found.append(cell.cell_contents)
        except ValueError:  # still empty
            continue
    return found


def defaulted(code: CodeType, defaults: tuple[Any, ...] | None) -> tuple[str, ...]:
    """The parameters that have these defaults."""
    names = code.co_varnames[: code.co_argcount]
    return names[len(names) - len(defaults or ()) :]


def annotated(function: FunctionType) -> list[str]:
    """The types that a function says, as text: decorators may act on them."""
    try:
        found = function.__annotations__
    except Exception:  # evaluated only now, and of names that are not there
        return []
    return [
        f"{name}: {getattr(kind, '__qualname__', None) or str(kind).partition(' at 0x')[0]}"
        for name, kind in found.items()
    ]


# Sources: of project modules, and of cells.


class Text(NamedTuple):
    """What counts of a source text."""

    digest: bytes
    imports: tuple[Import, ...]


def look_at_source(tree: ast.Module, text: str | bytes) -> Text:
    """What counts of a source text; `tree` is what was parsed from it, and is changed."""
    imports = tuple(imports_of(tree))
    if ("__doc__" if isinstance(text, str) else b"__doc__") not in text:  # type: ignore[operator]  # each by its own kind
        for node in ast.walk(tree):
            _drop_docstring(node)
    return Text(hashlib.sha256(ast.dump(tree).encode("utf-8", "surrogatepass")).digest(), imports)


def _drop_docstring(node: Any) -> None:
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            # The last line of a cell is its value, also when it is a text and the only one.
            node.body[:1] = [] if len(node.body) > 1 or not isinstance(node, ast.Module) else node.body[:1]


def imports_of(tree: ast.AST) -> Iterator[Import]:
    """The import statements of a source text, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
