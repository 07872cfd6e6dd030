"""The project's own modules: frozen when a task is submitted, served in its slot by an import finder.

Project modules are those that were loaded from a ``.py`` file outside of ``site-packages``, the standard library and
nbtasks. In the slot they are true modules with their true ``__file__``, so isinstance, Enum identity and
tracebacks hold, a later edit is not seen, and another machine needs none of the files.
"""

from __future__ import annotations

import contextlib
import linecache
import os
import stat
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from nbtasks.blobs import Blobs
from nbtasks.serving import Finder, FrozenLoader, Read, Source

__all__ = ["Source", "fits", "forget", "freeze", "is_installed", "look", "saved_after_import", "serve", "serve_too"]

_SETTLED = 100_000_000  # ns: a file changed less than this before it was read may change again at the same time stamp
_NOT_MODULES = frozenset({"__main__", "__mp_main__"})

Stamp = tuple[int, int]  # st_mtime_ns, st_size


class _Module:
    """What is known of one project module of this process."""

    __slots__ = ("content", "file", "folder", "imported", "module", "package", "read", "source", "spec")

    def __init__(self, module: ModuleType, file: str) -> None:
        self.module = module
        self.spec: Any = module.__spec__  # another one after importlib.reload
        self.file = file
        self.package = hasattr(module, "__path__")
        self.imported = _stamp_at_import(module, file)
        self.read: Stamp | None = None  # the file when it was frozen last; None: look again
        self.source: Source | None = None
        self.content = b""  # what `source` stands for: its file may go, and another queue may need it
        self.folder = ""  # of the blobs that hold it; "": store it again

    def freeze(self, blobs: Blobs) -> bool:
        """Bring `source` up to date with the file; True when it is another one than before. Raises OSError of `blobs`."""
        before, now, stamp = self.source, time.time_ns(), None
        try:
            info = os.stat(self.file)
            if (info.st_mtime_ns, info.st_size) == self.read and blobs.folder == self.folder:
                return False
            content = self._content()
            stamp = (info.st_mtime_ns, info.st_size) if now - info.st_mtime_ns > _SETTLED else None
        except OSError:  # being saved just now, or gone: what was frozen last stays
            if self.source is None or blobs.folder == self.folder:
                return False
            content = self.content
        self.source = Source(self.file, blobs.put(content), self.package)
        self.content, self.folder, self.read = content, blobs.folder, stamp
        return self.source != before

    def _content(self) -> bytes:
        loader = getattr(self.spec, "loader", None)
        if isinstance(loader, FrozenLoader):  # in a slot: what runs is what goes on from here
            return loader.get_data(loader.path)
        with open(self.file, "rb") as file:
            return file.read()


class _Project:
    """The project modules of this process. They are looked for again only when something was imported."""

    def __init__(self) -> None:
        self.modules: dict[str, _Module] = {}
        self._others: dict[str, int] = {}  # modules that are none of the project's, by name: their ids
        self._sign: tuple[int, str] = (0, "")
        self._frozen: dict[str, Source] = {}
        self._folder = ""

    def freeze(self, blobs: Blobs) -> dict[str, Source]:
        changed = self.refresh()
        for known in self.modules.values():
            if known.freeze(blobs):
                changed = True
        if changed or blobs.folder != self._folder:
            self._folder = blobs.folder
            self._frozen = {name: known.source for name, known in self.modules.items() if known.source is not None}
            self._frozen.update(_namespaces(self._frozen))
        return self._frozen

    def refresh(self) -> bool:
        """Look at what was imported since; True when the project's modules are not the same any more."""
        loaded = sys.modules
        sign = (len(loaded), next(reversed(loaded)))
        if sign == self._sign and all(map(self._is_same, self.modules.items())):
            return False
        before = self.modules
        self.modules = dict(self._find())
        self._sign = sign
        return before != self.modules

    def _is_same(self, item: tuple[str, _Module]) -> bool:
        name, known = item
        return sys.modules.get(name) is known.module and getattr(known.module, "__spec__", None) is known.spec

    def _find(self) -> Iterator[tuple[str, _Module]]:
        for name, module in list(sys.modules.items()):
            if self._others.get(name) == id(module):
                continue
            known = self.modules.get(name)
            if known is not None and self._is_same((name, known)):
                yield name, known
            elif file := _project_file(name, module):
                yield name, _Module(module, file)
            else:
                self._others[name] = id(module)


_project = _Project()
_finder = Finder()


def freeze(blobs: Blobs) -> dict[str, Source]:
    """The sources of all loaded project modules as their files are now, by module name; stored in `blobs`.

    The very same dict comes back as long as nothing changed; it is not to be modified.
    """
    return _project.freeze(blobs)


def forget() -> None:
    """Store all sources again at the next `freeze`: blobs were removed."""
    for known in _project.modules.values():
        known.read, known.folder = None, ""


