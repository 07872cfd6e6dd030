"""A cell that reads a name which a live task will bring waits for it, and says so.

IPython shows every cell to its transformers of syntax trees before the cell runs; one of them may refuse it. So the
wait is over, and what came is bound, before the first statement runs; and a cell whose names do not come does not
run with what was there before.
"""

from __future__ import annotations

import ast
import concurrent.futures
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from IPython.core.error import InputRejected

from nbtasks import api, config
from nbtasks.handle import attach
from nbtasks.hooks import bind_names
from nbtasks.jupyter.bars import bars_of
from nbtasks.jupyter.binding import Binder, Owed
from nbtasks.jupyter.reading import names_awaited
from nbtasks.jupyter.sentences import Sentence, shown_as
from nbtasks.jupyter.words import clock, listed
from nbtasks.status import Status

_LOOK = 1.0  # seconds between two looks at how far it is
_Names = Mapping[str, Owed]


class Pending:
    """Looks at every cell of one shell before it runs; a transformer of syntax trees."""

    def __init__(self, binder: Binder, sentence: Callable[[], Sentence]) -> None:
        self._binder, self._sentence = binder, sentence
        self.armed = False  # only while a person's cell runs: front ends run code of their own, silently

    def visit(self, tree: ast.Module) -> ast.Module:
        """The tree as it is, when all that the cell reads is there. Raises InputRejected."""
        if self.armed and threading.current_thread() is threading.main_thread():
            mode = config.settings().pending
            if mode != "off":
                self._look(tree, mode == "wait")
        return tree

    def _look(self, tree: ast.Module, wait: bool) -> None:
        pending, missing = self._binder.pending(), self._binder.missing()
        if not pending and not missing:
            return
        read = names_awaited(tree, self._binder.namespace, pending.keys() | missing.keys())
        awaited = {name: pending[name] for name in read if name in pending}
        if not wait:
            if awaited:
                self._sentence().say(f"{_comes(awaited)}: this cell uses what is there now")
            return
        if awaited:
            self._wait(awaited)
        missing = self._binder.missing()
        self._reject({name: missing[name] for name in read if name in missing})

    def _wait(self, awaited: _Names) -> None:
        sentence = self._sentence()
        tasks = [attach(owed.queue, id) for id, owed in {owed.spec.id: owed for owed in awaited.values()}.items()]
        try:
            with interruptible():
                sentence.say(f"{_comes(awaited)}: waiting; Stop ends only the waiting")
                while concurrent.futures.wait(tasks, _LOOK).not_done:
                    sentence.say(f"{_comes(awaited)}: waiting; Stop ends only the waiting")
        except KeyboardInterrupt:
            who = listed(f"{task.name} {task.short}" for task in tasks)
            goes = "goes" if len(tasks) == 1 else "go"
            message = f"only the waiting was stopped: {who} {goes} on, and this cell did not run"
            raise shown_as(InputRejected(message), message) from None
        bind_names()
        came = listed(f"{name} from {owed.spec.short}" for name, owed in awaited.items())
        sentence.say(f"waited {clock(sentence.seconds)} for {came}")

    def _reject(self, missing: _Names) -> None:
        """Refuse the cell, once for each name: whoever runs it again knows what is missing."""
        if not missing:
            return
        said = []
        for name, owed in missing.items():
            owed.told.add(name)
            said.append(f"{name} was to come from {owed.missing[name]}")
        there = [name for name in missing if name in self._binder.namespace]
        what = f", with the {listed(there)} from before" if there else ""
        message = f"{'; '.join(said)}. This cell did not run; run it again to run it all the same{what}"
        raise shown_as(InputRejected(message), message)


def _comes(awaited: _Names) -> str:
    """``model and scores come from k7q2 (running, 35 %)``."""
    tasks: dict[str, list[str]] = {}
    for name, owed in awaited.items():
        tasks.setdefault(owed.spec.id, []).append(name)
    owed_by = {owed.spec.id: owed for owed in awaited.values()}
    return listed(
        f"{listed(names)} {'comes' if len(names) == 1 else 'come'} from {owed_by[id].spec.short} ({_how_far(owed_by[id])})"
        for id, names in tasks.items()
    )


def _how_far(owed: Owed) -> str:
    record = owed.queue.record(owed.spec.id)
    if record.status is not Status.RUNNING:
        return ", ".join(filter(None, [str(record.status), record.reason]))
    shares = [bar.fraction for bar in bars_of(record.progress()) if bar.fraction is not None]
    return f"running, {shares[0]:.0%}".replace("%", " %") if shares else "running"


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Stop raises KeyboardInterrupt here, also in a cell with ``await``, where ipykernel cancels a future instead."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait(tasks: list[Any] | None, timeout: float | None) -> api.Ended:
    """`nbtasks.wait`, which Stop always ends."""
    with interruptible():
        return api.wait(tasks, timeout=timeout)
