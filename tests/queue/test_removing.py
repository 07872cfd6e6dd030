"""Taking an ended task out of the queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbtasks.errors import OptionError, TaskNotFound
from nbtasks.queue import lookup, removing
from nbtasks.queue.directory import Queue
from nbtasks.status import Status
from tests.queue.tools import claim, end, finish, put


def left_of(queue: Queue, id: str) -> list[str]:
    return [str(path.relative_to(queue.root)) for path in Path(queue.root).rglob(f"*{id}*")]


def test_nothing_is_left_of_it(queue: Queue) -> None:
    task, other = put(queue), put(queue)
    end(queue, task)
    end(queue, other)
    Path(queue.layout.file(task.id, 1, "log")).write_text("printed")
    assert removing.try_remove(queue, task.id)
    assert left_of(queue, task.id) == []
    with pytest.raises(TaskNotFound):
        queue.record(task.id)
    assert queue.record(other.id).status is Status.SUCCEEDED
    assert not removing.try_remove(queue, task.id)


def test_what_lives_is_left_alone(queue: Queue) -> None:
    task = put(queue)
    assert not removing.try_remove(queue, task.id)
    ticket = claim(queue)
    assert not removing.try_remove(queue, task.id)
    finish(queue, task, ticket, Status.FAILED)
    queue.retry(task.id)
    assert not removing.try_remove(queue, task.id)
    assert lookup.locate(queue, task) is not None


def test_what_another_task_needs_stays(queue: Queue) -> None:
    parent = put(queue)
    child = put(queue, after=(parent.id,))
    end(queue, parent)
    with pytest.raises(OptionError, match=f"is needed by {child.id}"):
        removing.try_remove(queue, parent.id)
    queue.cancel(child.id)
    assert removing.try_remove(queue, parent.id)
