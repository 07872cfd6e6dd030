"""Large values by their content: bytes, numpy arrays and pandas objects, at a gigabyte a second and more."""

from __future__ import annotations

import hashlib
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

_PIECE = 4 << 20  # bytes; large buffers are hashed in pieces of this size, by two threads


def digest(buffer: Any) -> bytes:
    """A digest of the bytes of any contiguous buffer."""
    view = buffer.raw() if isinstance(buffer, pickle.PickleBuffer) else memoryview(buffer).cast("B")
    if view.nbytes <= _PIECE:
        return hashlib.sha256(view).digest()
    return _of_pieces([view[at : at + _PIECE] for at in range(0, view.nbytes, _PIECE)], lambda piece: piece)


def _of_pieces(pieces: list[Any], flat: Callable[[Any], Any]) -> bytes:
    """A digest of several pieces; `flat` gives the bytes of one."""
    found = [b""] * len(pieces)

    def work(first: int) -> None:
        for index in range(first, len(pieces), 2):
            found[index] = hashlib.sha256(flat(pieces[index])).digest()

    other = threading.Thread(target=work, args=(1,))  # hashlib lets go of the interpreter meanwhile
    other.start()
    work(0)
    other.join()
    return hashlib.sha256(b"".join(found)).digest()


def numpy_parts(obj: Any) -> tuple[str, Any] | None:
    """What a numpy array or number consists of: words, and a digest or list. None when it is neither."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    kind = type(obj)
    if isinstance(obj, numpy.generic) and kind.__module__ == "numpy" and not obj.dtype.hasobject:
        return f"{kind.__name__} {obj.dtype!r}", obj.tobytes()
    if kind is not numpy.ndarray and kind is not numpy.memmap:
        return None
    words = f"{kind.__name__} {obj.dtype!r} {obj.dtype.metadata} {obj.shape}"
    if obj.dtype.hasobject:
        return words, obj.tolist()
    order = "F" if obj.flags.f_contiguous and not obj.flags.c_contiguous else "C"
    return f"{words} {order}", _of_array(numpy, obj.T if order == "F" else obj)


def _of_array(numpy: Any, array: Any) -> bytes:
    if array.nbytes == 0:
        return b""
    if array.flags.c_contiguous:
        return digest(array.reshape(-1).view(numpy.uint8))  # also of types that memoryview does not know
    # Not in one piece: the pieces that a copy in one piece would have, so that the digest is the same.
    if array.nbytes <= _PIECE:
        return digest(_cut(numpy, array, 0, array.nbytes))
    pieces = [(at, min(at + _PIECE, array.nbytes)) for at in range(0, array.nbytes, _PIECE)]
    return _of_pieces(pieces, lambda piece: _cut(numpy, array, *piece))


def _cut(numpy: Any, array: Any, start: int, end: int) -> Any:
    """The bytes from `start` to `end` of a contiguous copy of `array`, of which no more is made than that takes."""
    row = array.nbytes // len(array)
    first, last = start // row, -(-end // row)
    if row > _PIECE and array.ndim > 1:
        rows = range(first, last)
        return b"".join(_cut(numpy, array[at], max(start - at * row, 0), min(end - at * row, row)) for at in rows)
    copied = numpy.ascontiguousarray(array[first:last]).reshape(-1).view(numpy.uint8)
    return copied[start - first * row : end - first * row]


def pandas_parts(obj: Any) -> tuple[str, Any] | None:
    """What a pandas DataFrame, Series or RangeIndex consists of; None when it is none of these."""
    pandas = sys.modules.get("pandas")
    kind = type(obj)
    if pandas is None or not kind.__module__.startswith("pandas."):
        return None
    if kind is getattr(pandas, "DataFrame", None):
        # Column by column: reading a frame may put its blocks in another order, or join them.
        columns = [_column(column) for _, column in obj.items()]
        return "DataFrame", (columns, obj.index, obj.columns, obj.attrs, obj.flags.allows_duplicate_labels)
    if kind is getattr(pandas, "Series", None):
        return "Series", (_column(obj), obj.index, obj.name, obj.attrs, obj.flags.allows_duplicate_labels)
    if kind is getattr(pandas, "RangeIndex", None):
        return "RangeIndex", (obj.start, obj.stop, obj.step, obj.name)
    return None


def _column(column: Any) -> Any:
    values = column.array
    plain = values.to_numpy() if type(values).__name__ in ("NumpyExtensionArray", "PandasArray") else None
    return plain if type(plain).__module__ == "numpy" else values
