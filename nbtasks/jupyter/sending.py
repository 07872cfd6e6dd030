"""From the source of a ``%%background`` cell to a task in the queue."""

from __future__ import annotations

import hashlib
import io
import os
import tokenize
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nbtasks import cells, config, context, options, payload, scheduling, submitting, wishes
from nbtasks.errors import OptionError, PayloadError
from nbtasks.frames import Part
from nbtasks.jupyter import binding
from nbtasks.jupyter.again import Origin, Sent
from nbtasks.jupyter.asked import CellOptions
from nbtasks.jupyter.binding import Owed
from nbtasks.jupyter.chained import Brought, Parent
from nbtasks.jupyter.handles import find_task
from nbtasks.jupyter.lines import did_you_mean, there
from nbtasks.jupyter.reading import names_awaited
from nbtasks.jupyter.touched import probably_changed
from nbtasks.jupyter.words import size
from nbtasks.previews import size_of
from nbtasks.queue.cache import Found
from nbtasks.queue.directory import Queue
from nbtasks.scheduling import Schedule
from nbtasks.spec import Spec

_LABEL = 60  # characters of a name
_NOT_A_LABEL = ("!", "%", "noqa", "type:", "fmt:", "ruff:", "pylint:", "-*-")
_UNASKED = 1 << 30  # bytes of one variable; a larger one is sent only when it is asked for


@dataclass
class Draft:
    """A cell that can be submitted: everything was checked, and nothing was done."""

    source: str
    asked: CellOptions
    assigned: tuple[str, ...]
    inputs: dict[str, Any]
    fields: options.Fields
    sent: Sent
    digests: dict[str, str] = field(default_factory=dict)  # of inputs and outputs, in this process
    cached: Found | None = None  # the place in the cache that it is to take

    def owed(self, spec: Spec, namespace: Mapping[str, Any]) -> Owed:
        """What the notebook is owed by the task of `spec`, if it was this cell that submitted it."""
        # What is not there yet may be anything.
        known = {name: self if isinstance(value, Brought) else value for name, value in self.inputs.items()}
        changed = probably_changed(self.source, known)
        return Owed(
            self.sent.queue, spec, binding.look_around(namespace, self.digests), frozenset(self.inputs),
            brings=frozenset({*self.assigned, *self.inputs}),
            pending=changed.union(self.assigned) if self.asked.outputs is None else frozenset(self.assigned),
        )  # fmt: skip


def draft(
    queue: Queue,
    source: str,
    asked: CellOptions,
    namespace: Mapping[str, Any],
    origin: Origin,
    pending: Mapping[str, Owed],
) -> Draft:
    """Look at a cell: what it is called, reads and gives. `pending` are names that other tasks will bring.

    Raises OptionError, TaskNotFound or SyntaxError when it cannot be submitted.
    """
    assigned = _assigned(source, asked)
    _check_handle(asked, assigned)
    there("-i", asked.inputs, {**namespace, **pending})
    inputs, parents = _inputs(source, asked, namespace, pending)
    after = [find_task(name, namespace) for name in asked.after]
    fields = options.parse(
        {**asked.fields, "after": [*after, *parents] or None, "name": asked.fields["name"] or label(source, assigned)}
    )
    frozen = context.capture(queue.blobs, cwd=_folder(asked.cwd), names=_variables(asked.env))
    origins = {name: pending[name].spec.id for name, value in inputs.items() if isinstance(value, Brought)}
    digests, prints = _digests(namespace, [name for name in inputs if name not in origins], assigned)
    sent = Sent(queue, origin, _hash(source, asked), prints, origins, frozen)
    return Draft(source, asked, assigned, inputs, fields, sent, digests)


def _inputs(
    source: str, asked: CellOptions, namespace: Mapping[str, Any], pending: Mapping[str, Owed]
) -> tuple[dict[str, Any], list[str]]:
    """The variables that go along, and the ids of the tasks that bring some of them."""
    awaited = {*names_awaited(cells.syntax_tree(source), namespace, pending), *(pending.keys() & set(asked.inputs))}
    parents: dict[str, Parent] = {}
    inputs: dict[str, Any] = {}
    for name in dict.fromkeys([*cells.names_read(source, namespace), *asked.inputs, *sorted(awaited)]):
        owed = pending[name] if name in awaited else None
        if owed is None:
            inputs[name] = namespace[name]
            if name not in asked.inputs:
                _check_size(name, namespace[name])
            continue
        parent = parents.setdefault(owed.spec.id, Parent(owed.queue, owed.spec.id))
        # What the other task may leave as it is, it gives back only when it has changed it.
        given = (namespace[name],) if name in owed.inputs and name in namespace else ()
        inputs[name] = Brought(parent, name, *given)
    return inputs, list(parents)


def submit(draft: Draft, namespace: Mapping[str, Any]) -> Owed:
    """Put a cell into the queue and say what the notebook is owed for it. Raises PayloadError; then nothing is queued.

    Raises Taken when another takes its place in the cache at the same time.
    """
    sent = draft.sent
    part = _part(draft, namespace)
    spec = _spec(draft)
    owed = draft.owed(spec, namespace)
    submitting.put(sent.queue, spec, [part], draft.cached.claim if draft.cached else None)
    return owed


