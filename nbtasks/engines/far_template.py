"""The template of the far side: a clean process, without threads and user code, from which the processes of tasks are forked.

``python -m nbtasks.engines.far_template FD`` serves the one process at the other end of that socket and ends with it.
``… PATH PID`` listens at a path and serves one client after the other, until the process PID has ended: for engines that make a
new process for each job (RQ), so that functions find a warm one all the same.

A client asks for a runner (MAKE, with the need of the task), gets its process id, folder and socket (MADE), and says at the
end that it may be kept (KEEP); else it is ended, and the client is told how it did (ENDED). A client that goes without a word
takes its runner along.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile

from nbtasks import processes, sources
from nbtasks.engines import far_slot
from nbtasks.engines.far_slot import RunnerHandle

RECORD = struct.Struct("!cqq")
MAKE, KEEP, MADE, ENDED = b"n", b"k", b"m", b"x"


class Template:
    """The process that forks. It ends when `owner` (the descriptor of a process) has ended and no client is left."""

    def __init__(self, clients: list[socket.socket], listener: socket.socket | None, owner: int | None) -> None:
        self.clients = {client.fileno(): client for client in clients}
        self.listener, self.owner = listener, owner
        self.runners: dict[int, RunnerHandle] = {}  # by their descriptor
        self.users: dict[int, int] = {}  # descriptor of a runner: that of its client
        self.poll = select.poll()
        for fd in (owner, *self.clients, listener.fileno() if listener is not None else None):
            if fd is not None:
                self.poll.register(fd, select.POLLIN)

    def work(self) -> int:
        """Serve until there is nobody left to be served; the exit code (0)."""
        while self.owner is not None or self.clients:
            ready = {fd for fd, _ in self.poll.poll()}
            for fd in ready & self.runners.keys():
                self._reap(fd)
            for fd in ready & self.clients.keys():
                self._serve(fd)
            if self.listener is not None and self.listener.fileno() in ready:
                client, _ = self.listener.accept()
                self.clients[client.fileno()] = client
                self.poll.register(client, select.POLLIN)
            if self.owner in ready:
                self.poll.unregister(self.owner)
                self.owner = None
        for runner in self.runners.values():
            self._end(runner)
        return 0

    def _serve(self, fd: int) -> None:
        client = self.clients[fd]
        word, need = b"", b""
        with contextlib.suppress(OSError):
            word, need = client.recv(1), client.recv(1)
        if word == MAKE:
            with contextlib.suppress(OSError):
                self._give(client, self._idle() if need == b"f" else None)
        elif word == KEEP:
            self.users = {runner: user for runner, user in self.users.items() if user != fd}
        else:
            for runner in [runner for runner, user in self.users.items() if user == fd]:
                self._end(self.runners[runner])
            self.poll.unregister(fd)
            del self.clients[fd]
            client.close()

    def _idle(self) -> RunnerHandle | None:
        return next((runner for fd, runner in self.runners.items() if fd not in self.users), None)

    def _give(self, client: socket.socket, runner: RunnerHandle | None) -> None:
        is_warm = runner is not None
        if runner is None:
            folder = tempfile.mkdtemp(prefix="nbtasks-")
            runner = far_slot.fork_runner(folder, self._close_all)
            assert runner.pidfd is not None
            self.runners[runner.pidfd] = runner
            self.poll.register(runner.pidfd, select.POLLIN)
        assert runner.pidfd is not None
        self.users[runner.pidfd] = client.fileno()
        path = os.fsencode(runner.folder)
        kind = MADE if not is_warm else MADE.upper()
        socket.send_fds(client, [RECORD.pack(kind, runner.pid, len(path)) + path], [runner.sock.fileno()])

    def _close_all(self) -> None:
        """In a new runner: what is not its own."""
        for sock in (*self.clients.values(), *([self.listener] if self.listener is not None else [])):
            sock.close()
        for runner in self.runners.values():
            runner.close()
        if self.owner is not None:
            os.close(self.owner)

    def _reap(self, fd: int) -> None:
        runner = self.runners.pop(fd)
        self.poll.unregister(fd)
        status = os.waitpid(runner.pid, 0)[1]
        client = self.clients.get(self.users.pop(fd, -1))
        if client is not None:
            with contextlib.suppress(OSError):
                client.sendall(RECORD.pack(ENDED, runner.pid, status))
        else:
            shutil.rmtree(runner.folder, ignore_errors=True)
        runner.close()

    def _end(self, runner: RunnerHandle) -> None:
        runner.kill_all()


def listen(path: str) -> socket.socket | None:
    """A socket that listens at `path`, None when another has it already."""
    listener = socket.socket(socket.AF_UNIX)
    hidden = f"{path}.{os.getpid()}"
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(hidden)}")  # for a long path has no room there
        listener.listen()
        os.link(hidden, path)
        return listener
    except FileExistsError:
        listener.close()
        return None
    finally:
        os.close(folder)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)


def connect(path: str) -> socket.socket:
    """A connection to who listens at `path`. Raises OSError when nobody does."""
    sock = socket.socket(socket.AF_UNIX)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        sock.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        return sock
    except OSError:
        sock.close()
        raise
    finally:
        os.close(folder)


def main(arguments: list[str]) -> int:
    """Serve as the arguments say; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sources.look()  # here, and not in each of the processes that are forked
    hmac.digest(b"key", b"data", "sha256")
    hashlib.sha256(b"data").hexdigest()
    if len(arguments) == 1:
        return Template([socket.socket(fileno=int(arguments[0]))], None, None).work()
    path, pid = arguments[0], int(arguments[1])
    owner = processes.open_pidfd(pid)
    listener = listen(path)
    if listener is None or owner is None:
        return 0
    try:
        return Template([], listener, owner).work()
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
