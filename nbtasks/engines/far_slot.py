"""Where a task runs on the far side of an engine: a process of its own, spoken to over a socket.

A *runner* runs one bundle after the other; functions may share one, a cell has it alone. It is forked from a *template*
(`far_template`): a clean process without threads and user code.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec

from nbtasks import config, frames, hooks, keyboard, keys, payload, processes, run
from nbtasks.capture import Capture
from nbtasks.engines import blob_cache, far_locks, wire
from nbtasks.engines.base import facts_of_stop
from nbtasks.errors import NbtasksError
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Failure, Outcome
from nbtasks.processes import Identity
from nbtasks.queue.layout import EVENTS, LOG, PROGRESS
from nbtasks.queue.members import Stop
from nbtasks.status import Status
from nbtasks.worker.warm import Warmth

_HEAD = struct.Struct("!cQ")
RUN, NEXT, STARTED, OVER, OUTCOME, LAST_OUTCOME = b"r", b"n", b"s", b"e", b"o", b"O"
STOP = "stop"
_FULL_PAUSE, _FULL_LOOK = 2.0, 0.1
_PR_SET_PDEATHSIG = 1
NESTED = (
    "a task that runs on {where} cannot reach the queue: it is on the machine that submitted it. Submit from there "
    "(a parent's value goes to its children by itself), or return what is left to do"
)


def send(sock: socket.socket, kind: bytes, *chunks: Any) -> None:
    """One message; what it holds may be in several chunks. Raises OSError when the other end is gone."""
    sock.sendall(_HEAD.pack(kind, sum(memoryview(chunk).nbytes for chunk in chunks)))
    for chunk in chunks:
        sock.sendall(chunk)


def receive_head(sock: socket.socket) -> tuple[bytes, int]:
    """Kind and size of the next message; ("", 0) when the other end is gone."""
    return _HEAD.unpack(head) if len(head := receive(sock, _HEAD.size)) == _HEAD.size else (b"", 0)


def receive(sock: socket.socket, size: int) -> bytearray:
    """So many bytes, or fewer when the other end is gone."""
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size and (count := sock.recv_into(view[done:])):
        done += count
    view.release()
    del data[done:]
    return data


class Runner:
    """The process of the tasks. `folder` is its own: logs, and requests to stop."""

    def __init__(self, sock: socket.socket, folder: str) -> None:
        self.sock, self.folder = sock, folder
        self.bundle: wire.Bundle | None = None
        self.stop: Stop | None = None
        config.no_queue(NESTED.format(where=wire.where()))
        hooks.lock_queue = lambda name: far_locks.open_queue(self.bundle, name)
        hooks.slot_name = lambda: self.bundle.order.channel if self.bundle else ""
        keyboard.who = lambda: self.bundle.spec.short if self.bundle else ""
        self.capture = Capture(folder)
        signal.signal(signal.SIGINT, self._on_interrupt)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.warmth = Warmth([0, sock.fileno()])

    def serve(self) -> int:
        """Run what comes until the other end is gone; the exit code (0)."""
        while True:
            kind, size = receive_head(self.sock)
            if kind not in (RUN, NEXT):
                return 0
            key = keys.find_key()
            data = bytes(receive(self.sock, size))
            address = wire.peek(data)
            if kind == NEXT and not _try_take(f"{self.folder}/{address.id}.{address.delivery}"):
                continue  # it was taken back meanwhile
            try:
                bundle = wire.unpack(data, address, key, blob_cache.BlobCache())
            except NbtasksError as error:
                self._send(LAST_OUTCOME, _damaged(address, error), address.queue, [], key)
                return 0
            if not self._run(bundle, key):
                return 0

    def _run(self, bundle: wire.Bundle, key: bytes) -> bool:
        """Run one task, and send its outcome; False when this process must not run another."""
        self.bundle, self.stop = bundle, None
        payload.make_home()
        self.capture.begin(*(f"{self.folder}/{bundle.key}.{kind}" for kind in (LOG, EVENTS, PROGRESS)))
        cpu = time.process_time()
        ended = run.execute(bundle.call(), bundle.ticket, wire.BundleValues(bundle, blob_cache.read), self._emit)
        progress = None
        with contextlib.suppress(OSError):  # its code closed our descriptors
            progress = self.capture.end()
        peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        outcome = msgspec.structs.replace(
            ended.outcome, host=processes.host_name(), progress=progress, cpu=time.process_time() - cpu,
            peak_memory=peak * 1024, **facts_of_stop(ended.outcome, self.stop),
        )  # fmt: skip
        may_go_on = bundle.spec.need == "f" and self.stop is None and self.warmth is not None and self.warmth.restore()
        self.bundle = None
        self._send(OUTCOME if may_go_on else LAST_OUTCOME, outcome, bundle.frame.queue, ended.parts, key)
        return may_go_on

    def _send(self, kind: bytes, outcome: Outcome, queue: str, parts: list[Part], key: bytes) -> None:
        body, named = msgspec.json.encode(outcome), {part.name: part for part in parts}
        frame = Frame("outcome", queue, outcome.id, outcome.delivery, body, named)
        send(self.sock, kind, *frames.to_bytes(frame, key))

    def _emit(self, kind: str, data: dict[str, Any]) -> bool:
        if kind in ("start", "ended"):
            send(self.sock, STARTED if kind == "start" else OVER)
            self.stop = self.stop or self._find_stop()
            return self.stop is None
        if kind == "full":
            return self._wait_for_room()
        return self.capture.emit(kind, data)

    def _wait_for_room(self) -> bool:
        until = time.monotonic() + _FULL_PAUSE
        while time.monotonic() < until:
            if (stop := self._find_stop()) is not None:
                self.stop = stop
                return False
            time.sleep(_FULL_LOOK)
        return True

    def _find_stop(self) -> Stop | None:
        try:
            with open(f"{self.folder}/{STOP}", "rb") as file:
                stop = msgspec.json.decode(file.read(), type=Stop)
        except (OSError, msgspec.DecodeError):
            return None
        is_mine = self.bundle is not None and stop.ticket == self.bundle.key
        # A time limit stops only what it interrupted; a task that made it in time has made it.
        return stop if is_mine and (stop.kind == "cancel" or run.in_user_code()) else None

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        # Only a stop that names the running task counts: a Ctrl-C is meant for somebody else.
        if run.in_user_code() and (stop := self._find_stop()) is not None:
            self.stop = stop
            if run.try_interrupt():
                raise KeyboardInterrupt


def _try_take(path: str) -> bool:
    """Remove the file that says that a task is to be had. Of two that try, one succeeds."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        return True
    return False


