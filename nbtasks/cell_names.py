"""What a cell needs from the notebook and what it gives back, told from its source before it runs.

Beyond the syntax tree (`cell_scopes`) there are IPython's magics, whose lines and bodies may be code, names inside
of texts (``df.query("x > @limit")``), and what the notebook's own functions read when they are called.
"""

from __future__ import annotations

import ast
import dis
import functools
import re
import string
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

from nbtasks import payload
from nbtasks.cell_scopes import VALUE, Found, Walk
from nbtasks.previews import size_of

__all__ = ["codes_of", "find_names", "names_assigned", "names_read", "syntax_tree"]

_SMALL = 1 << 20  # bytes: what is sent because a text mentions it
_NAME = re.compile(r"[^\W\d]\w*")
_OPTION = re.compile(r"(^|\s)--?[A-Za-z][\w-]*")
_DOLLAR = re.compile(r"(?<![$\\])\$([^\W\d]\w*)")
_SHELL_OWN = frozenset({"In", "Out", "_ih", "_oh", "_dh", "_i", "_ii", "_iii", "get_ipython", "exit", "quit"})
# Cell magics whose body is something else than Python that runs here.
_FOREIGN = frozenset({
    "!", "HTML", "R", "SVG", "bash", "cmd", "cython", "file", "html", "javascript", "js", "latex", "markdown", "perl",
    "pypy", "python", "python2", "python3", "ruby", "script", "sh", "sql", "svg", "sx", "system", "writefile",
})  # fmt: skip
_BODY_IS_OWN = frozenset({"timeit", "prun"})  # what they assign is lost


def names_read(source: str, namespace: Mapping[str, object]) -> list[str]:
    """The names of `namespace` that the cell needs, in the order in which it meets them.

    A name that the cell assigns before anything reads it is not among them. Names in texts are, when their value is
    small. What the notebook's functions read is, too. SyntaxError when the cell is no Python.
    """
    found = find_names(source)
    names = dict.fromkeys(name for name in found.read if _is_users(name, namespace))
    for name in list(names):
        names.update(dict.fromkeys(_read_by(namespace[name], namespace, set(names))))
    for name in _mentioned(found.texts, namespace):
        if name not in names and _is_users(name, namespace) and _is_small(namespace[name]):
            names[name] = None
            names.update(dict.fromkeys(_read_by(namespace[name], namespace, set(names))))
    return list(names)


def names_assigned(source: str) -> list[str]:
    """The names that the cell assigns at top level and that are worth bringing back.

    Not loop variables, imports, names of a ``with`` and names that begin with ``_``; a name that is also plainly
    assigned counts. SyntaxError when the cell is no Python.
    """
    assigned = find_names(source).assigned
    return [name for name, kind in assigned.items() if kind == VALUE and not name.startswith("_")]


@functools.lru_cache(maxsize=32)
def find_names(source: str) -> Found:
    """All that the source says about names; not to be changed. SyntaxError when it is no Python."""
    found = Found()
    Walk(found, _magic).visit(syntax_tree(source))
    return found


def syntax_tree(source: str) -> ast.Module:
    """The syntax tree of a whole cell, with its magics as calls. SyntaxError when it is no Python."""
    return ast.parse(_as_shell_runs_it(source))


