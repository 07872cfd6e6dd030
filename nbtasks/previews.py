"""What a value is, in a few words, for cards and lists: kind and shape, never more than a line.

Nothing here imports a library: what a value of pandas, numpy or torch looks like is told by its attributes.
Everything is total (a property of the user's class may raise) and bounded (a list of a million items costs the same).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

_TEXT = 40  # characters of a text that are shown
_LOOKED_AT = 200  # items of a container that are measured; the rest is taken to be like them
_DEPTH = 4
_FUNCTIONS = ("function", "builtin_function_or_method", "method", "ufunc", "partial")


def preview(value: object) -> str:
    """Kind and shape of `value` in one short line: ``DataFrame 20 × 4``, ``dict, 4 items``, ``3.14``. Never raises."""
    try:
        return _preview(value)
    except Exception:  # a broken __len__ or property of the user's class must not cost the result
        return type(value).__name__


def _preview(value: Any) -> str:
    kind = type(value).__name__
    if value is None or isinstance(value, (bool, int, float, complex)):
        return _number(value)
    if isinstance(value, (str, bytes, bytearray)):
        return _text(value)
    if isinstance(value, type):
        return f"class {value.__name__}"
    if kind in _FUNCTIONS:
        return f"function {getattr(value, '__name__', kind)}"
    shaped = _shaped(value, kind)
    if shaped:
        return shaped
    if isinstance(value, (list, tuple, set, frozenset, Mapping)):
        return f"{kind}, {_count(len(value), 'item')}"
    if _is_ours_to_print(value):
        return _cut(repr(value))
    return kind


def _number(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return f"int of {value.bit_length()} bits"
    if isinstance(value, float):
        return float.__repr__(value)  # of numpy's too, whose own repr has its type in it
    return _cut(repr(value))


def _text(value: str | bytes | bytearray) -> str:
    if len(value) <= _TEXT:
        return repr(value)
    what = "characters" if isinstance(value, str) else "bytes"
    start = repr(bytes(value[:30]) if isinstance(value, bytearray) else value[:30])
    return f"{start[:-1]}…{start[-1]}, {len(value):,} {what}"


def _shaped(value: Any, kind: str) -> str:
    """Frames, series, arrays, tensors: whatever has a tuple of numbers as its shape."""
    shape = getattr(value, "shape", None)
    if not isinstance(shape, tuple) or not all(isinstance(size, int) for size in shape):
        return ""
    if hasattr(value, "columns") and len(shape) == 2:
        return f"{kind} {shape[0]:,} × {shape[1]:,}"
    dtype = getattr(value, "dtype", "")
    if not shape and hasattr(value, "item"):
        return _cut(f"{value.item()!r}") + f" ({dtype})"
    name = getattr(value, "name", None)
    if hasattr(value, "index") and len(shape) == 1:
        return _cut(f"{kind}{f' {name!r}' if name is not None else ''} {shape[0]:,} {dtype}")
    device = str(getattr(value, "device", ""))
    where = f" on {device}" if device.startswith(("cuda", "mps", "xpu")) else ""
    return _cut(f"{kind} {'(' + ', '.join(map(str, shape)) + (',)' if len(shape) == 1 else ')')} {dtype}{where}")


def _is_ours_to_print(value: object) -> bool:
    # The repr of an unknown class may be slow or long; that of an estimator, a date or an enum is short and telling.
    module = type(value).__module__.partition(".")[0]
    return module in ("datetime", "decimal", "fractions", "uuid", "pathlib", "enum", "builtins", "sklearn") or hasattr(
        type(value), "__members__"
    )


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_of(value: object) -> int:
    """About how many bytes `value` takes in memory. Large containers are measured by a sample. Never raises."""
    try:
        return _size(value, _DEPTH, set())
    except Exception:
        return sys.getsizeof(value, 0)


def _size(value: Any, depth: int, seen: set[int]) -> int:
    if id(value) in seen:
        return 0
    own = _buffer_size(value)
    if own is None:
        own = sys.getsizeof(value, 64)
    else:
        seen.add(id(value))
        return own
    if depth == 0 or isinstance(value, (str, bytes, bytearray, int, float, complex, type)):
        return own
    seen.add(id(value))
    if isinstance(value, Mapping):
        return own + _sample(value.items(), len(value), depth, seen)
    if isinstance(value, (list, tuple, set, frozenset)):
        return own + _sample(value, len(value), depth, seen)
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        return own + _sample(attributes.values(), len(attributes), depth, seen)
    return own


def _sample(items: Iterable[object], count: int, depth: int, seen: set[int]) -> int:
    looked = list(islice(items, _LOOKED_AT))
    total = sum(_size(item, depth - 1, seen) for item in looked)
    return total if count <= len(looked) else total * count // len(looked)


def _buffer_size(value: Any) -> int | None:
    """Bytes of a frame, series, array or tensor; None for anything else."""
    if isinstance(value, type):
        return None
    if hasattr(value, "memory_usage") and hasattr(value, "index"):
        used = value.memory_usage(index=True, deep=False)  # deep would walk every text of a column
        return int(used.sum() if hasattr(used, "sum") else used)
    if hasattr(value, "element_size") and hasattr(value, "nelement"):
        return int(value.element_size() * value.nelement())
    size = getattr(value, "nbytes", None)
    if isinstance(size, int) and getattr(value, "base", None) is not value:
        return size
    return None
