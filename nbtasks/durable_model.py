"""`ModelDisk`: a disk in memory that knows what a crash may leave of it. For tests.

The model, which is the crash model that docs/format.md builds on:

- Each operation on names (create, rename, remove) is atomic, a rename also across its two folders.
- What was not flushed may be lost. Operations on one file are lost from the last backwards (a file's
  second rename is never there without its first); operations on different files independently.
- Data that was not flushed is there whole, half, or not at all: the file is then empty.
- Flushing a file saves its data and every operation on names in its folder. Flushing all saves everything.

Folders are not modelled: one exists while there is a name in it.
"""

from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Iterator, Sequence

from nbtasks.durable import Bytes, Disk, Names


class _File:
    """One file, whatever its names. `firm`: its data survives a crash."""

    __slots__ = ("data", "firm")

    def __init__(self, data: bytes, firm: bool) -> None:
        self.data = data
        self.firm = firm


# One operation on names: the file, the name it loses, the name it gets ("" for none).
_Change = tuple[_File, str, str]


class ModelDisk(Disk):
    """A disk in memory. `crash_states` yields every disk that a crash at this moment may leave."""

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self._names = {path: _File(data, True) for path, data in (files or {}).items()}
        self._firm = dict(self._names)
        self._pending: list[_Change] = []

    # -- what a Disk does --

    def create(self, path: str, parts: Sequence[Bytes], *, flush: bool = False) -> None:
        if path in self._names:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self._change(_File(b"".join(parts), False), "", path)
        if flush:
            self.flush(path)

    def move(self, source: str, target: str) -> bool:
        if source not in self._names:
            return False
        self._change(self._names[source], source, target)
        return True

    def list(self, folder: str) -> Names:
        start = len(folder) + 1
        return sorted({path[start:].partition("/")[0] for path in self._names if path.startswith(f"{folder}/")})

    def read(self, path: str, limit: int | None = None) -> bytes:
        return self._find(path).data[:limit]

    def exists(self, path: str) -> bool:
        return path in self._names or any(name.startswith(f"{path}/") for name in self._names)

    def remove(self, path: str) -> bool:
        if path not in self._names:
            return False
        self._change(self._names[path], path, "")
        return True

    def make_folder(self, path: str) -> None:
        pass

    def remove_folder(self, path: str) -> bool:
        return False

    def replace(self, path: str, data: bytes) -> None:
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.new"
        self.create(temporary, (data,))
        self.move(temporary, path)

    def flush(self, path: str) -> None:
        self._find(path).firm = True
        self._settle({path.rpartition("/")[0]})

    def flush_all(self, root: str) -> None:
        for file in self._names.values():
            file.firm = True
        self._settle(None)

    # -- crashes --

    def files(self) -> dict[str, bytes]:
        """Every name with its content."""
        return {path: file.data for path, file in self._names.items()}

    def crash_states(self, limit: int = 10_000, seed: int = 0) -> Iterator[ModelDisk]:
        """The disks that a crash at this moment may leave, each once, with everything on them flushed.

        All of them when there are at most `limit`; else `limit` of them: the one where all was lost, the
        one where all was kept, and others drawn at random from `seed`. Go through it before the next operation.
        """
        seen: set[frozenset[tuple[str, bytes]]] = set()
        for names in self._names_left(limit, seed):
            for files in _contents_left(names, limit, seed):
                state = frozenset(files.items())
                if state not in seen:
                    seen.add(state)
                    yield ModelDisk(files)
                if len(seen) >= limit:
                    return

    def _find(self, path: str) -> _File:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        return self._names[path]

    def _change(self, file: _File, old: str, new: str) -> None:
        self._pending.append((file, old, new))
        _apply(self._names, (file, old, new))

    def _settle(self, folders: set[str] | None) -> None:
        """Make the changes of names in `folders` firm, and what must come before them; all of them for None."""
        files: set[_File] = set()
        names: set[str] = set()
        firm = [False] * len(self._pending)
        for index, (file, old, new) in reversed(list(enumerate(self._pending))):
            places = {old.rpartition("/")[0], new.rpartition("/")[0]}
            if folders is None or places & folders or file in files or {old, new} & names:
                firm[index] = True
                files.add(file)
                names.update({new} - {""})  # what it replaced must not come back
        for index, change in enumerate(self._pending):
            if firm[index]:
                _apply(self._firm, change)
        self._pending = [change for index, change in enumerate(self._pending) if not firm[index]]

    def _names_left(self, limit: int, seed: int) -> Iterator[dict[str, _File]]:
        """The names that a crash may leave: of every file's pending changes the first few."""
        counts: dict[_File, int] = {}
        for file, _, _ in self._pending:
            counts[file] = counts.get(file, 0) + 1
        for kept in _choices([count + 1 for count in counts.values()], limit, seed):
            left = dict(zip(counts, kept, strict=True))
            names = dict(self._firm)
            for change in self._pending:
                if left[change[0]] > 0:
                    left[change[0]] -= 1
                    _apply(names, change)
            yield names


def _apply(names: dict[str, _File], change: _Change) -> None:
    file, old, new = change
    if names.get(old) is file:
        del names[old]
    if new:
        names[new] = file


def _contents_left(names: dict[str, _File], limit: int, seed: int) -> Iterator[dict[str, bytes]]:
    """The contents that the files of `names` may have: whole, half or empty where not flushed."""
    soft = [path for path, file in names.items() if not file.firm and file.data]
    firm = {path: file.data for path, file in names.items() if file.firm or not file.data}
    for parts in _choices([3] * len(soft), limit, seed):
        contents = dict(firm)
        for path, part in zip(soft, parts, strict=True):
            data = names[path].data
            contents[path] = data[: len(data) * part // 2]
        yield contents


def _choices(sizes: list[int], limit: int, seed: int) -> Iterator[tuple[int, ...]]:
    """One number below each size: all combinations when at most `limit`, else the extremes and a random draw."""
    total = 1
    for size in sizes:
        total *= size
    if total <= limit:
        yield from itertools.product(*map(range, sizes))
        return
    yield (0,) * len(sizes)
    yield tuple(size - 1 for size in sizes)
    draw = random.Random(seed)
    for _ in range(limit - 2):
        yield tuple(draw.randrange(size) for size in sizes)
