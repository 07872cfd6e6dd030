"""Widgets that answer while the kernel is busy, and what a page has told about them.

JupyterLab sends what happens to a widget to a subshell, a thread of the kernel, so that a button can work while a cell
runs. Two habits of ipykernel 7 are in the way; `free` mends both for one widget.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

_SUBSHELLS = (7,)  # the first ipykernel that has them


def free(widget: Any) -> None:
    """Let messages to `widget` be handled at once, also while a cell runs, and leave that cell's figures alone.

    To be called once the widget is open; harmless where there is nothing to mend.
    """
    comm = getattr(widget, "comm", None)
    if comm is None or not _has_subshells():
        return
    # The answer to a message is sent on to the shell that opened the widget, which is the one that runs cells.
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = _as_sent
    # The usual `handle_msg` fires `post_execute`, and in that matplotlib draws and closes the figures of the running cell.
    if hasattr(widget, "_handle_msg"):
        comm.handle_msg = widget._handle_msg


def _as_sent(data: object, subshell: str | None) -> str | None:
    """The subshell that the page named."""
    return subshell


def _has_subshells() -> bool:
    kernel = sys.modules.get("ipykernel")
    return kernel is not None and tuple(kernel.version_info)[:1] >= _SUBSHELLS


def have_widgets(shell: Any) -> bool:
    """Whether this kernel can have widgets at all. Whether a page shows them is seen only when it does."""
    return getattr(shell, "kernel", None) is not None and importlib.util.find_spec("ipywidgets") is not None


def is_page_known() -> bool:
    """Whether a page with widgets has ever spoken to this kernel."""
    widgets = sys.modules.get("ipywidgets")
    return widgets is not None and widgets.Widget._control_comm is not None


def is_attended(shell: Any) -> bool:
    """Whether somebody sits before the running cell. What runs notebooks by itself (nbclient) allows no input."""
    content = _parent(shell).get("content")
    return bool(isinstance(content, dict) and content.get("allow_stdin"))


def has_cell(shell: Any) -> bool:
    """Whether a cell runs, or has run."""
    return bool(_parent(shell).get("header"))


def _parent(shell: Any) -> dict[str, Any]:
    kernel = getattr(shell, "kernel", None)
    parent = kernel.get_parent("shell") if kernel is not None else None
    return parent if isinstance(parent, dict) else {}