def _as_shell_runs_it(source: str) -> str:
    """A whole cell as this notebook's shell would run it, with its own transformers and `ls` for `%ls`."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return as_plain_shell_runs_it(source) if shell is None else str(shell.transform_cell(source))


def as_plain_shell_runs_it(source: str) -> str:
    """Code with its magics as calls, as a shell without extensions runs it. Without IPython it is plain Python already."""
    try:
        from IPython.core.inputtransformer2 import TransformerManager
    except ImportError:
        return source
    return TransformerManager().transform_cell(source)


# ---------------------------------------------------------------------- magics


def _magic(node: ast.Call, walk: Walk) -> bool:
    """Deal with ``get_ipython().run_line_magic(…)`` and its kin; False for any other call."""
    function = node.func
    if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call)):
        return False
    owner = function.value.func
    texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
    if not (isinstance(owner, ast.Name) and owner.id == "get_ipython" and texts and len(texts) == len(node.args)):
        return False
    if function.attr == "run_line_magic" and len(texts) == 2:
        _line_magic(texts[0], texts[1], walk)
    elif function.attr == "run_cell_magic" and len(texts) == 3:
        _cell_magic(texts[0], texts[1], texts[2], walk)
    elif function.attr in ("system", "getoutput", "getoutputs"):
        _expand(texts[0], walk)
    else:
        return False
    return True


def _line_magic(name: str, line: str, walk: Walk) -> None:
    if name in ("timeit", "time", "prun", "memit", "lprun", "mprun") and _code(line, walk, keep=name == "time"):
        return
    _expand(line, walk)
    for word in _NAME.findall(_OPTION.sub(" ", line)):
        walk.load(word)


def _code(line: str, walk: Walk, keep: bool) -> bool:
    """Walk the statement behind the options of a line; False when there is none."""
    words = line.split(" ")
    for start in range(len(words)):
        statement = " ".join(words[start:])
        if words[start][:1] not in ("-", "") and _parses(statement):
            _walk_kept(statement, walk, keep)
            return True
    return False


def _parses(source: str) -> bool:
    try:
        ast.parse(as_plain_shell_runs_it(source))
    except SyntaxError:
        return False
    return True


def _walk_kept(source: str, walk: Walk, keep: bool) -> None:
    """Walk code that runs here; what it assigns stays only with `keep`."""
    assigned, bound = dict(walk.found.assigned), set(walk.bound)
    walk.visit(ast.parse(as_plain_shell_runs_it(source)))
    if not keep:
        walk.found.assigned.clear()
        walk.found.assigned.update(assigned)
        walk.bound = bound


def _cell_magic(name: str, line: str, body: str, walk: Walk) -> None:
    if name in ("!", "system", "sx"):
        _expand(f"{line}\n{body}", walk)
    elif name == "capture":
        for word in _NAME.findall(_OPTION.sub(" ", line)):
            walk.store(word)
    elif name not in ("time", "timeit") or not _code(line, walk, keep=name == "time"):
        _line_magic("", line, walk)
    if name not in _FOREIGN and _parses(body):
        _walk_kept(body, walk, keep=name not in _BODY_IS_OWN)
    else:
        walk.found.texts.append(body)


def _expand(text: str, walk: Walk) -> None:
    """What IPython fills in: ``$name`` and ``{expression}``."""
    for name in _DOLLAR.findall(text):
        walk.load(name)
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(text) if field]
    except ValueError:  # braces of the shell
        return
    for expression in fields:
        if _parses(expression):
            walk.visit(ast.parse(expression.strip()))


# ---------------------------------------------------------------------- names in texts


def _mentioned(texts: Iterable[str], namespace: Mapping[str, object]) -> Iterator[str]:
    for text in texts:
        for match in _NAME.finditer(text[:_SMALL]):
            name = match[0]
            # A module or function is a word like any other ("time", "filter") unless it is used like one.
            after = text[match.end() : match.end() + 2]
            value = namespace.get(name)
            if isinstance(value, ModuleType):
                if after[:1] == "." and after[1:].isidentifier():
                    yield name
            elif not callable(value) or after[:1] == "(":
                yield name


def _is_users(name: str, namespace: Mapping[str, object]) -> bool:
    if name not in namespace or name in _SHELL_OWN or (name.startswith("__") and name.endswith("__")):
        return False
    # IPython gives every notebook an `open` of its own; the slot's shell has it too.
    return not (name == "open" and getattr(namespace[name], "__module__", "").startswith("IPython"))


def _is_small(value: object) -> bool:
    """It can travel, and costs next to nothing: a word in a text must not make a submit fail."""
    if isinstance(value, ModuleType):
        return True
    if size_of(value) > _SMALL:
        return False
    try:
        part = payload.dump("mentioned", value)
    except Exception:
        return False
    return part.size <= _SMALL


# ---------------------------------------------------------------------- what functions of the notebook read


def _read_by(value: object, namespace: Mapping[str, object], seen: set[str]) -> Iterator[str]:
    """The names of the notebook that a function or class of the notebook reads, with what those read in turn."""
    for code in codes_of(value, namespace):
        for name in _globals_of(code):
            if name not in seen and _is_users(name, namespace):
                seen.add(name)
                yield name
                yield from _read_by(namespace[name], namespace, seen)


def codes_of(value: Any, namespace: Mapping[str, object]) -> Iterator[CodeType]:
    """The code of a function, or of the methods of a class or object, that was defined in the notebook."""
    if isinstance(value, functools.partial):
        value = value.func
    value = getattr(value, "__func__", value)  # of a bound method
    if isinstance(value, FunctionType):
        if value.__globals__ is namespace or value.__module__ == "__main__":
            yield value.__code__
        if wrapped := getattr(value, "__wrapped__", None):
            yield from codes_of(wrapped, namespace)
        return
    cls = value if isinstance(value, type) else type(value)
    if cls.__module__ == "__main__":
        for attribute in list(vars(cls).values()):
            inner = getattr(attribute, "fget", None) or getattr(attribute, "__func__", attribute)
            if isinstance(inner, FunctionType):
                yield inner.__code__


def _globals_of(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and isinstance(instruction.argval, str):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals_of(constant)
