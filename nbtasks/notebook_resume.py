"""Going on from the cell that failed: when that is right, and when all cells have to run again.

A new kernel knows nothing, and outputs cannot give it anything back. So what a kernel has when a cell fails is kept: its
variables and surroundings, pickled once, at that moment. A later run loads them and goes on as a person would
who mends the cell in the open notebook, if everything before the failure is as it was and nothing that is still
to run reads a variable that could not be kept. Otherwise all cells run, and the log says why.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbtasks.notebook_files import EarlierRun

_DEFINES = re.compile(r"\b(?:def|class|lambda)\b")


def why_not(earlier: EarlierRun, sources: Sequence[str]) -> str:
    """Why a notebook whose cells are `sources` cannot go on where that run failed; "" when it can."""
    done = earlier.number - 1
    if not done:
        return "its first cell failed"
    changed = next((at for at in range(done) if at >= len(sources) or sources[at] != earlier.sources[at]), None)
    if changed is not None:
        return f"cell {changed + 1} was changed since"
    if len(sources) <= done:
        return "the cell that failed is gone"
    # By the text alone: a function that was defined before may read it when it is called now.
    readers = [*sources[done:], *(text for text in sources[:done] if _DEFINES.search(text))]
    for name in earlier.left_out:
        if any(re.search(rf"\b{re.escape(name)}\b", text) for text in readers):
            return f"{name} could not be kept, and is still needed"
    return ""
