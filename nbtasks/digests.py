"""Whether an object was changed in place: a digest of its state, before and after. Or the same in another kernel.

Digests are compared within one process, for one and the same object. So a class or function of the notebook
counts by its identity (what its code refers to is not part of the object), and what libraries fill in lazily
while one only reads is left out. Fingerprints are compared between processes: there, such a class or function
counts by its code.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import sys
import threading
import weakref
import zlib
from collections.abc import Callable
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
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
    return _dump(_DigestPickler, obj)


def fingerprint(obj: object) -> str:
    """As `digest`, but the same in every process that made `obj` in the same way; it may differ where nothing does.

    Functions and classes of the notebook count by their code, wherever in the notebook that stands; what they read
    besides is not looked at. Raises PayloadError when the object cannot be pickled.
    """
    if type(obj) in (set, frozenset):  # whose order is another one in each process
        found = sorted(_dump(_PrintPickler, item) for item in obj)  # type: ignore[attr-defined]  # it is iterable, as its type says
        return hashlib.sha256(f"{type(obj).__name__} {found}".encode()).hexdigest()
    return _dump(_PrintPickler, obj)


def digest_and_fingerprint(obj: object) -> tuple[str, str]:
    """Both, reading `obj` only once where they are the same. Raises PayloadError."""
    own: list[object] = []
    found = _dump(_DigestPickler, obj, own)
    return found, fingerprint(obj) if own or type(obj) in (set, frozenset) else found


def _dump(kind: type[_DigestPickler], obj: object, own: list[object] | None = None) -> str:
    """The digest that a pickler gives; `own` gets an entry when it holds an identity."""
    sink = hashlib.sha256()

    def take(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < _IN_BAND:
            return True
        sink.update(_checksum(view))
        return False

    try:
        pickler = kind(_Sink(sink), take)
        pickler.dump(obj)
        if own is not None and pickler.own:
            own.append(obj)
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
    own = False  # a function or class counted by its identity

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType and not cp._should_pickle_by_reference(obj):
            return _token, self._of_function(obj), (obj.__dict__, obj.__closure__, obj.__defaults__)
        if isinstance(obj, type):
            return self._reduce_class(obj)
        if kind is functools._lru_cache_wrapper:
            return self._reduce_cached_function(obj)
        if kind.__name__ == "DataFrame" and kind is getattr(sys.modules.get("pandas"), "DataFrame", None):
            # Column by column: reading a frame may put its blocks in another order, or join them.
            columns = [column.array for _, column in obj.items()]
            return _token, ("DataFrame", 0), (columns, obj.index, obj.columns, obj.attrs)
        if kind.__module__ in _TREES:
            return _token, (kind.__qualname__, 0), [part for part in obj.__getstate__() if type(part) is not int]
        return reduced(obj) if _quiet_names(kind) else NotImplemented

    def _of_function(self, function: FunctionType) -> tuple[Any, ...]:
        self.own = True
        return function.__qualname__, id(function)

    def _reduce_class(self, kind: type) -> tuple[Any, ...]:
        if cp._should_pickle_by_reference(kind):
            return _token, (f"{kind.__module__}.{kind.__qualname__}", 0)
        self.own = True
        return _token, (kind.__qualname__, id(kind))

    def _reduce_cached_function(self, cached: Any) -> tuple[Any, ...]:
        self.own = True
        return _token, (cached.__qualname__, id(cached))


# Of a class: what is no part of what somebody wrote, or lists names in no order.
_OF_CLASS = frozenset({
    "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "__annotations__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__abstractmethods__", "_abc_impl",
})  # fmt: skip


class _PrintPickler(_DigestPickler):
    """With code instead of identities."""

    def _of_function(self, function: FunctionType) -> tuple[Any, ...]:
        return function.__qualname__, _of_code(function.__code__)

    def _reduce_class(self, kind: type) -> tuple[Any, ...]:
        if cp._should_pickle_by_reference(kind):
            return super()._reduce_class(kind)
        name = f"{kind.__module__}.{kind.__qualname__}"
        content = sorted((key, value) for key, value in vars(kind).items() if key not in _OF_CLASS)
        return _token, (name, 0), (kind.__bases__, [(key, _plain(value)) for key, value in content])

    def _reduce_cached_function(self, cached: Any) -> tuple[Any, ...]:
        if cp._lookup_module_and_qualname(cached) is not None:
            return _token, (f"{cached.__module__}.{cached.__qualname__}", 0)
        return _token, (cached.__qualname__, 0), cached.__wrapped__


def _plain(value: Any) -> Any:
    """What a class holds, as what can be pickled: methods and properties by their functions."""
    if isinstance(value, (staticmethod, classmethod)):
        return type(value).__name__, value.__func__
    if isinstance(value, property):
        return "property", value.fget, value.fset, value.fdel
    return type(value).__name__ if isinstance(value, (MemberDescriptorType, GetSetDescriptorType)) else value


def _of_code(code: CodeType) -> str:
    """A digest of what code does: not of its name, nor of where it stands."""
    parts = [code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_flags, code.co_argcount]
    parts += [code.co_posonlyargcount, code.co_kwonlyargcount, getattr(code, "co_exceptiontable", b"")]
    parts += [constant_text(constant, _of_code) for constant in code.co_consts]
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def constant_text(value: object, of_code: Callable[[CodeType], str]) -> str:
    """A constant of code as text, sets in an order of their own; `of_code` tells of code that lies within."""
    if isinstance(value, CodeType):
        return of_code(value)
    if isinstance(value, frozenset):
        return f"frozenset {sorted(constant_text(item, of_code) for item in value)}"
    if isinstance(value, tuple):
        return f"tuple {[constant_text(item, of_code) for item in value]}"
    return repr(value)


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


def reduced(obj: Any) -> Any:
    """What ``obj.__reduce_ex__(5)`` gives, without attributes that are filled in lazily."""
    quiet = _quiet_names(type(obj))
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
