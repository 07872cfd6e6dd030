"""Whether an object was changed in place: a digest of its state, before and after.

Digests are compared within one process, for one and the same object. So a class or function of the notebook
counts by its identity (what its code refers to is not part of the object), and what libraries fill in lazily
while one only reads is left out.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
import threading
import weakref
import zlib
from types import FunctionType
from typing import Any

import cloudpickle.cloudpickle as cp

from nbtasks import culprits
from nbtasks.errors import NbtasksError
from nbtasks.pickling import Pickler

_IN_BAND = 16 << 10
_CHUNK = 16 << 20  # large buffers are summed in pieces of this size, by several threads
_THREADS = 4
# What libraries note in an object when it is asked something, by the beginning of their module's name.
_NOTES = {
    "scipy.sparse": frozenset({"_has_sorted_indices", "_has_canonical_format"}),
    "pandas.": frozenset({"_cache"}),
}
_TREES = ("sklearn.neighbors._kd_tree", "sklearn.neighbors._ball_tree")  # they count how often they were asked
_quiet: weakref.WeakKeyDictionary[type, frozenset[str]] = weakref.WeakKeyDictionary()


def digest(obj: object) -> str:
    """A digest (64 hexadecimal characters) of the state of `obj`, for comparison in this process only.

    It stays the same while the object is only read. Reads all of it, at a few GB a second.
    Raises PayloadError when the object cannot be pickled.
    """
    sink = hashlib.sha256()

    def take(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _IN_BAND:
            return True
        sink.update(_checksum(view))
        return False

    try:
        _DigestPickler(_Sink(sink), take).dump(obj)
    except (NbtasksError, MemoryError):
        raise
    except Exception as error:
        raise culprits.explain(obj, "value", "", error) from error
    return sink.hexdigest()


class _Sink:
    def __init__(self, hash: Any) -> None:
        self._hash = hash

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return len(data)


class _DigestPickler(Pickler):
    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType and not cp._should_pickle_by_reference(obj):
            return _token, (obj.__qualname__, id(obj)), (obj.__dict__, obj.__closure__, obj.__defaults__)
        if isinstance(obj, type):
            return _token, (obj.__qualname__, id(obj))
        if kind is functools._lru_cache_wrapper:
            return _token, (obj.__qualname__, id(obj))
        if kind.__name__ == "DataFrame" and kind is getattr(sys.modules.get("pandas"), "DataFrame", None):
            # Column by column: reading a frame may put its blocks in another order, or join them.
            columns = [column.array for _, column in obj.items()]
            return _token, ("DataFrame", 0), (columns, obj.index, obj.columns, obj.attrs)
        if kind.__module__ in _TREES:
            return _token, (kind.__qualname__, 0), [part for part in obj.__getstate__() if type(part) is not int]
        quiet = _quiet_names(kind)
        return _without(obj, quiet) if quiet else NotImplemented


def _token(name: str, id: int) -> None:
    """Named in digests only; nothing calls it."""


def _quiet_names(kind: type) -> frozenset[str]:
    """Attributes that are filled in lazily, and are no change of the object."""
    names = _quiet.get(kind)
    if names is None:
        names = frozenset(
            name
            for base in kind.__mro__
            for name, value in vars(base).items()
            if isinstance(value, functools.cached_property)
        )
        for beginning, notes in _NOTES.items():
            if kind.__module__.startswith(beginning):
                names |= notes
        _quiet[kind] = names
    return names


def _without(obj: Any, quiet: frozenset[str]) -> Any:
    reduced = obj.__reduce_ex__(5)
    if not isinstance(reduced, tuple) or len(reduced) < 3:
        return reduced
    state = reduced[2]
    kept: list[Any] = []
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict) and not quiet.isdisjoint(part):
            part = {name: value for name, value in part.items() if name not in quiet}
            if not part:
                continue  # it was not there before the first note
        kept.append(part)
    return (*reduced[:2], kept, *reduced[3:])


def _checksum(view: memoryview) -> bytes:
    """CRC-32 of every piece. Not a hash against an adversary: it tells a changed array from an unchanged one."""
    pieces = [view[at : at + _CHUNK] for at in range(0, view.nbytes, _CHUNK)]
    sums = [0] * len(pieces)

    def work(first: int) -> None:
        for index in range(first, len(pieces), _THREADS):
            sums[index] = zlib.crc32(pieces[index])

    if len(pieces) == 1:
        work(0)
    else:  # zlib lets go of the interpreter meanwhile
        threads = [threading.Thread(target=work, args=(first,)) for first in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return b"%d " % view.nbytes + b"".join(number.to_bytes(4, "little") for number in sums)
