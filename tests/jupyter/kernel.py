"""A real ipykernel, spoken to as JupyterLab speaks to it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty
from types import TracebackType
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

PATIENCE = 60.0  # seconds after which a test gives up; nothing waits that long


@dataclass
class Cell:
    """What came of one executed cell, also after it had returned."""

    id: str
    status: str = ""  # ok | error | "" while it runs
    error: str = ""
    text: str = ""  # of stdout and stderr
    idle: bool = False  # all that it sends while it runs has come
    displays: dict[str, dict[str, Any]] = field(default_factory=dict)  # by display id: the latest bundle
    updates: list[str] = field(default_factory=list)  # display ids of updates sent to this cell
    messages: list[dict[str, Any]] = field(default_factory=list, repr=False)  # all that it sent

    @property
    def over(self) -> bool:
        """The prompt is back."""
        return bool(self.status) and self.idle

    @property
    def card(self) -> str:
        """The only card of this cell, as plain text."""
        (bundle,) = self.displays.values()
        return str(bundle["text/plain"])

    @property
    def html(self) -> str:
        """The only card of this cell, as HTML."""
        (bundle,) = self.displays.values()
        return str(bundle["text/html"])


class Kernel:
    """One kernel with the working directory `folder`. A context manager; `kill` is kill -9."""

    def __init__(self, folder: Path, env: dict[str, str], *, attended: bool = False) -> None:
        """`attended`: cells are run as a page does, where somebody could be asked for input, so there are strips."""
        self.manager = KernelManager(kernel_name="python3")
        self.folder, self.env, self.attended = folder, env, attended
        self.hear: Callable[[dict[str, Any]], None] = lambda message: None  # gets all that the kernel publishes
        self.cells: dict[str, Cell] = {}
        self.client: BlockingKernelClient

    def __enter__(self) -> Kernel:
        self.manager.start_kernel(cwd=str(self.folder), env=self.env)
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def _connect(self) -> None:
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)

    def start(self, code: str, cell_id: str = "") -> Cell:
        """Execute without waiting."""
        message = self.client.session.msg("execute_request", {
            "code": code, "silent": False, "store_history": True, "user_expressions": {}, "stop_on_error": False,
            "allow_stdin": self.attended,
        }, metadata={"cellId": cell_id or secrets.token_hex(8)})  # fmt: skip
        self.client.shell_channel.send(message)
        cell = self.cells[message["header"]["msg_id"]] = Cell(message["header"]["msg_id"])
        return cell

    def run(self, code: str, cell_id: str = "") -> Cell:
        """Execute and wait for the prompt."""
        cell = self.start(code, cell_id)
        self.until(lambda: cell.over, f"the prompt after {code!r}")
        return cell

    def ask(self, expression: str) -> str:
        """The repr of an expression in the kernel."""
        cell = self.run(f"print(repr({expression}), end='')")
        assert cell.status == "ok", cell.error
        return cell.text

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Take messages in until `true()`."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.cells}"
            with suppress(Empty):
                self._take(self.client.get_iopub_msg(timeout=0.1))
            with suppress(Empty):
                while True:
                    reply = self.client.get_shell_msg(timeout=0)
                    if (cell := self.cells.get(reply["parent_header"]["msg_id"])) is not None:
                        cell.status = reply["content"]["status"]

    def _take(self, message: dict[str, Any]) -> None:
        self.hear(message)
        kind, content = message["msg_type"], message["content"]
        cell = self.cells.get(message["parent_header"].get("msg_id", ""))
        if kind == "update_display_data":
            display = content["transient"]["display_id"]
            for one in self.cells.values():  # as JupyterLab does: wherever it was displayed
                if display in one.displays:
                    one.displays[display] = content["data"]
            if cell is not None:
                cell.updates.append(display)
        if cell is None:
            return
        cell.messages.append(message)
        if kind == "stream":
            cell.text += content["text"]
        elif kind == "display_data":
            cell.displays[content["transient"].get("display_id", f"none-{len(cell.displays)}")] = content["data"]
        elif kind == "execute_result":
            cell.text += content["data"]["text/plain"]
        elif kind == "error":
            cell.error = "\n".join(content["traceback"])
        elif kind == "status" and content["execution_state"] == "idle":
            cell.idle = True

    def run_silently(self, code: str) -> bool:
        """Execute as front ends do for themselves; True when that failed."""
        id = self.client.execute(code, silent=True, store_history=False)
        cell = self.cells[id] = Cell(id)
        self.until(lambda: cell.over, f"the silent {code!r}")
        return cell.status != "ok"

    def forget(self) -> None:
        """Forget the cells so far."""
        self.cells.clear()

    def interrupt(self) -> None:
        """As the stop button does."""
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        """As the restart button does."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=False)
        self._connect()

    def kill(self) -> None:
        """kill -9, then a new kernel."""
        self.client.stop_channels()
        self.manager.signal_kernel(9)
        self.manager.restart_kernel(now=True)
        self._connect()

    def load(self) -> None:
        """Load the extension."""
        cell = self.run("%load_ext nbtasks\nimport nbtasks")
        assert cell.status == "ok", cell.error


class Gate:
    """Something that a task waits for until the test lets it go on."""

    def __init__(self, kernel: Kernel) -> None:
        self.path = kernel.folder / f"gate-{secrets.token_hex(4)}"

    @property
    def code(self) -> str:
        """A statement that waits at the gate; the names that it uses do not come back."""
        return f"import os as _os, time as _time\nwhile not _os.path.exists({str(self.path)!r}): _time.sleep(0.01)\n"

    def code_inside(self, indent: int) -> str:
        """The same, for a block that is indented by so many spaces; the first line is not."""
        return self.code.replace("\n", "\n" + " " * indent)

    def open(self) -> None:
        """Let the task go on."""
        self.path.touch()
