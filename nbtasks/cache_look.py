"""What a call depends on, looked through: values by their content, code by what it does and reads.

Not by pickles, which are not stable from one process to the next. What cannot be looked through raises NotKeyable: then
nothing is cached.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import marshal
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

import cloudpickle.cloudpickle as cp

from nbtasks import cache_buffers, cache_code, digests
from nbtasks.cache_finding import Named, NotKeyable, finding
from nbtasks.cache_modules import Modules

_LARGE = 1 << 16  # bytes
# Types whose values marshal writes in one way only, whatever was interned or is held twice.
_FLAT = frozenset({type(None), bool, int, float, complex, str, bytes})
_AS_TEXT = (type(...), type(NotImplemented), range, slice)
_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
# What stands for a place in something that goes on, or is held open.
_PASSING = {
    types.GeneratorType: "a generator", types.CoroutineType: "a coroutine", types.AsyncGeneratorType: "an async generator",
    types.FrameType: "a frame", types.TracebackType: "a traceback",
}  # fmt: skip
_FILES = (io.TextIOWrapper, io.BufferedIOBase, io.RawIOBase)
_registered: dict[type, Callable[[Any], object]] = {}


def register(kind: type, parts: Callable[[Any], object]) -> None:
    """Let objects of `kind` count by what `parts` gives for them."""
    _registered[kind] = parts


class Look:
    """One look through everything that a key depends on."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}  # what may be held twice, by its address: when it was met first
        self._kept: list[object] = []  # so that no address is used twice

    def fork(self) -> Look:
        """Another look that goes on from here."""
        look = Look(self.modules.fork())
        look._hash, look._seen, look._kept = self._hash.copy(), dict(self._seen), list(self._kept)
        return look

    def digest(self) -> str:
        """A digest of all that was taken in."""
        return self._hash.hexdigest()

    def add(self, *objects: Any) -> None:
        """Take in objects."""
        for obj in objects:
            self._add(obj)

    def add_arguments(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Take in arguments: by their names and with the defaults, however they were passed."""
        try:
            bound = inspect.signature(function, follow_wrapped=False).bind(*args, **kwargs)
            bound.apply_defaults()
            given: Mapping[str, Any] = bound.arguments
        except (TypeError, ValueError):
            given = {**{str(at): value for at, value in enumerate(args)}, **kwargs}
        for name, value in given.items():
            self.add(name)
            with finding(f"the argument {name}"):
                self.add(value)

    def _put(self, tag: str, data: bytes) -> None:
        if len(data) > _LARGE:
            tag, data = f"digest of {tag}", cache_buffers.digest(data)
        self._hash.update(b"%s %d:%s" % (tag.encode(), len(data), data))

    def _add(self, obj: Any) -> None:
        kind = type(obj)
        if kind in _FLAT:
            self._put("flat", marshal.dumps(obj, 2))
        elif kind is tuple and set(map(type, obj)) <= _FLAT:
            self._put("tuple", marshal.dumps(obj, 2))
        elif self._is_again(obj):
            return
        elif kind is list and set(map(type, obj)) <= _FLAT:
            self._put("list", marshal.dumps(obj, 2))
        else:
            self._put("of", f"{kind.__module__}.{kind.__qualname__}".encode())
            self._add_new(kind, obj)

    def _is_again(self, obj: object) -> bool:
        """Whether an object that may be changed was met before: that it is the same one counts."""
        known = self._seen.get(id(obj))
        if known is not None:
            self._put("again", b"%d" % known)
            return True
        self._seen[id(obj)] = len(self._seen)
        self._kept.append(obj)
        return False

    def _add_new(self, kind: type, obj: Any) -> None:
        if known := next((base for base in kind.__mro__ if base in _registered), None):
            self.add(_registered[known](obj))
        elif (add := _ADDERS.get(kind)) is not None:
            add(self, obj)
        elif isinstance(obj, type):
            self._add_class(obj)
        elif kind in _PASSING or isinstance(obj, _FILES):
            raise NotKeyable(_PASSING.get(kind, f"an open file ({kind.__name__})"))
        elif parts := cache_buffers.numpy_parts(obj) or cache_buffers.pandas_parts(obj):
            self.modules.use(kind.__module__)
            self.add(*parts)
        else:
            self._add_reduced(kind, obj)

    # Containers.

    def _add_items(self, items: Any) -> None:
        self._put("items", b"%d" % len(items))
        at = 0
        try:
            for at, item in enumerate(items):  # noqa: B007  # where it was
                self._add(item)
        except NotKeyable as error:
            error.path.append(f"[{at}]")
            raise

    def _add_dict(self, found: Mapping[Any, Any]) -> None:
        # In their order, which code can see: of two frames made of dicts, the columns are in another one.
        self._add(tuple(found))
        key: object = None
        try:
            for key, value in found.items():  # noqa: B007 (where it was)
                self._add(value)
        except NotKeyable as error:
            error.path.append(f"[{key!r}]" if isinstance(key, (str, int)) else "[…]")
            raise

    def _add_set(self, found: Iterable[Any]) -> None:
        self.add(sorted(map(self._apart, found)))  # their order is another one in each process

    def _apart(self, obj: Any) -> bytes:
        look = Look(self.modules)
        look.add(obj)
        return look._hash.digest()

    # Code.

    def _add_function(self, function: FunctionType) -> None:
        if cp._should_pickle_by_reference(function):
            return self._add_named(function.__module__, function.__qualname__)
        code = function.__code__
        about = cache_code.look(code)
        self.add(about.digest, function.__doc__ if about.reads_docs else None)
        package = function.__globals__.get("__package__") or ""
        self.modules.use_imports(about.imports, package if isinstance(package, str) else "")
        read = {name: function.__globals__[name] for name in sorted(cp._extract_code_globals(code))
                if name in function.__globals__}  # fmt: skip
        self._add_named_values("the global", read)
        cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
        self._add_named_values("the enclosing function's", cells)
        for module in cp._find_imported_submodules(code, [*read.values(), *cache_code.contents(cells.values())]):
            self.modules.use(module.__name__)
        self._add_named_values(
            "the default of",
            dict(zip(cache_code.defaulted(code, function.__defaults__), function.__defaults__ or (), strict=True)),
        )
        self._add_named_values("the default of", function.__kwdefaults__ or {})
        self.add(cache_code.annotated(function), function.__dict__)

    def _add_named_values(self, what: str, values: Mapping[str, Any]) -> None:
        self._put("names", b"%d" % len(values))
        for name, value in values.items():
            self.add(name)
            with finding(f"{what} {name}"):
                self._add(value)

    def _add_cell(self, cell: CellType) -> None:
        try:
            content = cell.cell_contents
        except ValueError:
            self._put("empty", b"")
        else:
            self._add(content)

    def _add_class(self, kind: type) -> None:
        if cp._should_pickle_by_reference(kind):
            return self._add_named(kind.__module__, kind.__qualname__)
        content = {name: value for name, value in sorted(vars(kind).items()) if name not in _OF_CLASS}
        self.add(kind.__qualname__, type(kind), kind.__bases__)
        for name, value in content.items():
            self.add(name)
            with finding(f"{kind.__name__}.{name}"):
                self._add(value)

    def _add_builtin(self, function: Any) -> None:
        owner = function.__self__
        if owner is None or isinstance(owner, ModuleType):
            self._add_named(function.__module__ or "builtins", function.__qualname__)
        else:
            self.add(function.__name__, owner)

    def _add_cached(self, cached: Any) -> None:
        """A function under ``functools.cache``: what it has kept does not count."""
        if cp._lookup_module_and_qualname(cached) is not None:
            self._add_named(cached.__module__, cached.__qualname__)
        else:
            self.add(cached.cache_parameters(), cached.__wrapped__)

    def _add_module(self, module: ModuleType) -> None:
        name = module.__name__
        if sys.modules.get(name) is not module:
            raise NotKeyable(f"the module {name}, which cannot be imported by that name")
        self._add_named(name, "")

    def _add_named(self, module: str | None, name: str) -> None:
        """Something that is found under its name in a module."""
        self._put("named", f"{module} {name}".encode())
        self.modules.use(module or "builtins")

    # Everything else.

    def _add_reduced(self, kind: type, obj: Any) -> None:
        if kind.__module__ == "itertools":
            raise NotKeyable(f"an iterator ({kind.__name__})")
        try:
            reduced = _reduce(obj)
        except RecursionError:
            raise
        except Exception as error:
            raise NotKeyable(f"of type {kind.__qualname__}, whose content cannot be told ({error})") from None
        if isinstance(reduced, str):
            self._add_named(getattr(obj, "__module__", None) or kind.__module__, reduced)
            return
        make, args, state, *items = (*reduced, None) if len(reduced) == 2 else reduced
        self.add(make, args)
        for part in state if type(state) in (tuple, list) else (state,):
            self._add_state(part)
        for part in items[:2]:  # iterators over what a list or dict holds
            self.add(None if part is None else list(part))
        self.add(*items[2:])

    def _add_state(self, state: Any) -> None:
        if type(state) is not dict or not all(type(name) is str for name in state):
            return self._add(state)
        self._put("state", b"%d" % len(state))
        for name, value in state.items():
            self.add(name)
            with finding(f".{name}"):
                self._add(value)


def _reduce(obj: Any) -> Any:
    reducer = cp.Pickler.dispatch_table.get(type(obj))
    return reducer(obj) if reducer is not None else digests.reduced(obj)


# Of a class: what is no part of what somebody wrote, or lists names in no order.
_OF_CLASS = frozenset({
    "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__", "__annotate__", "__annotate_func__",
    "__annotations_cache__", "__abstractmethods__", "_abc_impl", "__doc__",
})  # fmt: skip

_Adder = Callable[[Look, Any], None]
_ADDERS: dict[type, _Adder] = {
    list: Look._add_items,
    tuple: Look._add_items,
    dict: Look._add_dict,
    MappingProxyType: Look._add_dict,
    set: Look._add_set,
    frozenset: Look._add_set,
    FunctionType: Look._add_function,
    BuiltinFunctionType: Look._add_builtin,
    CellType: Look._add_cell,
    ModuleType: Look._add_module,
    CodeType: lambda look, code: look.add(cache_code.look(code).digest),
    MethodType: lambda look, method: look.add(method.__func__, method.__self__),
    functools._lru_cache_wrapper: Look._add_cached,
    functools.partial: lambda look, one: look.add(one.func, one.args, one.keywords),
    functools.cached_property: lambda look, one: look.add(one.func, one.attrname),
    staticmethod: lambda look, method: look.add(method.__func__),
    classmethod: lambda look, method: look.add(method.__func__),
    property: lambda look, one: look.add(one.fget, one.fset, one.fdel),
    bytearray: lambda look, data: look.add(cache_buffers.digest(data)),
    pickle.PickleBuffer: lambda look, data: look.add(cache_buffers.digest(data)),
    Named: lambda look, one: look._add_named(*one),
    **dict.fromkeys(_AS_TEXT, lambda look, obj: look.add(repr(obj))),
    **dict.fromkeys(_DESCRIPTORS, lambda look, one: look.add(one.__name__)),
}
