"""Short tasks that came together (see `batches`), on the far side: one after the other, each as if it had come alone.

What tells of their ends goes out together. As soon as they take longer than was thought, it goes out at once, and what has not
begun goes back.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable

from nbtasks.engines import wire
from nbtasks.engines.courier import Courier, insist
from nbtasks.engines.far_slot import Hand
from nbtasks.engines.foreign import BatchChannel
from nbtasks.errors import EngineError

_PATIENCE = 0.25  # seconds after which it was no batch of short tasks
_MUCH = 256 << 10  # bytes that are kept back at most


class Batch:
    """Bundles of one message, signed with `key`. To those that run them it is the channel."""

    def __init__(
        self, bundles: list[wire.Bundle], key: bytes, channel: BatchChannel, token: str, *, ahead: bool
    ) -> None:
        self.key, self.channel, self.token = key, channel, token
        self.queue, self.address = bundles[0].frame.queue, bundles[0].order.channel
        self._ahead = ahead  # the process of one may be given the next one
        self._hand: Hand | None = None  # which was given the next one
        self._began = time.monotonic()
        keys = [bundle.key for bundle in bundles]
        mine = insist(lambda: channel.begin_all(self.queue, keys, token))
        self._waiting = deque(bundle for bundle in bundles if bundle.key in mine)
        self._kept: list[bytes] = []
        self._size = 0
        self._is_short = True

    def run(self, run_one: Callable[[wire.Bundle], None]) -> None:
        """Run them by `run_one`, and see to it that all is told."""
        try:
            while self._waiting:
                bundle, self._hand = self._waiting.popleft(), None
                run_one(bundle)
        finally:
            self._give_back()
            insist(lambda: self._flush(last=True))

    def has_started(self, hand: Hand) -> None:
        """One of them runs: its process is given the next one too, so that it need not wait for us."""
        self._hand = None
        if self._ahead and self._waiting and self._is_short:
            with contextlib.suppress(OSError):  # then it gets it in its turn
                hand.give_next(self._waiting[0].key, self._waiting[0].data)
                self._hand = hand

    def look(self) -> None:
        """One of them runs, and it is not over soon. Does not wait for a channel that is down."""
        if time.monotonic() - self._began > _PATIENCE:
            self._is_short = False
            self._give_back()
            with contextlib.suppress(EngineError, ConnectionError, TimeoutError):
                self._flush(last=False)

    def _give_back(self) -> None:
        hand = self._hand
        has_begun = hand is not None and hand.given != "" and not hand.try_take_back()
        while len(self._waiting) > has_begun:
            bundle = self._waiting.pop()
            courier = Courier(bundle, self.key, self, self.token)
            courier.put(wire.Lacking(""))
            self._keep(courier.seal())

    def _keep(self, packet: bytes) -> None:
        self._kept.append(packet)
        self._size += len(packet)

    def _flush(self, *, last: bool) -> None:
        if self._kept or last:
            self.channel.send_all(self.queue, self.address, self._kept, last=last)
            self._kept, self._size = [], 0

    # As `FarChannel`.

    def begin(self, queue: str, key: str, token: str) -> bool:
        """They all have."""
        return True

    def send(self, queue: str, channel: str, packet: bytes) -> None:
        """As `FarChannel`; what tells of an end may wait a moment for the others."""
        if self._is_short and self._size < _MUCH and wire.look_at(packet)[1]:
            self._keep(packet)
            return
        self._flush(last=False)  # what came before it goes before it
        self.channel.send(queue, channel, packet)

    def find_stop(self, queue: str, key: str) -> str:
        """As `FarChannel`."""
        return self.channel.find_stop(queue, key)

    def fetch_blob(self, queue: str, hash: str) -> bytes:
        """As `FarChannel`."""
        return self.channel.fetch_blob(queue, hash)
