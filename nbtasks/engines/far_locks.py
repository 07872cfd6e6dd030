"""Named locks in a task that an engine runs: they are those of its queue, when that is on the same machine."""

from __future__ import annotations

from nbtasks import processes
from nbtasks.engines import wire
from nbtasks.errors import NbtasksError, QueueError
from nbtasks.queue.directory import Queue

_ELSEWHERE = (
    "lock({name!r}) cannot be had on {where}: it lies in the queue, which {why}. Say limit={{{name!r}: 1}} where you submit: "
    "that is kept by the worker there, wherever the tasks run"
)
_queues: dict[str, Queue] = {}


def open_queue(bundle: wire.Bundle | None, name: str) -> Queue:
    """The queue of the running task, for the lock of that name. Raises QueueError, with what to do, when it is not to be had."""
    boot, root = bundle.order.home if bundle is not None else ("", "")
    if bundle is None or boot != processes.boot_id():
        raise QueueError(_ELSEWHERE.format(name=name, where=wire.where(), why="is on the machine that submitted it"))
    try:
        queue = _queues.get(root) or Queue(root, create=False)
    except (NbtasksError, OSError) as error:
        raise QueueError(
            _ELSEWHERE.format(name=name, where=wire.where(), why=f"cannot be reached ({error})")
        ) from error
    if queue.uuid != bundle.frame.queue:
        raise QueueError(_ELSEWHERE.format(name=name, where=wire.where(), why=f"is not the one in {root}"))
    return _queues.setdefault(root, queue)
