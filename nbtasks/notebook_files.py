"""A notebook as data: read and checked, its cells that run, their headings, where its executed copy goes.

Only the standard library: whoever submits a notebook need not pay for nbformat.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbtasks.errors import OptionError

Cell = dict[str, Any]
Content = dict[str, Any]  # what stands in a notebook file, as of nbformat 4

SKIPPED = "skip-execution"  # the tag that nbclient heeds
_ENDING = ".ipynb"
_PAGE = ".html"
_FIELD = re.compile(r"\{([^{}]*)\}")
_FIELDS = ("name", "id", "date", "time")
_NO_FILE_NAME = re.compile(r'[\\/:*?"<>|\s]+')


@dataclass(frozen=True)
class NotebookCall:
    """What travels of a notebook task, beside its parameters: the notebook as it was when it was submitted."""

    path: str  # of the notebook; the folder is where it runs
    content: Content
    kernel: str
    kernel_folder: str  # where its specification lies
    output: str = ""  # pattern of the executed copy's path; "": beside the notebook, or the page
    page: str = ""  # pattern of the HTML page's path; "": none
    only_page: bool = False  # when all went well, the page alone is left
    cell_timeout: float | None = None  # seconds
    resume: bool = False
    files: tuple[tuple[str, str], ...] | None = (
        None  # that its key in the cache stands for: path and SHA-256; None: no key
    )


@dataclass(frozen=True)
class EarlierRun:
    """How far a run came that did not come to its end: what the next one needs to go on from there."""

    task: str  # its id
    copy: str  # path of its executed copy
    number: int  # of the cell that did not end well, counted from 1 among those that run
    sources: tuple[str, ...]  # of the cells that run, up to and with that one
    left_out: tuple[str, ...] = ()  # variables that could not be kept


# Reading.


def read(path: str | os.PathLike[str]) -> tuple[str, Content]:
    """The absolute path of a notebook and what it says, as nbformat 4. Raises OptionError when it is no notebook."""
    if not isinstance(path, (str, os.PathLike)):
        raise OptionError(f"{path!r} is no path of a notebook: give one, 'report.ipynb'")
    path = os.path.abspath(os.path.expanduser(os.fspath(path)))
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise OptionError(f"there is no notebook {path}{_near(path)}") from None
    except IsADirectoryError:
        raise OptionError(f"{path} is a folder: give a notebook in it, a file that ends in {_ENDING}") from None
    except UnicodeDecodeError:
        raise OptionError(f"{path} is no notebook: it is no text") from None
    except OSError as error:
        raise OptionError(f"the notebook {path} cannot be read: {error.strerror}") from None
    return path, _parse(path, text)


def _near(path: str) -> str:
    folder, name = os.path.split(path)
    try:
        there = [entry for entry in os.listdir(folder) if entry.endswith(_ENDING)]
    except OSError:
        return f", nor the folder {folder}"
    near = difflib.get_close_matches(name, there, 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _parse(path: str, text: str) -> Content:
    try:
        content = json.loads(text)
    except ValueError as error:
        hint = "; a script goes to nbtasks run, its functions to nbtasks.submit" if path.endswith(".py") else ""
        if re.search(r"^<{7} ", text, re.M):
            hint = "; it has the marks of a merge conflict, which must be resolved first"
        raise OptionError(f"{path} is no notebook: it is no JSON ({error}){hint}") from None
    version = content.get("nbformat") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise OptionError(f"{path} is no notebook: it is JSON, but has no 'nbformat'")
    if version > 4:
        raise OptionError(
            f"{path} has the notebook format {version}, and formats up to 4 are known here: update nbformat"
        )
    if version < 4:
        content = _upgraded(path, text)
    cells = content.get("cells")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) and "cell_type" in cell for cell in cells):
        raise OptionError(f"{path} is no notebook: it has no list of cells")
    if damaged := [number for number, cell in enumerate(cells, 1) if not _is_text(cell.get("source", ""))]:
        raise OptionError(f"{path} is damaged: the source of cell {damaged[0]} is no text; open and save it once")
    if not any(is_run(cell) for cell in cells):
        raise OptionError(f"{path} has no cell that could be run")
    return dict(content)


def _upgraded(path: str, text: str) -> Content:
    import nbformat  # takes long to load; notebooks that old are rare

    try:
        content: Content = json.loads(nbformat.v4.writes(nbformat.reads(text, as_version=4)))
    except Exception as error:  # whatever it trips over in a damaged file
        raise OptionError(
            f"{path} is an old notebook that cannot be converted ({error}): open and save it once"
        ) from None
    return content


def _is_text(source: object) -> bool:
    return isinstance(source, str) or (isinstance(source, list) and all(isinstance(line, str) for line in source))


def source_of(cell: Mapping[str, Any]) -> str:
    """The text of a cell, which a file holds as a text or as lines."""
    source = cell.get("source") or ""
    return source if isinstance(source, str) else "".join(source)


def tags_of(cell: Mapping[str, Any]) -> list[str]:
    """The tags of a cell."""
    metadata = cell.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, Mapping) else None
    return list(tags) if isinstance(tags, (list, tuple)) else []


def is_run(cell: Mapping[str, Any]) -> bool:
    """Whether nbclient executes this cell."""
    return cell.get("cell_type") == "code" and bool(source_of(cell).strip()) and SKIPPED not in tags_of(cell)


def sources_of(content: Content) -> list[str]:
    """The texts of the cells that run."""
    return [source_of(cell) for cell in content["cells"] if is_run(cell)]


def kernel_of(content: Content) -> tuple[str, str]:
    """The kernel that the notebook names, and its language; "" where it names none."""
    spec, info = (_dict(_dict(content.get("metadata")).get(key)) for key in ("kernelspec", "language_info"))
    return str(spec.get("name") or ""), str(spec.get("language") or info.get("name") or "").lower()


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def without_outputs(content: Content) -> Content:
    """The notebook without what an earlier run left in the cells that will run."""
    empty: Cell = {"outputs": [], "execution_count": None}
    cells = [{"metadata": {}, "source": "", **cell, **(empty if is_run(cell) else {})} for cell in content["cells"]]
    return {"metadata": {}, "nbformat_minor": 0, **content, "cells": cells}


def heading_of(cells: Sequence[Mapping[str, Any]], index: int) -> str:
    """The heading that a cell stands under: the nearest one above it. "" when there is none."""
    for cell in reversed(cells[: index + 1]):
        if cell.get("cell_type") == "markdown":
            lines = [line.strip() for line in source_of(cell).splitlines()]
            headings = [line.lstrip("#").strip() for line in lines if re.match(r"#{1,6}\s+\S", line)]
            if headings:
                return headings[-1]
    return ""


# Where the copy goes.


def paths_of(call: NotebookCall, id: str, parameters: Mapping[str, object], moment: float) -> tuple[str, str]:
    """The paths of the executed copy and of the HTML page ("" for none) of the task `id`, begun at `moment`."""
    fields = {**{name: str(value) for name, value in parameters.items()}, **_own_fields(call.path, id, moment)}
    page = expand(call.page, fields)
    stem = os.path.splitext(page or call.path)[0]
    copy = expand(call.output, fields) if call.output else f"{stem}-{fields['id']}{_ENDING}"
    return copy, page


def _own_fields(path: str, id: str, moment: float) -> dict[str, str]:
    local = time.localtime(moment)
    name = os.path.splitext(os.path.basename(path))[0]
    short = id.rpartition("-")[2]
    return {"name": name, "id": short, "date": time.strftime("%Y-%m-%d", local), "time": time.strftime("%H%M", local)}


def expand(pattern: str, fields: Mapping[str, str]) -> str:
    """`pattern` with ``{name}`` and its like filled in; what could not stand in a file's name becomes ``-``."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in fields:
            near = difflib.get_close_matches(match[1], fields, 1)
            hint = f"did you mean {{{near[0]}}}?" if near else f"there are {', '.join(f'{{{one}}}' for one in fields)}"
            raise OptionError(f"output={pattern!r}: there is no {match[0]}; {hint}")
        return _NO_FILE_NAME.sub("-", fields[match[1]]).strip("-.") or "-"

    return _FIELD.sub(value, pattern)


