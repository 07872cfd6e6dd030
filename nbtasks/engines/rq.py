"""RQ: each delivery is a job; ``rq worker nbtasks`` runs them, and serves no folder and none of the user's code.

A lane is a queue: ``nbtasks`` for the lane ``default``, ``nbtasks-gpu`` for ``gpu``. A work horse of RQ lives for one job; it only
watches over the task, whose process comes from a template that all horses of one RQ worker share.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from typing import Any

import redis
import rq
import rq.version as rq_version
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from rq.job import Job, JobStatus

from nbtasks.engines import far
from nbtasks.engines.channel_redis import FarRedis, RedisChannel, named, talking
from nbtasks.engines.foreign import TTL, Abilities, Seen, Shipment, State
from nbtasks.engines.runners import SharedRunners
from nbtasks.engines.urls import EngineUrl

_INLINE = 32 << 10  # bytes of a bundle that go into the job itself, which RQ compresses
_PIECE = 64 << 20
_ENDED_TTL, _FAILED_TTL = 60, 3600  # seconds; RQ needs longer to drop a job at once than to let it expire
_ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)


class Rq(RedisChannel):
    """The bridge's side."""

    can = Abilities(
        priorities="RQ knows two priorities: of what it holds, 6 to 9 go before 0 to 5",
        blobs=True, batches=True,
    )  # fmt: skip

    def __init__(self, url: EngineUrl) -> None:
        super().__init__(url)
        self._queues: dict[str, rq.Queue] = {}

    def connect(self) -> str:
        """As `Engine`."""
        words = self.greet()
        with talking(self.url.shown):
            count = sum(
                1 for worker in rq.Worker.all(connection=self.client) if queue_name("default") in worker.queue_names()
            )
        start = f"no RQ worker yet: rq worker nbtasks --url {self.url.shown.partition('+')[2]}"
        there = f"{count} RQ worker{'s' * (count != 1)}" if count else start
        return f"RQ {rq_version.VERSION} on {words}, {there}"

    def _queue(self, lane: str) -> rq.Queue:
        if lane not in self._queues:
            self._queues[lane] = rq.Queue(queue_name(lane), connection=self.client)
        return self._queues[lane]

    def send(self, shipments: Sequence[Shipment]) -> None:
        """As `Engine`."""
        self.send_new(shipments, self._enqueue)

    def _enqueue(self, one: Shipment, pipe: Any) -> str:
        queue = self._queue(one.lane)
        job = queue.create_job(
            "nbtasks.engines.rq.run", args=(self._argument(one, pipe),), timeout=-1, result_ttl=_ENDED_TTL, failure_ttl=_FAILED_TTL,
            description=one.name, job_id=f"{job_id(one.key)}-{len(one.keys)}" if one.others else job_id(one.key),
            # RQ's worker reads this before it forks: so its horses need not load nbtasks for each job.
            meta={"nbtasks": _Warm()},
        )  # fmt: skip
        queue.enqueue_job(job, pipeline=pipe, at_front=one.priority > 5)
        return job.id

    def _argument(self, one: Shipment, pipe: Any) -> bytes | tuple[str, int]:
        if len(one.bundle) <= _INLINE:
            return one.bundle
        name = f"{one.key}:{hashlib.sha256(one.bundle).hexdigest()[:16]}"
        view = memoryview(one.bundle)
        pieces = range(0, len(view), _PIECE)
        for number, at in enumerate(pieces):
            pipe.set(named(self.queue, "bundle", f"{name}:{number}"), bytes(view[at : at + _PIECE]), ex=TTL)
        return f"{self.queue}:bundle:{name}", len(pieces)

    def in_flight(self, keys: Sequence[str]) -> dict[str, Seen]:
        """As `Engine`. A job that a worker took out of its queue counts as running: if nothing is heard of it, it was lost."""
        with talking(self.url.shown):
            jobs = self._jobs(keys)
            with self.client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(Job.key_for(jobs[key]), "status", "origin")
                answers = pipe.execute()
            origins = {origin.decode() for status, origin in answers if status == b"queued"}
            waiting: set[Any] = set()
            for origin in origins:
                waiting.update(self.client.lrange(f"{rq.Queue.redis_queue_namespace_prefix}{origin}", 0, -1))
            return {key: self._seen(jobs[key], status, waiting) for key, (status, _) in zip(keys, answers, strict=True)}

    def _jobs(self, keys: Sequence[str]) -> dict[str, str]:
        """The job of each key: of a batch the same."""
        marks: Any = self.client.mget([named(self.queue, "sent", key) for key in keys])
        return {key: mark.decode() if mark else job_id(key) for key, mark in zip(keys, marks, strict=True)}

    def _seen(self, job: str, status: bytes | None, waiting: set[Any]) -> Seen:
        if status is None:
            return Seen(State.UNKNOWN)
        word = JobStatus(status.decode())
        if word not in _ENDED:
            return Seen(State.QUEUED if job.encode() in waiting else State.RUNNING)
        words = ""
        if word is JobStatus.FAILED:
            with contextlib.suppress(rq.exceptions.NoSuchJobError):
                result = Job.fetch(job, connection=self.client).latest_result()
                words = (result.exc_string or "").strip().rpartition("\n")[2] if result is not None else ""
        return Seen(State.ENDED, words)

    def forget(self, keys: Sequence[str], *, ended: bool) -> None:
        """As `Engine`. RQ itself drops the job when it has ended well."""
        with talking(self.url.shown):
            with self.client.pipeline(transaction=False) as pipe:
                self.forget_marks(keys, pipe, ended=ended)
                pipe.execute()
            for key in keys if not ended else ():
                with contextlib.suppress(rq.exceptions.NoSuchJobError):
                    job = Job.fetch(job_id(key), connection=self.client)
                    if job.get_status(refresh=False) != JobStatus.STARTED:  # else RQ would stumble over it
                        job.delete()


def queue_name(lane: str) -> str:
    """RQ's queue for a lane."""
    return "nbtasks" if lane == "default" else f"nbtasks-{lane}"


def job_id(key: str) -> str:
    """RQ's id for a key: it knows no dots."""
    return key.replace(".", "_")


# The far side.


def warm() -> None:
    """Load what a work horse needs."""
    far.warm()


class _Warm:
    """Where this is unpickled, `warm` is called."""

    def __reduce__(self) -> tuple[Any, ...]:
        return warm, ()


def run(argument: bytes | tuple[str, int]) -> None:
    """What a work horse of RQ runs."""
    job = rq.get_current_job()
    assert job is not None
    client = job.connection
    patience = client.get_retry()
    client.set_retry(Retry(NoBackoff(), 0))  # while the task runs, nobody sleeps over a broker that is down
    try:
        far.run(
            argument if isinstance(argument, bytes) else _fetch(client, *argument), FarRedis(client), SharedRunners()
        )
    finally:
        client.set_retry(patience or Retry(ExponentialBackoff(), 3))  # RQ's own steps that follow may wait


def _fetch(client: redis.Redis, name: str, count: int) -> bytes:
    names = [f"nbtasks:{name}:{number}" for number in range(count)]
    pieces: Any = client.mget(names)
    if None in pieces:
        raise LookupError(f"the bundle {name} is not in Redis any more: it was dropped to make room, or is a week old")
    client.delete(*names)
    return b"".join(pieces)
