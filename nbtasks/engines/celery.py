"""Celery: each delivery is a message; ``celery -A nbtasks.engines.celery worker`` runs them, and needs no folder and none of the
user's code. Where the broker is, NBTASKS_ENGINE says: the same URL that the bridge is given.

A lane is a queue: ``nbtasks`` for the lane ``default``, ``nbtasks-gpu`` for ``gpu`` (``-Q nbtasks,nbtasks-gpu``).
"""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
from typing import Any, Protocol
from urllib.parse import urlsplit

import celery
import celery.signals

from nbtasks import config
from nbtasks.engines import celery_words as words
from nbtasks.engines import far
from nbtasks.engines.celery_amqp import CeleryOnAmqp, FarAmqp
from nbtasks.engines.celery_redis import CLIENT, CeleryOnRedis, FarCeleryRedis
from nbtasks.engines.channel_redis import open_client
from nbtasks.engines.foreign import Engine, FarChannel
from nbtasks.engines.runners import TemplateRunners
from nbtasks.engines.sender import insist
from nbtasks.engines.urls import EngineUrl, parse_all
from nbtasks.errors import EngineError, OptionError


def open_bridge(url: EngineUrl) -> Engine:
    """The bridge's side."""
    return CeleryOnAmqp(url) if url.transport.startswith("amqp") else CeleryOnRedis(url)


# The far side.


class FarCelery(FarChannel, Protocol):
    """The far side's end, with what Celery needs besides."""

    def fetch_bundle(self, queue: str, key: str, pieces: int) -> bytes | None:
        """A bundle that is not in its message; None when nobody waits for its task any more. Raises LookupError."""
        ...

    def note_failure(self, queue: str, key: str, why: str) -> None:
        """The process that ran it has ended, and will say no more."""
        ...


def far_url() -> EngineUrl:
    """Where the broker is. Raises OptionError when nobody has said it."""
    found = [url for url in parse_all(config.settings().engine) if url.kind == "celery"]
    if not found:
        raise OptionError(
            "a Celery worker must know where the broker is: set NBTASKS_ENGINE to the URL that `nbtasks worker -e` is "
            "given, for example NBTASKS_ENGINE=celery+redis://HOST celery -A nbtasks.engines.celery worker"
        )
    return found[0]


def make_app(url: EngineUrl) -> Any:
    """Celery's application for the workers."""
    app = celery.Celery("nbtasks", set_as_current=False, fixups=[])
    options, own = _broker(url)
    app.conf.update(
        # Both are said: CELERY_BROKER_URL may be set for a project of the user's own.
        broker_url=options["broker_url"], broker_read_url=options["broker_url"], broker_use_ssl=options.get("broker_use_ssl"),
        broker_transport_options=own, broker_connection_retry_on_startup=True, broker_connection_max_retries=None,
        # A task is acknowledged when its process takes it up: from then on the bridge watches over it, and no other run may begin.
        # So only what waits in a worker is given back when that dies; it is little, so that no long task holds up others.
        task_acks_late=False, worker_prefetch_multiplier=1,
        task_ignore_result=True, result_backend=None, accept_content=["json"], task_serializer="json",
        task_default_queue=words.queue_name("default"), task_create_missing_queues=True, task_queue_max_priority=9,
        # Nothing is shared with other applications on the same broker.
        control_exchange="nbtasks", event_exchange="nbtasksev", worker_proc_alive_timeout=30.0,
    )  # fmt: skip
    app.task(name=words.TASK, max_retries=0, typing=False)(run)
    celery.signals.task_failure.connect(_on_failure)
    return app


def _broker(url: EngineUrl) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings, and options of the transport, for an address as we write it."""
    if url.transport.startswith("amqp"):
        return {"broker_url": url.address}, {"confirm_publish": True}
    import kombu.transport.redis  # the bridge needs none of it, and it needs redis, whose absence it would hide

    # What a worker holds and loses is made good by the bridge. Celery's own book of it costs an exchange for each message, and a
    # worker that gives back what it held while Redis is away ends over it (kombu 5.7).
    kombu.transport.redis.Channel.do_restore = False
    own = {"client_name": CLIENT, "ack_emulation": False}
    if url.transport == "unix":
        address = url.address.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=")
        return {"broker_url": address.replace("&db=", "&virtual_host=")}, own
    if url.transport == "rediss" and "ssl_cert_reqs" not in urlsplit(url.address).query:
        return {"broker_url": url.address, "broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED}}, own
    return {"broker_url": url.address}, own


_app: Any = None


def __getattr__(name: str) -> Any:
    """``app`` is what ``celery -A`` looks for. It is made when it is asked for: the bridge needs none."""
    global _app
    if name != "app":
        raise AttributeError(name)
    if _app is None:
        try:
            _app = make_app(far_url())
        except OptionError as error:  # for the person who starts a worker
            raise SystemExit(str(error)) from None
    return _app


_mine = threading.local()


def _of_this_thread() -> tuple[FarCelery, TemplateRunners]:
    """The channel of this thread, and what makes its runners. What was inherited by a fork belongs to another process."""
    if getattr(_mine, "pid", 0) != os.getpid():
        _mine.pid, _mine.channel, _mine.runners = os.getpid(), _open_channel(far_url()), TemplateRunners()
    found: tuple[FarCelery, TemplateRunners] = _mine.channel, _mine.runners
    return found


def _open_channel(url: EngineUrl) -> FarCelery:
    return FarAmqp(url) if url.transport.startswith("amqp") else FarCeleryRedis(open_client(url.address))


def run(queue: str, key: str, bundle: str | None, pieces: int) -> None:
    """What a worker of Celery runs."""
    channel, runners = _of_this_thread()
    data = words.unwrap(bundle) if bundle else insist(lambda: channel.fetch_bundle(queue, key, pieces))
    if data is not None:
        far.run(data, channel, runners)


def _on_failure(exception: Any = None, args: Any = (), **_: Any) -> None:
    """A process of the pool died over a task, or was ended by Celery: said here, it is noticed at once and has a reason."""
    with contextlib.suppress(EngineError, OSError):  # else it is noticed by its silence
        if args:
            for key in args[1].split():
                _of_this_thread()[0].note_failure(args[0], key, f"{type(exception).__name__}: {exception}")
