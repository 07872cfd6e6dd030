"""Dask: each delivery is a task of a Dask cluster; ``dask worker tcp://…`` runs them, with nbtasks installed and nothing else.

A lane other than ``default`` is a resource of Dask's workers: ``--resources nbtasks-gpu=1`` serves the lane ``gpu``, one task at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import distributed

from nbtasks.engines import dask_local, far
from nbtasks.engines.channel_dask import FarDask, Inbox, Told, named
from nbtasks.engines.dask_line import Line
from nbtasks.engines.foreign import Abilities, EngineDown, Received, Seen, Shipment, State
from nbtasks.engines.runners import TemplateRunners
from nbtasks.engines.urls import EngineUrl
from nbtasks.errors import EngineError

_BLOB_KEPT = 86400.0  # seconds
_own = threading.local()


class Dask:
    """The bridge's side."""

    can = Abilities(
        survive_restart="what a Dask scheduler holds ends with it: after its restart such tasks are delivered again",
        blobs=True, batches=True,
    )  # fmt: skip
    pause = 1.0

    def __init__(self, url: EngineUrl) -> None:
        self.url = url
        self._worker = os.getppid()  # whose cluster it is, when it is local
        self.queue = ""
        self.line: Line | None = None
        self.inbox = Inbox()
        self._tried: dict[str, str] = {}  # key: the scheduler that it was sent to
        self._scheduler = ""
        self._offered: dict[str, float] = {}  # the scheduler has them; when they were used last

    def connect(self) -> str:
        """As `Engine`."""
        if self.url.transport == "local":
            return f"Dask {distributed.__version__}, {dask_local.words()}"
        try:
            line = self._open()
        except EngineDown as error:
            raise EngineError(f"{error}: start `dask scheduler` there, or name another one") from error
        threads = line.client.nthreads()
        line.close()
        count = f"{len(threads)} worker{'s' * (len(threads) > 1)} with {sum(threads.values())} threads"
        return (
            f"Dask {distributed.__version__}, {count if threads else 'no worker yet: dask worker ' + self.url.address}"
        )

    def _open(self) -> Line:
        if self.url.transport == "local":
            cluster = dask_local.find(self._worker)
            return Line(self.url.shown, cluster.address, cluster.security())
        return Line(self.url.shown, self.url.address)

    def _there(self) -> Line:
        if self.line is None:
            raise EngineDown(f"{self.url.shown} is not connected")
        return self.line

    def listen(self, queue: str, channels: Sequence[str]) -> None:
        """As `Engine`."""
        self.queue = queue
        if self.line is None or self.line.cut or self.line.client.status != "running":
            self._hang_up()
            line = self._open()
            self._scheduler = str(line.client.scheduler_info().get("id"))
            self.line = line
            self._offered = dict.fromkeys(line.call(line.find_blobs, queue), time.monotonic())
        self.line.call(self.line.listen, queue, channels, self.inbox)

    def _hang_up(self) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None

    def send(self, shipments: Sequence[Shipment]) -> None:
        """As `Engine`. What another scheduler was given is not given to this one: whether it ran there is not known."""
        line = self._there()
        mine = [one for one in shipments if self._tried.setdefault(one.key, self._scheduler) == self._scheduler]
        line.call(line.submit, mine)

    def offer_blobs(self, hashes: Iterable[str], read: Callable[[str], bytes]) -> None:
        """As `Engine`. One that nobody used for a day is dropped."""
        line, now = self._there(), time.monotonic()
        for hash in hashes:
            if hash not in self._offered:
                line.call(line.offer, named(self.queue, "blob", hash), read(hash))
            self._offered[hash] = now
        if old := [hash for hash, used in self._offered.items() if now - used > _BLOB_KEPT]:
            line.call(line.drop_later, (), [named(self.queue, "blob", hash) for hash in old])
            self._offered = {hash: used for hash, used in self._offered.items() if hash not in old}

    def forget_offers(self) -> None:
        """As `Engine`."""
        self._offered.clear()

    def descriptors(self) -> Iterable[int]:
        """As `Engine`."""
        return [self.inbox.fd]

    def poll(self) -> list[Received]:
        """As `Engine`."""
        received = self.inbox.take()
        if not received and (self.line is None or self.line.cut):
            raise EngineDown(f"{self.url.shown} does not answer ({self.line.cut if self.line else 'not connected'})")
        return received

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """As `Engine`."""
        self._drop([key for key, _ in receipts if key], [name for _, name in receipts if name])

    def stop(self, words: Mapping[str, str]) -> set[str]:
        """As `Engine`."""
        line = self._there()
        never: set[str] = line.call(line.stop, words)
        return never

    def in_flight(self, keys: Sequence[str]) -> dict[str, Seen]:
        """As `Engine`. Dask itself sees to it that what waits for a worker, or is with one, is not lost."""
        line = self._there()
        line.call(line.client.scheduler.event_is_set, name=named(self.queue, "here", "now"))  # it answers
        return {key: line.runs[key].seen if key in line.runs else Seen(State.UNKNOWN) for key in keys}

    def forget(self, keys: Sequence[str], *, ended: bool) -> None:
        """As `Engine`."""
        if not ended:
            self.stop(dict.fromkeys(keys, "terminate"))
        self._drop(keys, ended=ended)

    def _drop(self, keys: Sequence[str], packets: Sequence[str] = (), *, ended: bool = True) -> None:
        line = self._there()
        for key in keys:
            self._tried.pop(key, None)
        line.call(line.drop_later, keys, packets, ended=ended)

    def close(self) -> None:
        """As `Engine`."""
        self._hang_up()


# The far side.


def run(bundle: bytes) -> dict[str, Told]:
    """What a worker of Dask runs."""
    worker = distributed.get_worker()
    channel = FarDask(worker, str(worker.get_current_task()))
    if not hasattr(_own, "runners"):
        _own.runners = TemplateRunners()
    far.run(bundle, channel, _own.runners)
    return channel.result()
