"""Words for looking through a call: what counts by its name, and what cannot be told to be the same, and where it was."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple


class Named(NamedTuple):
    """Something that counts by its name in a module, and by what that module is."""

    module: str
    name: str


class NotKeyable(Exception):
    """Something cannot be looked through. Its text names it and where it was found."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what
        self.path: list[str] = []  # the innermost first

    def __str__(self) -> str:
        path = ""
        for part in reversed(self.path):
            path += part if not path or part[:1] in "[." else f", {part}"
        return f"{path} is {self.what}" if path else self.what


@contextmanager
def finding(label: str) -> Generator[None]:
    """Whatever is found in here that has no key, was found at `label`."""
    try:
        yield
    except NotKeyable as error:
        error.path.append(label)
        raise


@contextmanager
def bounded() -> Generator[None]:
    """What is nested deeper than Python can go has no key."""
    try:
        yield
    except RecursionError:
        raise NotKeyable("nested too deeply") from None
