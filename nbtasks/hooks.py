"""Where others have a word when somebody waits: slots lend their place, the notebook binds what came back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager

# A slot puts in here what lends its place to others while its task waits for another task.
before_wait: list[Callable[[], AbstractContextManager[object]]] = []
# The slot that this process is, by name; "" for others.
slot = ""
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


def bind_names() -> None:
    """Let the notebook bind what has come back, before a wait returns. Only on the main thread."""
    if binding_hooks and threading.current_thread() is threading.main_thread():
        for hook in [*binding_hooks]:  # one may take itself out
            hook()
