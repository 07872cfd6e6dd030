"""Where a task was submitted: working directory, path, changed environment and project sources, for its slot."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nbtasks import sources as project
from nbtasks.blobs import Blobs
from nbtasks.errors import FrameDamaged
from nbtasks.homes import has_home
from nbtasks.serving import Read, Source

# What belongs to one process, or follows from the rest.
_OWN = ("NBTASKS_", "JPY_", "IPY_", "PYDEVD_")
_OWN_NAMES = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "LINES", "COLUMNS"})
_TRUST = 1.0  # seconds for which a stored context is taken to be there still


class Context(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a slot needs to run a task as if where it was submitted."""

    cwd: str
    path: tuple[str, ...] = ()
    environ: dict[str, str | None] = {}  # changed since that process began; None: removed
    sources: dict[str, Source] = {}


_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Context).decode


def _at_start() -> dict[str, str]:
    """The environment that this process began with."""
    try:
        with open("/proc/self/environ", "rb") as file:
            pairs = [entry.partition(b"=") for entry in file.read().split(b"\0")]
    except OSError:
        return dict(os.environ)
    found = {os.fsdecode(name): os.fsdecode(value) for name, sign, value in pairs if name and sign}
    # Some programs write their title over it.
    return found if "PATH" in found or "PATH" not in os.environ else dict(os.environ)


_started_with = _at_start()


class _Captured(msgspec.Struct, frozen=True):
    """The last context that was stored, with all it depends on."""

    folder: str
    cwd: str
    path: list[Any]
    environ: dict[Any, Any]
    sources: dict[str, Source]
    hash: str
    moment: float


_last: _Captured | None = None


def capture(blobs: Blobs, *, cwd: str = "", names: Sequence[str] = ()) -> str:
    """Store the context of this process, and give its hash for the spec. Cheap while nothing changed.

    `cwd` is another working directory than that of this process. `names` are environment variables that go along
    whether they were changed or not; their values are in the blob and nowhere else. Raises OSError when it cannot be stored.
    """
    global _last
    if cwd or names:
        return blobs.put(_encode(_here(cwd or _cwd(), project.freeze(blobs), names)))
    cwd, environ, sources = _cwd(), _raw_environ(), project.freeze(blobs)
    last = _last
    if (
        last is not None
        and last.sources is sources
        and last.cwd == cwd
        and last.path == sys.path
        and last.environ == environ
        and last.folder == blobs.folder
    ):
        if time.monotonic() - last.moment < _TRUST or blobs.has(last.hash):
            return last.hash
        project.forget()
        sources = project.freeze(blobs)
    path = list(sys.path)
    hash = blobs.put(_encode(_here(cwd, sources)))
    _last = _Captured(blobs.folder, cwd, path, dict(environ), sources, hash, time.monotonic())
    return hash


def _here(cwd: str, sources: dict[str, Source], names: Sequence[str] = ()) -> Context:
    environ = _changes() | {name: os.environ[name] for name in names}
    return Context(cwd, tuple(map(os.fspath, filter(_is_path, sys.path))), dict(sorted(environ.items())), sources)


def load(blobs: Blobs, hash: str) -> Context:
    """The context of that hash. Raises FrameDamaged when it is missing or altered."""
    return decode(blobs.read(hash))


@functools.lru_cache(maxsize=16)
def decode(data: bytes) -> Context:
    """The context in the bytes of its blob. Raises FrameDamaged when it is none."""
    try:
        return _decode(data)
    except (ValueError, RecursionError) as error:
        raise FrameDamaged(f"the context of a task cannot be read ({error}): submit the task again") from error


def environment_names() -> list[str]:
    """The names of this process's environment variables."""
    return sorted(os.environ)


def environment_changes() -> dict[str, str | None]:
    """What was set or removed (None) in this process's environment since it began, but for what belongs to it alone."""
    return _changes()


class Entered:
    """A context in force. Call it to leave: directory, path and environment are as before.

    `notes` say in words what could not be had.
    """

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self._cwd = _cwd()
        self._path = list(sys.path)
        self._environ = dict(_raw_environ())

    def would_suit(self, context: Context, current: Context) -> bool:
        """Whether `context` can hold beside `current`, which is in force: it has the same, or only more to import."""
        if context is current:
            return True
        names = context.environ.keys() | current.environ.keys()
        return (
            context.cwd == current.cwd
            and all(self._value(context, name) == self._value(current, name) for name in names)
            and project.fits(context.sources)
        )

    def _value(self, context: Context, name: str) -> str | None:
        if name in context.environ:
            return context.environ[name]
        before: str | None = _text(self._environ.get(os.fsencode(name), self._environ.get(name)))
        return before

    def __call__(self) -> None:
        """Leave, also what the task itself changed."""
        project.look()
        if self._cwd and _cwd() != self._cwd:
            with contextlib.suppress(OSError):
                os.chdir(self._cwd)
        if sys.path != self._path:
            sys.path[:] = self._path
        now = _raw_environ()
        if now != self._environ:
            names = {name for name in now.keys() | self._environ.keys() if now.get(name) != self._environ.get(name)}
            _apply({_text(name): _text(self._environ.get(name)) for name in names})


def enter(context: Context, read: Read) -> Entered:
    """Make `context` that of this process; call what is returned in order to leave it again.

    `read` gives the bytes of a blob by its hash, compared with it. Project sources are served only where `make_home` was
    called: in the process that submitted, the modules are there. A missing directory is no error but a note.
    """
    entered = Entered()
    if has_home():
        project.serve(context.sources, read)
    if context.cwd and context.cwd != entered._cwd:
        try:
            os.chdir(context.cwd)
        except OSError as error:
            here = entered._cwd or "an unnamed directory"
            entered.notes += (f"{context.cwd} cannot be entered ({error.strerror}): the task runs in {here}",)
    path = [*context.path, *(entry for entry in sys.path if entry not in context.path)]
    if path != sys.path:
        sys.path[:] = path
    if context.environ:
        _apply(context.environ)
    return entered


def add(context: Context, current: Context) -> Context:
    """Let `context`, of which `would_suit` was true, be in force beside `current`; what is in force now."""
    if has_home():
        project.serve_too(context.sources)
    sys.path.extend(entry for entry in context.path if entry not in sys.path)
    return msgspec.structs.replace(current, sources=current.sources | context.sources)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:  # removed
        return ""


def _is_path(entry: object) -> bool:
    return isinstance(entry, (str, os.PathLike))


def _raw_environ() -> dict[Any, Any]:
    # The dict within: comparing it costs a microsecond, os.environ itself fifty.
    data = getattr(os.environ, "_data", None)
    return data if isinstance(data, dict) else dict(os.environ)


def _text(value: Any) -> Any:
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _changes() -> dict[str, str | None]:
    now = dict(os.environ)
    names = sorted(now.keys() | _started_with.keys())
    return {
        name: now.get(name)
        for name in names
        if now.get(name) != _started_with.get(name) and not name.startswith(_OWN) and name not in _OWN_NAMES
    }


def _apply(changes: Mapping[str, str | None]) -> None:
    for name, value in changes.items():
        if value is None:
            os.environ.pop(name, None)
        elif os.environ.get(name) != value:
            os.environ[name] = value
    if "TZ" in changes and hasattr(time, "tzset"):
        time.tzset()
