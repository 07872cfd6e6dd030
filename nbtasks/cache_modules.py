"""Modules as they count in a cache key: the project's by their sources, installed ones by their versions."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbtasks import sources
from nbtasks.blobs import Blobs
from nbtasks.cache_code import Import, Text, look_at_source
from nbtasks.serving import Source

_OURS = "nbtasks"
_FRESH = 10.0  # seconds for which a version is taken to be what it was: pip may change it
_NAMELESS = frozenset({"__main__", "__mp_main__", ""})

_texts: dict[str, Text] = {}  # by the hash of the source
_versions: dict[str, tuple[float, str]] = {}


class Modules:
    """The modules that some code uses, directly or through others of the project."""

    def __init__(self, blobs: Blobs, frozen: Mapping[str, Source], folders: Sequence[str] = ()) -> None:
        """`frozen` are the sources of the project that were stored in `blobs` for the task.

        `folders` come first where modules are looked for: those of another process, whose modules are not frozen.
        """
        self._blobs, self._frozen, self._folders = blobs, frozen, list(folders)
        self._seen: set[str] = set()
        self.used: dict[str, str] = {}  # module of the project, or installed package: source or version
        self.files: dict[str, str] = {}  # of the project, that were read here: the SHA-256 of each

    def fork(self) -> Modules:
        """The same modules, to which others may be added."""
        other = Modules(self._blobs, self._frozen, self._folders)
        other._seen, other.used, other.files = set(self._seen), dict(self.used), dict(self.files)
        return other

    def use(self, name: str) -> None:
        """Take in the module `name`, those above it, and what it imports if it is the project's."""
        todo = [name]
        while todo:
            name = todo.pop()
            if name in self._seen or name in _NAMELESS:
                continue
            self._seen.add(name)
            todo += [name.rpartition(".")[0], *self._look_at(name)]

    def use_imports(self, imports: Iterable[Import], package: str) -> None:
        """Take in what code imports that belongs to `package`."""
        for one in imports:
            for name in self._names(one, package):
                self.use(name)

    def _look_at(self, name: str) -> list[str]:
        """Note one module; the names of those that it imports."""
        frozen = self._frozen.get(name)
        if frozen is not None:
            if not frozen.blob:
                self.used[name] = "a package without a file"
                return []
            return self._note_source(name, self._blobs.read(frozen.blob), frozen.package)
        top = name.partition(".")[0]
        if top == _OURS:
            self.used[top] = version_of(top)
        elif top not in sys.stdlib_module_names:
            spec = self.find(name)
            if spec is not None and spec.origin and not sources.is_installed(spec.origin):
                return self._note_file(name, spec)
            self.used.setdefault(top, version_of(top) if self.find(top) is not None else "missing")
        return []

    def _note_file(self, name: str, spec: Any) -> list[str]:
        """A module of the project that this process has not loaded, or that is no Python source."""
        if spec.origin in ("frozen", "built-in"):
            return []
        try:
            with open(spec.origin, "rb") as file:
                data = file.read()
        except OSError:
            self.used[name] = "missing"
            return []
        self.files[spec.origin] = hashlib.sha256(data).hexdigest()
        if spec.origin.endswith(".py"):
            return self._note_source(name, data, spec.submodule_search_locations is not None)
        self.used[name] = self.files[spec.origin]
        return []

    def _note_source(self, name: str, data: bytes, is_package: bool) -> list[str]:
        hash = hashlib.sha256(data).hexdigest()
        text = _texts.get(hash)
        if text is None:
            try:
                text = look_at_source(ast.parse(data), data)
            except (SyntaxError, ValueError, RecursionError):
                text = Text(hash.encode(), ())
            _texts[hash] = text
        self.used[name] = text.digest.hex()
        package = name if is_package else name.rpartition(".")[0]
        return [found for one in text.imports for found in self._names(one, package)]

    def _names(self, one: Import, package: str) -> list[str]:
        """The modules that an import statement brings."""
        module = one.module
        if one.level:
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - one.level + 1])
            module = f"{base}.{module}" if module and base else module or base
        if not module:
            return []
        return [module, *(f"{module}.{name}" for name in one.names if self._is_module(module, name))]

    def _is_module(self, package: str, name: str) -> bool:
        """Whether a name taken from a package of the project is a module of its own."""
        full = f"{package}.{name}"
        if full in self._frozen:
            return True
        spec = self.find(package)
        if (
            spec is None
            or spec.submodule_search_locations is None
            or (spec.origin and sources.is_installed(spec.origin))
        ):
            return False
        return package.partition(".")[0] not in sys.stdlib_module_names and self.find(full) is not None

    def is_beside(self, name: str) -> bool:
        """Whether a module lies in the folders that come first."""
        return importlib.machinery.PathFinder.find_spec(name.partition(".")[0], self._folders) is not None

    def find(self, name: str) -> Any:
        """The spec of a module, without importing anything; None when there is none of that name."""
        top, *rest = name.split(".")
        spec = importlib.machinery.PathFinder.find_spec(top, self._folders) if self._folders else None
        if spec is None or (spec.origin is None and getattr(_find(top), "origin", None)):  # a mere folder comes last
            return _find(name)
        full = top
        for part in rest:
            full = f"{full}.{part}"
            folders = spec.submodule_search_locations
            spec = importlib.machinery.PathFinder.find_spec(full, folders) if folders is not None else None
            if spec is None:
                return None
        return spec


def _find(name: str) -> Any:
    """The spec of a module, without importing anything; None when there is none of that name."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    above, _, _ = name.rpartition(".")
    try:
        if not above:
            return importlib.util.find_spec(name)
        parent = _find(above)
        folders = parent.submodule_search_locations if parent is not None else None
        return importlib.machinery.PathFinder.find_spec(name, folders) if folders is not None else None
    except (ImportError, ValueError, AttributeError):
        return None


def version_of(top: str) -> str:
    """The version of the installed package that brings the module `top`; "" when nobody knows."""
    now = time.monotonic()
    known = _versions.get(top)
    if known is None or now - known[0] > _FRESH:
        known = _versions[top] = now, _look_up(top)
    return known[1]


def _look_up(top: str) -> str:
    try:
        return importlib.metadata.version(top)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        pass
    names = sorted(set(importlib.metadata.packages_distributions().get(top, ())))
    if names:
        return " ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return str(getattr(sys.modules.get(top), "__version__", ""))
