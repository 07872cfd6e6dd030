"""``dask://local``: a Dask cluster on this machine that belongs to one worker of ours, and ends with it.

``python -m nbtasks.engines.dask_local PID PATH`` keeps it. The first bridge of the worker PID starts that; those after it find it
by the file PATH, so that the death of a bridge costs no task. It listens on 127.0.0.1, where every user of the machine could
connect: whoever has not the certificate in the file is refused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import select
import subprocess
import sys
import time
import warnings
from typing import Any

import msgspec
from distributed import LocalCluster
from distributed.security import Security

from nbtasks import config, host, processes
from nbtasks.engines.foreign import EngineDown
from nbtasks.processes import Identity

_BIRTH = 60.0  # seconds in which a cluster is there
# Dask's pages about tasks would be there for everybody who can connect.
_NO_PAGES = {f"DASK_DISTRIBUTED__{role}__HTTP__ROUTES": "[]" for role in ("SCHEDULER", "WORKER")}
_OPENSSL = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=nbtasks"]
_OPEN = (
    "dask://local: neither the module `cryptography` nor the program `openssl` is there to make a certificate, and without "
    "one every user of this machine could run code as you: pip install cryptography"
)


class Cluster(msgspec.Struct, frozen=True):
    """Where a cluster answers, and what it wants to see; `keeper` is the process that it lives in."""

    keeper: Identity
    address: str
    certificate: str
    key: str

    def security(self) -> Any:
        """What Dask is given to connect."""
        return _security(self.certificate, self.key)


def words() -> str:
    """What a cluster of this machine has."""
    return f"{host.usable_cores()} processes of its own"


def find(worker: int) -> Cluster:
    """The cluster of the worker with that process id; it is started when there is none. Raises EngineDown."""
    try:
        owner = processes.identify(worker)
    except ProcessLookupError as error:
        raise EngineDown("dask://local has ended with its worker") from error
    path = f"{config.settings().host_dir}/dask-{owner.pid}-{owner.start:.0f}.json"
    if found := _read(path):
        return found
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    keeper = subprocess.Popen(
        [sys.executable, "-m", "nbtasks.engines.dask_local", str(owner.pid), path], stdin=subprocess.DEVNULL,
        start_new_session=True, env={**os.environ, **_NO_PAGES, **processes.mark_environment()},
    )  # fmt: skip
    deadline = time.monotonic() + _BIRTH
    while (found := _read(path)) is None:
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise EngineDown("dask://local: its cluster cannot be started; the error stands above")
        time.sleep(0.02)
    return found


def _read(path: str) -> Cluster | None:
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read(), type=Cluster)
    except (OSError, msgspec.DecodeError):
        return None
    return found if processes.is_alive(found.keeper) else None


def _security(certificate: str, key: str) -> Any:
    roles = {
        f"tls_{role}_{what}": pem
        for role in ("client", "worker", "scheduler")
        for what, pem in (("cert", certificate), ("key", key))
    }
    return Security(tls_ca_file=certificate, require_encryption=True, **roles)


def _make_certificate() -> tuple[str, str]:
    """A certificate and its key, signed by itself."""
    try:
        made = Security.temporary()
        return str(made.tls_ca_file), str(made.tls_scheduler_key)
    except ImportError:
        pass
    try:
        done = subprocess.run([*_OPENSSL, "-keyout", "-", "-out", "-"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(_OPEN) from error
    key, mark, rest = done.stdout.partition("-----END PRIVATE KEY-----\n")
    return rest, key + mark


# The keeper.


def keep(pid: int, path: str) -> None:
    """Keep a cluster for as long as the process with this id lives."""
    owner = processes.open_pidfd(pid)
    certificate, key = _make_certificate()
    warnings.filterwarnings("ignore", "Port 8787 is already in use")  # nothing is served there
    cluster: Any = LocalCluster(
        n_workers=host.usable_cores(), threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
        security=_security(certificate, key), silence_logs=logging.ERROR,
    )  # fmt: skip
    try:
        here = Cluster(processes.identify(), cluster.scheduler_address, certificate, key)
        _write(path, msgspec.json.encode(here))
        _wait_for_end(pid, owner)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        cluster.close(timeout=2)


def _write(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    hidden = f"{path}.{secrets.token_hex(4)}"
    with open(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    os.rename(hidden, path)


def _wait_for_end(pid: int, owner: int | None) -> None:
    if owner is not None:
        select.select([owner], [], [])
        return
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            time.sleep(1)


if __name__ == "__main__":
    keep(int(sys.argv[1]), sys.argv[2])
