"""Executor: tasks behind the interface of `concurrent.futures`, for code that knows nothing of nbtasks."""

from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from nbtasks import ends
from nbtasks.ends import Ending
from nbtasks.errors import OptionError, TaskLost
from nbtasks.frames import Part
from nbtasks.handle import Task, new_task
from nbtasks.hooks import lending
from nbtasks.options import parse
from nbtasks.payload import register_reference
from nbtasks.queue import lookup
from nbtasks.queue.lookup import Place
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status
from nbtasks.submitting import here, make_spec, name_of, pack, parts_of, store

P = ParamSpec("P")
T = TypeVar("T")


class ExecutorTask(Task[T]):
    """A task as the standard library's executors give it: `cancel` does nothing once it runs, a dead process is a
    `BrokenProcessPool`."""

    owner: Executor | None = None  # the executor that made it, in this process
    held = False  # True while that keeps it back

    def cancel(self) -> bool:
        """Cancel it unless it runs or has ended. True when it is cancelled."""
        if not self.look():
            # Not while the executor is putting it: it is either kept back or in the queue.
            with self.owner.lock if self.owner is not None else contextlib.nullcontext():
                if self.owner is not None and self.held:
                    self.owner.put_cancelled(self)
                self._try_withdraw()
        return self.cancelled()

    def _try_withdraw(self) -> None:
        queue = self.queue
        place = lookup.locate(queue, self.spec)
        if place is None or place.status not in (Status.WAITING, Status.QUEUED):
            return
        target = f"{queue.layout.ended_folder(self.id)}/{place.ticket}.{Status.CANCELLED}"
        if queue.disk.move(place.path, target):
            queue.after_end(self.spec, place.ticket, Status.CANCELLED)
            self.note_end(Place(Status.CANCELLED, place.ticket, target))

    @property
    def status(self) -> Status:
        """One of the six; waiting also while its executor keeps it back."""
        return Status.WAITING if self.held else super().status

    def fail_here(self, error: BaseException) -> None:
        """End it with an error of this process: it could not be put into the queue."""
        self._exception, self._loaded = error, True
        self.note_end(Place(Status.FAILED, Ticket(self.id), ""))

    def _error(self, ending: Ending) -> BaseException:
        error = ends.error_of(self.queue, self.spec, ending)
        if not isinstance(error, TaskLost):
            return error
        from concurrent.futures.process import BrokenProcessPool  # brings multiprocessing

        broken = BrokenProcessPool(str(error))
        broken.__cause__ = error
        return broken


class Executor(concurrent.futures.Executor):
    """An executor whose calls are tasks: they are seen in the queue, and outlive this process.

    `max_workers` bounds how many of them are in the queue at a time (None: as many as there are; the worker
    decides how many run). The others are kept here, and put into the queue when this process ends. `options`
    are those of `nbtasks.using`. A call whose process died raises BrokenProcessPool; the others are not harmed.
    """

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        if max_workers is not None and (not isinstance(max_workers, int) or max_workers < 1):
            raise OptionError(f"max_workers={max_workers!r} cannot be: give a whole number from 1 on, or None")
        self._fields = parse(options)
        self._room = max_workers
        self._under_way = 0
        self._held: deque[tuple[ExecutorTask[Any], list[Part]]] = deque()
        self._tasks: weakref.WeakSet[ExecutorTask[Any]] = weakref.WeakSet()
        self.lock = threading.RLock()
        self._closed = False
        _executors.add(self)

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ExecutorTask[T]:
        """Run the call in the background. Raises RuntimeError after `shutdown`."""
        name = name_of(function)
        call = pack(parts_of(function), name, args, kwargs)
        with self.lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            spec = make_spec(here(), call, name, self._fields)
            if self._room is None or self._under_way < self._room:
                store(here(), spec, call.parts)
                task = self._new(spec)
                self._count(task)
            else:
                task = self._new(spec)
                task.held = True
                self._held.append((task, call.parts))
        return cast("ExecutorTask[T]", task)

    def _new(self, spec: Spec) -> ExecutorTask[Any]:
        task = cast("ExecutorTask[Any]", new_task(here().queue, spec, ExecutorTask))
        task.owner = self
        self._tasks.add(task)
        return task

    def _count(self, task: ExecutorTask[Any]) -> None:
        if self._room is not None:  # else nobody needs to be told of its end
            self._under_way += 1
            task.add_done_callback(self._go_on)

    def _go_on(self, _: object) -> None:
        with self.lock:
            self._under_way -= 1
            while self._held and self._room is not None and self._under_way < self._room:
                self._put(*self._held.popleft())

    def _put(self, task: ExecutorTask[Any], parts: list[Part]) -> None:
        task.held = False
        try:
            store(here()._replace(queue=task.queue), task.spec, parts)
        except OSError as error:
            task.fail_here(error)
        else:
            self._count(task)

    def put_cancelled(self, task: ExecutorTask[Any]) -> None:
        """Put a task that is kept back so that it never starts: the queue then shows that it was cancelled."""
        entry = next(entry for entry in self._held if entry[0] is task)
        self._held.remove(entry)
        task.held = False
        with contextlib.suppress(FileExistsError):  # before the ticket: whoever claims it sees it
            task.queue.disk.create(task.queue.layout.cancel_file(task.id), [])
        store(here()._replace(queue=task.queue), task.spec, entry[1])

    def release(self) -> None:
        """Put all that is kept back into the queue now."""
        with self.lock:
            self._room = None
            while self._held:
                self._put(*self._held.popleft())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; `wait` for those there are, or cancel those that have not started."""
        with self.lock:
            self._closed = True
        tasks = list(self._tasks)
        if cancel_futures:
            for task in tasks:
                task.cancel()
        if wait:
            with lending():
                concurrent.futures.wait(tasks)
        else:
            self.release()


_executors: weakref.WeakSet[Executor] = weakref.WeakSet()


def _release_all() -> None:
    for executor in list(_executors):
        with contextlib.suppress(OSError):
            executor.release()


atexit.register(_release_all)
register_reference(ExecutorTask, lambda task: task.id)
