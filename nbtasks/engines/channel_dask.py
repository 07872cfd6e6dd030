"""The channel over Dask: what a task shows is kept by the scheduler, how it ends is its result in Dask.

All names begin with ``nbtasks:UUID:`` of the queue. Published datasets: ``task:CHANNEL:KEY`` is the Dask future (of a batch:
``KEY+KEY…``), held so for a bridge that comes back; ``out:CHANNEL:KEY:NUMBER`` a packet, ``blob:HASH`` a blob. ``permit:NAME`` is a Dask queue with room for
one entry, for each task of Dask: whoever puts one in has taken the place of the one run that may begin, with all that it brings.
The events ``stop:KEY`` and ``terminate:KEY`` ask a run to stop, the topic ``news:CHANNEL`` tells a bridge that there is a packet.
Nothing is installed on the scheduler.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Future, get_client
from distributed.utils import sync

from nbtasks.engines import wire
from nbtasks.engines.foreign import EngineDown, Received, Seen, State

AT_ONCE = 0.05  # seconds that one waits for a permit that another has
_NO_MODULE = "No module named 'nbtasks"
_DOWN = (OSError, RuntimeError, asyncio.CancelledError)


def named(queue: str, kind: str, *names: str | int) -> str:
    """The name of one thing of the queue with that uuid."""
    return ":".join(map(str, ("nbtasks", queue, kind, *names)))


def name_of(keys: Sequence[str]) -> str:
    """What a task of Dask is called there, by the keys that it brings. A batch is another task than its first one alone would be."""
    return f"{keys[0]}+{len(keys)}" if len(keys) > 1 else keys[0]


def key_and_number(name: str) -> tuple[str, int]:
    """The last two parts of the name of a packet."""
    key, number = name.rsplit(":", 2)[1:]
    return key, int(number)


@contextlib.contextmanager
def talking(what: str) -> Generator[None]:
    """Turn what Dask raises when it cannot be reached into EngineDown."""
    try:
        yield
    except _DOWN as error:
        raise EngineDown(f"{what} does not answer ({error or type(error).__name__})") from error


def knock(place: tuple[str | None, int | None], patience: float, *, speaks: bool) -> None:
    """Find out at once whether a scheduler is there, which Dask's client might wait for without end. Raises OSError.

    `speaks`: it does not wait for the other end's certificate, so the first word is its own.
    """
    with socket.create_connection(place, patience) as line:
        try:
            if speaks and not line.recv(1):
                raise ConnectionError("it hangs up")
        except TimeoutError:
            raise ConnectionError("it accepts the connection, but does not speak as Dask does") from None


def words_of(error: Exception) -> str:
    """What Dask says of a task that failed there."""
    words = f"{type(error).__name__}: {error}".partition("\n")[0]
    return f"{words}: pip install 'nbtasks[dask]' on Dask's workers" if _NO_MODULE in words else words


async def take_place(scheduler: Any, queue: str, name: str, token: str) -> bool:
    """Take the place of the one run that may begin, of the task with that name in Dask. False: another has it, or it is over."""
    try:
        await scheduler.queue_put(name=named(queue, "permit", name), data=token, timeout=AT_ONCE)
    except (KeyError, TimeoutError):
        return False
    return True


class Inbox:
    """What has arrived, passed from Dask's thread to the bridge's by a queue and a pipe."""

    def __init__(self) -> None:
        self.fd, self._write = os.pipe()
        for fd in (self.fd, self._write):
            os.set_blocking(fd, False)
        self._items: deque[Received] = deque()

    def put(self, *received: Received) -> None:
        """Add these, and wake the bridge; with none, only wake it."""
        self._items.extend(received)
        with contextlib.suppress(BlockingIOError):  # it is full: it will wake
            os.write(self._write, b".")

    def take(self) -> list[Received]:
        """All of them."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 65536)
        return [self._items.popleft() for _ in range(len(self._items))]

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self.fd)
        os.close(self._write)