def plan_output(
    call_path: str, output: str | os.PathLike[str] | None, html: bool, names: Sequence[str]
) -> dict[str, Any]:
    """The fields `output`, `page` and `only_page` of a NotebookCall. Raises OptionError for what cannot be written."""
    if output is not None and not isinstance(output, (str, os.PathLike)):
        raise OptionError(f"output={output!r} cannot be: give the name of a file, '{{name}}-{{id}}.ipynb'")
    given = os.path.abspath(os.path.expanduser(os.fspath(output))) if output is not None else ""
    only_page = given.endswith(_PAGE)
    if given and not only_page and not given.endswith(_ENDING):
        raise OptionError(
            f"output={os.fspath(output or '')!r} cannot be: give a name that ends in {_ENDING} or {_PAGE}"
        )
    page = given if only_page else ""
    copy = "" if only_page else given
    if html and not page:
        page = (os.path.splitext(copy or call_path)[0] + ("" if copy else "-{id}")) + _PAGE
    fields = {**dict.fromkeys(names, "x"), **dict.fromkeys(_FIELDS, "x"), "name": _own_fields(call_path, "", 0)["name"]}
    for one in filter(None, (copy, page)):
        if os.path.realpath(expand(one, fields)) == os.path.realpath(call_path):
            raise OptionError(f"output={one!r} is the notebook itself, which would be written over: give another name")
        check_folder(expand(one, fields))
    if not copy and not page:
        check_folder(call_path)
    return {"output": copy, "page": page, "only_page": only_page and not html}


def check_folder(path: str) -> None:
    """Raise OptionError when no file could be written at `path`. A folder that is missing can be made."""
    if os.path.isdir(path):
        raise OptionError(f"output={path!r} is a folder: give the name of a file in it")
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OptionError(
            f"the executed notebook could not be written to {os.path.dirname(path)} ({error.strerror}): "
            "give another place, output='…/{name}-{id}.ipynb'"
        ) from None


def write_whole(path: str, text: str) -> None:
    """Write a file so that whoever opens it finds the old text or the new one. Makes the folder. Raises OSError."""
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    hidden = os.path.join(folder, f".{name}.{os.getpid()}~")
    try:
        with open(hidden, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
        os.replace(hidden, path)
    except BaseException:
        if os.path.exists(hidden):
            os.unlink(hidden)
        raise
