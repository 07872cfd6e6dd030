"""Settings: defaults < /etc/nbtasks.toml < the user's file < the project's < NBTASKS_* < `configure`.

The environment is read in this file and nowhere else. docs/settings.md has the table.
"""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from nbtasks.config_values import PARSERS, Parser, text
from nbtasks.engines.urls import hide
from nbtasks.errors import OptionError, QueueError
from nbtasks.queue.layout import FOLDER, MARK


def _state_dir() -> str:
    home, named = os.path.expanduser("~"), os.environ.get("XDG_STATE_HOME")
    if sys.platform == "darwin" and not named:
        return f"{home}/Library/Application Support/nbtasks"
    if sys.platform == "win32" and not named:
        return os.path.join(os.environ.get("LOCALAPPDATA") or home, "nbtasks")
    return os.path.join(named or f"{home}/.local/state", "nbtasks")


def config_home() -> str:
    """Where this person's settings of all programs lie."""
    return os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")


def _host_dir() -> str:
    # Not XDG_RUNTIME_DIR and not TMPDIR: they differ between a login, a cron job and a hub, and then
    # two processes would hand out the same GPU.
    return f"/tmp/nbtasks-{os.getuid()}" if hasattr(os, "getuid") else os.path.join(_state_dir(), "host")


@dataclass(frozen=True)
class Settings:
    """What can be set. Durations are seconds, sizes bytes, paths absolute."""

    queue: str | None = None
    autostart: bool = True
    slots: int | None = None
    lane: str = "default"
    env: str = ""
    durability: str = "second"
    idle_exit: float = 900.0
    engine: str = "processes"
    capacity: int = 100
    lease: float = 30.0
    wait: bool = False
    pending: str = "wait"
    activity: bool = True
    notify_command: tuple[str, ...] = ()
    grace: float = 5.0
    resources: dict[str, int] = field(default_factory=dict)
    log_limit: int = 64 << 20
    bring_back_limit: int = 1 << 30
    state_dir: str = field(default_factory=_state_dir)
    host_dir: str = field(default_factory=_host_dir)
    key_file: str | None = None
    boot: str = ""
    fault: str = ""
    fault_once: str = ""


NAMES = tuple(setting.name for setting in fields(Settings))


def variable(name: str) -> str:
    """The environment variable of a setting: ``NBTASKS_IDLE_EXIT`` of ``idle_exit``."""
    return f"NBTASKS_{name.upper()}"


_PATHS = frozenset({"queue", "state_dir", "host_dir", "key_file", "fault_once"})


@dataclass(frozen=True)
class _Layer:
    """Settings from one place: what it is called in an error, where its relative paths start, what it says."""

    origin: str
    base: str
    values: dict[str, Any]

    def parse(self) -> Iterator[tuple[str, Any]]:
        for name, value in self.values.items():
            try:
                _check(name)
                yield name, self._parse(name, value)
            except OptionError as error:
                where = variable(name) if self.origin == "environment" else f"{self.origin}: {name}"
                shown = hide(repr(value)) if name == "engine" else repr(value)
                raise OptionError(f"{where}={shown} cannot be: {error}") from None

    def _parse(self, name: str, value: Any) -> Any:
        if value is None and name in ("queue", "slots", "key_file"):
            return None
        given = str(value) if hasattr(value, "__fspath__") else value
        parser: Parser = PARSERS.get(name, text)
        parsed = parser(name, given)
        if name in _PATHS and parsed:
            return os.path.abspath(os.path.join(self.base, os.path.expanduser(parsed)))
        return parsed


def _check(name: str) -> None:
    if name not in NAMES:
        import difflib

        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(NAMES)}"
        raise OptionError(f"there is no setting of that name; {hint}")


_changes: dict[str, Any] = {}
_origins: dict[str, str] = {}
_settings: Settings | None = None
_root: str | None = None
_elsewhere = ""


def settings() -> Settings:
    """The settings in force; read once. OptionError names the file or variable of a value that cannot be."""
    global _settings
    if _settings is None:
        values: dict[str, Any] = {}
        _origins.clear()
        for layer in _layers():
            for name, value in layer.parse():
                # One by one: the machine's file may say how many GPUs there are, the project's how many licences.
                values[name] = {**values.get(name, {}), **value} if name == "resources" else value
                _origins[name] = layer.origin
        _settings = Settings(**values)
    return _settings


def configure(**changes: Any) -> None:
    """Change settings for this process, over files and environment. OptionError changes nothing."""
    global _settings, _root
    parsed = dict(_Layer("configure()", os.getcwd(), changes).parse())
    _changes.update(parsed)
    _settings = None
    if "queue" in parsed:
        _root = None


def reset() -> None:
    """Forget what was configured and read, so that files and environment are read again."""
    global _settings, _root
    _changes.clear()
    _settings = _root = None


