"""Something to do when the user's code imports a certain module: at once if it is there, else right after its import.

It costs nothing while the module is not wanted, which is the point: no task pays for tqdm, pandas or matplotlib
only because nbtasks has something to adjust in them.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

Hook = Callable[[ModuleType], object]


def when_imported(name: str, hook: Hook) -> None:
    """Call ``hook(module)`` as soon as the module `name` has been imported, or now. An exception in it is dropped."""
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        _call(hook, module)
        return
    _finder.hooks.setdefault(name, []).append(hook)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def _call(hook: Hook, module: ModuleType) -> None:
    try:
        hook(module)
    except Exception:  # another version of that library: it then works as it does without us
        return


class _Finder(MetaPathFinder):
    """Finds nothing by itself: asks the others, and wraps the loader of the modules that are waited for."""

    def __init__(self) -> None:
        self.hooks: dict[str, list[Hook]] = {}
        self._looking: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.hooks or fullname in self._looking:
            return None
        self._looking.add(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        except (ImportError, ValueError, AttributeError):
            return None
        finally:
            self._looking.discard(fullname)
        if spec is not None and spec.loader is not None and hasattr(spec.loader, "exec_module"):
            _wrap(spec.loader, self.hooks.pop(fullname))
        return spec


def _wrap(loader: Loader, hooks: list[Hook]) -> None:
    # The loader keeps its type and all its methods (importlib.resources and inspect ask for them).
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        loader.__dict__.pop("exec_module", None)
        execute(module)
        for hook in hooks:
            _call(hook, module)

    loader.exec_module = exec_module  # type: ignore[method-assign]  # for this one loader


_finder = _Finder()
