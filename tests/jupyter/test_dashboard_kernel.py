"""``%tasks`` through a real kernel: what its cell shows with and without widgets, and what a press does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nbtasks.queue.directory import Queue
from tests.jupyter.kernel import Cell, Gate, Kernel
from tests.queue.tools import put

WIDGET = "application/vnd.jupyter.widget-view+json"


class Widgets:
    """The widgets of a kernel, as a page knows them from its messages."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.models: dict[str, dict[str, Any]] = {}
        kernel.hear = self._hear

    def _hear(self, message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "comm_open" and content["target_name"] == "jupyter.widget":
            self.models[content["comm_id"]] = dict(content["data"]["state"])
        elif message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            self.models.setdefault(content["comm_id"], {}).update(content["data"]["state"])
        elif message["msg_type"] == "comm_close":
            self.models.pop(content["comm_id"], None)

    def find(self, kind: str, **state: object) -> str:
        """The id of the widget of a kind, such as ``ButtonModel``, with this state."""
        (found,) = [
            id for id, model in self.models.items()
            if model.get("_model_name") == kind and all(model.get(name) == value for name, value in state.items())
        ]  # fmt: skip
        return found

    def send(self, id: str, data: dict[str, Any]) -> None:
        """As the page does when somebody uses a widget."""
        client = self.kernel.client
        client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": id, "data": data}))

    def press(self, text: str) -> None:
        """Press a button."""
        self.send(self.find("ButtonModel", description=text), {"method": "custom", "content": {"event": "click"}})

    def set(self, id: str, **state: object) -> None:
        """Change a control."""
        self.send(id, {"method": "update", "state": state, "buffer_paths": []})

    @property
    def text(self) -> str:
        """All that the HTML widgets show."""
        shown = [str(model.get("value")) for model in self.models.values() if model.get("_model_name") == "HTMLModel"]
        return re.sub(r"<[^>]*>", " ", "\n".join(shown))


@pytest.fixture
def page(folder: Path, env: dict[str, str]) -> Iterator[Widgets]:
    with Kernel(folder, env, attended=True) as kernel:
        widgets = Widgets(kernel)
        kernel.load()
        yield widgets


def table_of(cell: Cell) -> dict[str, Any]:
    (bundle,) = [bundle for bundle in cell.displays.values() if "text/html" in bundle]
    return bundle


def test_without_anybody_before_a_page_the_table_alone_is_shown(kernel: Kernel) -> None:
    kernel.run("def add(x): return x + 1\nnbtasks.map(add, range(3)).results()")
    cell = kernel.run("%tasks")
    assert cell.status == "ok", cell.error
    assert len(cell.displays) == 1
    assert re.search(r"\(v\) \w{4}  add +succeeded", table_of(cell)["text/plain"])
    (shown,) = [message for message in cell.messages if message["msg_type"] == "display_data"]
    assert shown["content"]["metadata"]["nbtasks"]["part"] == "table"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("faild", "'faild' is no status; did you mean failed?"),
        ("--lan gpu", "no option --lan; did you mean --lane?"),
    ],
)
def test_what_cannot_be_is_one_line(kernel: Kernel, line: str, said: str) -> None:
    cell = kernel.run(f"%tasks {line}")
    assert cell.status == "error"
    assert cell.text == f"UsageError: %tasks: {said}\n"


def test_the_dashboard_shows_tasks_of_others_and_cancels_them(page: Widgets) -> None:
    kernel = page.kernel
    gate = Gate(kernel)
    task = kernel.run(f"%%background --as mine -n train\n{gate.code}")
    assert task.status == "ok", task.error
    cell = kernel.run("%tasks")
    assert cell.status == "ok", cell.error
    assert any(WIDGET in bundle for bundle in cell.displays.values())
    kernel.until(lambda: " train " in page.text and "running" in page.text, "the task in the dashboard")
    elsewhere = put(Queue.open(str(kernel.folder / ".nbtasks")), "from a terminal", lane="elsewhere")
    kernel.until(lambda: "from a terminal" in page.text, "the task of another process")
    page.set(page.find("CheckboxModel", description=elsewhere.short), value=True)
    kernel.until(
        lambda: any(m.get("description") == f"Cancel {elsewhere.short}" for m in page.models.values()), "button"
    )
    page.press(f"Cancel {elsewhere.short}")
    kernel.until(lambda: "1 task cancelled" in page.text, "the cancel")
    assert Queue.open(str(kernel.folder / ".nbtasks")).record(elsewhere.id).status == "cancelled"
    gate.open()
    kernel.until(lambda: "succeeded" in page.text, "the end of the other")
    page.press("Close")
    kernel.until(lambda: "succeeded" in table_of(cell)["text/plain"], "the table in the place of the dashboard")
    kernel.until(lambda: not [m for m in page.models.values() if m.get("description") == "Close"], "no widgets")
    assert [bundle for bundle in cell.displays.values() if WIDGET in bundle] == []


def test_tasks_again_takes_the_dashboard_along(page: Widgets) -> None:
    kernel = page.kernel
    first = kernel.run("%tasks")
    second = kernel.run("%tasks --mine")
    kernel.until(lambda: not any(WIDGET in bundle for bundle in first.displays.values()), "the first to be a table")
    assert any(WIDGET in bundle for bundle in second.displays.values())
    assert "no tasks" in table_of(first)["text/plain"]
    third = kernel.run("%tasks --static")
    assert not any(WIDGET in bundle for bundle in third.displays.values())


def test_after_a_restart_the_same_widget_comes_back(page: Widgets) -> None:
    kernel = page.kernel
    put(Queue.open(str(kernel.folder / ".nbtasks")), "still there", lane="elsewhere")

    def view() -> str:
        cell = kernel.run("%tasks")
        (found,) = [bundle[WIDGET]["model_id"] for bundle in cell.displays.values() if WIDGET in bundle]
        kernel.until(lambda: "still there" in page.text, "the task")
        return str(found)

    before = view()
    page.models.clear()
    kernel.restart()
    kernel.load()
    assert view() == before
    assert json.dumps(page.models[before])