_FOR_WORKERS = ("engine", "capacity", "lease", "slots", "idle_exit")


def for_workers() -> dict[str, str]:
    """What was configured here and concerns workers: the variables that a worker which this process starts is given."""
    return {variable(name): str(_changes[name]) for name in _FOR_WORKERS if _changes.get(name) is not None}


def no_queue(why: str) -> None:
    """From now on there is no queue for this process, and `check_queue` says why."""
    global _elsewhere
    _elsewhere = why


def check_queue() -> None:
    """Raise QueueError where there can be no queue: in a task that an engine runs elsewhere."""
    if _elsewhere:
        raise QueueError(_elsewhere)


def origin(name: str) -> str:
    """Where a setting comes from: a file, ``environment``, ``configure()`` or ``default``."""
    settings()
    return _origins.get(name, "default")


def _layers() -> Iterator[_Layer]:
    for path in ("/etc/nbtasks.toml", os.path.join(config_home(), "nbtasks.toml")):
        yield from _file(path, ())
    yield from _project()
    here = os.getcwd()
    environment = {name: os.environ.get(variable(name)) for name in NAMES}
    yield _Layer("environment", here, {name: text for name, text in environment.items() if text})
    yield _Layer("configure()", here, _changes)


def _project() -> Iterator[_Layer]:
    """The nearest nbtasks.toml, or pyproject.toml with a table [tool.nbtasks], from the working directory upwards."""
    for folder in _upwards(os.getcwd()):
        for path, table in ((f"{folder}/nbtasks.toml", ()), (f"{folder}/pyproject.toml", ("tool", "nbtasks"))):
            layers = list(_file(path, table))
            if layers:
                yield layers[0]
                return


def _file(path: str, table: tuple[str, ...]) -> Iterator[_Layer]:
    if not _is_trusted(path):
        return
    import tomllib

    try:
        with open(path, "rb") as file:
            content: Any = tomllib.load(file)
    except OSError:
        return
    except ValueError as error:  # tomllib's, or not UTF-8
        if table:
            return  # somebody else's file, and theirs to mend
        raise OptionError(f"{path} is no TOML: {error}") from None
    for name in table:
        content = content.get(name) if isinstance(content, dict) else None
    if isinstance(content, dict):
        yield _Layer(path, os.path.dirname(path), content)


def _is_trusted(path: str) -> bool:
    # A settings file names the key and the queue, whose contents are run as code: in a shared folder
    # (/tmp, a laboratory's) somebody else's file must not choose them.
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return False
    return not hasattr(os, "geteuid") or owner in (0, os.geteuid())


def _upwards(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = os.path.dirname(folder)
        if above == folder:
            return
        folder = above


def find_queue_root(named: str | None = None, *, start: str | None = None) -> str:
    """The absolute path of the ``.nbtasks`` folder to use; it need not exist yet.

    In this order: `named` (a queue, or the folder that holds or will hold its ``.nbtasks``); the setting
    ``queue``, which NBTASKSFOLDER overrides; from `start` (the working directory) upwards the nearest
    queue that is ours and writable; the nearest writable folder with ``pyproject.toml`` or ``.git``;
    `start` itself. Found once, it stays the same for this process, whatever the working directory.
    """
    global _root
    if named is not None:
        return _named(named)
    if start is not None:
        return _found(start)
    if _root is None:
        chosen = settings().queue
        _root = _named(chosen) if chosen else _found(os.getcwd())
    return _root


def _named(path: str) -> str:
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    is_queue = os.path.basename(path) == FOLDER or os.path.exists(f"{path}/{MARK}")
    return path if is_queue else os.path.join(path, FOLDER)


def _found(start: str) -> str:
    start = os.path.abspath(start)
    for folder in _upwards(start):
        if _is_ours(os.path.join(folder, FOLDER)):
            return os.path.join(folder, FOLDER)
    for folder in _upwards(start):
        if _has_any(folder, ("pyproject.toml", ".git")) and os.access(folder, os.W_OK | os.X_OK):
            return os.path.join(folder, FOLDER)
    return os.path.join(start, FOLDER)


def _has_any(folder: str, names: Iterable[str]) -> bool:
    return any(os.path.exists(os.path.join(folder, name)) for name in names)


def _is_ours(path: str) -> bool:
    if not os.path.isdir(path):
        return False
    ours = not hasattr(os, "geteuid") or os.stat(path).st_uid == os.geteuid()
    return ours and os.access(path, os.W_OK | os.X_OK)


def env_tag() -> str:
    """A short tag of this Python environment, ``py311-3f9a1c``: only its own workers take what it submits."""
    return settings().env or _prefix_tag()


@functools.cache
def _prefix_tag() -> str:
    prefix = zlib.crc32(os.path.realpath(sys.prefix).encode()) & 0xFFFFFF
    return f"py{sys.version_info.major}{sys.version_info.minor}-{prefix:06x}"
