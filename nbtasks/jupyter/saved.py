"""The cards in a saved notebook: how the tasks ended is written into the file, and nothing else is changed.

For notebooks that were saved or closed while their tasks ran, before they are shown to somebody or go into git.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from nbtasks import config, outputs
from nbtasks.errors import NbtasksError, OptionError, TaskNotFound
from nbtasks.jupyter import ansi, render, words
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record

_WIDGET = "application/vnd.jupyter.widget-view+json"
_WIDGETS = "application/vnd.jupyter.widget-state+json"
_MODEL = re.compile(r'"IPY_MODEL_([^"]+)"')
_INDENTS = (1, 2, 4, "\t", None)


@dataclass
class Refreshed:
    """What was done to one file, or would be."""

    path: str
    cards: int = 0  # brought up to date
    strips: int = 0  # removed
    notes: list[str] = field(default_factory=list)  # about cards that were left as they are

    @property
    def changed(self) -> bool:
        """Whether the file is another one now."""
        return bool(self.cards or self.strips)

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {**asdict(self), "changed": self.changed}


def refresh(path: str, *, write: bool = True) -> Refreshed:
    """Write the final cards of ended tasks into the notebook at `path`, and take dead strips out.

    The tasks are looked for in the queue that was named (``-q``, ``NBTASKS_QUEUE``), else in those found from the
    notebook's folder upwards. Cards of tasks that live, are of another queue or are gone stay as they are, and are
    named. All else stays byte for byte. ``write=False`` only looks. Raises OptionError for what is no notebook.
    """
    file = _File(path)
    done = _Refresh(_Finder(os.path.dirname(os.path.abspath(path))), Refreshed(path))
    for cell in file.notebook["cells"]:
        if isinstance(cell, dict) and isinstance(cell.get("outputs"), list):
            cell["outputs"][:] = [output for output in cell["outputs"] if done.keeps(output)]
    if done.removed:
        _forget_models(file.notebook, done.removed)
    if write and done.told.changed:
        file.write()
    return done.told


class _Refresh:
    """One pass over the outputs of a notebook."""

    def __init__(self, finder: _Finder, told: Refreshed) -> None:
        self.finder, self.told = finder, told
        self.removed: set[str] = set()  # the widgets of strips

    def keeps(self, output: Any) -> bool:
        """Bring one output up to date; False when it is to go."""
        marker = _marker(output)
        if marker is None:
            return True
        if not marker["task"]:  # of `%tasks`: the table says as of when, and its dashboard has gone with its kernel
            return marker["part"] != "strip" or not self._remove(output)
        queue = self.finder.find(marker["queue"])
        record = self._find(queue, marker["task"])
        if marker["part"] == "strip":
            return queue is None or not (record is None or record.status.ended) or not self._remove(output)
        if marker["part"] == "card" and record is not None:
            self._write(output, record)
        return True

    def _find(self, queue: Queue | None, id: str) -> Record | None:
        short = ansi.one_line(id.rpartition("-")[2], 20)
        if queue is None:
            self._note(f"{short} is a task of another queue: its card is all there is here")
            return None
        try:
            return queue.record(id)
        except (TaskNotFound, OptionError):
            self._note(f"{short} is gone from {queue.root}: its card stays as it was saved")
            return None

    def _note(self, sentence: str) -> None:
        if sentence not in self.told.notes:
            self.told.notes.append(sentence)

    def _remove(self, output: dict[str, Any]) -> bool:
        view = output["data"].get(_WIDGET)
        if isinstance(view, dict) and isinstance(view.get("model_id"), str):
            self.removed.add(view["model_id"])
        self.told.strips += 1
        return True

    def _write(self, output: dict[str, Any], record: Record) -> None:
        if not record.status.ended:
            self._note(f"{record.short} {record.name} is {record.status}: its card stays as it was saved")
            return
        bundle = final_card(record)
        if _head(output["data"].get("text/plain")) != _head(bundle["text/plain"]):
            output["data"] = {kind: text.splitlines(keepends=True) for kind, text in sorted(bundle.items())}
            self.told.cards += 1


def final_card(record: Record) -> dict[str, str]:
    """The card of an ended task for a file that no kernel has open: its names were bound nowhere."""
    displays: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, ValueError):
        displays = outputs.outputs(b"", record.events())
    return render.card(record, now=time.time(), bound=False, outputs=displays)


def _head(text: object) -> str:
    # Status, times and why stand there. A card that agrees is final, and may say more about the notebook's names.
    joined = "".join(map(str, text)) if isinstance(text, list) else str(text)
    return joined.partition("\n")[0].strip()


def _marker(output: Any) -> dict[str, str] | None:
    """What an output of ours says it is: the id of a task, its queue, and which part of the card."""
    if not (isinstance(output, dict) and isinstance(output.get("data"), dict)):
        return None
    metadata = output.get("metadata")
    marker = metadata.get("nbtasks") if isinstance(metadata, dict) else None
    names = ("task", "queue", "part")
    if isinstance(marker, dict) and all(isinstance(marker.get(name), str) for name in names):
        return {name: marker[name] for name in names}
    return None


class _Finder:
    """Finds queues by the uuid that an output tells, from a folder upwards."""

    def __init__(self, folder: str) -> None:
        self._roots = self._upwards(folder)
        self._found: dict[str, Queue] = {}

    def _upwards(self, folder: str) -> Iterator[str]:
        if config.settings().queue:
            yield config.find_queue_root()
            return
        while os.path.exists(root := config.find_queue_root(start=folder)):
            yield root
            folder = os.path.dirname(os.path.dirname(root))

    def find(self, uuid: str) -> Queue | None:
        """The queue with this uuid, or None."""
        while uuid not in self._found:
            root = next(self._roots, None)
            if root is None:
                return None
            queue = Queue.open(root, create=False)
            self._found.setdefault(queue.uuid, queue)
        return self._found[uuid]


class _File:
    """A notebook file, written back in the style it was read in."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        try:
            with open(self.path, encoding="utf-8", newline="") as file:
                self._text = file.read()
            self.notebook = json.loads(self._text)
        except OSError as error:
            raise OptionError(f"{path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise OptionError(f"{path} is no notebook: {error}") from None
        self._check(path)
        self._newline = "\r\n" if "\r\n" in self._text else "\n"
        self._indent, self._ascii = self._find_style()

    def _check(self, path: str) -> None:
        version = self.notebook.get("nbformat") if isinstance(self.notebook, dict) else None
        if version is None or not isinstance(self.notebook.get("cells", []), list):
            raise OptionError(f"{path} is no notebook")
        if version != 4 or "cells" not in self.notebook:
            raise OptionError(
                f"{path} is a notebook of format {version}, and only 4 is known: save it anew with Jupyter"
            )

    def _find_style(self) -> tuple[int | str | None, bool]:
        whole = self._text.replace("\r\n", "\n").rstrip("\n")
        for indent in _INDENTS:
            for ascii in (False, True):
                if json.dumps(self.notebook, indent=indent, ensure_ascii=ascii) == whole:
                    return indent, ascii
        return 1, "\\u" in self._text  # written by hand: as Jupyter will write it

    def write(self) -> None:
        """Take the place of the file, at once and whole."""
        end = self._text[len(self._text.rstrip("\r\n")) :]
        text = (
            json.dumps(self.notebook, indent=self._indent, ensure_ascii=self._ascii).replace("\n", self._newline) + end
        )
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".ipynb", dir=os.path.dirname(self.path))
        try:
            with open(descriptor, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            shutil.copymode(self.path, name)
            os.replace(name, self.path)
        except BaseException:
            os.unlink(name)
            raise


def _forget_models(notebook: dict[str, Any], gone: set[str]) -> None:
    """Take the saved state of widgets out that only removed strips have shown."""
    try:
        widgets = notebook["metadata"]["widgets"]
        state = widgets[_WIDGETS]["state"]
        models = {id: set(_MODEL.findall(json.dumps(model))) for id, model in state.items()}
    except (KeyError, TypeError, AttributeError):
        return
    for id in _reached(models, gone) - _reached(models, _views(notebook)):
        del state[id]
    if not state:
        del widgets[_WIDGETS]
    if not widgets:
        del notebook["metadata"]["widgets"]


def _views(notebook: dict[str, Any]) -> Iterator[str]:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()) if isinstance(cell, dict) else ():
            with contextlib.suppress(KeyError, TypeError):
                yield output["data"][_WIDGET]["model_id"]


def _reached(models: dict[str, set[str]], roots: Iterable[str]) -> set[str]:
    reached: set[str] = set()
    open_ones = [root for root in roots if root in models]
    while open_ones:
        id = open_ones.pop()
        if id not in reached:
            reached.add(id)
            open_ones += [child for child in models[id] if child in models]
    return reached


def said(done: Refreshed, *, check: bool = False) -> str:
    """What was done to a file, as a person reads it."""
    parts = [f"{words.plural(done.cards, 'card')} brought up to date"] if done.cards else []
    parts += [f"{words.plural(done.strips, 'dead strip')} removed"] if done.strips else []
    would = "would have " if check and parts else ""
    return "\n  ".join([f"{done.path}: {would}{', '.join(parts) or 'nothing to do'}", *done.notes])


def refresh_all(paths: Iterable[str], *, write: bool) -> tuple[list[Refreshed], list[str]]:
    """`refresh` for several files; what was done, and an error for each that could not be."""
    done, errors = [], []
    for path in paths:
        try:
            done.append(refresh(path, write=write))
        except (NbtasksError, OSError) as error:
            errors.append(str(error))
    return done, errors
