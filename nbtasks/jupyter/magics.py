"""The magics ``%%background``, ``%background``, ``%tasks``, ``%task`` and ``%wait``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import psutil
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand

from nbtasks import api, config
from nbtasks.errors import OptionError
from nbtasks.jupyter import asked, dashboard, remembered
from nbtasks.jupyter.again import Again, Origin, Verdict
from nbtasks.jupyter.asked import TASK, TASKS, WAIT, CellOptions
from nbtasks.jupyter.binding import Binder, Owed
from nbtasks.jupyter.completing import completer
from nbtasks.jupyter.dashboard_filters import Filters, statuses_of
from nbtasks.jupyter.handles import find_task
from nbtasks.jupyter.lines import Parser
from nbtasks.jupyter.live import Live, sender
from nbtasks.jupyter.pending import Pending
from nbtasks.jupyter.sending import Draft, draft, no_python, recur, submit
from nbtasks.jupyter.sentences import Sentence, plainly, shown_as
from nbtasks.jupyter.transforming import Transformer
from nbtasks.jupyter.verbs import Verbs
from nbtasks.queue.cache import Taken
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.spec import seconds


@magics_class
class TaskMagics(Magics):
    """The magics of one shell, with its cards and what it is owed."""

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self.binder = Binder(shell.user_ns, self._on_bound)
        self.live = Live(sender(shell), self.binder.said)
        self.again = Again(self.binder)
        self.verbs = Verbs(shell, self.live, self.binder, self._parent)
        self.pending = Pending(self.binder, lambda: Sentence(can_change=sender(shell) is not None))
        self._transformer = Transformer(shell)
        self._completer = completer(lambda: self.binder.namespace)
        self._kernel_start = psutil.Process().create_time()

    def load(self) -> None:
        """Look at every cell before it runs, and complete our lines."""
        self.shell.input_transformers_cleanup.append(self._transformer)
        self.shell.ast_transformers.append(self.pending)
        self.shell.Completer.custom_matchers.append(self._completer)

    def unload(self) -> None:
        """Leave the cells alone."""
        for listed, ours in (
            (self.shell.input_transformers_cleanup, self._transformer),
            (self.shell.ast_transformers, self.pending),
            (self.shell.Completer.custom_matchers, self._completer),
        ):
            if ours in listed:
                listed.remove(ours)

    def _on_bound(self, id: str) -> None:
        self.live.update(id)

    def begin_cell(self, *_: object) -> None:
        """A cell begins: what has ended is bound, and updates of cards go under its header."""
        self.live.cell = self._parent()
        self.again.begin_cell()
        self.pending.armed = True
        self.binder.bind_ended()

    def catch_up(self, *_: object) -> None:
        """Bind what has ended, and show it: at the end of a cell, and before a wait returns."""
        self.binder.bind_ended()
        self.live.catch_up()

    def end_cell(self, *_: object) -> None:
        """A cell has ended."""
        self.pending.armed = False
        self.catch_up()

    @cell_magic
    @plainly
    def background(self, line: str, cell: str) -> None:
        """Run the cell in the background."""
        __tracebackhide__ = True
        options = asked.cell_options(line)
        if not cell.strip():
            raise OptionError("%%background: the cell is empty")
        self._run("%%background", cell, options)

    @line_magic("background")  # type: ignore[arg-type]  # it wants a function without a name of its own
    @no_var_expand  # braces in it are Python's
    @plainly
    def background_line(self, line: str) -> None:
        """Run the rest of the line in the background."""
        __tracebackhide__ = True
        options, statement = asked.line_options(line)
        if not statement:
            raise OptionError("%background: there is nothing to run; %background --help says how it is used")
        self._run("%background", statement, options)

    def _run(self, magic: str, source: str, options: CellOptions) -> None:
        __tracebackhide__ = True
        pending = self.binder.pending() if config.settings().pending == "wait" else {}
        origin = self._origin(source if magic == "%background" else "")
        try:
            made = draft(Queue.open(), source, options, self.shell.user_ns, origin, pending)
        except SyntaxError as error:
            raise no_python(error, magic) from None
        if options.every or options.cron:
            schedule = recur(made, self.shell.user_ns)
            if options.handle:
                self.shell.user_ns[options.handle] = schedule
            return
        owed = self._owed(made)
        while owed is None:  # another submitter of the same was faster: what it has is taken, or the next one
            owed = self._owed(made)
        self.again.note(made.sent, owed.spec.id)
        self._keep(owed, options)

    def _owed(self, made: Draft) -> Owed | None:
        """What the notebook is owed for a cell, by a new task or another; None: another submitter took its place."""
        verdict = remembered.decide(made) if made.asked.cache else None
        if verdict is None:
            fresh = made.asked.fresh or made.asked.replace or made.cached is not None
            verdict = self.again.decide(made.sent, fresh=fresh)
        if verdict.record is not None:
            return self._take(made, verdict)
        try:
            return self._submit(made, verdict)
        except Taken:
            return None

    def _submit(self, made: Draft, verdict: Verdict) -> Owed:
        for record in verdict.others if made.asked.replace else ():
            _queue_of(record).cancel(record.id)
        owed = submit(made, self.shell.user_ns)
        owed.remarks = [_beside(record, verdict, made.asked.replace) for record in verdict.others]
        return owed

    def _take(self, made: Draft, verdict: Verdict) -> Owed:
        """Another task stands for this cell: what it brings is bound as if it had been submitted now."""
        assert verdict.record is not None
        owed = made.owed(verdict.record.spec, self.shell.user_ns)
        owed.remarks = [verdict.remark]
        return owed

    def _keep(self, owed: Owed, options: CellOptions) -> None:
        __tracebackhide__ = True
        self.binder.expect(owed)
        task = api.get(owed.spec.id)
        if options.handle:
            self.shell.user_ns[options.handle] = task
        self.verbs.show(task)
        self.binder.bind_ended()  # of one that had ended before
        if options.notify:
            self.live.notify(task)
        if options.wait or config.settings().wait:
            self.verbs.wait([task], None)
            self.verbs.raise_if_failed(task)

    @line_magic
    @plainly
    def tasks(self, line: str) -> None:
        """Show the tasks of the queue."""
        options = TASKS.parse_line(line)
        filters = Filters(
            statuses=statuses_of(options.status), lane=options.lane, name=options.name, mine=options.mine,
            all=options.all, notebook=_notebook(self.shell.user_ns),
        )  # fmt: skip
        dashboard.show(self.live, Queue.open(), filters, static=options.static)

    @line_magic
    @plainly
    def task(self, line: str) -> Any:
        """Show a task, or do something about it."""
        __tracebackhide__ = True
        options = TASK.parse_line(line)
        return self.verbs.do(options.verb, find_task(options.id, self.shell.user_ns), options.path)

    @line_magic
    @plainly
    def wait(self, line: str) -> None:
        """Wait until tasks have ended, and bind what they brought back."""
        options = WAIT.parse_line(line)
        tasks = [find_task(name, self.shell.user_ns) for name in options.ids] or None
        pending = self.verbs.wait(tasks, seconds("--timeout", options.timeout))
        if pending:
            names = ", ".join(f"{task.name} {task.short} ({task.status})" for task in pending[:5])
            message = f"the time is up; still there: {names}{' …' if len(pending) > 5 else ''}"
            raise shown_as(TimeoutError(message), message)

    def _parent(self) -> object:
        return getattr(self.shell.display_pub, "parent_header", None)

    def _origin(self, part: str) -> Origin:
        kernel = getattr(self.shell, "kernel", None)
        message = kernel.get_parent("shell") if kernel is not None else {}
        return Origin(
            number=_number(self.shell) if kernel is not None else None,
            cell_id=(message.get("metadata") or {}).get("cellId"),
            notebook=_notebook(self.shell.user_ns),
            kernel_start=self._kernel_start,
            part=part,
        )


def _queue_of(record: Record) -> Queue:
    """The queue of a record."""
    return Queue.open(record.store.root, create=False)


def _beside(record: Record, verdict: Verdict, replaced: bool) -> str:
    """What to say of another task of the same cell that was found alive."""
    if replaced:
        return f"{record.short} of this cell was cancelled for it"
    hint = f"`%task {record.short} cancel` stops it, `%%background --replace` stops it and runs the cell"
    return f"{record.short} of this cell runs on, with {verdict.differences[record.id]}: {hint}"


def _number(shell: Any) -> int:
    """The number of the running cell. `shell.execution_count` is that of the next one since IPython 9."""
    return len(shell.history_manager.input_hist_parsed) - 1


def _notebook(namespace: Mapping[str, Any]) -> str | None:
    """The name of the notebook's file, from what front ends tell: VS Code in a variable, Jupyter's server outside."""
    path = namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return os.path.basename(path) if isinstance(path, str) and path else None


def _documented(magic: Callable[..., Any], parser: Parser) -> None:
    magic.__doc__ = parser.format_help()


_documented(TaskMagics.background, asked.CELL)
_documented(TaskMagics.background_line, asked.LINE)
_documented(TaskMagics.tasks, TASKS)
_documented(TaskMagics.task, TASK)
_documented(TaskMagics.wait, WAIT)