@dataclass(eq=False)
class DaskTask:
    """One task of Dask, and the keys that it brings: one, or those of a batch."""

    name: str  # of the dataset that holds it
    future: Any
    keys: tuple[str, ...]
    published: bool = False
    watcher: Any = None
    revoked: bool = False  # we have its permit: nothing of it begins
    left: set[str] = field(init=False)  # those that are not over for us

    def __post_init__(self) -> None:
        """None is over."""
        self.left = set(self.keys)

    @property
    def channel(self) -> str:
        """Of the bridge that has sent it."""
        return self.name.split(":")[3]

    async def revoke(self, scheduler: Any, queue: str) -> None:
        """See to it that nothing of it begins, unless it has."""
        self.revoked = self.revoked or await take_place(scheduler, queue, name_of(self.keys), "")


@dataclass(eq=False)
class Run:
    """A key that the scheduler was given."""

    key: str
    dask_task: DaskTask
    next: int = 0  # number of the packet that is to come
    seen: Seen = field(default_factory=lambda: Seen(State.QUEUED))
    stopped: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # its packets are fetched in their order


Told = tuple[int, list[bytes]]  # how many packets of a key went before, and the last ones


class FarDask:
    """The far side's end, for one run, or a batch, in a thread of a Dask worker.

    Packets of a task that runs for a while are kept by the scheduler, one by one. Those that tell of its end are not sent
    but become its result: Dask brings that to whoever holds the future, without a question of its own.
    """

    def __init__(self, worker: Any, name: str) -> None:
        self.worker = worker
        self.name = name  # of the task in Dask
        self._is_mine: bool | None = None  # whether this is the run that may begin
        self._sent: dict[str, int] = {}  # by key: packets that the scheduler keeps
        self._last: dict[str, list[bytes]] = {}
        self._client: Any = None

    def result(self) -> dict[str, Told]:
        """What the task gives back in Dask, by key. What did not begin is not in it."""
        return {key: (self._sent.get(key, 0), last) for key, last in self._last.items()}

    def _ask(self, question: str, **fields: Any) -> Any:
        return sync(self.worker.loop, getattr(self.worker.scheduler, question), **fields)

    def _reach(self) -> Any:
        """A client of this worker; made when there is something to publish or to fetch, which for most tasks there is not."""
        if self._client is None:
            self._client = get_client()
        return self._client

    def begin(self, queue: str, key: str, token: str) -> bool:
        """As `FarChannel`; but when the connection breaks just then, the answer may be False for all: the task is then lost."""
        return bool(self.begin_all(queue, [key], token))

    def begin_all(self, queue: str, keys: Sequence[str], token: str) -> set[str]:
        """As `BatchChannel`: all, or none."""
        if self._is_mine is None:
            with talking("Dask's scheduler"):
                self._is_mine = sync(self.worker.loop, take_place, self.worker.scheduler, queue, self.name, token)
        return set(keys) if self._is_mine else set()

    def send(self, queue: str, channel: str, packet: bytes) -> None:
        """As `FarChannel`."""
        key, is_end = wire.look_at(packet)
        self.send_all(queue, channel, [packet], last=is_end or key in self._last)

    def send_all(self, queue: str, channel: str, packets: Sequence[bytes], *, last: bool) -> None:
        """As `BatchChannel`."""
        for packet in packets:
            key = wire.look_at(packet)[0]
            if last:
                self._last.setdefault(key, []).append(packet)
            else:
                self._publish(queue, channel, key, packet)

    def _publish(self, queue: str, channel: str, key: str, packet: bytes) -> None:
        number = self._sent.get(key, 0)
        with talking("Dask's scheduler"):
            self._reach().publish_dataset(packet, name=named(queue, "out", channel, key, number), override=True)
            self.worker.log_event(named(queue, "news", channel), [key, number])
        self._sent[key] = number + 1

    def find_stop(self, queue: str, key: str) -> str:
        """As `FarChannel`."""
        with talking("Dask's scheduler"):
            for word in ("stop", "terminate"):
                if not self._ask("event_is_set", name=named(queue, word, key)):
                    return "cancel" if word == "terminate" else ""
        return "terminate"

    def fetch_blob(self, queue: str, hash: str) -> bytes:
        """As `FarChannel`."""
        with talking("Dask's scheduler"):
            data = self._reach().get_dataset(named(queue, "blob", hash), default=None)
            if isinstance(data, Future):
                data = None if data.cancelled() else self._reach().gather([data], errors="skip")
                data = data[0] if data else None
        if data is None:  # its worker is gone, or it was dropped
            raise LookupError(hash)
        return bytes(data)
