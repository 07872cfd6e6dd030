"""What may follow ``-e``: taken apart, refused with the cure, never shown with its password."""

from __future__ import annotations

import pytest

from nbtasks import config
from nbtasks.engines.urls import hide, parse, parse_all
from nbtasks.errors import OptionError


@pytest.mark.parametrize(
    ("text", "kind", "transport", "address", "shown"),
    [
        ("processes", "processes", "", "", "processes"),
        ("rq+redis://localhost", "rq", "redis", "redis://localhost", "rq+redis://localhost"),
        ("rq+redis://:secret@h:6380/2", "rq", "redis", "redis://:secret@h:6380/2", "rq+redis://h:6380/2"),
        ("huey+redis://h/0?password=secret&x=1", "huey", "redis", "redis://h/0?password=secret&x=1", "huey+redis://h/0?password=…&x=1"),
        ("rq+unix:///run/r.sock?db=3", "rq", "unix", "unix:///run/r.sock?db=3", "rq+unix:///run/r.sock?db=3"),
        ("celery+amqp://u:p@h//", "celery", "amqp", "amqp://u:p@h//", "celery+amqp://h//"),
        ("huey+sqlite:///tmp/x.db", "huey", "sqlite", "sqlite:///tmp/x.db", "huey+sqlite:///tmp/x.db"),
        ("dask://h:8786", "dask", "tcp", "tcp://h:8786", "dask://h:8786"),
        ("dask://local", "dask", "local", "tcp://local", "dask://local"),
    ],
)  # fmt: skip
def test_what_can_be(text: str, kind: str, transport: str, address: str, shown: str) -> None:
    url = parse(f" {text} ")
    assert (url.kind, url.transport, url.address, url.shown, str(url)) == (kind, transport, address, shown, shown)
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("proceses", "did you mean 'processes'"),
        ("redis://h", "say which engine is behind it: rq"),
        ("rq://h", "rq needs rq\\+redis://"),
        ("rq+amqp://h", "rq is reached by"),
        ("rq+redis://", "the host is missing"),
        ("rq+unix://run/r.sock", "whole path of the socket after three slashes"),
        ("huey+sqlite:///", "whole path of the file"),
        ("dask://h", "host and port"),
        ("rq+redis://h:99999", "Port out of range"),
        ("rq+redis://h/abc", r"a database of Redis is a number, as in rq\+redis://HOST/2"),
        ("celery+rediss://h/1/2", "a database of Redis is a number"),
        ("huey+unix:///run/r.sock?db=abc", "a database of Redis is a number"),
        ("", "there are processes, threads"),
    ],
)
def test_what_cannot_be(text: str, why: str) -> None:
    with pytest.raises(OptionError, match=why):
        parse(text)


def test_a_password_that_makes_no_address_is_not_shown() -> None:
    with pytest.raises(OptionError) as caught:  # a slash has to be written as %2F
        parse("rq+redis://me:se/cret@h:6380/2")
    assert "se" not in str(caught.value).replace("base", "").split("'")[1]


def test_several_are_tried_in_order() -> None:
    assert [url.kind for url in parse_all("rq+redis://h  processes")] == ["rq", "processes"]
    with pytest.raises(OptionError, match="give an engine"):
        parse_all("")


def test_a_setting_that_cannot_be_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_ENGINE", "rq+http://me:secret@h")
    config.reset()
    with pytest.raises(OptionError, match=r"NBTASKS_ENGINE=.*rq is reached by") as caught:
        config.settings()
    assert "secret" not in str(caught.value)
    assert hide("Error 111 connecting to redis://:secret@h/0") == "Error 111 connecting to redis://h/0"
