"""Where others have a word when somebody waits: slots lend their place, the notebook binds what came back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

# A slot puts in here what lends its place to others while its task waits for another task.
before_wait: list[Callable[[], AbstractContextManager[object]]] = []
# The slot that the calling thread is, by name; "" for others.
slot_name: Callable[[], str] = str
# Where there is no queue (in a task that an engine runs): gives the one in which a named lock lies, or raises.
lock_queue: Callable[[str], Any] | None = None
# Around a wait for a lock: where tasks share a process, its holder may need what this one has there.
making_way: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext
# The notebook puts in here what binds names; called on the main thread before a wait returns.
binding_hooks: list[Callable[[], object]] = []


# The notebook puts in here what tells of a task: names not bound and why, and sentences; None: it is not of this one.
Told = tuple[Mapping[str, str], Sequence[str]]
tellers: list[Callable[[str], Told | None]] = []


def told(id: str) -> Told | None:
    """What this notebook has to say on the card of a task; None when the task brings nothing back here."""
    return next((said for teller in tellers if (said := teller(id)) is not None), None)


@contextlib.contextmanager
def lending() -> Generator[None]:
    """Around every wait: whoever registered in `before_wait` is told that this thread now waits."""
    with contextlib.ExitStack() as stack:
        for make in before_wait:
            stack.enter_context(make())
        yield


# A process whose threads run tasks sets this: only between two steps of Python code can a thread be interrupted.
longest_wait: float | None = None  # seconds


def in_pieces(seconds: float | None) -> Iterator[float | None]:
    """Timeouts for waits that go on for `seconds` (None: for ever), none longer than can be waited at once here."""
    if longest_wait is None:
        yield seconds
        return
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or (left := deadline - time.monotonic()) > 0:
        yield longest_wait if deadline is None else min(longest_wait, left)


def bind_names() -> None:
    """Let the notebook bind what has come back, before a wait returns. Only on the main thread."""
    if binding_hooks and threading.current_thread() is threading.main_thread():
        for hook in [*binding_hooks]:  # one may take itself out
            hook()
