"""An IPython extension as people have them, for the corpus of cells."""

from __future__ import annotations

from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Brings `%shout`."""
    shell.register_magic_function(lambda line: print(line.upper()), "line", "shout")
