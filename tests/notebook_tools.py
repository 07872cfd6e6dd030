"""Notebooks made for tests, and what nbclient alone makes of them."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import nbformat
import zmq
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
_PROCESS = re.compile(r"ipykernel_\d+")  # in the names of cells' files
_MODEL = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


def write(path: Path, *cells: str | tuple[str, ...], kernel: dict[str, str] | None = KERNEL) -> Path:
    """A notebook of these cells: code, ``# Heading`` as text, or (code, tag, tag)."""
    made = []
    for cell in cells:
        source, *tags = (cell,) if isinstance(cell, str) else cell
        if source.startswith("# ") and "\n" not in source:
            made.append(nbformat.v4.new_markdown_cell(source))
        else:
            made.append(nbformat.v4.new_code_cell(source, metadata={"tags": tags} if tags else {}))
    metadata = {"kernelspec": kernel} if kernel else {}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=metadata), path)
    return path


class _Client(NotebookClient):
    """nbclient, which hangs when an Output widget answers in the moment of a reply: the event loop is not told of that."""

    def process_message(self, *args: Any) -> Any:
        try:
            return super().process_message(*args)
        finally:
            self.kc.shell_channel.socket.get(zmq.EVENTS)


def alone(path: Path, folder: Path) -> Any:
    """The notebook as nbclient alone leaves it, also when a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    # Sockets in our own folder: to a port, others on this machine could connect.
    config = Config({"KernelManager": {"transport": "ipc", "ip": str(folder / "socket")}})
    with contextlib.suppress(CellExecutionError):
        _Client(notebook, config=config, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def shown(notebook: Any) -> str:
    """Everything that the cells of a notebook show, and its widgets; names of widgets by their order, as they are random, and no number of the process."""
    facts = [
        {"source": cell.source, "outputs": _joined(cell.get("outputs", [])), "count": cell.get("execution_count")}
        for cell in notebook.cells
    ]
    widgets = notebook.metadata.get("widgets", {})
    states = sorted(widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {}).values(), key=_kind)
    text = _PROCESS.sub("ipykernel_N", json.dumps([facts, states], indent=1, sort_keys=True))
    numbers = {name: f"widget {number}" for number, name in enumerate(dict.fromkeys(_MODEL.findall(text)))}
    return _MODEL.sub(lambda match: numbers[match[0]], text)


def _joined(outputs: list[Any]) -> list[Any]:
    """The same with texts of one stream in one piece: where the kernel cuts them hangs on the time."""
    found: list[Any] = []
    for one in outputs:
        last = found[-1] if found else {}
        if one["output_type"] == last.get("output_type") == "stream" and one["name"] == last["name"]:
            found[-1] = {**last, "text": last["text"] + one["text"]}
        else:
            found.append(one)
    return found


def _kind(state: Any) -> str:
    return _MODEL.sub("", json.dumps(state, sort_keys=True))


def read(path: Path | str) -> Any:
    """A notebook from its file, checked."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def outputs(notebook: Any) -> list[str]:
    """The text of each code cell's outputs."""
    found = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            texts = [
                one.get("text") or one.get("data", {}).get("text/plain") or one.get("evalue") or ""
                for one in cell.outputs
            ]
            found.append("".join(texts))
    return found
