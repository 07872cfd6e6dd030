"""The far side of an engine: `run` takes a bundle and sees to it that it runs here, once, and that the bridge hears of it.

The engine's own process is only the parent: it verifies, watches, forwards and stops. The task runs in a process of its
own (`far_slot`), so whatever it does to itself is seen and told from here.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import shutil
import signal
import time
from typing import cast

import msgspec

from nbtasks import config, keys, processes
from nbtasks.engines import batches, blob_cache, far_slot, wire
from nbtasks.engines.far_batch import Batch
from nbtasks.engines.far_slot import RunnerHandle
from nbtasks.engines.foreign import BatchChannel, FarChannel
from nbtasks.engines.runners import Runners
from nbtasks.engines.sender import Sender, Tail, insist
from nbtasks.errors import EngineError, FrameForged, NbtasksError
from nbtasks.queue.layout import EVENTS, LOG, PROGRESS
from nbtasks.queue.members import Stop
from nbtasks.run import type_name
from nbtasks.spec import duration_words

_FIRST_LOOK, _LOOK = 0.05, 0.2  # seconds between looks at what was printed
_ASKS = 0.5  # seconds between two looks for a request to stop
_TERM_TO_KILL = 1.0
_SHORT = 0.05  # seconds; what took less had no time to start processes
_PIECE = 1 << 20
_is_warm = False
_log = logging.getLogger("nbtasks")
_FORGED = (
    "the task was not signed with the key of this worker, so nothing of it was unpickled. If it is yours, run `nbtasks key "
    "export FILE` where you submit, and `nbtasks key import FILE` where that worker runs"
)


def run(data: bytes, channel: FarChannel, runners: Runners) -> None:
    """Run the calls in a bundle, or in a batch of them, and send what they show and how they end; returns when that is with the channel.

    `runners` makes the process that runs them. Raises FrameError when `data` is no bundle at all; everything else is told to
    the bridge. A batch needs a `BatchChannel`.
    """
    opened = [found for one in batches.split(data) if (found := _open(one, channel))]
    token = secrets.token_hex(8)
    if not opened:
        return
    only, key = opened[0]
    if len(opened) > 1:
        batch = Batch([bundle for bundle, _ in opened], key, cast("BatchChannel", channel), token, ahead=runners.keeps)
        batch.run(lambda bundle: FarRun(bundle, key, batch, runners, token, batch).run())
    elif insist(lambda: channel.begin(only.frame.queue, only.key, token)):  # else: another run of it has begun
        FarRun(only, key, channel, runners, token).run()


def _open(data: bytes, channel: FarChannel) -> tuple[wire.Bundle, bytes] | None:
    """A bundle, and the key that it was signed with; None when it is not run here, which is told."""
    address = wire.peek(data)
    key: bytes | None = None
    try:
        key = keys.find_key()
        bundle = wire.open_order(data, address, key)
        _check_versions(bundle.order)
        return bundle, key
    except NbtasksError as error:
        why = _FORGED if isinstance(error, FrameForged) else str(error)
        _log.warning("%r is refused: %s", address.id, why)  # the engine itself calls it done
        refusal = wire.Refused(f"refused by {wire.where()}: {why}", type_name(error))
        packet = wire.Packet(address.id, address.delivery, "", 0, [refusal])
        sealed = wire.seal(packet, address.queue, key if isinstance(error, EngineError) else None)
        insist(lambda: channel.send(address.queue, address.channel, sealed))
        return None


def warm() -> None:
    """Do once what every process forked from this one would do otherwise, and what takes long: for the parent of many."""
    global _is_warm
    if not _is_warm:
        _is_warm = True
        config.settings()
        hmac.digest(b"key", b"data", "sha256")  # OpenSSL looks for its providers at the first use
        hashlib.sha256(b"data").hexdigest()


def _check_versions(order: wire.Order) -> None:
    """Raise EngineError when this Python cannot run what that one packed."""
    there, here = order.versions, wire.HERE
    if order.wire != wire.WIRE:
        raise EngineError(
            f"the task comes from nbtasks {there.nbtasks}, this worker has {here.nbtasks}: install the same version at both ends"
        )
    if there.python.split(".")[:2] != here.python.split(".")[:2]:
        raise EngineError(
            f"the task comes from Python {there.python}, this worker has {here.python}: functions of one cannot be loaded by "
            f"another. Start this engine's worker with Python {'.'.join(there.python.split('.')[:2])}"
        )


class FarRun:
    """One delivery, from its process's start to its last packet."""

    def __init__(
        self, bundle: wire.Bundle, key: bytes, channel: FarChannel, runners: Runners, token: str,
        batch: Batch | None = None,
    ) -> None:  # fmt: skip
        self.bundle, self.key, self.channel, self.runners = bundle, key, channel, runners
        self.batch = batch  # of which it is a part
        self.sender = Sender(bundle, key, channel, token)
        self.stop: Stop | None = None
        self.step = 0  # of the ladder: 0 nothing, 1 interrupted, 2 terminated, 3 killed
        self.next_step = 0.0
        self.started = self.deadline = 0.0
        self.asked = self.looked = time.monotonic()
        self.took = 0.0
        self.is_over = False

    def run(self) -> None:
        """Run it to its end, however that comes."""
        runner: RunnerHandle | None = None
        try:
            self.sender.put(wire.Begun(processes.host_name(), os.getpid(), wire.HERE))
            queue = self.bundle.frame.queue
            insist(
                lambda: blob_cache.fill(self.bundle.order.offered, lambda hash: self.channel.fetch_blob(queue, hash))
            )
            runner = self._start()
            while not self._watch(runner, Tail(runner.folder, self.bundle.key)):
                runner = self._start()
        except LookupError as error:
            self._end_with(wire.Lacking(str(error)))
        except OSError as error:
            self._end_with(wire.Refused(f"on {wire.where()}: the task could not be started: {error}"))
        finally:
            if runner is not None:
                self._let_go(runner)

    def _start(self) -> RunnerHandle:
        return self.runners.start(self.bundle, lambda: self.sender.keep(time.monotonic()))

    def _end_with(self, message: wire.Message) -> None:
        self.sender.put(message)
        self.sender.flush_all()

    # Watching.

    def _watch(self, runner: RunnerHandle, tail: Tail) -> bool:
        """See it through. False when a warm process was found dead: the task has not begun, and gets another."""
        pause = _FIRST_LOOK
        while True:
            if not runner.wait(pause):
                self._look(runner, tail)
                pause = _LOOK
                continue
            kind, size = runner.receive_head()
            if kind == far_slot.STARTED:
                self._has_started(runner)
            elif kind == far_slot.OVER:
                self.took, self.deadline = time.monotonic() - self.started, 0.0
                self._forgive(runner)
            else:
                break
            if time.monotonic() - self.looked > _LOOK:
                self._look(runner, tail)
        is_whole = bool(kind) and self._relay(runner, tail, size)
        self.runners.over(runner, kind if is_whole else b"")
        if not is_whole and runner.is_warm and not self.started:
            shutil.rmtree(runner.folder, ignore_errors=True)
            return False
        self.is_over = True
        if not is_whole:
            self._tell_death(runner, tail)
        return True

    def _has_started(self, runner: RunnerHandle) -> None:
        self.started = time.monotonic()
        if self.bundle.spec.timeout is not None:
            self.deadline = self.started + self.bundle.spec.timeout
        if self.batch is not None:
            self.batch.has_started(runner)

    def _look(self, runner: RunnerHandle, tail: Tail) -> None:
        """What is due now and then: output goes out, requests come in, the ladder is climbed."""
        now = self.looked = time.monotonic()
        runner.learn()
        if self.sender.is_clear:
            self.sender.put(*tail.look())
        self.sender.keep(now)
        if self.batch is not None:
            self.batch.look()
        if self.stop is None or self.stop.kind != "cancel":
            self._ask(runner, now)
        if self.deadline and now >= self.deadline and self.stop is None:
            self._start_stopping(
                runner, "timeout", f"timed out after {duration_words(self.bundle.spec.timeout or 0.0)}"
            )
        if self.stop is not None and now >= self.next_step:
            self._climb(runner, now)

    def _ask(self, runner: RunnerHandle, now: float) -> None:
        if now - self.asked < _ASKS:
            return
        self.asked = now
        word = ""
        with contextlib.suppress(OSError, EngineError):  # it does not answer: asked again
            word = self.channel.find_stop(self.bundle.frame.queue, self.bundle.key)
        if word:
            self._start_stopping(runner, "cancel", "")
        if word == "terminate":
            self.step = max(1, self.step)

    # Stopping.

    def _start_stopping(self, runner: RunnerHandle, kind: str, reason: str) -> None:
        self.stop = Stop(self.bundle.key, kind, reason)
        self.step, self.next_step = 0, 0.0
        path = f"{runner.folder}/{far_slot.STOP}"
        with contextlib.suppress(OSError), open(f"{path}.new", "wb") as file:
            file.write(msgspec.json.encode(self.stop))
            file.flush()
            os.rename(f"{path}.new", path)

    def _climb(self, runner: RunnerHandle, now: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self.step == 0:
                os.kill(runner.pid, signal.SIGINT)
                self.next_step = now + self.bundle.spec.grace
            else:
                processes.end_tree(runner.pid, runner.mark, term=self.step == 1)
                self.next_step = now + _TERM_TO_KILL
        self.step = min(2, self.step + 1)

    def _forgive(self, runner: RunnerHandle) -> None:
        """Its code has ended: what is left is to keep its result, and no time limit counts."""
        if self.stop is not None and self.stop.kind == "timeout":
            self.stop = None

    # Ending.

    def _relay(self, runner: RunnerHandle, tail: Tail, size: int) -> bool:
        """Send the outcome on, as it comes. False when its process died over it."""
        while more := tail.look():
            self.sender.put(*more)
            if self.sender.size > _PIECE:
                self.sender.flush_all()
        number = 0
        while True:
            piece = runner.receive(min(size, _PIECE))
            if len(piece) < min(size, _PIECE):
                return False
            size -= len(piece)
            self.sender.put(wire.Piece(number, bytes(piece), last=not size))
            self.sender.flush_all()
            number += 1
            if not size:
                return True

    def _tell_death(self, runner: RunnerHandle, tail: Tail) -> None:
        while more := tail.look():
            self.sender.put(*more)
            if self.sender.size > _PIECE:
                self.sender.flush_all()
        status = runner.status or 0
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        stop = self.stop or Stop("", "")
        self.sender.put(
            wire.Died(
                exit_code=None if number else os.waitstatus_to_exitcode(status), signal=number,
                out_of_memory=number == signal.SIGKILL and runner.oom_before not in (None, processes.oom_kills()),
                kind=stop.kind, reason=stop.reason,
            )
        )  # fmt: skip
        self.sender.flush_all()

    def _let_go(self, runner: RunnerHandle) -> None:
        if not self.is_over:
            self.runners.over(runner, b"")
        if runner.status is not None:
            if self.took >= _SHORT or not self.took:  # what took less had no time to start processes
                runner.kill_all()
            shutil.rmtree(runner.folder, ignore_errors=True)
        else:
            for kind in (LOG, EVENTS, PROGRESS):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{runner.folder}/{self.bundle.key}.{kind}")
