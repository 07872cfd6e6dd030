"""Inputs that another task will bring: they are taken from its outcome when the cell that wants them starts."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from nbtasks.handle import Task
from nbtasks.queue.directory import Queue

_NOTHING = object()


class Parent:
    """Stands in a cell's inputs for the names that a task brings; loaded, it is a dict of them."""

    def __init__(self, queue: Queue, id: str) -> None:
        self._queue, self._id = queue, id

    @property
    def id(self) -> str:
        """The task's id."""
        return self._id

    def __reduce__(self) -> tuple[Any, ...]:
        return _names_of, (self._queue.root, self._id)


class Brought:
    """Stands for one of those names; loaded, it is the value, else `otherwise`, which the notebook has now."""

    def __init__(self, parent: Parent, name: str, otherwise: object = _NOTHING) -> None:
        self._parent, self._name, self._otherwise = parent, name, otherwise

    @property
    def parts(self) -> tuple[object, ...]:
        """What decides which value it is."""
        return self._parent.id, self._name, *(() if self._otherwise is _NOTHING else (self._otherwise,))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._otherwise is _NOTHING:
            return operator.getitem, (self._parent, self._name)
        return _take, (self._parent, self._name, self._otherwise)


def _names_of(root: str, id: str) -> Mapping[str, Any]:
    return Task(Queue.open(root, create=False), id).vars


def _take(names: Mapping[str, Any], name: str, otherwise: object) -> object:
    return names.get(name, otherwise)


__all__ = ["Brought", "Parent"]
