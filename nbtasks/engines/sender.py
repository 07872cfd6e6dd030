"""What the far side sends: packets in order, tried again while the channel is down; and the output files they are made of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

from nbtasks.engines import wire
from nbtasks.engines.foreign import FarChannel
from nbtasks.errors import EngineError
from nbtasks.queue.layout import EVENTS, LOG, PROGRESS

_SHORTEST, _LONGEST = 0.05, 2.0  # seconds between two tries
_READ = 256 << 10  # bytes of a file that are sent at once
_OFTEN = 1 << 20  # of one look
T = TypeVar("T")


def insist(action: Callable[[], T]) -> T:
    """What `action` gives, tried until the channel answers: finished work is not thrown away because a broker is down."""
    pause = _SHORTEST
    while True:
        try:
            return action()
        except (EngineError, ConnectionError, TimeoutError):
            time.sleep(pause)
            pause = min(_LONGEST, pause * 2)


class Sender:
    """Packs messages of one run and sends them."""

    def __init__(self, bundle: wire.Bundle, key: bytes, channel: FarChannel, token: str) -> None:
        self.bundle, self.key, self.channel, self.token = bundle, key, channel, token
        self.size = 0
        self._messages: list[wire.Message] = []
        self._number = 0
        self._sealed: bytes | None = None  # a packet that could not be sent yet
        self._again, self._pause = 0.0, _SHORTEST
        self._sent = time.monotonic()

    @property
    def is_clear(self) -> bool:
        """Whether nothing waits for the channel: else more need not be read yet."""
        return self._sealed is None

    def put(self, *messages: wire.Message) -> None:
        """Add to the next packet."""
        self._messages += messages
        self.size += sum(len(getattr(message, "data", b"")) for message in messages)

    def keep(self, now: float) -> None:
        """Send what there is; or a sign of life when there was nothing for a while. Does not wait for a channel that is down."""
        if not self._messages and now - self._sent >= self.bundle.order.beat:
            self.put(wire.Alive())
        if now >= self._again and (self._messages or self._sealed):
            try:
                self._send()
                self._pause = _SHORTEST
            except (EngineError, ConnectionError, TimeoutError):
                self._again, self._pause = time.monotonic() + self._pause, min(_LONGEST, self._pause * 2)

    def flush_all(self) -> None:
        """Send everything, however long the channel is down."""
        if self._messages or self._sealed:
            insist(self._send)

    def _send(self) -> None:
        while self._sealed or self._messages:
            self._sealed = self._sealed or self.seal()
            self.channel.send(self.bundle.frame.queue, self.bundle.order.channel, self._sealed)
            self._sealed, self._sent = None, time.monotonic()

    def seal(self) -> bytes:
        """The next packet, of all that was put."""
        frame = self.bundle.frame
        packet = wire.Packet(frame.id, frame.delivery, self.token, self._number, self._messages)
        self._messages, self.size = [], 0
        self._number += 1
        return wire.seal(packet, frame.queue, self.key)


class Tail:
    """What a task writes into its log, events and progress, as it grows."""

    def __init__(self, folder: str, key: str) -> None:
        self._at = {LOG: 0, EVENTS: 0}
        self._paths = {kind: f"{folder}/{key}.{kind}" for kind in (LOG, EVENTS, PROGRESS)}
        self._inode = 0  # of the events, which may be written anew
        self._progress = (0, 0)

    def look(self) -> list[wire.Message]:
        """What is new; not all of it when it is very much."""
        found: list[wire.Message] = []
        for kind in (LOG, EVENTS):
            for _ in range(_OFTEN // _READ):
                if not (more := self._grown(kind)):
                    break
                found.append(more)
        found += self._new_progress()
        return found

    def _grown(self, kind: str) -> wire.Grown | None:
        try:
            with open(self._paths[kind], "rb") as file:
                info = os.fstat(file.fileno())
                anew = kind == EVENTS and self._inode not in (0, info.st_ino)
                if kind == EVENTS:
                    self._inode = info.st_ino
                at = 0 if anew else self._at[kind]
                if info.st_size <= at:
                    return None
                file.seek(at)
                data = file.read() if anew else file.read(_READ)
        except FileNotFoundError:
            return None
        if kind == EVENTS:
            data = data[: data.rfind(b"\n") + 1]  # whole lines
        self._at[kind] = at + len(data)
        return wire.Grown(kind, at, data, anew) if data or anew else None

    def _new_progress(self) -> list[wire.Message]:
        try:
            with open(self._paths[PROGRESS], "rb") as file:
                info = os.fstat(file.fileno())
                if (info.st_ino, info.st_mtime_ns) == self._progress:
                    return []
                self._progress = (info.st_ino, info.st_mtime_ns)
                return [wire.Progress(file.read())]
        except FileNotFoundError:
            return []
