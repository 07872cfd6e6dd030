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
from nbtasks.engines.far_slot import RunnerHandle
from nbtasks.engines.foreign import BatchChannel
from nbtasks.engines.sender import Sender, insist
from nbtasks.errors import EngineError

_PATIENCE = 0.3  # seconds after which it was no batch of short tasks
_MUCH = 256 << 10  # bytes that are kept back at most


class Batch:
    """Bundles of one message, signed with `key`. To those that run them it is the channel.

    While one runs, the next one begins in so far as it is ours and lies with the process that is busy (`ahead`). The others have
    not begun: should we die, somebody else may run them.
    """

    def __init__(
        self, bundles: list[wire.Bundle], key: bytes, channel: BatchChannel, token: str, *, ahead: bool
    ) -> None:
        self.key, self.channel, self.token, self.ahead = key, channel, token, ahead
        self.queue, self.address = bundles[0].frame.queue, bundles[0].order.channel
        self._waiting = deque(bundles)
        self._mine: set[str] = set()  # keys that have begun, here
        self._runner: RunnerHandle | None = None  # which was given the next one
        self._since = time.monotonic()
        self._kept: list[bytes] = []
        self._size = 0
        self._is_short = True

    def run(self, run_one: Callable[[wire.Bundle], None]) -> None:
        """Run them by `run_one`, and see to it that all is told."""
        try:
            while insist(self._has_next):
                bundle, self._runner = self._waiting.popleft(), None
                run_one(bundle)
        finally:
            insist(self._give_back)
            insist(lambda: self._flush(last=True))

    def _has_next(self) -> bool:
        """Whether the first that waits is ours; those that are not are left out. After a while none begins any more."""
        if time.monotonic() - self._since > _PATIENCE:
            self._give_back()
        while self._waiting:
            key = self._waiting[0].key
            if key in self._mine or self.channel.begin(self.queue, key, self.token):
                self._mine.add(key)
                return True
            self._waiting.popleft()
        return False

    def has_started(self, runner: RunnerHandle) -> None:
        """One of them runs: its process is given the next one too, so that it need not wait for us."""
        with contextlib.suppress(OSError, EngineError):  # then it gets it in its turn
            if self._is_short and self._has_next() and self.ahead:
                runner.give_next(self._waiting[0].key, self._waiting[0].data)
                self._runner = runner

    def look(self) -> None:
        """One of them runs, and it is not over soon. Does not wait for a channel that is down."""
        if time.monotonic() - self._since > _PATIENCE:
            self._is_short = False
            with contextlib.suppress(OSError, EngineError):
                self._give_back()
                self._flush(last=False)

    def _give_back(self) -> None:
        """What waits goes back, but for what its process has begun with."""
        has_begun = self._runner is not None and self._runner.given != "" and not self._runner.try_take_back()
        rest = list(self._waiting)[has_begun:]
        others = [bundle.key for bundle in rest if bundle.key not in self._mine]
        if others:  # nobody else may begin with it from now on
            self._mine |= self.channel.begin_all(self.queue, others, self.token)
        for bundle in rest:
            if bundle.key in self._mine:
                sender = Sender(bundle, self.key, self, self.token)
                sender.put(wire.Lacking(""))
                self._keep(sender.seal())
            self._waiting.pop()

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
