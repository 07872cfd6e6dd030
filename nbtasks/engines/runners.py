"""Where the processes of tasks come from on the far side: a template, of this process's own or shared with those after it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Protocol

from nbtasks import processes
from nbtasks.engines import blob_cache, far_slot, far_template, wire
from nbtasks.engines.far_slot import RunnerHandle
from nbtasks.engines.far_template import ENDED, KEEP, MADE, MAKE, RECORD

_LAST = 5.0  # seconds in which a runner that was told to leave does so
_START = 20.0  # seconds in which a template is there
_TRIES = 3
_MODULE = [sys.executable, "-m", "nbtasks.engines.far_template"]


class Runners(Protocol):
    """Makes runners for one thread of the engine's process."""

    keeps: bool  # the runner that has run a function is the one that runs the next

    def start(self, bundle: wire.Bundle, slow: Callable[[], object]) -> RunnerHandle:
        """A runner that runs this bundle; `slow` is called when that will take a while. Raises OSError."""
        ...

    def over(self, runner: RunnerHandle, how: bytes) -> None:
        """Its task is over: OUTCOME, it may run another; LAST_OUTCOME, it may not; "", it died, or is to.

        Unless it is kept, `runner.status` says afterwards how it ended.
        """
        ...


class TemplateRunners:
    """Runners from a template of our own: for engines whose process is warm, has threads, or both.

    One for each thread of the engine's process. Functions share a runner while it stays sound, a cell has one alone.
    """

    keeps = True  # the runner of the last function is kept here, so that the next one need not ask for it

    def __init__(self) -> None:
        self._warm: RunnerHandle | None = None
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = os.getpid()
        self._slow: Callable[[], object] = int

    def start(self, bundle: wire.Bundle, slow: Callable[[], object]) -> RunnerHandle:
        """As `Runners`."""
        if self._pid != os.getpid():  # this is a fork: the template serves who made it
            self._control, self._process, self._warm, self._pid = None, None, None, os.getpid()
        self._slow = slow
        for _ in range(_TRIES):
            with contextlib.suppress(OSError):
                runner = self._take_warm(bundle) or self._ask(bundle.spec.need)
                with contextlib.suppress(BrokenPipeError):  # a warm one that died while it had nothing to do
                    if runner.given != bundle.key:
                        far_slot.send(runner.sock, far_slot.RUN, bundle.data)
                    runner.given = ""
                    return runner
                self.over(runner, b"")
                continue
            self.close()
        raise OSError(
            "the process from which those of tasks are forked cannot be started; its error is in this worker's log"
        )

    def _take_warm(self, bundle: wire.Bundle) -> RunnerHandle | None:
        if bundle.spec.need != "f" or self._warm is None:
            return None
        runner, self._warm = self._warm, None
        if runner.given not in ("", bundle.key):  # it runs what nobody waits for any more
            self.over(runner, b"")
            return None
        runner.is_warm, runner.oom_before = True, processes.oom_kills()
        return runner

    def _ask(self, need: str) -> RunnerHandle:
        control = self._control = self._control or self._open()
        control.settimeout(_START)
        control.sendall(MAKE + (b"f" if need == "f" else b"c"))
        kind, pid, size, fds = self._record(control)
        while kind not in (MADE, MADE.upper()):
            kind, pid, size, fds = self._record(control)
        folder = os.fsdecode(control.recv(size, socket.MSG_WAITALL))
        return RunnerHandle(pid, socket.socket(fileno=fds[0]), folder, is_warm=kind != MADE)

    def _open(self) -> socket.socket:
        """A connection to the template, which is started for it."""
        self._slow()
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [*_MODULE, str(its.fileno())], pass_fds=[its.fileno()], stdin=subprocess.DEVNULL,
                env={**os.environ, **processes.mark_environment()}, start_new_session=True,
            )  # fmt: skip
        return ours

    def _record(self, control: socket.socket) -> tuple[bytes, int, int, list[int]]:
        data, fds, _, _ = socket.recv_fds(control, RECORD.size, 1)
        while data and len(data) < RECORD.size:
            data += control.recv(RECORD.size - len(data))
        if not data:
            raise ConnectionResetError("the template has ended")
        kind, pid, number = RECORD.unpack(data)
        return kind, pid, number, list(fds)

    def over(self, runner: RunnerHandle, how: bytes) -> None:
        """As `Runners`."""
        if how == far_slot.OUTCOME and self.keeps and self._warm is None:
            self._warm = runner
            return
        runner.close()
        if self._control is None:
            runner.status = signal.SIGKILL
            return
        try:
            if how == far_slot.OUTCOME:
                self._control.sendall(KEEP + b" ")
                return
            self._control.settimeout(_LAST)
            while runner.status is None:
                kind, pid, status, _ = self._record(self._control)
                if kind == ENDED and pid == runner.pid:
                    runner.status = status
        except OSError:  # it takes too long, or the template went; then it is ended with our connection
            runner.kill_all()
            runner.status = signal.SIGKILL
            self.close()

    def close(self) -> None:
        """Let go of the template; one of our own ends, with all its runners."""
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._pid == os.getpid():
            self._process.wait()
        self._control = self._process = self._warm = None


class SharedRunners(TemplateRunners):
    """Runners from a template that serves one process after the other: for engines that make one for each job, such as RQ.

    It lives as long as the process that makes them, our parent.
    """

    keeps = False  # it would end with this process

    def _open(self) -> socket.socket:
        if os.getsid(os.getppid()) != os.getsid(
            0
        ):  # the process that made us was killed: there is nobody to serve after us
            return super()._open()
        owner = processes.identify(os.getppid())
        path = f"{blob_cache.folder()}/{owner.pid}-{owner.start:.0f}.sock"
        with contextlib.suppress(OSError):
            return far_template.connect(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # of one that died
        self._slow()
        self._process = subprocess.Popen(
            [*_MODULE, path, str(owner.pid)], stdin=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **processes.mark_environment()},
        )  # fmt: skip
        deadline = time.monotonic() + _START
        while True:
            try:
                return far_template.connect(path)
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.005)

    def close(self) -> None:
        """Let go of the template. It goes on."""
        if self._control is not None:
            self._control.close()
        self._control = self._process = None
