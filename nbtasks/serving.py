"""An import finder that serves frozen sources as true modules."""

from __future__ import annotations

import contextlib
import linecache
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import cache_from_source, decode_source, spec_from_file_location
from types import ModuleType

import msgspec

Read = Callable[[str], bytes]  # the bytes of a blob by its hash, compared with it


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """One module as it was frozen: where it came from and the blob of its source. Without a file: a namespace package."""

    file: str
    blob: str
    package: bool = False
    path: tuple[str, ...] = ()  # of a namespace package


class FrozenLoader(SourceFileLoader):
    """Loads a module from a blob, under the name of the file that it was frozen from."""

    def __init__(self, name: str, source: Source, read: Read) -> None:
        super().__init__(name, source.file)
        self.source = source
        self._read = read
        self._data: bytes | None = None

    def get_data(self, path: str) -> bytes:
        """The frozen source; other files (bytecode, resources) come from the disk."""
        if path != self.path:
            return super().get_data(path)
        if self._data is None:
            self._data = self._read(self.source.blob)
        return self._data

    def path_stats(self, path: str) -> dict[str, float]:
        """What Python needs to know in order to use bytecode; OSError, which means "compile it", unless that is safe."""
        # Bytecode is tied to its file by seconds and size alone. It may be used, and written, when the file
        # is what was frozen and no edit within the same second, or with its time set back, can hide.
        info = os.stat(path)
        touched = max(info.st_mtime, info.st_ctime)
        if time.time() - touched < 2:
            raise OSError("too fresh")
        with contextlib.suppress(FileNotFoundError):
            if os.stat(cache_from_source(path)).st_mtime < int(touched) + 1:
                raise OSError("the bytecode is too near to an edit")
        with open(path, "rb") as file:
            if file.read() != self.get_data(self.path):
                raise OSError("edited since")
        return {"mtime": info.st_mtime, "size": info.st_size}

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; tracebacks and `inspect` show the source that runs, not that on the disk."""
        text = decode_source(self.get_data(self.path))
        # The None says: there is no file time to compare with, so linecache keeps these lines.
        linecache.cache[self.path] = (len(text), None, text.splitlines(keepends=True), self.path)
        super().exec_module(module)


class Finder(MetaPathFinder):
    """Finds the modules of `table`; knows nothing of others."""

    def __init__(self) -> None:
        self.table: Mapping[str, Source] = {}
        self.read: Read = _nothing

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a served module, else None."""
        source = self.table.get(fullname)
        if source is None:
            return None
        if not source.file:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = list(source.path)
            return spec
        loader = FrozenLoader(fullname, source, self.read)
        if not source.package:
            return spec_from_file_location(fullname, source.file, loader=loader)
        folder = os.path.dirname(source.file)
        return spec_from_file_location(fullname, source.file, loader=loader, submodule_search_locations=[folder])

    def install(self) -> None:
        """Come before all other finders."""
        if not sys.meta_path or sys.meta_path[0] is not self:
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            sys.meta_path.insert(0, self)


def _nothing(hash: str) -> bytes:
    raise FileNotFoundError(f"no blob {hash}: nothing is served")
