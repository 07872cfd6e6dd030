"""Names of engines: what may follow ``nbtasks worker -e``, taken apart. Pure; a password is never shown.

::

    processes  threads  inline                                 on this machine, as part of the worker
    dask://HOST:PORT  dask://local
    rq+redis://…      rq+rediss://…      rq+unix:///PATH
    celery+redis://…  celery+rediss://…  celery+unix:///PATH  celery+amqp://…  celery+amqps://…
    huey+redis://…    huey+rediss://…    huey+unix:///PATH    huey+sqlite:///PATH

What stands behind the ``+`` is an address as redis-py, kombu and sqlite write it; the number of a Redis database may follow
as ``/2``, or as ``?db=2`` after a path.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, urlsplit

from nbtasks.errors import OptionError

LOCAL = ("processes", "threads", "inline")
TRANSPORTS = {
    "dask": (),
    "rq": ("redis", "rediss", "unix"),
    "celery": ("redis", "rediss", "unix", "amqp", "amqps"),
    "huey": ("redis", "rediss", "unix", "sqlite"),
}
_PATHS = ("unix", "sqlite")
_REDIS = ("redis", "rediss")
_SECRET = re.compile(r"//(?!/)[^@\s]*@|([?&]password=)[^&#\s]*")


@dataclass(frozen=True)
class EngineUrl:
    """One engine: ``rq+redis://:secret@host/2`` is kind ``rq``, transport ``redis``, address ``redis://:secret@host/2``.

    `shown` is the same without its password, for people and for files. Two addresses of one engine that differ only in
    who asks are equal in `shown`.
    """

    kind: str
    transport: str = ""
    address: str = field(default="", repr=False)
    shown: str = ""

    @property
    def is_local(self) -> bool:
        """Whether its slots are part of the worker, so that there is no bridge."""
        return self.kind in LOCAL

    @property
    def is_own(self) -> bool:
        """Whether it belongs to the one worker that uses it, and ends with it."""
        return self.transport == "local"

    @property
    def path(self) -> str:
        """The path of a socket or file, "" when the address has none."""
        return urlsplit(self.address).path if self.transport in _PATHS else ""

    def __str__(self) -> str:
        return self.shown


PROCESSES = EngineUrl("processes", shown="processes")


def parse(text: str) -> EngineUrl:
    """The engine that `text` names. Raises OptionError, without the password, when there is none of that name."""
    text = text.strip()
    if text in LOCAL:
        return EngineUrl(text, shown=text)
    scheme, found, rest = text.partition("://")
    kind, plus, transport = scheme.lower().partition("+")
    if not found or kind not in TRANSPORTS or bool(plus) != bool(TRANSPORTS[kind]):
        raise OptionError(f"{hide(text)!r} names no engine{_hint(text, kind)}")
    if transport and transport not in TRANSPORTS[kind]:
        raise OptionError(f"{hide(text)!r}: {kind} is reached by {_either(kind)}, not by {transport!r}")
    _check_place(text, kind, transport, rest)
    address = f"{transport or 'tcp'}://{rest}"
    return EngineUrl(kind, transport or ("local" if rest == "local" else "tcp"), address, hide(text))


def parse_all(text: str | list[str] | tuple[str, ...]) -> tuple[EngineUrl, ...]:
    """Several, to be tried in that order: a list, or one text with spaces between them."""
    words = text.split() if isinstance(text, str) else list(text)
    if not words:
        raise OptionError(f"give an engine: {_examples()}")
    return tuple(map(parse, words))


def hide(text: str) -> str:
    """`text` with every user and password of an address in it left out."""
    return _SECRET.sub(lambda match: "//" if match[1] is None else f"{match[1]}…", text)


def _check_place(text: str, kind: str, transport: str, rest: str) -> None:
    try:
        parts: SplitResult = urlsplit(f"//{rest}" if transport not in _PATHS else f"{transport}://{rest}")
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise OptionError(f"{hide(text)!r} is no address: {error}") from None
    if transport in _PATHS:
        if host or not parts.path.startswith("/") or parts.path == "/":
            what = "socket" if transport == "unix" else "file"
            raise OptionError(
                f"{hide(text)!r}: give the whole path of the {what} after three slashes: {kind}+{transport}:///PATH"
            )
    elif not host:
        raise OptionError(f"{hide(text)!r}: the host is missing: {kind}{'+' + transport if transport else ''}://HOST")
    elif kind == "dask" and rest != "local" and port is None:
        raise OptionError(f"{hide(text)!r}: give host and port of the scheduler: dask://HOST:8786, or dask://local")
    numbers = parse_qs(parts.query).get("db", [])
    if transport in _REDIS:
        numbers.append(parts.path.strip("/"))
    if not all(one.isdecimal() for one in numbers if one):  # redis-py would take database 0, or join what it finds
        raise OptionError(f"{hide(text)!r}: a database of Redis is a number, as in {kind}+redis://HOST/2 or ?db=2")


def _hint(text: str, kind: str) -> str:
    if TRANSPORTS.get(kind):
        return f": {kind} needs {_either(kind)}"
    if fit := [f"{one}+{kind}://" for one, ways in TRANSPORTS.items() if kind in ways]:
        return f": say which engine is behind it: {', '.join(fit)}"
    near = difflib.get_close_matches(text.partition(":")[0].lower(), [*LOCAL, *_schemes()], 1, 0.6)
    return f"; did you mean {near[0]!r}?" if near else f": there are {_examples()}"


def _schemes() -> list[str]:
    return [f"{kind}{'+' + one if one else ''}://" for kind, ways in TRANSPORTS.items() for one in ways or ("",)]


def _either(kind: str) -> str:
    names = [f"{kind}+{transport}://" for transport in TRANSPORTS[kind]]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _examples() -> str:
    return f"{', '.join(LOCAL)}, dask://HOST:PORT, rq+redis://HOST, celery+redis://HOST, celery+amqp://HOST, huey+sqlite:///PATH"
