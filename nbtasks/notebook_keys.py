"""The key of a notebook in the cache: its cells with the parameters in them, its kernel, and the modules beside it.

A kernel reads modules when it imports them, not when the notebook is submitted. So the files that the key stands for
are noted with it, and what ran with others is not kept.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from nbtasks import cache_code, cache_keys, cell_names, context
from nbtasks.blobs import Blobs
from nbtasks.cache_finding import NotKeyable, bounded
from nbtasks.cache_look import Look
from nbtasks.cache_modules import Modules
from nbtasks.notebook_files import NotebookCall, is_run, source_of, tags_of
from nbtasks.notebook_parameters import inject

_PYTHON = ("python", "ipython")
_PATIENCE = 30.0  # seconds for another Python to say what it has
# What another Python has: the versions of all that is installed there, and which of some modules it finds.
_ASK = """
import importlib.metadata as metadata, importlib.util, json, sys
there = sorted({f"{one.name} {one.version}" for one in metadata.distributions()})
print(json.dumps([sys.version, there, [name for name in sys.argv[1:] if importlib.util.find_spec(name) is not None]]))
"""


class Key(NamedTuple):
    """The key of a notebook, and the files that it stands for: path and SHA-256 of each."""

    text: str
    files: tuple[tuple[str, str], ...]


class Kernel(NamedTuple):
    """What counts of a kernel's specification."""

    name: str
    language: str
    argv: Sequence[str]
    env: Mapping[str, str]


def key_of(
    blobs: Blobs, frozen: str, call: NotebookCall, given: Mapping[str, object], known: bool, kernel: Kernel
) -> Key:
    """The key of a notebook with these parameters, which are all `known` or wait for tasks. Raises NotKeyable.

    `frozen` is the hash of the context that it is submitted from.
    """
    folder = os.path.dirname(call.path)
    parameters = dict(sorted(given.items()))
    content = inject(call.content, parameters) if known else call.content
    cells = [cell for cell in content["cells"] if is_run(cell)]
    is_python = kernel.language.lower() in _PYTHON
    trees = [_tree_of(source_of(cell)) if is_python else None for cell in cells]
    look = Look(Modules(blobs, {}, [folder, *(os.path.join(folder, said) for said in _said_folders(trees))]))
    with bounded():
        look.add("notebook", call.path, None if known else parameters)
        look.add(kernel.name, kernel.language, list(kernel.argv), sorted(kernel.env.items()))
        _add_modules(look, trees, folder, kernel)
        for cell, tree in zip(cells, trees, strict=True):
            source = source_of(cell)
            what = source if tree is None else cache_code.look_at_source(tree, source).digest
            look.add(what, "raises-exception" in tags_of(cell))
        text = cache_keys.key_of(look, msgspec.structs.replace(context.load(blobs, frozen), cwd=folder))
    return Key(text, tuple(sorted(look.modules.files.items())))


def _add_modules(look: Look, trees: Sequence[ast.Module | None], folder: str, kernel: Kernel) -> None:
    """Take in what the cells import. Raises NotKeyable for a module that they need and that is not found."""
    modules = look.modules
    imports = [one for tree in trees if tree is not None for one in cache_code.imports_of(tree)]
    needed = dict.fromkeys(name for tree in trees if tree is not None for name in _needed(tree))
    if not imports:
        return
    if _is_ours(kernel.argv):
        modules.use_imports(imports, "")
        there = {name for name in needed if modules.find(name) is not None}
    else:
        there = {name for name in needed if modules.is_beside(name)}
        modules.use_imports([one for one in imports if modules.is_beside(one.module)], "")
        facts, found = _ask(kernel.argv[0], [name for name in needed if name not in there], folder)
        look.add(facts)
        there.update(found)
    missing = next((name for name in needed if name not in there and name not in sys.stdlib_module_names), None)
    if missing is not None:
        raise NotKeyable(f"it imports {missing}, which is neither beside it nor installed")


def _tree_of(source: str) -> ast.Module | None:
    """The syntax tree of a cell as a new kernel runs it; None when it is no Python."""
    try:
        return ast.parse(source)  # nearly always; to know magics takes IPython, a tenth of a second
    except (SyntaxError, ValueError):
        pass
    try:
        return ast.parse(cell_names.as_plain_shell_runs_it(source))
    except (SyntaxError, ValueError):
        return None


def _needed(tree: ast.AST) -> Iterator[str]:
    """The top-level modules without which the cell fails."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif not isinstance(node, (ast.Try, ast.TryStar, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.If)):
            yield from _needed(node)


def _said_folders(trees: Iterable[ast.Module | None]) -> Iterator[str]:
    """The folders that cells add to ``sys.path`` in plain words."""
    for node in (node for tree in trees if tree is not None for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sys.path.append", "sys.path.insert"):
            last = node.args[-1] if node.args else None
            if isinstance(last, ast.Constant) and isinstance(last.value, str):
                yield last.value


# Kernels of another Python.


def _is_ours(argv: Sequence[str]) -> bool:
    """Whether a kernel is run by the Python of this process, as Jupyter decides it for names without a folder."""
    first = argv[0] if argv else ""
    major, minor = sys.version_info[:2]
    if first in ("python", f"python{major}", f"python{major}.{minor}"):
        return True
    found = os.path.abspath(shutil.which(first) or first)
    same_folder = os.path.dirname(found) == os.path.dirname(os.path.abspath(sys.executable))
    return same_folder and os.path.realpath(found) == os.path.realpath(sys.executable)


def _ask(python: str, names: Sequence[str], folder: str) -> tuple[str, list[str]]:
    """A digest of what another Python has, and which of the modules `names` it finds. Raises NotKeyable."""
    try:
        done = subprocess.run(
            [python, "-c", _ASK, *dict.fromkeys(names)], capture_output=True, cwd=folder, timeout=_PATIENCE, check=True
        )
        version, packages, found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NotKeyable(
            f"its kernel is of another Python, {python}, which cannot be asked what it has ({error})"
        ) from None
    return hashlib.sha256(json.dumps([version, packages]).encode()).hexdigest(), list(found)
