"""nbclient as a slot uses it: the cells one after another, told of before and after; what is kept when one fails.

This module brings nbclient; only `notebook_runs` imports it, when the kernel is on its way already.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from queue import Empty
from typing import Any

from nbtasks.homes import has_home
from nbtasks.notebook_files import Content, is_run

# nbformat brings jsonschema, and that, where it finds them, packages that know addresses, colours and dates: for checks
# of which nbformat asks none. One of them takes more than a second to load, all others a tenth.
_CHECKERS = (
    "fqdn", "idna", "isoduration", "jsonpointer", "rfc3339_validator", "rfc3986_validator", "rfc3987", "rfc3987_syntax",
    "uri_template", "webcolors",
)  # fmt: skip


@contextlib.contextmanager
def _light() -> Iterator[None]:
    """Let these packages be missing meanwhile. Only in a slot, which runs this notebook and no code of its user."""
    missing = [name for name in _CHECKERS if name not in sys.modules] if has_home() else []
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None: not to be imported
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


with _light():
    import nbformat
    import zmq
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

_FOR_EVER = 3e6  # seconds
_PATIENCE = 5.0  # seconds that a cell which is over its time has to end
_ABORTED = 20  # times a silent cell is sent again that the kernel has not looked at
_WIDGETS = "application/vnd.jupyter.widget-state+json"

Node = Any  # of nbformat: a dict whose keys are attributes, too


class OverTime(Exception):
    """A cell took longer than a cell may."""


class NotRestored(Exception):
    """The kernel could not take up the variables of an earlier run; it should not be used."""


class Client(NotebookClient):
    """Executes a notebook's cells from the `first` on, counted from 1 among those that run."""

    def __init__(
        self, node: Node, kernel: Any, *, before: Callable[[int, int], None], after: Callable[[], None],
        silent: Mapping[str, str], first: int = 1, cell_timeout: float | None = None,
    ) -> None:  # fmt: skip
        """`before` gets the number and the index of a cell. `silent` has the code to ``keep`` and to ``restore``."""
        super().__init__(node, km=kernel)
        self.before, self.after, self.silent, self.first, self.cell_timeout = before, after, silent, first, cell_timeout
        self.is_over = False

    def reset_execution_trackers(self) -> None:
        """As nbclient does, with the widgets of cells that are not executed again."""
        super().reset_execution_trackers()
        states = (self.nb.metadata.get("widgets") or {}).get(_WIDGETS, {}).get("state", {})
        for model, saved in states.items():
            self.widget_state[model] = dict(saved["state"])
            if saved.get("buffers"):
                self.widget_buffers[model] = {tuple(buffer["path"]): buffer for buffer in saved["buffers"]}

    async def async_execute_cell(
        self, cell: Node, cell_index: int, execution_count: int | None = None, store_history: bool = True
    ) -> Node:
        """Execute one cell, unless it is before the first. Raises as nbclient does, NotRestored or OverTime."""
        if not is_run(cell):
            return cell
        number = self.code_cells_executed + 1
        if number < self.first:
            self.code_cells_executed = number
            return cell
        if number == self.first > 1 and not await self.run_silently("restore"):
            raise NotRestored
        self.before(number, cell_index)
        self.is_over = False
        timer = asyncio.get_running_loop().call_later(self.cell_timeout or _FOR_EVER, self._end_cell)
        try:
            running = super().async_execute_cell(cell, cell_index, execution_count, store_history)
            return await asyncio.wait_for(running, self.cell_timeout and self.cell_timeout + _PATIENCE)
        except CellExecutionError:
            await self.run_silently("keep")
            raise
        finally:
            timer.cancel()
            self.after()
            if self.is_over:  # whatever the cell made of being interrupted
                raise OverTime

    def process_message(self, msg: dict[str, Any], cell: Node, cell_index: int) -> Node | None:
        """As nbclient does. Then a look whether the kernel has replied.

        An Output widget answers on the socket of the replies, past the event loop. If a reply comes at that moment the
        loop is not told, and would wait for it for ever.
        """
        try:
            return super().process_message(msg, cell, cell_index)
        finally:
            client: Any = self.kc
            client.shell_channel.socket.get(zmq.EVENTS)  # pyzmq tells the loop of what is there

    def _end_cell(self) -> None:
        self.is_over = True
        self.interrupt()

    def interrupt(self) -> None:
        """Interrupt what the kernel runs. For the thread of the event loop."""
        kernel: Any = self.km
        self._interrupting = asyncio.ensure_future(kernel.interrupt_kernel())

    async def run_silently(self, what: str) -> bool:
        """Run code of ours in the kernel, without a trace in the notebook. False when it failed or there is none."""
        code = self.silent.get(what)
        if not code:
            return False
        client: Any = self.kc
        for _ in range(_ABORTED):
            status = await self._reply_to(client.execute(code, silent=True, store_history=False, stop_on_error=False))
            if status != "aborted":  # as what comes right behind an error may be
                break
            await asyncio.sleep(0.02)
        return status == "ok"

    async def _reply_to(self, message: str) -> str:
        client: Any = self.kc
        kernel: Any = self.km
        while True:
            try:
                reply = await client.shell_channel.get_msg(timeout=1)
            except Empty:
                if not await kernel.is_alive():
                    return "dead"
                continue
            if reply["parent_header"].get("msg_id") == message:
                return str(reply["content"]["status"])


def node_of(content: Content) -> Node:
    """The notebook as nbformat has it in memory."""
    return nbformat.v4.to_notebook(copy.deepcopy(content))


def text_of(node: Node) -> str:
    """The notebook as it stands in a file."""
    return str(nbformat.v4.writes(node, ensure_ascii=False)) + "\n"


def take_over(node: Node, path: str, first: int) -> bool:
    """Put the outputs of the cells before the `first` into `node`, from the copy at `path`; False when it lacks them."""
    try:
        with open(path, encoding="utf-8") as file:
            old = nbformat.v4.to_notebook(json.load(file))
        run, done = ([cell for cell in one.cells if is_run(cell)][: first - 1] for one in (node, old))
        if [cell.source for cell in run] != [cell.source for cell in done]:
            return False
        for cell, earlier in zip(run, done, strict=True):
            cell.outputs, cell.execution_count = earlier.outputs, earlier.execution_count
            if "execution" in earlier.metadata:
                cell.metadata["execution"] = earlier.metadata["execution"]
    except (OSError, ValueError, KeyError, AttributeError):
        return False
    if "widgets" in old.metadata:
        node.metadata["widgets"] = old.metadata["widgets"]
    return True


__all__ = [
    "CellExecutionError", "Client", "DeadKernelError", "Node", "NotRestored", "OverTime", "node_of", "take_over", "text_of",
]  # fmt: skip
