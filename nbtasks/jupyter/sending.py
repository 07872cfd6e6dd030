"""From the source of a ``%%background`` cell to a task in the queue."""

from __future__ import annotations

import hashlib
import io
import tokenize
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

from nbtasks import cells, config, context, options, payload, submitting
from nbtasks.errors import OptionError, PayloadError
from nbtasks.frames import Part
from nbtasks.handle import Task
from nbtasks.jupyter import binding
from nbtasks.jupyter.binding import Owed
from nbtasks.jupyter.lines import CellOptions, there
from nbtasks.queue.directory import Queue
from nbtasks.spec import Spec

_LABEL = 60  # characters of a name
_NOT_A_LABEL = ("!", "%", "noqa", "type:", "fmt:", "ruff:", "pylint:", "-*-")


class Origin(NamedTuple):
    """Where a cell stands."""

    number: int | None = None  # its execution count
    cell_id: str | None = None
    notebook: str | None = None  # the file's name
    kernel_start: float | None = None


def submit_cell(queue: Queue, source: str, asked: CellOptions, namespace: Mapping[str, Any], origin: Origin) -> Owed:
    """Put a cell into the queue and say what the notebook is owed for it.

    Raises OptionError or PayloadError when that cannot be; then nothing is queued.
    """
    _check_source(source)
    assigned = _assigned(source, asked)
    _check_handle(asked, assigned)
    there("-i", asked.inputs, namespace)
    after = [held if isinstance(held := namespace.get(name), Task) else name for name in asked.fields["after"] or ()]
    fields = options.parse(
        {**asked.fields, "after": after or None, "name": asked.fields["name"] or label(source, assigned)}
    )
    read = dict.fromkeys([*cells.names_read(source, namespace), *asked.inputs])
    inputs = {name: namespace[name] for name in read}
    looks = cells.read_looks(inputs, namespace)
    part = _pack(cells.Cell(source, inputs, asked.outputs, origin.number, looks, first_line=2), inputs)
    digests = _digests(namespace, [*inputs, *assigned])
    spec = _spec(queue, source, fields, origin, {name: digests[name] for name in inputs if name in digests})
    seen = binding.look_around(namespace, digests)
    submitting.put(queue, spec, [part])
    return Owed(queue, spec, seen, frozenset(inputs), frozenset({*assigned, *inputs}))


def _spec(queue: Queue, source: str, fields: Mapping[str, Any], origin: Origin, digests: dict[str, str]) -> Spec:
    return Spec(
        id=queue.new_id(),
        kind="cell",
        need="c",
        env=config.env_tag(),
        context=context.capture(queue.blobs),
        notebook=origin.notebook,
        cell_id=origin.cell_id,
        source_hash=hashlib.sha256(source.encode()).hexdigest()[:32],
        kernel_start=origin.kernel_start,
        digests=digests,
        at_most_once=not fields.get("retries"),  # what a half-done cell did to the world must not happen twice unasked
        **{**submitting.here().defaults, **fields},
    )


def _check_source(source: str) -> None:
    try:
        cells.names_assigned(source)
    except SyntaxError as error:
        error.filename, error.lineno = "the cell", (error.lineno or 1) + 1  # below the line of the magic
        text = "".join(traceback.format_exception_only(error)).rstrip()
        raise OptionError(f"%%background: this is no Python, so nothing was submitted:\n{text}") from None


def _assigned(source: str, asked: CellOptions) -> tuple[str, ...]:
    return tuple(cells.names_assigned(source)) if asked.outputs is None else asked.outputs


def _check_handle(asked: CellOptions, assigned: tuple[str, ...]) -> None:
    if asked.handle in assigned:
        raise OptionError(
            f"%%background: --as {asked.handle} is also assigned in the cell, so it cannot be the task's handle, too: "
            "give the handle another name"
        )


def _pack(cell: cells.Cell, inputs: Mapping[str, object]) -> Part:
    try:
        return payload.dump("cell", cell, where="the cell")
    except PayloadError:
        for name, value in inputs.items():  # which one it was, by the name that it has in the notebook
            payload.dump("cell", value, where=f"the variable {name}")
        raise


def _digests(namespace: Mapping[str, object], names: list[str]) -> dict[str, str]:
    found = {name: binding.digest_of(namespace[name]) for name in dict.fromkeys(names) if name in namespace}
    return {name: digest for name, digest in found.items() if digest is not None}


def label(source: str, assigned: tuple[str, ...]) -> str:
    """What a cell is called: its first comment, else the names that it assigns, else its first line."""
    text = _comment(source) or ", ".join(assigned)
    if not text:
        lines = [line.strip() for line in source.splitlines()]
        text = next((line for line in lines if line and line[0] != "#"), "cell")
    return text if len(text) <= _LABEL else text[: _LABEL - 1].rstrip() + "…"


def _comment(source: str) -> str:
    """The first comment that has a line of its own."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
                text = token.string.lstrip("# ").strip(" -=")
                if text and not text.startswith(_NOT_A_LABEL):
                    return text
    except (tokenize.TokenError, SyntaxError):
        pass  # magics and the like end the search
    return ""
