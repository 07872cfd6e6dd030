"""Where the processes of tasks come from on the far side: forked from a process that lives for one job, or from a template."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Protocol

from nbtasks import processes
from nbtasks.engines import far_slot, wire
from nbtasks.engines.far_slot import ENDED, MADE, MAKE, RECORD, Hand

_LAST = 5.0  # seconds in which a runner that was told to leave does so


class Nursery(Protocol):
    """Makes runners for one thread of the engine's process."""

    def start(self, bundle: wire.Bundle, key: bytes) -> Hand:
        """A runner that runs this bundle. Raises OSError."""
        ...

    def over(self, hand: Hand, how: bytes) -> None:
        """Its task is over: OUTCOME, it may run another; LAST_OUTCOME, it may not; "", it died, or is to.

        Unless it is kept, `hand.status` says afterwards how it ended.
        """
        ...


def new_folder() -> str:
    """A folder for one runner; its name is the mark of all that descends from it."""
    return tempfile.mkdtemp(prefix="nbtasks-")


class Forks:
    """Forks from this very process. For engines that have made it for one job, such as RQ."""

    def start(self, bundle: wire.Bundle, key: bytes) -> Hand:
        """As `Nursery`."""
        return far_slot.fork_runner(new_folder(), lambda runner: runner.run(bundle, key))

    def over(self, hand: Hand, how: bytes) -> None:
        """As `Nursery`: it is not kept."""
        hand.close()
        if how:  # its outcome is here; nothing is lost with it
            with contextlib.suppress(ProcessLookupError):
                os.kill(hand.pid, signal.SIGKILL)
        hand.status = _waited(hand.pid)


def _waited(pid: int) -> int:
    deadline = time.monotonic() + _LAST
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


class Template:
    """Runners from a clean process of our own, for engines whose process is warm, has threads, or both.

    One for each thread of the engine's process. Functions share a runner while it stays sound.
    """

    def __init__(self) -> None:
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._warm: Hand | None = None

    def start(self, bundle: wire.Bundle, key: bytes) -> Hand:
        """As `Nursery`."""
        hand, self._warm = self._warm, None
        if hand is not None and (bundle.spec.need != "f" or not self._try_run(hand, bundle, key)):
            self.over(hand, far_slot.LAST_OUTCOME)
            hand = None
        if hand is None:
            hand = self._make()
            if not self._try_run(hand, bundle, key):
                raise OSError("its process ended at once")
        return hand

    def _try_run(self, hand: Hand, bundle: wire.Bundle, key: bytes) -> bool:
        hand.oom_before = processes.oom_kills()
        try:
            far_slot.send(hand.sock, far_slot.RUN, bundle.data)
        except OSError:
            return False
        return True

    def _make(self) -> Hand:
        for _ in range(2):
            control = self._control or self._open()
            folder = new_folder()
            try:
                far_slot.send(control, MAKE, folder.encode())
                kind, pid, _, fds = self._record(control)
                while kind != MADE:  # one that died while it had nothing to do
                    kind, pid, _, fds = self._record(control)
                return Hand(pid, socket.socket(fileno=fds[0]), folder)
            except OSError:
                self.close()
        raise OSError("the process that makes others for tasks cannot be started; its error is in this worker's log")

    def _open(self) -> socket.socket:
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nbtasks.engines.far_slot", str(its.fileno())], pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL, env={**os.environ, **processes.mark_environment()},
                start_new_session=True,
            )  # fmt: skip
        self._control = ours
        return ours

    def _record(self, control: socket.socket) -> tuple[bytes, int, int, list[int]]:
        data, fds, _, _ = socket.recv_fds(control, RECORD.size, 1)
        while data and len(data) < RECORD.size:
            data += control.recv(RECORD.size - len(data))
        if not data:
            raise ConnectionResetError("it ended")
        kind, pid, status = RECORD.unpack(data)
        return kind, pid, status, list(fds)

    def over(self, hand: Hand, how: bytes) -> None:
        """As `Nursery`: one that is sound is kept for the next function."""
        if how == far_slot.OUTCOME:
            self._warm = hand
            return
        hand.close()
        if self._control is None:
            return
        try:
            while hand.status is None:
                self._control.settimeout(_LAST)
                kind, pid, status, _ = self._record(self._control)
                if kind == ENDED and pid == hand.pid:
                    hand.status = status
        except TimeoutError:
            processes.kill_tree(hand.pid, hand.mark)
            hand.status = signal.SIGKILL
        except OSError:  # the template went, and took it along
            hand.status = signal.SIGKILL
            self.close()

    def close(self) -> None:
        """End the template, and with it its runners."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.wait()
        self._control = self._process = self._warm = None
