"""The executed copy of a notebook: its page, and what the cache keeps of it to bring it to another place."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nbtasks.notebook_files import Content, is_run, source_of, write_whole

PART = "copy"  # of an outcome: a Kept
_OF_RUN = ("outputs", "execution_count")


@dataclass(frozen=True)
class Kept:
    """What the cache keeps of a run."""

    text: str  # of the executed copy
    parameters: dict[str, object]  # that were put into it
    value: str = ""  # its path, when that is what the run gave


def changed_files(files: Iterable[tuple[str, str]]) -> list[str]:
    """Those of `files`, each with its SHA-256, that are not as they were."""
    return [path for path, hash in files if _hash_of(path) != hash]


def _hash_of(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def with_outputs(content: Content, executed: str) -> str:
    """The notebook `content`, with what its cells showed in the copy `executed`, as it stands in a file.

    Both have the same cells that run, but for their comments; texts between them may be others.
    """
    old = json.loads(executed)
    ran = iter([cell for cell in old["cells"] if is_run(cell)])
    cells = [_with_output(cell, next(ran)) if is_run(cell) else cell for cell in content["cells"]]
    cells = [{**cell, "source": source_of(cell).splitlines(keepends=True)} for cell in cells]
    metadata = dict(content["metadata"])
    metadata |= {key: old["metadata"][key] for key in ("language_info", "widgets") if key in old["metadata"]}
    merged = {**content, "cells": cells, "metadata": metadata}
    return json.dumps(merged, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _with_output(cell: dict[str, Any], ran: dict[str, Any]) -> dict[str, Any]:
    shown = {name: ran[name] for name in _OF_RUN}
    times = {name: ran["metadata"][name] for name in ("execution",) if name in ran["metadata"]}
    return {**cell, **shown, "metadata": {**cell["metadata"], **times}}


def write_page(page: str, node: Any) -> None:
    """Write the HTML page of a notebook, as nbformat has it in memory. Raises OSError."""
    from nbconvert import HTMLExporter  # heavy, and few ask for it

    exporter: Any = HTMLExporter()  # type: ignore[no-untyped-call]  # nbconvert has no types
    name = os.path.splitext(os.path.basename(page))[0]
    write_whole(page, exporter.from_notebook_node(node, {"metadata": {"name": name}})[0])


def bring(kept: Kept, content: Content, copy: str, page: str = "") -> None:
    """Write executed copy and page ("" for none) of the notebook `content` from what was kept. Raises OSError."""
    text = with_outputs(content, kept.text)
    if copy:
        write_whole(copy, text)
    if page:
        import nbformat  # a second and more, for a page alone

        write_page(page, nbformat.reads(text, as_version=4))
