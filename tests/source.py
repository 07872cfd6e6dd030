"""The source files of the package as data, for test_architecture.py."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parent.parent

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file of the package."""

    path: Path

    @cached_property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.path))

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @cached_property
    def imports(self) -> list[tuple[str, int, bool]]:
        """(module of ours, line, whether at top level) for each import that happens at run time."""
        return list(self._imports(self.tree, top=True))

    def _imports(self, node: ast.AST, top: bool) -> Iterator[tuple[str, int, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import | ast.ImportFrom):
                for target in self._targets(child):
                    yield target, child.lineno, top
            inner = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from self._imports(child, top and not inner)

    def _targets(self, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "nbtasks")
            return
        source = node.module or ""
        if node.level:
            parts = self.name.split(".")
            above = parts[: len(parts) + self.is_package - node.level]
            source = ".".join([*above, source] if source else above)
        if source.split(".")[0] == "nbtasks":
            names = [f"{source}.{alias.name}" for alias in node.names]
            yield from {name if source == "nbtasks" or is_module(name) else source for name in names}


def modules() -> list[Module]:
    """Every source file of the package."""
    return [Module(path) for path in sorted((ROOT / "nbtasks").rglob("*.py"))]


@cache
def is_module(name: str) -> bool:
    """Whether a dotted name is a file or a package of ours."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def code_lines(text: str) -> set[int]:
    """The lines that hold code: no blank lines and no comments."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {n for t in tokens if t.type not in skipped for n in range(t.start[0], t.end[0] + 1)}


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}{child.name}"
            if not isinstance(child, ast.ClassDef):
                yield name, child
            yield from functions(child, f"{name}.")
        else:
            yield from functions(child, prefix)


def body_length(function: Function, lines: set[int]) -> int:
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return len([line for line in lines if body and body[0].lineno <= line <= (body[-1].end_lineno or 0)])


def literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of the strings of a file that are no docstrings."""
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.lineno, node.value
