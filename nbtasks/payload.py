"""Objects ↔ parts of frames: pickled with their large buffers beside the pickle, loaded without copying those.

Functions and classes of the notebook travel by value, those of modules by reference (`sources` carries the
project's own modules). Nothing here decides whom to trust: `frames` verified what is loaded.
"""

from __future__ import annotations

import builtins
import pickle
import sys
import weakref
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle.cloudpickle as cp

from nbtasks import culprits
from nbtasks.digests import digest, digest_and_fingerprint, fingerprint
from nbtasks.errors import NbtasksError, PayloadError
from nbtasks.frames import Part
from nbtasks.homes import has_home, home_names, loading, make_home, make_home_of_thread
from nbtasks.pickling import Pickler, register_reference
from nbtasks.spool import Sink

__all__ = [
    "digest",
    "digest_and_fingerprint",
    "dump",
    "fingerprint",
    "load",
    "load_cell",
    "make_home",
    "make_home_of_thread",
    "register_reference",
]

IN_BAND = 16 << 10  # smaller buffers stay in the pickle


def dump(name: str, obj: object, *, references: bool = False, where: str = "") -> Part:
    """`obj` as the part `name` of a frame. Its large buffers are not copied: they are views of `obj`.

    ``references=True`` (arguments) lets objects of registered types (tasks) become references to their values;
    `Part.references` lists their ids. `where` says in words what `obj` is ("argument x", "the function train"),
    for the PayloadError that is raised when something in it cannot be pickled: it names the thing, where
    it was found, and the cure. Raises OSError when a large pickle finds no room on the disk.
    """
    state = _plain_state(obj) if type(obj) is FunctionType else None
    if state is None:
        return _dump(name, obj, references, where)
    known = _plain.get(obj)  # type: ignore[call-overload]  # a function can be a key
    if known is None or known[0] != (name, state):
        known = _plain[obj] = (name, state), _dump(name, obj, references, where)  # type: ignore[index]  # as above
    part: Part = known[1]
    return part


def _dump(name: str, obj: object, references: bool, where: str) -> Part:
    sink = Sink()
    buffers: list[memoryview] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes < IN_BAND:
            return True
        buffers.append(view)
        return False

    pickler = Pickler(sink, take, references=references)
    try:
        pickler.dump(obj)
        data, sha256 = sink.result()
    except (NbtasksError, MemoryError):
        raise
    except Exception as error:
        if sink.trouble is not None:
            raise sink.trouble from None
        raise culprits.explain(obj, name, where, error, references=references) from error
    finally:
        sink.close()
    return Part(name, data, tuple(buffers), tuple(pickler.found), sha256)


def load(part: Part, values: Callable[[str], object] | None = None, *, home: bool = False, guest: bool = False) -> Any:
    """The object of a part. Its large buffers are used as they are, without a copy.

    `values` gives the value of a task whose id is among the references. ``home=True`` lets names of the notebook
    go to the ``__main__`` that `make_home` made in this process. ``guest=True``, for what comes back to the notebook,
    makes functions see the names of this ``__main__``, and adds those that it lacks. A load within `values` does as
    the outer one. Raises PayloadError when this environment lacks what the object needs.
    """
    before = loading.home, loading.guest, loading.values
    loading.home = before[0] or (home and has_home())
    loading.guest = guest and not loading.home
    loading.values = values
    try:
        return pickle.loads(part.view(), buffers=part.buffers)
    except (NbtasksError, MemoryError):
        raise
    except Exception as error:
        raise PayloadError(_why(part.name, error)) from error
    finally:
        if loading.home or loading.guest:
            home_names()["__builtins__"] = builtins  # cloudpickle puts the dict of it there
        loading.home, loading.guest, loading.values = before


# A function of the notebook that uses nothing but its arguments and modules is pickled once, for it takes long
# (40 µs) and is submitted in bursts. Beside the part stands all that it was made from.
_plain: weakref.WeakKeyDictionary[FunctionType, tuple[Any, Part]] = weakref.WeakKeyDictionary()


def _plain_state(function: Any) -> tuple[Any, ...] | None:
    """What the pickle of such a function depends on; None when that is more than can be compared at once."""
    names = function.__globals__
    if (
        names is not sys.modules["__main__"].__dict__
        or function.__closure__
        or function.__dict__
        or function.__defaults__
        or function.__kwdefaults__
        or function.__annotations__
    ):
        return None
    code, name = function.__code__, function.__qualname__
    used = [(key, names[key]) for key in cp._extract_code_globals(code) if key in names]
    for _, value in used:
        if type(value) is not ModuleType:
            return None
    # The number of modules: a submodule that was imported since would be mentioned too.
    return (
        id(code),
        code,
        name,
        function.__module__,
        function.__doc__,
        names.get(name) is function,
        len(sys.modules),
        used,
    )


def load_cell(part: Part) -> tuple[Any, dict[str, Any]]:
    """Value and names that a cell brings back to this notebook. Functions among them see the notebook's names.

    What they need and the notebook lacks is added to it, but for the names that come back themselves: whether
    those are bound is not decided here. Raises PayloadError.
    """
    added: dict[str, Any] = {}
    loading.added = added
    try:
        value, names = load(part, guest=True)
    finally:
        loading.added = None
    there = sys.modules["__main__"].__dict__
    for name in added.keys() & names.keys():
        if there.get(name) is added[name]:
            del there[name]
    return value, dict(names)


def _why(name: str, error: Exception) -> str:
    missing = isinstance(error, ModuleNotFoundError) and error.name
    if missing:
        top = missing.partition(".")[0]
        return (
            f"the {name} needs the module {missing!r}, which the Python in {sys.prefix} does not have: pip install {top} "
            f"there. If it is a file of your own, import it before you submit: what is loaded travels with the task"
        )
    cure = (
        "the module there has another version than where it was made"
        if isinstance(error, (AttributeError, ImportError))
        else "its class refuses what it gave itself, or has changed since"
    )
    return f"the {name} could not be unpickled ({type(error).__name__}: {error}): {cure}"
