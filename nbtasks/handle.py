"""Task: the handle of one submitted piece of work, a `concurrent.futures.Future` whose truth lies in the directory.

Nothing runs in this process while nobody waits: the state is looked up when it is asked for. Whoever wants to be
told (a callback, ``concurrent.futures.wait``, an event loop) takes the future's condition, and that starts the watching.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Generator
from concurrent.futures import CancelledError, Future
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED
from typing import TYPE_CHECKING, Any, TypeVar, cast

from nbtasks import ends, notebook_lending, payload
from nbtasks.cached import Cached
from nbtasks.cycles import refuse_cycles
from nbtasks.ends import Ending
from nbtasks.errors import NbtasksError
from nbtasks.hooks import before_wait, bind_names, binding_hooks, in_pieces, lending
from nbtasks.queue import lookup
from nbtasks.queue.directory import Queue
from nbtasks.queue.lookup import Place
from nbtasks.spec import Spec, seconds
from nbtasks.status import Status
from nbtasks.watching import watcher_of

if TYPE_CHECKING:
    import asyncio

__all__ = ["Task", "attach", "before_wait", "bind_names", "binding_hooks", "lending", "new_task", "renew"]

T = TypeVar("T")


class Task(Cached, Future[T]):
    """One submitted piece of work. Made by `submit`, `map`, `get` and their kin, never by hand.

    Everything of `concurrent.futures.Future`, and more. Picklable, awaitable, equal by id; it may be waited for
    again after a timeout. Interrupting a wait, or dropping the handle, leaves the task alone.
    """

    def __init__(self, queue: Queue, id: str, generation: int = 1, spec: Spec | None = None) -> None:
        self._cond: threading.Condition
        self._followed = True  # not before we are complete
        super().__init__()
        self.queue = queue
        self.id = id
        self.generation = generation
        self.bell = spec.bell if spec is not None else ""
        self._spec = spec
        self._place: Place | None = None  # once it has ended
        self._loaded = False
        self._ending: Ending | None = None
        self._followed = False

    # The standard library's part. It reads `_condition`, `_state`, `_waiters` and `_done_callbacks` from outside.

    @property
    def _condition(self) -> threading.Condition:
        if not self._followed and self._place is None:
            self._followed = True
            watcher_of(self.queue).follow(self)
        return self._cond

    @_condition.setter
    def _condition(self, condition: threading.Condition) -> None:
        self._cond = condition

    @property
    def has_ended(self) -> bool:
        """True once its end was noted here; `done` also looks."""
        return self._place is not None

    def look(self) -> bool:
        """Look on the disk whether it has ended. True: it has."""
        if self._place is None and (place := ends.find_end(self.queue, self.id, self.generation)):
            self.note_end(place)
        return self._place is not None

    def note_end(self, place: Place) -> None:
        """Take note that it has ended, and tell whoever waits. Twice is once."""
        with self._cond:
            if self._place is not None:
                return
            self._place = place
            cancelled = place.status is Status.CANCELLED
            self._state = CANCELLED_AND_NOTIFIED if cancelled else FINISHED
            for waiter in self._waiters:
                if cancelled:
                    waiter.add_cancelled(self)
                elif place.status is Status.FAILED:
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
            self._cond.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]  # not in typeshed

    def wait_for_note(self, timeout: float | None) -> None:
        """Sleep until another thread notes the end, or `timeout` seconds pass."""
        with self._cond:
            if self._place is None:
                self._cond.wait(timeout)

    def done(self) -> bool:
        """True when it has succeeded, failed or been cancelled."""
        return self.look()

    def running(self) -> bool:
        """True while a slot runs it."""
        return self.status is Status.RUNNING

    def cancelled(self) -> bool:
        """True when it was cancelled."""
        return self.look() and self._get_place().status is Status.CANCELLED

    def result(self, timeout: float | str | None = None) -> T:
        """Wait for the end and give the value, or raise what the task raised.

        Raises the original exception with the remote traceback as its cause, or TaskFailed (TaskLost, TaskTimedOut,
        UpstreamFailed) where there is none; CancelledError; TimeoutError after `timeout` seconds (or ``"10m"``):
        the task goes on then, and may be waited for again.
        """
        self._wait(timeout)
        bind_names()
        self._load()
        try:
            if self._exception is not None:
                raise self._exception
            return cast(T, self._result)
        finally:
            self = None  # type: ignore[assignment]  # breaks the cycle of exception, traceback and frame

    def exception(self, timeout: float | str | None = None) -> BaseException | None:
        """Wait for the end and give what the task raised, or None. Raises CancelledError and TimeoutError."""
        self._wait(timeout)
        bind_names()
        self._load()
        return self._exception

    def _wait(self, timeout: float | str | None) -> None:
        limit = seconds("timeout", timeout)
        if not self.look():
            refuse_cycles([self])
            with lending():
                any(watcher_of(self.queue).wait(self, piece) for piece in in_pieces(limit))
        if self._place is None:
            raise TimeoutError(f"{self!r} after {limit:g} s; it goes on, and can be waited for again")
        if self._place.status is Status.CANCELLED:
            bind_names()
            reason = self.reason
            raise CancelledError(f"{self.name} ({self.short}) was cancelled{f': {reason}' if reason else ''}")

    def _load(self) -> None:
        with self._cond:  # of two threads one reads, and both get the same object
            if self._loaded:
                return
            place = self._get_place()
            if place.status is Status.SUCCEEDED:
                self._result = ends.read_value(self.queue, place)
            else:
                self._exception = self._error(self._read_ending())
            self._loaded = True

    def _error(self, ending: Ending) -> BaseException:
        return ends.error_of(self.queue, self.spec, ending)

    def __await__(self) -> Generator[Any, None, T]:
        """The result, in an event loop. When the awaiting code is cancelled or times out, the task goes on."""
        import asyncio

        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(lambda: None if waiter.done() else waiter.set_result(None))

        self.add_done_callback(tell)
        yield from waiter
        return self.result()

    # Changing one's mind.

    def cancel(self) -> bool:
        """Cancel it: at once while it waits, by KeyboardInterrupt while it runs. False when it has ended otherwise.

        A running task has its grace to stop; `cancelled` says when it has. What it still returns is in `value`.
        """
        return self._cancel(force=False)

    def terminate(self) -> bool:
        """Cancel it, beginning with SIGTERM. False when it has ended otherwise."""
        return self._cancel(force=True)

    def _cancel(self, force: bool) -> bool:
        if not self.look() and self.queue.cancel(self.id, force=force):
            self.look()
            return True
        return self.cancelled()

    def retry(self) -> Task[T]:
        """Run it again after it failed or was cancelled, with one attempt more. This handle keeps the old end.

        Returns the new handle. Raises OptionError when the task lives or has succeeded.
        """
        self.look()
        ticket = self.queue.retry(self.id)
        return cast("Task[T]", attach(self.queue, self.id, ticket.delivery, kind=type(self)))

    # Being the same.

    def __repr__(self) -> str:
        try:
            return f"<Task {self.name} {self.short} {self.status}>"
        except (NbtasksError, OSError):
            return f"<Task {self.short}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Task):
            return NotImplemented
        return self.id == other.id and self.generation == other.generation

    def __hash__(self) -> int:
        return hash((self.id, self.generation))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.queue.root, self.id, self.generation)

    def forget_waiters(self) -> None:
        """In the child of a fork: who waited is in the parent, and nobody watches for us yet."""
        self._cond, self._followed = threading.Condition(), False
        self._waiters: list[Any] = []
        self._done_callbacks: list[Any] = []


_handles: weakref.WeakValueDictionary[tuple[str, str, int], Task[Any]] = weakref.WeakValueDictionary()
_generations: dict[tuple[str, str], int] = {}  # of tasks that were retried from here
_making = threading.Lock()


def new_task(queue: Queue, spec: Spec, kind: type[Task[Any]] = Task) -> Task[Any]:
    """The handle of a task that was put just now."""
    task = _handles[queue.root, spec.id, 1] = kind(queue, spec.id, 1, spec)
    return task


def attach(
    queue: Queue, id: str, generation: int = 0, *, spec: Spec | None = None, kind: type[Task[Any]] = Task
) -> Task[Any]:
    """The one handle of a task in this process; `generation` 0 is the latest that is known here."""
    with _making:
        if generation:
            known = max(generation, _generations.get((queue.root, id), 1))
            if known > 1:
                _generations[queue.root, id] = known
        else:
            generation = _generations.get((queue.root, id), 1)
        task = _handles.get((queue.root, id, generation))
        if task is None:
            task = _handles[queue.root, id, generation] = kind(queue, id, generation, spec)
        return task


def latest_generation(queue: Queue, id: str) -> int:
    """The first delivery that counts for a task, as far as it was retried from here."""
    return _generations.get((queue.root, id), 1) if _generations else 1


def renew(task: Task[Any]) -> Task[Any]:
    """`task`, or a newer handle when it was retried from elsewhere since it ended here."""
    if not task.has_ended:
        return task
    place = lookup.locate(task.queue, task.spec)
    known = task._get_place().ticket.delivery
    if place is None or place.ticket.delivery <= known:
        return task
    return attach(task.queue, task.id, known + 1, kind=type(task))


def _restore(root: str, id: str, generation: int) -> Task[Any]:
    return attach(Queue.open(root, create=False), id, generation)


def _after_fork() -> None:
    global _making
    _making = threading.Lock()
    for task in list(_handles.values()):
        task.forget_waiters()


payload.register_reference(Task, lambda task: task.id)
notebook_lending.register()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