def recur(draft: Draft, namespace: Mapping[str, Any]) -> Schedule:
    """Let the cell recur, with its variables as they are now. Raises OptionError and PayloadError; then nothing is registered."""
    asked = draft.asked
    recurs = scheduling.every(asked.every) if asked.every else scheduling.cron(asked.cron or "")
    name = scheduling.name_for(asked.fields["name"], draft.fields["name"])
    part = _part(draft, namespace)
    # No cell waits for what it brings, so it is none of the tasks that a cell can be given instead of running.
    spec = msgspec.structs.replace(_spec(draft), name=name, pid=0, cell_id=None, kernel_start=None)
    return scheduling.add(draft.sent.queue, recurs, spec, [part], draft.fields)


def _part(draft: Draft, namespace: Mapping[str, Any]) -> Part:
    looks = cells.read_looks(draft.inputs, namespace)
    origin = draft.sent.origin
    first = 1 if origin.part else 2  # below the line of the magic
    cell = cells.Cell(draft.source, draft.inputs, draft.asked.outputs, origin.number, looks, first_line=first)
    return _pack(cell, draft.inputs)


def _spec(draft: Draft) -> Spec:
    sent, origin = draft.sent, draft.sent.origin
    return Spec(
        id=sent.queue.new_id(),
        kind="cell",
        env=config.env_tag(),
        context=sent.context,
        notebook=origin.notebook,
        cell_id=origin.cell_id,
        source_hash=sent.source_hash,
        kernel_start=origin.kernel_start,
        digests=dict(sent.prints),
        origins=dict(sent.origins),
        cache_key=draft.cached.key if draft.cached else None,
        # What a half-done cell did to the world must not happen twice unasked.
        at_most_once=not draft.fields.get("retries"),
        **wishes.resolve({"need": "c", **submitting.here().defaults, **draft.fields}, draft.fields["name"]),
    )


def _hash(source: str, asked: CellOptions) -> str:
    wanted = [source, *(["outputs", *asked.outputs] if asked.outputs is not None else [])]
    return hashlib.sha256("\0".join(wanted).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def no_python(error: SyntaxError, magic: str) -> OptionError:
    """What to say of a cell or line that cannot be parsed."""
    error.filename, error.lineno = "the cell", (error.lineno or 1) + (magic[:2] == "%%")  # below the line of the magic
    text = "".join(traceback.format_exception_only(error)).rstrip()
    return OptionError(f"{magic}: this is no Python, so nothing was submitted:\n{text}")


def _assigned(source: str, asked: CellOptions) -> tuple[str, ...]:
    found = cells.find_names(source)
    if asked.outputs is None:
        return tuple(cells.names_assigned(source))
    known = [*found.assigned, *found.read]  # what it reads it may change in place
    for name in asked.outputs:
        if name not in known and not found.stars:
            hint = did_you_mean(name, [one for one in found.assigned if one[:1] != "_"], "it assigns ")
            raise OptionError(f"%%background: {name} is never assigned in the cell" + (f"; {hint}" if hint else ""))
    return asked.outputs


def _check_handle(asked: CellOptions, assigned: tuple[str, ...]) -> None:
    if asked.handle in assigned:
        raise OptionError(
            f"%%background: --as {asked.handle} is also assigned in the cell, so it cannot be the task's handle, too: "
            "give the handle another name"
        )


def _check_size(name: str, value: object) -> None:
    if (taken := size_of(value)) > _UNASKED:
        raise OptionError(
            f"%%background: the cell reads {name} ({size(taken)}), which is too large to be sent unasked (over "
            f"{size(_UNASKED)}): ask for it with `-i {name}`, or let the cell read only what it needs of it"
        )


def _folder(given: str) -> str:
    if not given:
        return ""
    path = os.path.abspath(os.path.expanduser(given))
    if os.path.isdir(path):
        return path
    above, wanted = os.path.split(path)
    there = sorted(entry.name for entry in os.scandir(above) if entry.is_dir()) if os.path.isdir(above) else []
    hint = did_you_mean(wanted, there, "")
    raise OptionError(f"%%background: --cwd {given}: there is no such folder" + (f"; {hint}" if hint else ""))


def _variables(names: tuple[str, ...]) -> tuple[str, ...]:
    known = context.environment_names()
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, "")
            raise OptionError(
                f"%%background: --env {name.partition('=')[0]}: the kernel has no environment variable of that name"
                + (f"; {hint}" if hint else "")
            )
    return names


def _pack(cell: cells.Cell, inputs: Mapping[str, object]) -> Part:
    try:
        return payload.dump("cell", cell, where="the cell")
    except PayloadError:
        for name, value in inputs.items():  # which one it was, by the name that it has in the notebook
            payload.dump("cell", value, where=f"the variable {name}")
        raise


def _digests(
    namespace: Mapping[str, object], inputs: list[str], assigned: tuple[str, ...]
) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of inputs and outputs as the notebook has them now, and fingerprints of the inputs."""
    found = {name: binding.prints_of(namespace[name]) for name in inputs}
    digests = {name: digest for name, (digest, _) in found.items()}
    digests |= {
        name: binding.digest_of(namespace[name]) for name in assigned if name in namespace and name not in found
    }
    known = {name: digest for name, digest in digests.items() if digest is not None}
    return known, {name: print for name, (_, print) in found.items()}


def label(source: str, assigned: tuple[str, ...]) -> str:
    """What a cell is called: its first comment, else the names that it assigns, else its first line that is no import."""
    text = _comment(source) or ", ".join(assigned)
    if not text:
        lines = [line.strip() for line in source.splitlines()]
        code = [line for line in lines if line and line[0] != "#"]
        does = (line for line in code if not line.startswith(("import ", "from ")) or ";" in line)
        text = next(does, code[0] if code else "cell")
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
