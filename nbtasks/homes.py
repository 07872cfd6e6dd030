"""Where the notebook's names are at home in the process that runs a task: in its ``__main__``, or in each thread by itself."""

from __future__ import annotations

import builtins
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import cloudpickle.cloudpickle as cp


class Names:
    """The notebook's names in one thread of a process whose threads run tasks, each with names of its own."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
        self.functions: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
        self.classes: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


class Loading(threading.local):
    """How the load that goes on in this thread is to be done; loads may be nested."""

    own: Names | None = None  # None: the process has one task at a time, and ``__main__`` has its names
    home: bool = False
    guest: bool = False
    added: dict[str, Any] | None = None  # by a guest, to the notebook
    values: Callable[[str], object] | None = None


loading = Loading()
_home: ModuleType | None = None
# Named functions of the notebook by their ids, see `pickling`.
_functions: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()


def make_home() -> ModuleType:
    """Give this process a new, empty ``__main__``, where loads with ``home=True`` put the notebook's names."""
    global _home
    _functions.clear()  # what earlier tasks changed in a function or class is not there for the next
    cp._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
    _home = ModuleType("__main__")
    _home.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = _home
    return _home


class _Main(ModuleType):
    """``__main__`` of a process whose threads run tasks: each finds the names of its own task here."""

    def __getattr__(self, name: str) -> Any:
        own = loading.own
        if own is None or name not in own.names:
            raise AttributeError(f"module '__main__' has no attribute {name!r}")
        return own.names[name]


def make_home_of_thread() -> None:
    """Give the calling thread new, empty names of the notebook, beside those of other threads."""
    global _home
    if not isinstance(_home, _Main):
        _home = sys.modules["__main__"] = _Main("__main__")
    loading.own = Names()


def home_names() -> dict[str, Any]:
    """The names of the notebook here: those of ``__main__``, or of the calling thread."""
    return sys.modules["__main__"].__dict__ if loading.own is None else loading.own.names


def functions_here() -> weakref.WeakValueDictionary[str, Any]:
    """The named functions of the notebook that were loaded here, by their ids."""
    return _functions if loading.own is None else loading.own.functions


def has_home() -> bool:
    """Whether ``__main__`` was made by `make_home` and is still there."""
    return _home is not None and sys.modules.get("__main__") is _home