def saved_after_import() -> list[tuple[str, str, float]]:
    """Name, file and time of saving (seconds since 1970) of project modules that this process has in an older form."""
    _project.refresh()
    late = []
    for name, known in _project.modules.items():
        with contextlib.suppress(OSError):
            info = os.stat(known.file)
            if known.imported != (info.st_mtime_ns, info.st_size) and not isinstance(known.spec.loader, FrozenLoader):
                late.append((name, known.file, info.st_mtime))
    return late


def look() -> None:
    """Notice what was imported since the last look, so that a later edit of it is told from the form that was imported."""
    _project.refresh()


def serve(sources: Mapping[str, Source], read: Read) -> None:
    """Let this process import `sources` from now on; `read` gives the bytes of a blob by its hash.

    When one of the modules that are loaded already is of another source, all project modules
    are dropped from ``sys.modules``, for the others may have taken names from it.
    """
    _finder.table, _finder.read = dict(sources), read
    _finder.install()
    _project.refresh()
    if all(_is_current(name, known, sources) for name, known in _project.modules.items()):
        return
    names = {*_project.modules, *sources}
    for name in [name for name in sys.modules if name in names or _has_parent(name, names)]:
        _drop(name)
    _project.refresh()


def fits(sources: Mapping[str, Source]) -> bool:
    """Whether `sources` may be served beside those that are, with all loaded modules staying as they are."""
    served = _finder.table
    if any(served.get(name, source) != source for name, source in sources.items()):
        return False
    _project.refresh()
    together = {**served, **sources}
    return all(_is_current(name, known, together) for name, known in _project.modules.items())


def serve_too(sources: Mapping[str, Source]) -> None:
    """Serve `sources`, which fit, beside those that are served."""
    _finder.table = {**_finder.table, **sources}


def _is_current(name: str, known: _Module, sources: Mapping[str, Source]) -> bool:
    loader = getattr(known.spec, "loader", None)
    if isinstance(loader, FrozenLoader):
        return loader.source == sources.get(name)
    if name in sources:
        return False
    with contextlib.suppress(OSError):  # not frozen: the task itself imported it, from the disk
        info = os.stat(known.file)
        return known.imported == (info.st_mtime_ns, info.st_size)
    return False


def _has_parent(name: str, names: set[str]) -> bool:
    while name := name.rpartition(".")[0]:
        if name in names:
            return True
    return False


def _drop(name: str) -> None:
    module = sys.modules.pop(name)
    linecache.cache.pop(getattr(module, "__file__", None) or "", None)
    above, _, last = name.rpartition(".")
    parent = sys.modules.get(above)
    if parent is not None and vars(parent).get(last) is module:
        delattr(parent, last)  # else `from parent import last` would find it there


def _namespaces(frozen: Mapping[str, Source]) -> dict[str, Source]:
    """The packages without a file above the frozen modules."""
    found: dict[str, Source] = {}
    for name in frozen:
        while name := name.rpartition(".")[0]:
            module = sys.modules.get(name)
            path = getattr(module, "__path__", None)
            if name not in frozen and getattr(module, "__file__", None) is None and path is not None:
                found[name] = Source("", "", True, tuple(map(str, path)))
    return found


def _project_file(name: str, module: object) -> str:
    """The source file of a project module, "" when it is none."""
    if name in _NOT_MODULES or not isinstance(module, ModuleType):
        return ""
    file = module.__dict__.get("__file__")
    spec = module.__dict__.get("__spec__")
    if not isinstance(file, str) or not file.endswith(".py") or getattr(spec, "name", None) != name:
        return ""
    file = os.path.abspath(file)
    return "" if is_installed(file) else file


def is_installed(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to nbtasks, and so not to the project."""
    return file.startswith(_installed()) or "/site-packages/" in file or "/dist-packages/" in file


def _installed() -> tuple[str, ...]:
    """The beginnings of paths that are not the project's."""
    if not _prefixes:
        folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        folders |= {f"{prefix}/{name}" for prefix in (sys.prefix, sys.base_prefix) for name in ("lib", "lib64", "bin")}
        folders.add(os.path.dirname(os.path.abspath(__file__)))
        _prefixes.extend(os.path.join(folder, "") for folder in folders)
    return tuple(_prefixes)


_prefixes: list[str] = []


def _stamp_at_import(module: ModuleType, file: str) -> Stamp:
    """The file's time and size when `module` was imported, as far as one can tell; else as it is now."""
    try:
        info = os.stat(file)
    except OSError:
        return 0, 0
    now = info.st_mtime_ns, info.st_size
    cached = getattr(module.__spec__, "cached", None)
    if sys.dont_write_bytecode or not cached or not os.access(os.path.dirname(cached), os.W_OK):
        return now
    # Python wrote or confirmed the bytecode when it imported the module; it says of which file.
    with contextlib.suppress(OSError), open(cached, "rb") as bytecode:
        head = bytecode.read(16)
        seconds, size = int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:16], "little")
        if len(head) == 16 and head[4:8] == bytes(4) and stat.S_ISREG(info.st_mode):
            current = int(info.st_mtime) & 0xFFFFFFFF, info.st_size & 0xFFFFFFFF
            return now if current == (seconds, size) else (seconds * 10**9, size)
    return now
