"""There is no keyboard in the background: whatever would wait for one ends at once, with a sentence."""

from __future__ import annotations

import builtins
import io
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

from nbtasks.errors import NoKeyboard
from nbtasks.imports import when_imported

# A slot puts in here what gives the short id of the task that it runs; "" while it runs none.
who: Callable[[], str] = str


def install() -> None:
    """Make ``input``, ``sys.stdin``, ``getpass``, ``breakpoint``, ``pdb`` and ``interact`` raise NoKeyboard here."""
    builtins.input = _input
    sys.stdin = NoInput()
    sys.breakpointhook = _breakpoint
    when_imported("getpass", _adapt_getpass)
    when_imported("pdb", _adapt_pdb)
    when_imported("ipywidgets.widgets.interaction", _adapt_interact)


def refuse(what: str) -> NoReturn:
    """Raise NoKeyboard for `what` the code asked for."""
    short = who()
    raise NoKeyboard(
        f"a background task has no keyboard, so {what} cannot be answered: put the answer into a variable before "
        f"submitting, or run this in the notebook itself{f': %task {short} here' if short else ''}"
    )


def _input(prompt: object = "", /) -> str:
    text = str(prompt)
    refuse(f"input({text[:60]!r})" if text else "input()")


def _breakpoint(*args: Any, **kwargs: Any) -> None:
    refuse("breakpoint()")


def _adapt_getpass(module: ModuleType) -> None:
    def getpass(prompt: str = "Password: ", *args: Any, **kwargs: Any) -> str:
        refuse(f"getpass({str(prompt)[:60]!r})")

    module.getpass = getpass  # type: ignore[attr-defined]  # in place of its own


def _adapt_pdb(module: ModuleType) -> None:
    def ask(self: Any, *args: Any, **kwargs: Any) -> None:
        refuse("the debugger")

    module.Pdb.set_trace = ask
    module.Pdb.interaction = ask  # post mortem; IPython's own debugger calls this one in the end


def _adapt_interact(module: ModuleType) -> None:
    def ask(self: Any, *args: Any, **kwargs: Any) -> None:
        refuse("interact()")

    module._InteractFactory.__call__ = ask


class NoInput(io.TextIOBase):
    """``sys.stdin`` of a task: has a descriptor (of an empty file, for child processes), but cannot be read."""

    encoding = "utf-8"
    errors = "strict"
    name = "<no keyboard>"
    mode = "r"

    def fileno(self) -> int:
        """0, which is /dev/null."""
        return 0

    def readable(self) -> bool:
        """True, as of every stdin."""
        return True

    def read(self, size: int | None = -1, /) -> str:
        """Raises NoKeyboard."""
        refuse("sys.stdin.read()")

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # it never returns
        """Raises NoKeyboard; so do ``readlines`` and looping."""
        refuse("sys.stdin.readline()")

    @property
    def buffer(self) -> NoInput:
        """The same, for those who read bytes."""
        return self
