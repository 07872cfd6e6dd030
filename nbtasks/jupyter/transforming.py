"""What is looked at before IPython takes a cell apart: a ``%%background`` cell that is no Python, or only asks for help."""

from __future__ import annotations

import re
from typing import Any

from nbtasks import cells

_FIRST = re.compile(r"%%background\b(?P<line>[^\n]*)")
_HELP = re.compile(r".*(?:^|\s)(?:--help|-h)(?:\s|$)")


class Transformer:
    """Sees the lines of every cell of one shell."""

    has_side_effects = True  # not for cells that are only looked at while they are being typed

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def __call__(self, lines: list[str]) -> list[str]:
        """The lines to go on with. Raises SyntaxError, which IPython shows as that of any other cell."""
        match = _FIRST.match(lines[0]) if lines else None
        if match is None:
            return lines
        body = "".join(lines[1:])
        if _HELP.match(match["line"]):
            # IPython refuses a cell magic without a cell before the magic could say anything.
            return ["get_ipython().run_cell_magic('background', '--help', '\\n')\n"] if not body.strip() else lines
        try:
            cells.find_names(body)
        except SyntaxError as error:
            self._place(error, "".join(lines))
            raise
        return lines

    def _place(self, error: SyntaxError, cell: str) -> None:
        """Where it stands in the notebook's cell."""
        error.lineno = (error.lineno or 1) + 1  # below the line of the magic
        error.end_lineno = error.end_lineno + 1 if error.end_lineno else None
        error.filename = self._shell.compile.cache(cell, self._shell.execution_count, raw_code=cell)
