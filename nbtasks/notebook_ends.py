"""What a notebook that has run gives: its value and names, or why it failed and what is kept of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbtasks import payload
from nbtasks.frames import Part
from nbtasks.notebook_exchange import GIVEN, KEPT, Exchange
from nbtasks.notebook_files import EarlierRun
from nbtasks.outcome import Failure, Variable
from nbtasks.previews import preview

RUN = "run"  # the part of an outcome that has an EarlierRun
CELL, STATE = "cell", "state"  # those with the variables and the surroundings of a kernel

_SCRAPS = ("application/scrapbook.scrap.json", "application/scrapbook.scrap.text")
_PLACE = re.compile(r"Cell In\[(\d+)\], line (\d+)")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")


@dataclass
class Ran:
    """How a notebook ran."""

    parts: list[Part] = field(default_factory=list)
    variables: tuple[Variable, ...] = ()
    has_value: bool = False
    preview: str = ""
    failure: Failure | None = None
    kind: str = ""  # of an end that is no exception of a cell: "timed out", "killed"
    reason: str = ""
    error: BaseException | None = None  # beside its cells: the HTML page could not be made, say

    @property
    def failed(self) -> bool:
        """Whether it came to no good end."""
        return self.failure is not None or bool(self.kind)

    def facts(self) -> dict[str, Any]:
        """The fields of an Outcome."""
        names = ("variables", "has_value", "preview", "failure", "kind", "reason")
        return {name: getattr(self, name) for name in names}


def given(exchange: Exchange, scraps: Mapping[str, Any], path: str) -> Ran:
    """What `return_` handed back, else what scrapbook glued, else the path of the copy."""
    found = exchange.find(GIVEN)
    if found is not None:
        parts, outcome = found
        return Ran([parts[CELL]], outcome.variables, True, outcome.preview)
    value: object = dict(scraps) if scraps else path
    variables = tuple(Variable(name=name, preview=preview(one), bind=False) for name, one in scraps.items())
    return Ran([payload.dump(CELL, (value, dict(scraps)))], variables, True, preview(value))


def kept(exchange: Exchange, run: EarlierRun) -> Ran:
    """What the kernel kept when a cell failed: variables, exception, and what a later run needs to go on."""
    found = exchange.find(KEPT)
    if found is None:
        earlier = exchange.find(GIVEN)  # another kernel than Python's, or one that died: what was handed back before
        return Ran([earlier[0][CELL]], earlier[1].variables) if earlier else Ran()
    parts, outcome = found
    if outcome.reason:
        print(outcome.reason)
    left_out = tuple(variable.name for variable in outcome.variables if variable.left_out)
    run = EarlierRun(run.task, run.copy, run.number, run.sources, left_out)
    more = [payload.dump(RUN, run)] if STATE in parts else []
    return Ran([*parts.values(), *more], outcome.variables)


def failure(type: str, message: str, outputs: list[Any], number: int) -> Failure:
    """The exception of the cell with that number, from what the cell shows."""
    shown: Any = next((output for output in reversed(outputs) if output.get("output_type") == "error"), {})
    text = "\n".join(shown.get("traceback") or []) or f"{type}: {message}"
    places = [line for cell, line in _PLACE.findall(_COLOURS.sub("", text)) if int(cell) == number]
    return Failure(
        type=type,
        message=message,
        traceback=text,
        where=f"cell [{number}]" + (f", line {places[-1]}" if places else ""),
    )


def scraps_in(outputs: list[Any]) -> dict[str, Any]:
    """The values that scrapbook's ``glue`` left among the outputs of a cell, by name: texts and JSON, nothing pickled."""
    bundles = [output.get("data") or {} for output in outputs]
    scraps = [data for bundle in bundles for kind, data in bundle.items() if kind.startswith(_SCRAPS)]
    return {str(scrap["name"]): scrap.get("data") for scrap in scraps if isinstance(scrap, Mapping) and "name" in scrap}
