"""Real servers for the tests of engines, one class each: started in a folder of their own, ended afterwards.

To add an engine: write a `Place`, put it into `PLACES`, and give it a file ``test_contract_NAME.py``. What it cannot do stands in
`lacks`, in words: the contract suite then expects that, and the table in the documents says it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from nbtasks import config, keys, processes
from nbtasks.queue.directory import Queue
from tests import reaper
from tests.conftest import stop_workers
from tests.worker.tools import Worker, kill, until


def free_port() -> int:
    """A port of the loopback that nobody uses just now, and that is given to nobody who does not ask for it."""
    while True:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", random.SystemRandom().randrange(20000, 32000)))
            return int(probe.getsockname()[1])


class Place:
    """Where an engine runs. `name` is what the tests are called by."""

    name = ""
    is_foreign = True
    tool = ("", "")  # a program that it needs, and the target of the Makefile that brings it
    # What the engine cannot do: the name of a test of the contract, and the sentence for the table.
    lacks: ClassVar[dict[str, str]] = {}
    count = 2  # of the engine's workers
    room = 2  # tasks that run at once
    birth = 20.0  # seconds in which the broker is there

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = os.environ | {"TMPDIR": str(folder)}  # what one that is killed leaves there goes with the folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self.broker: subprocess.Popen[bytes] | None = None
        self._logs = 0
        self._log_of: dict[int, Path] = {}

    @property
    def url(self) -> str:
        """What `nbtasks worker -e` is given."""
        return self.name

    # For each engine to say.

    def broker_command(self) -> list[str]:
        """The broker's command line; [] when there is none."""
        return []

    def broker_answers(self) -> bool:
        """Whether the broker is there."""
        return True

    def worker_command(self) -> list[str]:
        """The command line of one of the engine's own workers; [] when there are none."""
        return []

    def workers_listen(self) -> bool:
        """Whether as many of the engine's workers as were started wait for tasks."""
        return True

    # What the tests do with it.

    def start(self) -> Place:
        """Start broker and workers, and wait until they are there."""
        self.start_broker()
        self.start_workers()
        return self

    def refresh(self) -> None:
        """Make good what a test has ended."""
        if self.broker is not None and self.broker.poll() is not None:
            self.start_broker()
        if len([worker for worker in self.workers if worker.poll() is None]) != self.count:
            self.kill_workers()
            self.start_workers()

    def start_broker(self) -> None:
        """Start the broker, and wait until it answers."""
        if command := self.broker_command():
            self.broker = self.run(command)
            until(self.broker_answers, self.birth, "the broker")

    def stop_broker(self, number: int = signal.SIGKILL) -> None:
        """End the broker."""
        assert self.broker is not None
        self.broker.send_signal(number)
        self.broker.wait(20)

    def start_workers(self, count: int = 0, **environ: str) -> None:
        """Start the engine's workers, and wait until they are there. They do not see the folder of the tests' project."""
        if command := self.worker_command():
            self.workers += [self.run(command, **environ) for _ in range(count or self.count)]
            until(self.workers_listen, what="the engine's workers")

    def restart_ended(self) -> None:
        """Start those of the engine's workers again that have ended by themselves, as systemd does (docs/deploy)."""
        ended = [worker for worker in self.workers if worker.poll() is not None]
        for worker in ended:
            self.workers.remove(worker)
            self.workers.append(self.run(self.worker_command()))

    def kill_workers(self) -> None:
        """kill -9 of all the engine's workers and of all that they have started."""
        for worker in self.workers:
            for process in processes.tree(worker.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            kill(worker.pid)
            worker.wait()
        self.workers.clear()

    def run(self, command: list[str], **environ: str) -> subprocess.Popen[bytes]:
        """A program with its output in a file, in a session of its own; it ends with this process (tests/reaper.py)."""
        self._logs += 1
        with open(self.folder / f"{self._logs}-{os.path.basename(command[0])}.log", "xb") as log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                env=self.environ | environ,
            )  # fmt: skip
        reaper.note(process.pid)
        self._log_of[process.pid] = Path(log.name)
        return process

    def has_said(self, process: subprocess.Popen[bytes], words: str) -> bool:
        """Whether a program that was started has these words in its log."""
        return words in self._log_of[process.pid].read_text()

    def logs(self) -> str:
        """What all of them have said, for the message of a test that fails."""
        return "\n".join(f"{path.name}:\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """End everything."""
        self.kill_workers()
        if self.broker is not None and self.broker.poll() is None:
            self.stop_broker()


class Processes(Place):
    """The slots of the worker itself, to see that foreign engines mean the same."""

    name = "processes"
    is_foreign = False


class Threads(Place):
    """Threads of one process."""

    name = "threads"
    is_foreign = False
    lacks: ClassVar[dict[str, str]] = {
        "test_what_is_printed_below_python_is_in_the_log": "what C code or a child process prints is in the worker's log",
        "test_a_crash_says_where_it_was": "it is in the worker's log",
    }


class Inline(Place):
    """A worker that runs functions itself, one after the other."""

    name = "inline"
    is_foreign = False
    room = 1


class OnRedis(Place):
    """What all engines on Redis share: a server of its own, on a Unix socket."""

    tool = ("redis-server", "redis")

    @property
    def socket(self) -> str:
        """The path of the socket."""
        return f"{self.folder}/redis.sock"

    def broker_command(self) -> list[str]:
        """As `Place`."""
        return ["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "yes", "--appendfsync", "always",
                "--dir", str(self.folder), "--daemonize", "no"]  # fmt: skip

    def broker_answers(self) -> bool:
        """As `Place`."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.socket)
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False


class Rq(OnRedis):
    """RQ with two workers."""

    name = "rq"

    @property
    def url(self) -> str:
        """As `Place`."""
        return f"rq+unix://{self.socket}"

    def worker_command(self) -> list[str]:
        """As `Place`."""
        return [sys.executable, "-m", "rq.cli", "worker", "nbtasks", "--url", f"unix://{self.socket}"]

    def workers_listen(self) -> bool:
        """As `Place`."""
        import redis
        import rq

        with redis.Redis(unix_socket_path=self.socket) as client:
            return len([one for one in rq.Worker.all(connection=client) if one.get_state() == "idle"]) >= len(
                self.workers
            )


class Celery(OnRedis):
    """A Celery worker with two processes."""

    name = "celery"
    count = 1
    pool = "prefork"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environ["NBTASKS_ENGINE"] = self.url

    @property
    def url(self) -> str:
        """As `Place`."""
        return f"celery+unix://{self.socket}"

    def worker_command(self) -> list[str]:
        """As `Place`."""
        return [sys.executable, "-m", "celery", "-A", "nbtasks.engines.celery", "worker", "--pool", self.pool, "-c", "2",
                "-n", f"w{self._logs}@%h", "--without-mingle"]  # fmt: skip

    def workers_listen(self) -> bool:
        """As `Place`."""
        import redis

        with redis.Redis(unix_socket_path=self.socket) as client:
            clients = [one for one in client.client_list() if one["name"] == "nbtasks-celery" and one["cmd"] == "brpop"]
        return len(clients) >= len(self.workers)


class CeleryAmqp(Celery):
    """The same over RabbitMQ: Debian's, with all that is its own in the folder."""

    name = "celery-amqp"
    tool = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq")  # that on the path is for the one server of the host
    birth = 90.0

    def __init__(self, folder: Path) -> None:
        self.port, self.epmd = free_port(), free_port()
        super().__init__(folder)
        self.environ |= {
            "HOME": str(folder), "ERL_EPMD_PORT": str(self.epmd), "ERL_EPMD_ADDRESS": "127.0.0.1", "RUNNING_UNDER_SYSTEMD": "1",
            "RABBITMQ_NODENAME": f"nbtasks{self.port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port), "RABBITMQ_DIST_PORT": str(free_port()), "RABBITMQ_MNESIA_BASE": str(folder),
            "RABBITMQ_LOG_BASE": str(folder), "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_ENABLED_PLUGINS": "",
        }  # fmt: skip

    @property
    def url(self) -> str:
        """As `Place`."""
        return f"celery+amqp://guest:guest@127.0.0.1:{self.port}//"

    def broker_command(self) -> list[str]:
        """As `Place`."""
        return [os.path.realpath(self.tool[0])]

    def broker_answers(self) -> bool:
        """As `Place`."""
        import amqp

        with contextlib.suppress(OSError, amqp.AMQPError), amqp.Connection(f"127.0.0.1:{self.port}", connect_timeout=2):
            return True
        return False

    def workers_listen(self) -> bool:
        """As `Place`."""
        import amqp

        with amqp.Connection(f"127.0.0.1:{self.port}") as connection:
            try:
                return bool(
                    connection.channel().queue_declare("nbtasks", passive=True).consumer_count >= len(self.workers)
                )
            except amqp.NotFound:
                return False

    def close(self) -> None:
        """As `Place`; Erlang's register of names has gone into the background."""
        super().close()
        subprocess.run(["epmd", "-port", str(self.epmd), "-kill"], capture_output=True, env=self.environ, check=False)


class HueySqlite(Place):
    """Huey on a file. Its workers are threads of one consumer; instead of a broker that ends there is a file that is locked."""

    name = "huey-sqlite"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._threads = self._consumers = 0
        self._lock: sqlite3.Connection | None = None

    @property
    def url(self) -> str:
        """As `Place`."""
        return f"huey+sqlite://{self.folder}/huey.db"

    def stop_broker(self, number: int = signal.SIGKILL) -> None:
        """As `Place`."""
        self._lock = sqlite3.connect(f"{self.folder}/huey.db", isolation_level=None, timeout=20)
        self._lock.execute("begin exclusive")

    def start_broker(self) -> None:
        """As `Place`."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def start_workers(self, count: int = 0, **environ: str) -> None:
        """As `Place`."""
        self._threads = count or self.count
        self._consumers += 1
        super().start_workers(1, **environ)

    def refresh(self) -> None:
        """As `Place`."""
        if self.broker is not None and self.broker.poll() is not None:
            self.start_broker()
        if self._threads != self.count or not self.workers or self.workers[0].poll() is not None:
            self.kill_workers()
            self.start_workers()

    def worker_command(self) -> list[str]:
        """As `Place`."""
        self.environ["NBTASKS_ENGINE"] = self.url
        command = [sys.executable, "-m", "huey.bin.huey_consumer", "nbtasks.engines.huey.huey"]
        return [*command, "-w", str(self._threads)]

    def workers_listen(self) -> bool:
        """As `Place`."""
        return self.logs().count("Huey consumer started with") >= self._consumers


class HueyRedis(OnRedis, HueySqlite):
    """The same on Redis."""

    name = "huey-redis"
    stop_broker, start_broker = Place.stop_broker, Place.start_broker

    @property
    def url(self) -> str:
        """As `Place`."""
        return f"huey+unix://{self.socket}"


class Dask(Place):
    """A Dask scheduler that has no nbtasks, and two workers with one thread each."""

    name = "dask"
    lacks: ClassVar[dict[str, str]] = {
        "test_tasks_outlive_a_restart_of_the_broker": "What a Dask scheduler holds ends with it. Such tasks are delivered again."
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()
        self.environ |= {"DASK_TEMPORARY_DIRECTORY": str(folder), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}

    def start_broker(self) -> None:
        """As `Place`; workers end with their scheduler, so there are others afterwards."""
        super().start_broker()
        if self.workers:
            self.kill_workers()
            self.start_workers()

    @property
    def address(self) -> str:
        """The scheduler's, as Dask writes it."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """As `Place`."""
        return f"dask://127.0.0.1:{self.port}"

    def broker_command(self) -> list[str]:
        """As `Place`."""
        code = "import sys; sys.modules['nbtasks'] = None; from distributed.cli.dask_scheduler import main; main()"
        return [sys.executable, "-c", code, "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]

    def broker_answers(self) -> bool:
        """As `Place`."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def worker_command(self) -> list[str]:
        """As `Place`."""
        return [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-dashboard",
                "--host", "127.0.0.1"]  # fmt: skip

    def workers_listen(self) -> bool:
        """As `Place`."""
        return all(self.has_said(worker, "Registered to:") for worker in self.workers)


PLACES: list[type[Place]] = [Processes, Threads, Inline, Dask, Celery, CeleryAmqp, Rq, HueySqlite, HueyRedis]


@contextlib.contextmanager
def opened(kind: type[Place], home: str) -> Iterator[Place]:
    """A place that has started, with the key in `home`.

    In a folder with a short path, for a socket has no room for a long one.
    """
    program, target = kind.tool
    if program and shutil.which(program) is None:
        pytest.skip(f"{program} is not here: make {target}")
    folder = Path(tempfile.mkdtemp(prefix="nbe-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", f"{home}/state")
        patch.setenv("XDG_CONFIG_HOME", f"{home}/config")
        patch.setenv("NBTASKS_HOST_DIR", str(folder / "host"))
        config.reset()
        keys.load_key()  # the far side must find one
        place = kind(folder)
        try:
            yield place.start()
        finally:
            place.close()
            shutil.rmtree(folder, ignore_errors=True)
    config.reset()


class Desk:
    """A queue with a worker that uses the engine of a place."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.queue = Queue.open(str(folder / ".nbtasks"))
        self.worker: Worker | None = None

    def start(self, *options: str, **environ: str) -> Worker:
        """Start the worker, and wait until it serves the queue."""
        self.worker = Worker(self.queue, "-e", self.place.url, "-w", "2", *options, environ=environ)
        self.worker.wait_for("engine ", 40)
        return self.worker

    def is_open(self) -> bool:
        """Whether its worker lives."""
        return self.worker is not None and self.worker.process.poll() is None

    def close(self) -> None:
        """End it, with all that it has started."""
        if self.worker is not None:
            self.worker.stop()
        stop_workers(self.queue)


def use(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process submit to the queue of `desk`, and start no worker of its own."""
    monkeypatch.setenv("NBTASKS_QUEUE", desk.queue.root)
    monkeypatch.setenv("NBTASKS_HOST_DIR", str(desk.folder / "host"))
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    config.reset()
