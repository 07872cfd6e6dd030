"""A worker that the system keeps running: what is written for systemd or launchd, and where. Starts nothing by itself."""

from __future__ import annotations

import getpass
import hashlib
import itertools
import os
import plistlib
import re
import sys
from collections.abc import Sequence

import msgspec

from nbtasks import config

SYSTEMD, LAUNCHD = "systemd", "launchd"
MARK = "NBTASKS_SERVICE"  # in the environment of a worker: the service that started it
_LABEL = "io.nbtasks."
_GRACE = 60  # seconds that what runs is given when the service is stopped; then functions go back into the queue
_TAKEN_ALONG = ("PATH", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "VIRTUAL_ENV", "CONDA_PREFIX")
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of one queue, as a service of this person."""

    root: str  # of the queue
    lanes: tuple[str, ...]
    python: str
    slots: int | None = None
    memory: int | None = None  # bytes, of the worker with all its tasks
    environment: dict[str, str] = {}

    @property
    def name(self) -> str:
        """What it is called, a name for each queue: ``nbtasks-churn-1a2b3c``."""
        return name_of(self.root)

    @property
    def folder(self) -> str:
        """Where it runs: the project, which holds the queue."""
        return os.path.dirname(self.root)

    @property
    def log(self) -> str:
        """Where the worker's words go."""
        return log_of(self.root)

    @property
    def command(self) -> list[str]:
        """The command line of the worker."""
        words = [self.python, "-m", "nbtasks", "-q", self.root, "worker", "--grace", str(_GRACE)]
        words += [word for lane in self.lanes for word in ("-l", lane)]
        return words + (["-w", str(self.slots)] if self.slots else [])


def name_of(root: str) -> str:
    """The name of the service for a queue."""
    project = re.sub(r"[^a-z0-9]+", "-", os.path.basename(os.path.dirname(root)).lower()).strip("-")[:30] or "queue"
    return f"nbtasks-{project}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:6]}"


def log_of(root: str) -> str:
    """The log of the service for a queue."""
    return f"{config.settings().state_dir}/services/{name_of(root)}/worker.log"


def environment(names: Sequence[str]) -> dict[str, str]:
    """What the worker is to find in its environment: where things are, the settings that are made there, and `names`.

    KeyError for one that is not set.
    """
    made = [config.variable(name) for name in config.NAMES if name != "queue"]
    found = {name: os.environ[name] for name in (*_TAKEN_ALONG, *made) if os.environ.get(name)}
    return found | {name: os.environ[name] for name in names}


def _of_worker(service: Service) -> dict[str, str]:
    return {MARK: service.name, **service.environment}


def kind_here() -> str:
    """Which of the two this system has; "" when neither."""
    if sys.platform == "darwin":
        return LAUNCHD
    return SYSTEMD if sys.platform.startswith("linux") else ""


def path_of(root: str, kind: str) -> str:
    """Where the file of the service for a queue belongs."""
    if kind == LAUNCHD:
        return os.path.expanduser(f"~/Library/LaunchAgents/{_LABEL}{name_of(root)}.plist")
    return f"{config.config_home()}/systemd/user/{name_of(root)}.service"


def wanted_path(root: str) -> str:
    """Where systemd finds that the service starts by itself: a link."""
    return f"{config.config_home()}/systemd/user/default.target.wants/{name_of(root)}.service"


def text_of(service: Service, kind: str) -> str:
    """The file."""
    return _plist(service) if kind == LAUNCHD else _unit(service)


_UNIT = """\
# Made by `nbtasks service install`, which writes it anew; `nbtasks service uninstall` takes it away.
[Unit]
Description=nbtasks worker for {folder}

[Service]
Type=exec
WorkingDirectory={folder}
ExecStart={command}
{environment}StandardOutput=append:{log}
StandardError=inherit
# `nbtasks stop` is meant: only what ended otherwise is started again. 2: the queue or an option is refused.
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
# The worker alone is told to stop, and waits for what runs.
KillMode=mixed
TimeoutStopSec={patience}
OOMPolicy=continue
{limits}
[Install]
WantedBy=default.target
"""


def _unit(service: Service) -> str:
    limits = ""
    if service.memory:
        # Slowed down before it is killed; of what is killed, only that slot.
        limits = f"MemoryHigh={service.memory * 9 // 10}\nMemoryMax={service.memory}\n"
    pairs = _of_worker(service).items()
    return _UNIT.format(
        folder=_percent(service.folder), command=" ".join(map(_word, service.command)), log=_percent(service.log),
        environment="".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in pairs),
        patience=_GRACE + 30, limits=limits,
    )  # fmt: skip


def _percent(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{_percent(escaped)}"'


def _word(word: str) -> str:
    return _percent(word) if _PLAIN.fullmatch(word) else _quoted(word).replace("$", "$$")


def _plist(service: Service) -> str:
    content = {
        "Label": f"{_LABEL}{service.name}",
        "ProgramArguments": service.command,
        "WorkingDirectory": service.folder,
        "EnvironmentVariables": _of_worker(service),
        "StandardOutPath": service.log,
        "StandardErrorPath": service.log,
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 5,
        "ExitTimeOut": _GRACE + 30,
    }
    return plistlib.dumps(content, sort_keys=False).decode()


class Installed(msgspec.Struct, frozen=True):
    """A service that is there for a queue."""

    kind: str
    path: str
    python: str
    lanes: tuple[str, ...]
    lingers: bool  # it starts with the machine, and not only when the person logs in

    @property
    def name(self) -> str:
        """As `Service.name`."""
        return os.path.basename(self.path).removeprefix(_LABEL).rpartition(".")[0]


def find(root: str) -> Installed | None:
    """The service for the queue at `root`, or None. It need not run."""
    for kind in (SYSTEMD, LAUNCHD):
        path = path_of(root, kind)
        try:
            with open(path, "rb") as file:
                words = _command_in(file.read(), kind)
        except (OSError, ValueError, plistlib.InvalidFileException):
            continue
        lanes = tuple(word for before, word in itertools.pairwise(words) if before == "-l")
        return Installed(kind, path, words[0] if words else "", lanes, kind == SYSTEMD and lingers())
    return None


def _command_in(data: bytes, kind: str) -> list[str]:
    if kind == LAUNCHD:
        return list(plistlib.loads(data)["ProgramArguments"])
    line = re.search(rb"^ExecStart=(.*)$", data, re.MULTILINE)
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line[1].decode() if line else "")
    return [_plain(quoted or word) for quoted, word in words]


def _plain(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word).replace("%%", "%").replace("$$", "$")


def lingers() -> bool:
    """Whether systemd starts the services of this person with the machine, before any login."""
    try:
        return os.path.exists(f"/var/lib/systemd/linger/{getpass.getuser()}")
    except (KeyError, OSError):  # a number without a name, in a container
        return False


def life_words(root: str, lane: str) -> str:
    """What an installed service means for what recurs in `lane`, in words; "" when there is none that serves it."""
    found = find(root)
    if found is None or lane not in found.lanes:
        return ""
    if os.path.dirname(found.python) != os.path.dirname(sys.executable):  # python and python3 of one folder are one
        return ""
    if found.kind == LAUNCHD:
        return f"the service {found.name} starts one after a reboot, when you log in"
    if found.lingers:
        return f"the service {found.name} starts one after a reboot"
    return (
        f"the service {found.name} starts one after a reboot, when you log in (at boot already: loginctl enable-linger)"
    )
