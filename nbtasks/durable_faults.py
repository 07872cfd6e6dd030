"""`FaultyDisk`: a disk that kills its process, or fails, at named steps. For tests; armed by NBTASKS_FAULT.

NBTASKS_FAULT holds one or more faults, separated by ``;``, each ``OPERATION:WHEN:GLOB:N``:

``OPERATION``
    ``create``, ``move``, ``rename``, ``list``, ``read``, ``exists``, ``remove``, ``make_folder``,
    ``remove_folder``, ``replace``, ``flush`` or ``flush_all``. ``rename`` is the system call inside
    ``move``: an error there is seen by the code that decides who won, an error at ``move`` by its caller.
``WHEN``
    ``before`` or ``after`` the operation, or (``create`` only) ``half``: when the first half of the
    data is in the file. The process kills itself there (``kill -9``). With ``=NAME`` something else
    happens: ``before=SIGSTOP`` sends that signal, ``before=ENOSPC`` raises that OSError.
    ``error=ENOSPC`` is short for ``before=ENOSPC`` (nothing was done), ``late=EIO`` for ``after=EIO``
    (it was done, and the answer was lost).
``GLOB``
    matched against the whole path, ``*`` across slashes; of ``move`` and ``rename`` against the target.
``N``
    the fault strikes at the N-th matching step of this process, once; ``N+``: at that and every later
    one. Left out: 1.

``move:after:*/running/*:3`` kills the process after the third move whose target matches.
``create:error=ENOSPC:*.call:1`` fails the first creation of a call file.

A process that is forked goes on counting from its parent's count. NBTASKS_FAULT_ONCE names a file: a
fault then strikes only if it can make that file, so once among all processes (the replacement of
a killed slot lives).
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from nbtasks.durable import Bytes, Disk, Names, RealDisk
from nbtasks.errors import OptionError

_T = TypeVar("_T")
Plan = Callable[[str, str], None]

OPERATIONS = (
    "create", "move", "rename", "list", "read", "exists", "remove",
    "make_folder", "remove_folder", "replace", "flush", "flush_all",
)  # fmt: skip
_SHORT = {"error": "before", "late": "after"}
_FAULT = re.compile(rf"({'|'.join(OPERATIONS)}):(before|after|half|error|late)(?:=([A-Z0-9]+))?:(.+?)(?::(\d+)(\+?))?")


class FaultyDisk(Disk):
    """Wraps a disk; calls ``plan(step, path)`` before and after each operation.

    A step is called ``create:before``, ``move:after`` and so on; of moves the path is the target. The
    plan may raise OSError, kill the process, or look at the disk. With ``halves=True`` every creation
    also has a step ``create:half``, at which the file holds the first half of its data. Where `inner` is
    a `RealDisk`, the rename inside its `move` has steps of its own: ``rename:before``, ``rename:after``.
    """

    def __init__(self, inner: Disk, plan: Plan, *, halves: bool = False) -> None:
        self.inner = inner
        self._plan = plan
        self._halves = halves
        if isinstance(inner, RealDisk):
            inner.rename = self._rename

    def _do(self, operation: str, path: str, action: Callable[[], _T]) -> _T:
        self._plan(f"{operation}:before", path)
        result = action()
        self._plan(f"{operation}:after", path)
        return result

    def _rename(self, source: str, target: str) -> None:
        self._do("rename", target, lambda: os.rename(source, target))

    def create(self, path: str, parts: Sequence[Bytes], *, flush: bool = False) -> None:
        self._plan("create:before", path)
        if self._halves:
            whole = b"".join(parts)
            self.inner.create(path, (whole[: len(whole) // 2],))
            self._plan("create:half", path)
            self.inner.remove(path)
        self.inner.create(path, parts, flush=flush)
        self._plan("create:after", path)

    def move(self, source: str, target: str) -> bool:
        return self._do("move", target, lambda: self.inner.move(source, target))

    def list(self, folder: str) -> Names:
        return self._do("list", folder, lambda: self.inner.list(folder))

    def read(self, path: str, limit: int | None = None) -> bytes:
        return self._do("read", path, lambda: self.inner.read(path, limit))

    def exists(self, path: str) -> bool:
        return self._do("exists", path, lambda: self.inner.exists(path))

    def remove(self, path: str) -> bool:
        return self._do("remove", path, lambda: self.inner.remove(path))

    def make_folder(self, path: str) -> None:
        self._do("make_folder", path, lambda: self.inner.make_folder(path))

    def remove_folder(self, path: str) -> bool:
        return self._do("remove_folder", path, lambda: self.inner.remove_folder(path))

    def replace(self, path: str, data: bytes) -> None:
        self._do("replace", path, lambda: self.inner.replace(path, data))

    def flush(self, path: str) -> None:
        self._do("flush", path, lambda: self.inner.flush(path))

    def flush_all(self, root: str) -> None:
        self._do("flush_all", root, lambda: self.inner.flush_all(root))


class Fault:
    """One fault of NBTASKS_FAULT; a `Plan` that counts its steps. OptionError when the text cannot be."""

    def __init__(self, text: str, once: str = "") -> None:
        match = _FAULT.fullmatch(text.strip())
        if not match:
            raise OptionError(
                f"NBTASKS_FAULT={text!r} cannot be: write OPERATION:WHEN:GLOB:N, as in move:after:*/running/*:3"
            )
        operation, when, name, self.glob, number, self._on = match.groups()
        self.step = f"{operation}:{_SHORT.get(when, when)}"
        self._left = int(number or 1)
        self._once = once
        self._signal = getattr(signal, "SIGKILL", signal.SIGTERM)
        self._errno = 0
        if name in errno.errorcode.values():
            self._errno = getattr(errno, name)
        elif name in signal.Signals.__members__:
            self._signal = signal.Signals[name]
        elif name or when in _SHORT:
            raise OptionError(f"NBTASKS_FAULT={text!r} cannot be: {name or ''!r} is no errno and no signal")

    def __call__(self, step: str, path: str) -> None:
        if step != self.step or not fnmatchcase(path, self.glob):
            return
        self._left -= 1
        if self._left != 0 and not (self._on and self._left < 0):
            return
        if not self._once or self._may_strike():
            self._strike(path)

    def _may_strike(self) -> bool:
        try:
            os.close(os.open(self._once, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        return True

    def _strike(self, path: str) -> None:
        if self._errno:
            raise OSError(self._errno, f"{os.strerror(self._errno)} (a fault of NBTASKS_FAULT)", path)
        os.kill(os.getpid(), self._signal)


def arm(text: str, once: str = "", inner: Disk | None = None) -> FaultyDisk:
    """The disk with the faults of `text` (see the module); `once` is the file of NBTASKS_FAULT_ONCE."""
    faults = [Fault(one, once) for one in text.split(";") if one.strip()]

    def plan(step: str, path: str) -> None:
        for fault in faults:
            fault(step, path)

    return FaultyDisk(inner or RealDisk(), plan, halves=any(fault.step == "create:half" for fault in faults))
