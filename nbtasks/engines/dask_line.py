"""One connection to a Dask scheduler: what has been sent over it, and what has come of that.

A `Line` that was cut is not mended: another is opened, and finds what the scheduler still has. Its coroutines run in the thread
of Dask's client, one at a time; the bridge's thread calls what is marked so.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
import pkgutil
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from distributed import Client, wait
from distributed.publish import PublishExtension

from nbtasks.engines.channel_dask import (
    DaskTask,
    Inbox,
    Run,
    key_and_number,
    knock,
    name_of,
    named,
    talking,
    words_of,
)
from nbtasks.engines.foreign import EngineDown, EngineFull, Received, Seen, Shipment, State

_PACE, _LONGEST = 0.01, 0.15  # seconds until results are fetched again, for each that came last; at most
FAR = "nbtasks.engines.dask:run"
_CONNECTS, _ANSWERS = 3.0, 30.0  # seconds
_SCATTER = 5.0  # seconds until a worker takes a large bundle
_INLINE = 1 << 20  # bytes of a bundle that goes into Dask's graph, which the scheduler unpickles and keeps
_MANY = hasattr(PublishExtension, "flush_batched_send")  # since then one question may unpublish several


class Line:
    """A client of the scheduler at `address`; raises EngineDown when it does not answer."""

    def __init__(self, shown: str, address: str, security: Any = None) -> None:
        self.shown = shown
        self.cut = ""  # why it is of no use any more
        self.runs: dict[str, Run] = {}
        self.queue = ""
        self.channels: tuple[str, ...] = ()
        self._tasks: set[asyncio.Task[None]] = set()
        self._done: list[DaskTask] = []  # their results are to be fetched
        self._gatherer: asyncio.Task[None] | None = None
        self._old: list[str] = []  # names to unpublish
        self._sweeper: asyncio.Task[None] | None = None
        with talking(shown):
            place = urlsplit(address)
            knock((place.hostname, place.port), _CONNECTS, speaks=security is None)
            self.client = Client(address, timeout=_CONNECTS, set_as_default=False, name="nbtasks", security=security)

    # From the bridge's thread.

    def call(self, action: Callable[..., Awaitable[Any]], *args: Any, **fields: Any) -> Any:
        """What a coroutine gives. Raises EngineDown, EngineFull."""
        if self.cut or self.client.status != "running":
            raise EngineDown(f"{self.shown} does not answer ({self.cut or 'the connection was cut'})")
        with talking(self.shown):
            return self.client.sync(action, *args, callback_timeout=_ANSWERS, **fields)

    def close(self) -> None:
        """Let go of the scheduler, which keeps what was published. Never raises."""
        self.cut = self.cut or "closed"
        try:
            self.client.close(timeout=1)
        except Exception:  # it is of no use any more, and nobody can do anything about it
            return

    # Beginning.

    async def listen(self, queue: str, channels: Sequence[str], inbox: Inbox) -> None:
        """Take what has come, and what comes, for these channels."""
        new = [channel for channel in channels if channel not in self.channels]
        if not self.channels:
            self._spawn(self._watch_scheduler(named(queue, "here", channels[0])))
        self.queue, self.inbox, self.channels = queue, inbox, tuple(channels)
        for channel in new:
            self.client.subscribe_topic(named(queue, "news", channel), self._on_news)
        await self._adopt(new)

    async def _watch_scheduler(self, name: str) -> None:
        """Waits for what never comes: ends when the scheduler does."""
        try:
            await self.client.scheduler.event_wait(name=name, timeout=None)
        except Exception as error:
            self.cut = str(error) or type(error).__name__
        self.cut = self.cut or "the connection was cut"
        self.inbox.put()

    async def _adopt(self, channels: Sequence[str]) -> None:
        """Go on with what a bridge before has sent by these channels, or what we sent before the line was cut."""
        found = await self._list("task", channels)
        for name in found:
            keys = tuple(name.rpartition(":")[2].split("+"))
            future = await self.client.get_dataset(name, default=None)
            if future is not None and keys[0] not in self.runs:
                self._start(DaskTask(name, future, keys, published=True))
        for name in await self._list("out", channels):
            self._spawn(self._fetch_until(*key_and_number(name)))

    async def _list(self, kind: str, channels: Sequence[str]) -> list[str]:
        begins = tuple(named(self.queue, kind, channel, "") for channel in channels)
        names = [
            name for name in await self.client.list_datasets() if isinstance(name, str) and name.startswith(begins)
        ]
        return sorted(names, key=lambda name: key_and_number(name)) if kind == "out" else names

    def _spawn(self, action: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(action)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.cut = self.cut or f"{type(error).__name__}: {error}"
            self.inbox.put()

    # Out.

    async def submit(self, shipments: Sequence[Shipment]) -> None:
        """Give these to the scheduler, and have it keep them for whoever comes after us."""
        shipments = [one for one in shipments if one.key not in self.runs or not self.runs[one.key].dask_task.published]
        rpc, me = self.client.scheduler, self.client.id
        await asyncio.gather(
            *(
                rpc.queue_create(name=named(self.queue, "permit", name_of(one.keys)), client=me, maxsize=1)
                for one in shipments
            )
        )
        data = [one.bundle if len(one.bundle) <= _INLINE else await self._scatter(one.bundle) for one in shipments]
        graphs: dict[tuple[str, int], dict[tuple[str, ...], Any]] = {}
        for one, argument in zip(shipments, data, strict=True):
            # Loaded where it runs: the scheduler unpickles graphs, and need not know us.
            call = (operator.call, (pkgutil.resolve_name, FAR), argument)
            graphs.setdefault((one.lane, one.priority), {})[one.keys] = call
        dask_tasks = list(itertools.chain.from_iterable(self._give(*kind, graph) for kind, graph in graphs.items()))
        # With nothing in between: so there is no moment at which only we hold them.
        await self.client.publish_dataset(override=True, **{one.name: one.future for one in dask_tasks})
        for dask_task in dask_tasks:
            dask_task.published = True

    async def _scatter(self, data: bytes) -> Any:
        try:
            return await self.client.scatter(data, hash=False, timeout=_SCATTER)
        except TimeoutError as error:
            raise EngineFull(f"{self.shown} has no worker that takes {len(data) >> 20} MB") from error

    def _give(self, lane: str, priority: int, calls: Mapping[tuple[str, ...], Any]) -> list[DaskTask]:
        wanted = None if lane == "default" else {f"nbtasks-{lane}": 1}
        graph = {name_of(keys): call for keys, call in calls.items()}
        rank, names = priority - 5, [named(self.queue, "task", self.channels[0], "+".join(keys)) for keys in calls]
        futures = self.client.get(graph, list(graph), sync=False, priority=rank, resources=wanted, fifo_timeout="1s")
        return [self._start(DaskTask(*one)) for one in zip(names, futures, calls, strict=True)]

    def _start(self, dask_task: DaskTask) -> DaskTask:
        if dask_task.keys[0] in self.runs:  # sent again: what watches it goes on
            return self.runs[dask_task.keys[0]].dask_task
        for key in dask_task.keys:
            self.runs[key] = Run(key, dask_task)
        dask_task.watcher = self._spawn(self._watch(dask_task))
        return dask_task

    async def offer(self, name: str, data: bytes) -> None:
        """Have a blob kept: by the scheduler, or by a worker when it is large."""
        kept = data if len(data) <= _INLINE else await self._scatter(data)
        await self.client.publish_dataset(kept, name=name, override=True)

    async def find_blobs(self, queue: str) -> list[str]:
        """The blobs that are kept for that queue."""
        begins = named(queue, "blob", "")
        return [name.removeprefix(begins) for name in await self.client.list_datasets() if str(name).startswith(begins)]

    # Back.

    async def _watch(self, dask_task: DaskTask) -> None:
        try:
            with self.client.as_current():
                await wait([dask_task.future])
        except asyncio.CancelledError:  # by us; or the scheduler has let it go
            self._see(dask_task, Seen(State.UNKNOWN))
            if self.client.status != "running":
                self.cut = self.cut or "the connection was cut"
            self.inbox.put()
            return
        self._done.append(dask_task)
        if self._gatherer is None:
            self._gatherer = self._spawn(self._gather())

    def _see(self, dask_task: DaskTask, seen: Seen) -> None:
        for key in dask_task.left & self.runs.keys():
            self.runs[key].seen = seen

    async def _gather(self) -> None:
        """Fetch results, all that are there at once: the first without delay, those behind it together."""
        while self._done:
            done, self._done = self._done, []
            results = await asyncio.gather(*(dask_task.future for dask_task in done), return_exceptions=True)
            for dask_task, result in zip(done, results, strict=True):
                await self._take(dask_task, result)
            self.inbox.put()
            await asyncio.sleep(min(_LONGEST, _PACE * len(done)))
        self._gatherer = None

    async def _take(self, dask_task: DaskTask, result: Any) -> None:
        if isinstance(result, asyncio.CancelledError):
            self._see(dask_task, Seen(State.UNKNOWN))
        elif isinstance(result, Exception):
            self._see(dask_task, Seen(State.ENDED, words_of(result)))
        else:
            for key in dask_task.left & result.keys():
                sent, last = result[key]
                if key in self.runs and self.runs[key].next < sent:
                    await self._fetch_until(key, sent - 1)
                self.inbox.put(*(Received(packet, (key, "")) for packet in last))
            self._see(dask_task, Seen(State.ENDED))

    def _on_news(self, event: tuple[float, Any]) -> None:
        key, number = event[1]
        self._spawn(self._fetch_until(key, number))

    async def _fetch_until(self, key: str, number: int) -> None:
        """Fetch the packets of a run up to that one, in their order; those that are gone were dealt with."""
        run = self.runs.get(key)
        if run is None:  # it is over for us
            self._unpublish([named(self.queue, "out", channel, key, number) for channel in self.channels])
            return
        async with run.lock:
            channel = run.dask_task.channel
            names = [named(self.queue, "out", channel, key, at) for at in range(run.next, number + 1)]
            if len(names) > 2:  # of a bridge before us, mostly
                names = [name for name in await self._list("out", [channel]) if name in set(names)]
            packets = await asyncio.gather(*(self.client.get_dataset(name, default=None) for name in names))
            there = [(name, packet) for name, packet in zip(names, packets, strict=True) if packet is not None]
            if there:
                run.seen = Seen(State.RUNNING)
            run.next = max(run.next, number + 1)
            self.inbox.put(*(Received(packet, ("", name)) for name, packet in there))

    # Stopping and forgetting.

    async def stop(self, words: Mapping[str, str]) -> set[str]:
        """Ask these to stop; those whose place could be taken, so that they never begin, nor does what travels with them."""
        kinds = {"cancel": ("stop",), "terminate": ("terminate", "stop")}
        for key, word in words.items():
            if key in self.runs:
                self.runs[key].stopped = True
            for kind in kinds[word]:
                await self.client.scheduler.event_set(name=named(self.queue, kind, key))
        dask_tasks = {self.runs[key].dask_task for key in words if key in self.runs}
        begun = {run.dask_task for run in self.runs.values() if run.seen.state is State.RUNNING}  # it has its permit
        await asyncio.gather(*(one.revoke(self.client.scheduler, self.queue) for one in dask_tasks - begun))
        return {key for key in words if key in self.runs and self.runs[key].dask_task.revoked}

    async def drop(self, keys: Iterable[str], packets: Iterable[str] = (), *, ended: bool = True) -> None:
        """Forget these: without its permit none of a message can begin. `ended`: nor does it run any more."""
        names = list(packets)
        for key in keys:
            run = self.runs.pop(key, None)
            if run is None:
                continue
            run.dask_task.left.discard(key)
            if not run.dask_task.left:
                names.append(run.dask_task.name)
                permit = named(self.queue, "permit", name_of(run.dask_task.keys))
                self.client._send_to_scheduler({"op": "queue_release", "name": permit})
                run.dask_task.watcher.cancel()
                run.dask_task.future.release()
            if run.stopped and ended:
                for kind in ("stop", "terminate"):
                    await self.client.scheduler.event_clear(name=named(self.queue, kind, key))
        self._unpublish(names)

    def _unpublish(self, names: list[str]) -> None:
        self._old += names
        if self._old and self._sweeper is None:
            self._sweeper = self._spawn(self._sweep())

    async def _sweep(self) -> None:
        while self._old:
            await asyncio.sleep(_LONGEST)
            names, self._old = self._old, []
            if _MANY:
                await self.client.unpublish_dataset(names)
            else:
                await asyncio.gather(*map(self.client.unpublish_dataset, names))
        self._sweeper = None

    async def drop_later(self, *args: Any, **fields: Any) -> None:
        """As `drop`, and nobody waits."""
        self._spawn(self.drop(*args, **fields))
