"""``nbtasks service``: a worker that the system keeps running, installed, looked at and removed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys

import click
import msgspec

from nbtasks import config, services
from nbtasks.engines.urls import hide, parse_all
from nbtasks.errors import OptionError
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.services import LAUNCHD, SYSTEMD, Service
from nbtasks.spec import check_name

_kind = click.option("--kind", type=click.Choice([SYSTEMD, LAUNCHD]), help="For which (default: as this system has).")
_LAST = 5  # lines of the log that are shown
_PATIENCE = 100  # seconds; a worker that is stopped waits for what runs


@click.group()
def service() -> None:
    """Let the system keep a worker of this queue running, also after a reboot."""


@service.command()
@click.option("-w", "--slots", type=click.IntRange(1), help="Run so many tasks at once (default: one per usable core).")
@click.option("-l", "--lane", "lanes", multiple=True, help="Serve this lane; may be repeated (default: the usual one).")
@click.option("-e", "--engine", "engines", multiple=True, metavar="URL", help="As of nbtasks worker.")
@click.option("--memory", metavar="SIZE", help="End what takes more than 8G, 500M, the worker with all its tasks.")
@click.option("--env", "names", multiple=True, metavar="NAME", help="Take this variable along; may be repeated.")
@click.option("--print", "printing", is_flag=True, help="Show the file, and write nothing.")
@_kind
def install(
    slots: int | None, lanes: tuple[str, ...], engines: tuple[str, ...], memory: str | None, names: tuple[str, ...],
    printing: bool, kind: str | None,
) -> int:  # fmt: skip
    """Write the service for this queue, and start it; one that is there is replaced.

    Its settings are those of now: the variables NBTASKS_… and PATH, and those named by --env.
    """
    made = Service(
        root=os.path.realpath(config.find_queue_root()), python=sys.executable, slots=slots,
        lanes=tuple(check_name("lane", lane) for lane in lanes) or (config.settings().lane,),
        memory=_bytes(memory), environment=_environment(names, engines),
    )  # fmt: skip
    chosen = _chosen(kind)
    if printing:
        return _print(made, chosen)
    Queue.open(made.root)  # made, or refused, here and not by a service that nobody looks at
    path = services.path_of(made.root, chosen)
    _write(path, services.text_of(made, chosen))
    os.makedirs(os.path.dirname(made.log), 0o700, exist_ok=True)
    print(f"{path} is written: a worker for {made.root}, lane {', '.join(made.lanes)}; it writes to {made.log}")
    return _start_systemd(made.root, path) if chosen == SYSTEMD else _start_launchd(path)


def _print(made: Service, kind: str) -> int:
    name = config.variable("engine")
    shown = {**made.environment, name: hide(made.environment.get(name, ""))}
    if shown[name] != made.environment.get(name, ""):
        made = msgspec.structs.replace(made, environment=shown)
        print("# A password in an address is left out here; nbtasks service install writes it.", file=sys.stderr)
    print(services.text_of(made, kind), end="")
    return 0


def _chosen(kind: str | None) -> str:
    if found := kind or services.kind_here():
        return found
    raise OptionError(
        "there is neither systemd nor launchd here: let what starts programs on this system run `nbtasks worker` in the "
        "folder of the project"
    )


def _bytes(memory: str | None) -> int | None:
    if memory is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT])B?", memory.strip())
    size = int(float(found[1]) * 1000 ** (" kMGT".index(found[2]))) if found else 0
    if size < 100_000_000:
        raise OptionError(f"--memory {memory!r} cannot be: give a size of 100M or more, such as 8G")
    return size


def _environment(names: tuple[str, ...], engines: tuple[str, ...]) -> dict[str, str]:
    parse_all(engines or ("processes",))
    try:
        found = services.environment(names)
    except KeyError as error:
        raise OptionError(f"--env {error.args[0]}: there is no such variable here to take along") from None
    # Not on the command line, which everybody on the machine can read: an address may have a password in it.
    return found | ({config.variable("engine"): " ".join(engines)} if engines else {})


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(text)


def _run(*command: str) -> str:
    """Run a program of the system; "" or what was wrong, in its words."""
    if shutil.which(command[0]) is None:
        return f"there is no {command[0]} here"
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE + 20)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]


def _start_systemd(root: str, path: str) -> int:
    wanted, unit = services.wanted_path(root), os.path.basename(path)
    os.makedirs(os.path.dirname(wanted), exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(path, wanted)
    wrong = _run("systemctl", "--user", "daemon-reload") or _run("systemctl", "--user", "restart", unit)
    if wrong:
        print(
            f"It was not started, for systemd does not answer here ({wrong}). It starts at your next login where systemd"
        )
        print(f"runs, or by: systemctl --user daemon-reload && systemctl --user start {unit}")
        print("Until then: nbtasks worker")
    else:
        print("It runs, and is started again when it dies.")
    if services.lingers():
        print("After a reboot it starts with the machine.")
    else:
        print("After a reboot it starts when you log in; to let it start with the machine: loginctl enable-linger")
    return 0


def _start_launchd(path: str) -> int:
    _run("launchctl", "unload", path)
    if wrong := _run("launchctl", "load", "-w", path):
        print(f"It was not started, for launchd does not answer here ({wrong}). It starts at your next login, or by:")
        print(f"launchctl load -w {path}")
        return 0
    print("It runs, is started again when it dies, and starts when you log in.")
    return 0


@service.command()
@_kind
def uninstall(kind: str | None) -> int:
    """Stop the service of this queue, and remove its file. Tasks, queue and log stay."""
    root = os.path.realpath(config.find_queue_root())
    found = services.find(root)
    if found is None or (kind or found.kind) != found.kind:
        print(f"no service is installed for {root}")
        return 0
    if found.kind == SYSTEMD:
        wrong = _run("systemctl", "--user", "stop", os.path.basename(found.path))
    else:
        wrong = _run("launchctl", "unload", "-w", found.path)
    for path in (services.wanted_path(root), found.path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    if found.kind == SYSTEMD:
        _run("systemctl", "--user", "daemon-reload")
    print(f"{found.path} is removed" + (f"; {found.kind} does not answer here ({wrong})" if wrong else ""))
    if wrong and any(True for _ in members.list_workers(Queue.open(root))):
        print("A worker lives; if it is the service's: nbtasks stop")
    return 0


@service.command()
def status() -> int:
    """Say whether a service is installed for this queue, and whether it runs. Exit code 0 when it does, else 1."""
    root = os.path.realpath(config.find_queue_root())
    found = services.find(root)
    if found is None:
        print(f"no service is installed for {root}: nbtasks service install")
        return 1
    print(f"{found.name}: {found.path}, lane {', '.join(found.lanes)}")
    if not os.path.exists(found.python):
        print(f"Its Python, {found.python}, is not there any more: nbtasks service install writes it anew")
    serving = _serving(root)
    print(f"runs: {serving}" if serving else "does not run: no worker lives that it could have started")
    words = services.life_words(root, found.lanes[0]) if found.lanes else ""
    print(
        f"After a reboot: {words}" if words else "It is for another Python than this one: tasks of here need their own"
    )
    _print_log(services.log_of(root))
    return 0 if serving else 1


def _serving(root: str) -> str:
    workers = list(members.list_workers(Queue.open(root))) if os.path.exists(root) else []
    ours = [one for one in workers if not one.auto and _service_of(one.process.pid) == services.name_of(root)]
    return ", ".join(f"{one.name} (pid {one.process.pid})" for one in ours)


def _service_of(pid: int) -> str:
    import psutil

    try:
        return psutil.Process(pid).environ().get(services.MARK, "")
    except (psutil.Error, OSError):
        return ""


def _print_log(path: str) -> None:
    with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        lines = file.readlines()[-_LAST:]
        print(f"the last of {path}:")
        print("".join(f"    {line}" for line in lines), end="")
