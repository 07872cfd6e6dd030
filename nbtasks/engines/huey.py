"""Huey: each delivery is a task; ``huey_consumer nbtasks.engines.huey.huey`` runs them, and needs none of the user's code.

The consumer reads from NBTASKS_ENGINE where its queue is. A lane is a queue: `huey` is that of the lane ``default``,
``nbtasks.engines.huey.huey-gpu`` that of ``gpu``.

Huey takes a message out of its queue before it runs it, so a consumer that dies loses what it ran; that is seen by signs
of life, or by its process, and delivered again. Retries, results and time limits of Huey's own are not used.
"""

from __future__ import annotations

import logging
import threading
from types import ModuleType
from typing import Any

from huey.api import Huey

from nbtasks import config
from nbtasks.engines import far
from nbtasks.engines.foreign import Engine
from nbtasks.engines.huey_messages import Delivery, Notes, queue_name
from nbtasks.engines.runners import TemplateRunners
from nbtasks.engines.sender import insist
from nbtasks.engines.urls import EngineUrl, parse_all
from nbtasks.errors import EngineError, OptionError

_NAME = "huey"
_log = logging.getLogger("huey")


def _side(url: EngineUrl) -> ModuleType:
    """What knows the storage of a URL. Raises EngineError when redis-py is wanted and missing."""
    if url.transport == "sqlite":
        from nbtasks.engines import huey_sqlite

        return huey_sqlite
    try:
        from nbtasks.engines import huey_redis
    except ModuleNotFoundError as error:
        if error.name != "redis":
            raise
        raise EngineError(f"{url.shown} needs the module 'redis', which is not installed: pip install redis") from None
    return huey_redis


def open_engine(url: EngineUrl) -> Engine:
    """The bridge's side of a URL."""
    side = _side(url)
    made: Engine = side.HueySqlite(url) if url.transport == "sqlite" else side.HueyRedis(url)
    return made


# The far side.


class OfThread(threading.local):
    """What one thread of a consumer keeps between its tasks."""

    def __init__(self) -> None:
        self.runners = TemplateRunners()
        self.channel: Any = None


_own = OfThread()
_urls: list[EngineUrl] = []  # of this consumer: one, once it is known
_made: dict[str, Huey] = {}  # by lane


def run(queue: str, key: str, channel: str, name: str, bundle: bytes) -> None:
    """What a consumer runs."""
    if _own.channel is None:
        _own.channel = _side(_urls[0]).far_channel(_urls[0])
    far_end = _own.channel
    try:
        bundle = bundle or insist(lambda: far_end.fetch_bundle(queue, key))
    except LookupError:
        _log.warning("%s (%s) is not run: what it needs is not in the storage any more; it is sent again", name, key)
        return
    far.run(bundle, far_end, _own.runners)


def _leave() -> None:
    _own.runners.close()


class Consumed(Huey):  # type: ignore[misc]  # Huey has no types
    """A Huey that knows one task: `run`. What it would ask its storage about before and after each is not kept there."""

    def is_revoked(self, task: Any, timestamp: Any = None, peek: bool = True) -> bool:
        """Never: `FarChannel.begin` says what may not run."""
        return False

    def delete(self, key: str) -> bool:
        """Nothing to delete: there are no revocations and no results."""
        return False

    def create_consumer(self, **options: Any) -> Any:
        """As Huey does it. Ends the program when it was told to use greenlets."""
        if options.get("worker_type") == "greenlet":
            raise SystemExit(
                "tasks of nbtasks run in processes of their own, for which greenlets cannot wait: start huey_consumer with "
                "-k thread (the default) or -k process"
            )
        return super().create_consumer(**options)


def make(url: EngineUrl, lane: str) -> Huey:
    """The Huey whose consumer runs a lane of the engine of that URL."""
    made = Consumed(queue_name(lane), results=False, serializer=Notes(), **_side(url).storage(url))
    made.task(task_base=Delivery)(run)
    made.on_shutdown()(_leave)
    return made


def _my_url() -> EngineUrl:
    for url in parse_all(config.settings().engine):
        if url.kind == _NAME:
            return url
    raise OptionError(
        "set NBTASKS_ENGINE to what the worker was given by -e, such as huey+sqlite:///PATH or huey+redis://HOST: so this "
        "consumer learns where its tasks are"
    )


def __getattr__(name: str) -> Huey:
    lane = "default" if name == _NAME else name.removeprefix(f"{_NAME}-")
    if lane == name:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if lane not in _made:
        try:
            _urls[:] = [_my_url()]
            _made[lane] = make(_urls[0], lane)
        except (EngineError, OptionError) as error:  # for the person who starts a consumer
            raise SystemExit(str(error)) from None
    return _made[lane]