def _damaged(address: wire.Address, error: NbtasksError) -> Outcome:
    now = time.time()
    failure = Failure(type=run.type_name(error), message=str(error))
    return Outcome(
        id=address.id, delivery=address.delivery, status=Status.FAILED, kind="damaged", reason=str(error), started=now,
        ended=now, failure=failure, host=processes.host_name(), pid=os.getpid(),
    )  # fmt: skip


class RunnerHandle:
    """A runner as its parent sees it."""

    def __init__(self, pid: int, sock: socket.socket, folder: str, *, is_warm: bool = False) -> None:
        self.is_warm = is_warm  # it has run another task before
        self.pid, self.sock, self.folder = pid, sock, folder
        self.given = ""  # the key of what it was given while it was busy
        self.process: Identity | None = None
        self.oom_before: int | None = None
        self.status: int | None = None  # as of waitpid, once it has ended
        # Its socket may be held open by what it has forked: that it died is seen by this.
        self.pidfd = processes.open_pidfd(pid)
        self._poll = select.poll()
        for fd in filter(None, (sock.fileno(), self.pidfd)):
            self._poll.register(fd, select.POLLIN)

    def learn(self) -> None:
        """Look closer at it, for it takes longer: what is needed to end it, and to tell of its end."""
        if self.process is None:
            with contextlib.suppress(ProcessLookupError):
                self.process = processes.identify(self.pid)
            self.oom_before = processes.oom_kills()

    def give_next(self, key: str, data: bytes) -> None:
        """Have it go on with this bundle when what it runs has ended. Raises OSError."""
        os.close(os.open(f"{self.folder}/{key}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        send(self.sock, NEXT, data)
        self.given = key

    def try_take_back(self) -> bool:
        """Take back what it was given; False when it has begun with that."""
        if not _try_take(f"{self.folder}/{self.given}"):
            return False
        self.given = ""
        return True

    def kill_all(self) -> None:
        """Kill it and all that it has started."""
        root = self.process or (0 if self.status is not None else self.pid)
        processes.kill_tree(root, self.mark)

    @property
    def mark(self) -> str:
        """By which all that descends from it is found."""
        return os.path.basename(self.folder)

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it says something, or dies, within so many seconds."""
        return bool(self._poll.poll(None if timeout is None else timeout * 1000))

    def receive(self, size: int) -> bytearray:
        """So many bytes, or fewer when it has died."""
        data = bytearray(size)
        view, done = memoryview(data), 0
        while done < size:
            ready = {fd for fd, _ in self._poll.poll()}
            count = self.sock.recv_into(view[done:]) if self.sock.fileno() in ready else 0
            if not count:
                break
            done += count
        view.release()
        del data[done:]
        return data

    def receive_head(self) -> tuple[bytes, int]:
        """Kind and size of its next message; ("", 0) when it has died."""
        return _HEAD.unpack(head) if len(head := self.receive(_HEAD.size)) == _HEAD.size else (b"", 0)

    def close(self) -> None:
        """Let go of it; a runner that waits for more then leaves."""
        self.sock.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def fork_runner(folder: str, drop: Callable[[], None]) -> RunnerHandle:
    """Fork a runner, which serves until its socket is closed. `drop` closes in it what is not its own."""
    ours, its = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        its.close()
        return RunnerHandle(pid, ours, folder)
    code = 1
    try:
        ours.close()
        drop()
        _settle_in(parent, os.path.basename(folder))
        code = Runner(its, folder).serve()
    except BaseException:  # never on into the engine's own code
        with contextlib.suppress(Exception):
            traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _settle_in(parent: int, mark: str) -> None:
    os.setsid()
    if sys.platform.startswith("linux"):
        # Bound to the thread that forked, of which a template has one.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in (signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    processes.mark_self(mark)
