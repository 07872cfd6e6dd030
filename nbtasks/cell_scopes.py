"""Which names a piece of Python reads from its surroundings, and which it gives back: by its syntax tree alone.

Order counts: a name that is certainly assigned before anything reads it is not read from outside. "Certainly" is
judged by the plain flow (a branch may not run, a loop may run zero times, a ``try`` may stop anywhere), so in doubt
a name counts as read.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from nbtasks.cell_locals import Scope, arguments, called, collect

VALUE, LOOP, IMPORT, WITH = "value", "loop", "import", "with"

_SWALLOW = frozenset({"suppress", "raises"})  # context managers after which the body may have run only in part


@dataclass
class Found:
    """What a source does with names of the outside."""

    read: dict[str, None] = field(default_factory=dict)  # in the order in which they are met
    assigned: dict[str, str] = field(default_factory=dict)  # at top level, by kind; VALUE wins over the others
    texts: list[str] = field(default_factory=list)  # string literals
    stars: list[str] = field(default_factory=list)  # modules of `from … import *`


OnCall = Callable[[ast.Call, "Walk"], bool]


class Walk(ast.NodeVisitor):
    """Walks statements in the order in which they run, and fills `found`.

    `on_call` sees every call first; True means that it has dealt with it.
    """

    def __init__(self, found: Found, on_call: OnCall) -> None:
        self.found = found
        self.bound: set[str] = set()  # certainly assigned at top level by now
        self._on_call = on_call
        self._scopes: list[Scope] = []

    # ------------------------------------------------------------------ names

    def load(self, name: str) -> None:
        """The code reads `name` here."""
        for depth, scope in enumerate(reversed(self._scopes)):
            if name in scope.declared_global:
                break
            if name in scope.local and not (scope.is_class and depth):
                return
        if name not in self.bound:
            self.found.read.setdefault(name)

    def store(self, name: str, kind: str = VALUE) -> None:
        """The code assigns `name` here."""
        scopes = [scope for scope in self._scopes if not scope.is_comprehension]
        if self._scopes and self._scopes[-1].is_comprehension and name in self._scopes[-1].local:
            return
        if not scopes:
            self.bound.add(name)
            self._assign(name, kind)
        elif name in scopes[-1].declared_global:
            self._assign(name, kind)  # when the function is called, which may be never
        elif scopes[-1].is_class:
            scopes[-1].local.add(name)

    def _assign(self, name: str, kind: str) -> None:
        if kind == VALUE or name not in self.found.assigned:
            self.found.assigned[name] = kind

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self.store(node.id)
        else:
            self.load(node.id)
        if isinstance(node.ctx, ast.Del) and not self._scopes:
            self.bound.discard(node.id)
            self.found.assigned.pop(node.id, None)

    def _store_all(self, target: ast.AST, kind: str) -> None:
        for node in ast.walk(target):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.store(node.id, kind)
            elif isinstance(node, ast.Name):
                self.load(node.id)  # of `for d[i] in …`

    # ------------------------------------------------------------------ assignments, in the order they run

    def visit_Assign(self, node: ast.Assign) -> None:
        self._visit_all(node.value, *node.targets)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self._visit_all(node.value, node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.load(node.target.id)
        self._visit_all(node.value, node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._visit_all(node.value, node.target)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.store(alias.asname or alias.name.partition(".")[0], IMPORT)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            if alias.name == "*":
                self.found.stars.append("." * node.level + (node.module or ""))
            else:
                self.store(alias.asname or alias.name, IMPORT)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(getattr(node.value, "value", None), str):  # a docstring reads nothing
            self.visit(node.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.texts.append(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        if not self._on_call(node, self):
            self.generic_visit(node)

    # ------------------------------------------------------------------ what may not run

    @contextmanager
    def _perhaps(self) -> Iterator[None]:
        before = set(self.bound)
        yield
        self.bound = before

    def _branches(self, branches: Iterable[Iterable[ast.AST]]) -> None:
        """One of these runs: bound afterwards is what all of them bind."""
        before, ends = self.bound, []
        for branch in branches:
            self.bound = set(before)
            self._visit_all(*branch)
            ends.append(self.bound)
        self.bound = set.intersection(*ends)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches((node.body, node.orelse))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._branches(((node.body,), (node.orelse,)))

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        with self._perhaps():
            self._visit_all(*node.values[1:])

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        with self._perhaps():
            self._store_all(node.target, LOOP)
            self._visit_all(*node.body, *node.orelse)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        with self._perhaps():
            self._visit_all(*node.body, *node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        before = set(self.bound)
        self._branches(((*node.body, *node.orelse), *((handler,) for handler in node.handlers)))
        after = self.bound
        self.bound = before
        self._visit_all(*node.finalbody)
        self.bound |= after

    visit_TryStar = visit_Try  # type: ignore[assignment]  # one visitor for two kinds of node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        name = node.name if node.name and not self._scopes else None
        known = self.found.assigned.get(name or "")
        if name:
            self.store(name)
        self._visit_all(*node.body)
        if name:  # Python deletes it at the end of the handler
            self.bound.discard(name)
            self.found.assigned.pop(name, None)
            if known:
                self.found.assigned[name] = known

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        swallows = False
        before = set(self.bound)
        for item in node.items:
            self.visit(item.context_expr)
            swallows = swallows or called(item.context_expr) in _SWALLOW
            if item.optional_vars is not None:
                self._store_all(item.optional_vars, WITH)
        self._visit_all(*node.body)
        if swallows:
            self.bound = before

    visit_AsyncWith = visit_With

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        with self._perhaps():
            for case in node.cases:
                with self._perhaps():
                    self._visit_all(case.pattern, *([case.guard] if case.guard else []), *case.body)

    def visit_MatchAs(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self.generic_visit(node)
        if node.name:
            self.store(node.name)

    visit_MatchStar = visit_MatchAs

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest:
            self.store(node.rest)

    # ------------------------------------------------------------------ scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._visit_all(*node.decorator_list)
        self._visit_signature(node.args)
        if node.returns is not None:
            self.visit(node.returns)
        self.store(node.name)
        self._visit_body(node, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_signature(node.args)
        self._visit_body(node, [node.body])

    def _visit_signature(self, args: ast.arguments) -> None:
        self._visit_all(*args.defaults, *(default for default in args.kw_defaults if default is not None))
        for arg in arguments(args):
            if arg.annotation is not None:
                self.visit(arg.annotation)

    def _visit_body(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, body: Iterable[ast.AST]) -> None:
        scope = Scope()
        collect(body, scope)
        scope.local |= {arg.arg for arg in arguments(node.args)}
        scope.local |= {parameter.name for parameter in getattr(node, "type_params", ())}
        scope.local -= scope.declared_global
        with self._within(scope):
            self._visit_all(*body)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._visit_all(*node.decorator_list, *node.bases, *node.keywords)
        scope = Scope(is_class=True)
        for statement in node.body:
            if isinstance(statement, ast.Global):
                scope.declared_global |= set(statement.names)
        with self._within(scope):
            self._visit_all(*node.body)
        self.store(node.name)

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)  # runs outside
        scope = Scope(is_comprehension=True)
        for generator in node.generators:
            scope.local |= {name.id for name in ast.walk(generator.target) if isinstance(name, ast.Name)}
        with self._within(scope), self._perhaps():
            for generator in node.generators:
                self._visit_all(*([generator.iter] if generator is not node.generators[0] else []), *generator.ifs)
            self._visit_all(*((node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension

    @contextmanager
    def _within(self, scope: Scope) -> Iterator[None]:
        self._scopes.append(scope)
        yield
        self._scopes.pop()

    def _visit_all(self, *nodes: ast.AST) -> None:
        for node in nodes:
            self.visit(node)
