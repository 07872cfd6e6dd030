"""Scripts for the page of a strip: asking for and giving a notification, and copying a line.

Core widgets cannot do this. An `Output` widget with `application/javascript` can, in JupyterLab and Notebook, for who
has run the cell himself; elsewhere (VS Code, a hub that forbids scripts) nothing happens, and the command of the
setting `notify_command` is there. The scripts are ours; what comes from a task goes into them as JSON.
"""

from __future__ import annotations

import json

from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.shown import View

KEEP = 2.0  # seconds after which a script has surely run; then it is taken back, so that a reload does not repeat it

ASK = """if ("Notification" in window && Notification.permission === "default") { Notification.requestPermission() }"""


def tell(view: View) -> str:
    """Say that a task has ended, when the person allows it. The same task says it once, however many pages show it."""
    title = f"{one_line(view.name, 80)} {view.status}"
    body = " · ".join([view.ref, *view.facts[:2]])
    what = _text({"body": one_line(body, 200), "tag": f"nbtasks-{view.ref}"})
    return (
        'if ("Notification" in window && Notification.permission === "granted") '
        f"{{ new Notification({_text(title)}, {what}) }}"
    )


def copy(line: str) -> str:
    """Put a line onto the clipboard, where the browser allows it."""
    return f"navigator.clipboard?.writeText({_text(line)}).catch(() => {{}})"


def _text(value: object) -> str:
    """As JSON that may stand anywhere in a script, also inside an HTML page."""
    return json.dumps(value).replace("<", "\\u003c")
