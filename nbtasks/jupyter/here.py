"""``%task ID here``: the call runs in the notebook's own process, with its inputs as they were, for ``%debug``.

A cell gets a namespace of its own, so that it finds what it found in the slot and changes no variable of the notebook.
Tracebacks point at its lines, and ``%debug`` afterwards stands in the frame that failed.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import inspect
import linecache
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from nbtasks import cells, payload
from nbtasks.errors import OptionError
from nbtasks.handle import Task, attach
from nbtasks.queue import records

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def run_here(shell: Any, task: Task[Any]) -> Any:
    """Run a task's call in this process, and give its value. Raises what it raises; nothing of the task changes."""
    __tracebackhide__ = True
    call = records.read_call(task.queue, task.id)
    if task.spec.kind == "notebook":
        raise OptionError(f"{task.name} is a notebook: open it, or its executed copy, and run its cells there")
    if task.spec.kind == "cell":
        return _run_cell(shell, payload.load(call.parts["cell"]))
    function = payload.load(call.parts["function"])
    args, kwargs = payload.load(call.parts["arguments"], lambda id: attach(task.queue, id).result())
    return function(*args, **kwargs)


def _run_cell(shell: Any, cell: cells.Cell) -> Any:
    __tracebackhide__ = True
    module = ModuleType("__main__")
    module.__dict__.update({name: _moved(value, shell, module) for name, value in cell.inputs.items()})
    _tell_sources(shell, cell)
    body, last = _compiled(shell, cell)
    with _as_notebook(shell, module):
        for code in body:
            _run(code, module.__dict__)
        return _run(last, module.__dict__) if last is not None else None


def _tell_sources(shell: Any, cell: cells.Cell) -> None:
    """Where the functions of an earlier kernel stood, for tracebacks and the debugger."""
    for name, (number, text) in cell.shell.get("sources", {}).items():
        if name not in linecache.cache:
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
            shell.compile._filename_map.setdefault(name, number)


def _moved(value: Any, shell: Any, module: ModuleType) -> Any:
    """A function of the notebook, with the names of `module` instead of those that the notebook has now."""
    if not isinstance(value, FunctionType) or value.__module__ != "__main__":
        return value
    if value.__globals__ is not shell.user_ns:  # of an earlier kernel: what it read came with it
        module.__dict__.update({name: one for name, one in value.__globals__.items() if name not in module.__dict__})
    moved = FunctionType(value.__code__, module.__dict__, value.__name__, value.__defaults__, value.__closure__)
    moved.__kwdefaults__ = value.__kwdefaults__
    return functools.update_wrapper(moved, value)


def _compiled(shell: Any, cell: cells.Cell) -> tuple[list[CodeType], CodeType | None]:
    """The statements of a cell, and its last one if that is an expression whose value is wanted."""
    source = "\n" * (cell.first_line - 1) + cell.source  # numbered as in the notebook
    name = shell.compile.cache(source, cell.number or shell.execution_count, raw_code=source)
    tree = shell.compile.ast_parse("\n" * (cell.first_line - 1) + shell.transform_cell(cell.source), filename=name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    body = [compile(ast.Module([node], []), name, "exec", _AWAIT, True) for node in tree.body]
    if last is None:
        return body, None
    value = compile(ast.Expression(last.value), name, "eval", _AWAIT, True)
    return ([*body, value], None) if cell.source.rstrip().endswith(";") else (body, value)


def _run(code: CodeType, names: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    value = eval(code, names)
    return _await(value) if code.co_flags & inspect.CO_COROUTINE else value


def _await(coroutine: Any) -> Any:
    """The value of a coroutine. The notebook's own loop is busy with the cell that we are in, so it gets another."""
    __tracebackhide__ = True
    found: list[Any] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(coroutine))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
    return found[0]


@contextlib.contextmanager
def _as_notebook(shell: Any, module: ModuleType) -> Iterator[None]:
    """Magics see the names of `module`, too, as long as it runs."""
    before = shell.user_module, shell.user_ns
    hidden: Callable[[str], Any] = before[1].get
    module.__dict__.update({name: hidden(name) for name in ("In", "Out", "get_ipython", "exit", "quit", "open")})
    shell.user_module, shell.user_ns = module, module.__dict__
    try:
        yield
    finally:
        shell.user_module, shell.user_ns = before
