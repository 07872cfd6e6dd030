"""How the magics speak: errors as one sentence, and a line in the running cell that is kept up to date."""

from __future__ import annotations

import html
import secrets
import time
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar

from IPython.core.error import UsageError
from IPython.display import display

from nbtasks.errors import NbtasksError, OptionError
from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.lines import HelpAsked

Raised = TypeVar("Raised", bound=BaseException)


def plainly(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of ours are shown as one sentence: a traceback through our own code helps nobody."""

    @wraps(magic)
    def run(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True  # also above an exception that a task raised
        try:
            return magic(*args, **kwargs)
        except HelpAsked as asked:
            print(str(asked), end="")
        except (OptionError, LookupError) as error:
            if not isinstance(error, NbtasksError):
                raise
            raise UsageError(str(error)) from None
        except NbtasksError as error:
            shown_as(error, f"{type(error).__name__}: {error}")
            raise

    return run


def shown_as(error: Raised, text: str) -> Raised:
    """`error`, which IPython then shows as `text` instead of its traceback."""
    error._render_traceback_ = partial(str.splitlines, text)  # type: ignore[attr-defined]  # IPython looks for it
    return error


class Sentence:
    """One line among the outputs of the running cell, whose text may change. Where nothing can, it is shown once."""

    def __init__(self, can_change: bool) -> None:
        self._can_change = can_change
        self._id = ""
        self._text = ""
        self._since = time.monotonic()

    @property
    def seconds(self) -> float:
        """For how long it has been there."""
        return time.monotonic() - self._since

    def say(self, text: str) -> None:
        """Show `text` instead of what was shown before."""
        text = one_line(text, 400)
        if text == self._text or (self._text and not self._can_change):
            return
        self._text = text
        look = "font-size:13px;opacity:0.72;font-family:var(--jp-ui-font-family,system-ui,sans-serif)"
        bundle = {"text/plain": text, "text/html": f'<div style="{look}">{html.escape(text)}</div>'}
        new, self._id = not self._id, self._id or f"nbtasks-{secrets.token_hex(8)}"
        display(bundle, raw=True, display_id=self._id, update=not new)
