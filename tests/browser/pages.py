"""A notebook on a page, used as a person would: run a cell, wait for what it shows, press a button, reload, save."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import nbformat
from playwright.sync_api import ConsoleMessage, Dialog, Locator, Page, Request, expect

from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from tests.browser.servers import Server

PATIENCE = 30.0  # seconds after which a test gives up; nothing waits that long

_READY = "() => window.jupyterapp?.shell?.currentWidget?.context"
_CONNECT = """async () => {
    const panel = window.jupyterapp.shell.currentWidget
    await panel.context.ready
    await panel.sessionContext.ready
    await panel.revealed
    window.jupyterapp.shell.collapseLeft?.()
    window.runs = {}
}"""
_RUN = """([number, command]) => {
    const app = window.jupyterapp, notebook = app.shell.currentWidget.content
    if (number !== null) {
        notebook.deselectAll()
        notebook.activeCellIndex = number
        notebook.mode = 'command'
    }
    window.runs[number] = false
    app.commands.execute(command).then(() => { window.runs[number] = true })
}"""
_APPEND = """([source]) => {
    const model = window.jupyterapp.shell.currentWidget.content.model.sharedModel
    model.insertCell(model.cells.length, {cell_type: 'code', source, metadata: {trusted: true}})
    return model.cells.length - 1
}"""
_SET = "([number, source]) => window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells[number].setSource(source)"
_SAVE = "async () => { await window.jupyterapp.shell.currentWidget.context.save() }"
_KERNEL = "async (verb) => { await window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.[verb]() }"
_SPLASH = "#jupyterlab-splash"
_THEME = "async (name) => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme: name}) }"
_SHUT = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown() }"


def gate(name: str) -> str:
    """Code that waits until the test calls ``page.open_gate(name)``; the names that it uses do not come back."""
    return f"import os as _os, time as _time\nwhile not _os.path.exists({name!r}): _time.sleep(0.01)\n"


class NotebookPage:
    """The notebook at `path` on a page of `server`. Cells are counted from 0.

    What waits, waits for at most PATIENCE (or `within`) seconds and fails with what was there instead.
    `page` is Playwright's, for all that is not here.
    """

    def __init__(self, page: Page, server: Server, path: Path, shots: Path) -> None:
        self.page, self.server, self.path = page, server, path
        self.messages: list[str] = []  # of the console, and exceptions of the page's own code
        self.dialogs: list[str] = []  # alert, confirm, prompt: answered with no
        self.requests: list[str] = []  # addresses
        self._shots = shots
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.messages.append(f"exception: {error}"))
        page.on("dialog", self._on_dialog)
        page.on("request", self._on_request)
        page.set_default_timeout(PATIENCE * 1000)

    def _on_console(self, message: ConsoleMessage) -> None:
        self.messages.append(f"{message.type}: {message.text}")

    def _on_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(f"{dialog.type}: {dialog.message}")
        dialog.accept() if dialog.type == "beforeunload" else dialog.dismiss()

    def _on_request(self, request: Request) -> None:
        self.requests.append(request.url)

    # Coming and going.

    def open(self) -> None:
        """Go there, and wait until the kernel is ready."""
        self.page.goto(self.server.address(self.path), wait_until="commit")
        self._connect()

    def reload(self) -> None:
        """As the browser's button does. Returns when the kernel is connected again."""
        self.page.reload(wait_until="commit")
        self._connect()

    def _connect(self) -> None:
        self.page.wait_for_function(_READY)
        self.page.evaluate(_CONNECT)
        self.page.wait_for_selector(_SPLASH, state="detached")

    def close(self) -> None:
        """Close the tab; the kernel goes on."""
        self.page.close()

    def finish(self) -> None:
        """Close the tab and end all kernels of this notebook."""
        self.close()
        self.server.end_kernels(self.path)

    @property
    def theme(self) -> str:
        """``light`` or ``dark``."""
        return str(self.page.locator("body").get_attribute("data-jp-theme-name")).split()[-1].lower()

    def set_theme(self, theme: str) -> None:
        """``light`` or ``dark``, at once."""
        name = f"JupyterLab {theme.capitalize()}"
        self.page.evaluate(_THEME, name)
        self.page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")
        self.page.wait_for_selector(_SPLASH, state="detached")

    # Running.

    def start(self, cell: int) -> None:
        """Run a cell, without waiting for its prompt."""
        self.page.evaluate(_RUN, [cell, "notebook:run-cell"])

    def wait_prompt(self, cell: int, within: float = PATIENCE) -> None:
        """Wait until the cell's prompt is back."""
        self.page.wait_for_function("number => window.runs[number]", arg=cell, timeout=within * 1000)

    def run(self, cell: int, within: float = PATIENCE) -> None:
        """Run a cell and wait for its prompt."""
        self.start(cell)
        self.wait_prompt(cell, within)

    def run_all(self, within: float = PATIENCE) -> None:
        """Run all cells, and wait until all of them have run (or one has failed)."""
        self.page.evaluate(_RUN, [None, "notebook:run-all-cells"])
        self.page.wait_for_function("() => window.runs[null]", timeout=within * 1000)

    def append(self, source: str) -> int:
        """A new cell at the end; its number."""
        return int(self.page.evaluate(_APPEND, [source]))

    def change(self, cell: int, source: str) -> None:
        """Change what stands in a cell."""
        self.page.evaluate(_SET, [cell, source])

    def execute(self, source: str, within: float = PATIENCE) -> str:
        """Run `source` in a new cell at the end; what it printed or displayed, as text."""
        cell = self.append(source)
        self.run(cell, within)
        return self.text(cell)

    def restart_kernel(self) -> None:
        """As the restart button does."""
        self.page.evaluate(_KERNEL, "restart")

    def interrupt_kernel(self) -> None:
        """As the stop button does."""
        self.page.evaluate(_KERNEL, "interrupt")

    def shut_kernel(self) -> None:
        """Shut the kernel down; the page stays, without one."""
        self.page.evaluate(_SHUT)

    # Looking.

    def cell(self, cell: int) -> Locator:
        """A whole cell."""
        return self.page.locator(".jp-Notebook-cell").nth(cell)

    def output(self, cell: int) -> Locator:
        """All outputs of a cell: static cards, strips, what it printed."""
        return self.cell(cell).locator(".jp-Cell-outputArea")

    def text(self, cell: int) -> str:
        """The text of all outputs of a cell."""
        area = self.output(cell)
        return (area.text_content() or "").strip() if area.count() else ""

    def wait_text(self, cell: int, text: str | re.Pattern[str], within: float = PATIENCE) -> None:
        """Wait until the outputs of a cell have `text` in them."""
        expect(self.output(cell)).to_contain_text(text, timeout=within * 1000)

    def wait_no_text(self, cell: int, text: str | re.Pattern[str], within: float = PATIENCE) -> None:
        """Wait until the outputs of a cell do not have `text` in them."""
        expect(self.output(cell)).not_to_contain_text(text, timeout=within * 1000)

    def wait_for(self, cell: int, selector: str, within: float = PATIENCE) -> Locator:
        """Wait until the outputs of a cell have a visible element; the first one."""
        found = self.output(cell).locator(selector).first
        found.wait_for(state="visible", timeout=within * 1000)
        return found

    def button(self, name: str | re.Pattern[str], cell: int | None = None) -> Locator:
        """A button in the outputs (of one cell), by its accessible name or its title, or a part of it."""
        where = self.page.locator(".jp-Notebook") if cell is None else self.output(cell)
        return where.get_by_role("button", name=name).or_(where.locator("button").and_(where.get_by_title(name))).first

    def press(self, name: str | re.Pattern[str], cell: int | None = None) -> None:
        """Wait for a button and press it."""
        self.button(name, cell).click()

    # What it shares with its tasks.

    @property
    def folder(self) -> Path:
        """Where the notebook lies and its kernel and tasks run."""
        return self.path.parent

    @property
    def queue(self) -> Queue:
        """Its queue, once something was submitted."""
        return Queue.open(str(self.folder / ".nbtasks"), create=False)

    def open_gate(self, name: str) -> None:
        """Let a cell or task go on that waits by `gate`."""
        (self.folder / name).touch()

    def wait_status(self, id: str, *wanted: str, within: float = PATIENCE) -> Record:
        """Wait until a task, given by a part of its id, has one of these statuses, whatever the page shows."""
        deadline = time.monotonic() + within
        while (record := self.queue.record(self.queue.find(id))).status not in wanted:
            assert time.monotonic() < deadline, f"{id} is {record.status}: {record.reason}"
            self.page.wait_for_timeout(20)  # the page goes on meanwhile
        return record

    # Keeping.

    def save(self) -> dict[str, Any]:
        """Save the notebook; what is in the file then."""
        self.page.evaluate(_SAVE)
        return self.read()

    def read(self) -> dict[str, Any]:
        """What is in the saved file, as nbformat reads it."""
        found: dict[str, Any] = nbformat.read(self.path, as_version=4)
        return found

    def shot(self, name: str, cell: int | None = None) -> Path:
        """Keep a picture of the page, or of one cell, among the artefacts of this run; its path."""
        path = self._shots.with_name(f"{self._shots.name}-{name}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if cell is None:
            self.page.screenshot(path=path)
        else:
            self.cell(cell).screenshot(path=path)
        return path

    def took(self, what: str, seconds: float, aim: float) -> None:
        """Keep a time among the artefacts. Tests assert causes: seconds depend on what else the machine does."""
        self._shots.parent.mkdir(parents=True, exist_ok=True)
        line = f"{self._shots.name}: {what} {seconds:.2f} s (aim: {aim:g} s)"
        with self._shots.with_name("times.txt").open("a") as file:
            print(line, file=file)
        print(line)
