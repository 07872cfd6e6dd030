"""The key of a call in the cache: equal keys mean the same code, the same values and the same versions."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping
from typing import Any

from nbtasks import cache_code, config, context
from nbtasks.blobs import Blobs
from nbtasks.cache_finding import NotKeyable, bounded, finding
from nbtasks.cache_look import Look
from nbtasks.cache_modules import Modules
from nbtasks.context import Context

_SCHEME = "1"  # another one makes all keys new
# Parts of the environment that say how something is computed or shown, not what.
_SILENT = (
    "KMP_", "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "VECLIB_", "BLIS_", "LOKY_", "MPL", "CUDA_", "TF_", "TORCH_", "GIT_",
    "CLICOLOR", "FORCE_COLOR", "PAGER", "TERM", "PYTEST_",
)  # fmt: skip


class CallKeys:
    """The keys of calls of one function, which is looked at once."""

    def __init__(self, blobs: Blobs, frozen: str, function: Any, plain: Callable[..., Any], name: str) -> None:
        """`frozen` is the hash of the context that the calls run in, `plain` the function without our decorator."""
        self._there = context.load(blobs, frozen)
        self._look = Look(Modules(blobs, self._there.sources))
        self._plain = plain
        self._error: NotKeyable | None = None
        try:
            with bounded(), finding(f"the function {name}"):
                self._look.add("function", getattr(plain, "__qualname__", name), function)
        except NotKeyable as error:
            self._error = error

    def of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The key of a call with these arguments. Raises NotKeyable."""
        if self._error is not None:
            raise self._error
        look = self._look.fork()
        with bounded():
            look.add_arguments(self._plain, args, kwargs)
            return key_of(look, self._there)


def of_cell(
    blobs: Blobs, frozen: str, tree: ast.Module, source: str, inputs: Mapping[str, Any], outputs: tuple[str, ...] | None
) -> str:
    """The key of a cell, whose syntax `tree` is changed, with these inputs. Raises NotKeyable."""
    there = context.load(blobs, frozen)
    look = Look(Modules(blobs, there.sources))
    with bounded():
        text = cache_code.look_at_source(tree, source)
        look.add("cell", text.digest, outputs)
        look.modules.use_imports(text.imports, "")
        for name in sorted(inputs):
            look.add(name)
            with finding(f"the variable {name}"):
                look.add(inputs[name])
        return key_of(look, there)


def key_of(look: Look, there: Context) -> str:
    """The key, with all that was looked at, and where it would run."""
    changes = {name: value for name, value in there.environ.items() if not name.startswith(_SILENT)}
    python = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
    used = sorted(look.modules.used.items())
    look.add(_SCHEME, python, config.env_tag(), there.cwd, sorted(changes.items()), used)
    return look.digest()[:32]
