"""One delivery that is at a foreign engine: what came of it so far, written into the files of the task as a slot would."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import Any

import msgspec

from nbtasks import config, logs
from nbtasks.engines import wire
from nbtasks.engines.foreign import Shipment
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import EVENTS, LOG, PROGRESS
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.tokens import Taken
from nbtasks.spec import Spec

_WRITE = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)


class BridgedTask:
    """A claimed ticket, the keys that the engine may know it by, and what its packets have brought.

    One that was taken over from another bridge is known to the engine by an earlier delivery than that of its ticket;
    by which is seen from the first packet or answer.
    """

    def __init__(self, spec: Spec, ticket: Ticket, keys: tuple[str, ...] = ()) -> None:
        self.spec, self.ticket = spec, ticket
        self.keys = self.all_keys = keys or (wire.key_of(ticket),)
        self.shipment: Shipment | None = None  # until the engine has taken it
        self.in_batch = False  # it travels with others
        self.offers: tuple[str, ...] = ()
        self.taken: Taken | None = None  # the tokens that it holds
        self.is_local = spec.kind == "map"  # it makes tasks: that can be done only where the queue is
        self.doubt = False  # the engine was away meanwhile, and may have forgotten
        self.begun = False
        self.is_running = False  # so the engine says
        self.token = ""
        self.number = 0  # of the next packet
        self.sent_at = self.heard = time.monotonic()
        self.versions: wire.Versions | None = None
        self.stop_word = ""
        self.pieces: list[bytes] = []
        self.receipts: list[Any] = []  # of packets that must stay with the engine until the outcome is written
        self.ending: wire.Message | None = None  # Died or Refused, or the last Piece
        self._trimmed = 0

    @property
    def key(self) -> str:
        """What the engine knows it by, as far as it is known."""
        return self.keys[0]

    def settle_key(self, key: str) -> None:
        """This is the one."""
        self.keys = (key,)

    def take(self, queue: Queue, packet: wire.Packet) -> bool:
        """Take in a packet; True when it need not stay with the engine. What came before, or from another run, is nothing."""
        if self.begun and packet.token != self.token:
            return True
        if packet.token == self.token and packet.number < self.number:
            return True
        self.token, self.number, self.heard = packet.token, packet.number + 1, time.monotonic()
        if not self.begun:
            self.settle_key(packet.key)
        may_go = True
        for message in packet.messages:
            may_go = self._take(queue, message) and may_go
        return may_go

    def _take(self, queue: Queue, message: wire.Message) -> bool:
        match message:
            case wire.Begun():
                self.begun, self.versions = True, message.versions
            case wire.Grown():
                with contextlib.suppress(OSError):  # a full disk costs this piece of the log, not the task
                    self._write(queue, message)
            case wire.Progress():
                with contextlib.suppress(OSError):
                    queue.disk.replace(self.path(queue, PROGRESS), message.data)
            case wire.Piece():
                del self.pieces[message.number :]
                self.pieces.append(message.data)
                if message.last:
                    self.ending = message
                return False
            case wire.Died() | wire.Refused() | wire.Lacking():
                self.ending = message
                return False
        return True

    def path(self, queue: Queue, kind: str) -> str:
        """A file of this delivery."""
        return queue.layout.file(self.ticket.id, self.ticket.delivery, kind)

    def _write(self, queue: Queue, grown: wire.Grown) -> None:
        if grown.file not in (LOG, EVENTS):
            return
        path = self.path(queue, grown.file)
        if grown.anew:
            queue.disk.replace(path, grown.data)
            return
        fd = os.open(path, _WRITE, 0o600)
        try:
            if grown.data.strip(b"\0"):  # what was left out there is left out here: a hole
                os.pwrite(fd, grown.data, grown.at)
            if grown.file == LOG:
                self._trim(fd)
        finally:
            os.close(fd)

    def _trim(self, fd: int) -> None:
        limit = config.settings().log_limit
        if os.fstat(fd).st_size > limit + self._trimmed + limit // 8:
            with contextlib.suppress(OSError):
                self._trimmed = logs.trim(fd, limit, self._trimmed)

    def copy_files(self, queue: Queue, delivery: int) -> None:
        """Go on from what an earlier delivery has shown: its bridge may not be as dead as it seems, so not in its files."""
        for kind in (LOG, EVENTS, PROGRESS):
            with contextlib.suppress(OSError):
                shutil.copyfile(queue.layout.file(self.ticket.id, delivery, kind), self.path(queue, kind))

    def progress(self, queue: Queue) -> dict[str, Any] | None:
        """The last bars, or None."""
        with contextlib.suppress(OSError, msgspec.DecodeError):
            return msgspec.json.decode(queue.disk.read(self.path(queue, PROGRESS)), type=dict[str, Any])
        return None
