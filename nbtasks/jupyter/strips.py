"""The live strip of a task: its card with buttons, in core widgets, below the static card while the task lives.

`widgets.HTML` shows what it is given: everything in it is escaped text and checked images. Buttons call what they
were given, which only writes files; so they work from any thread and while the kernel is busy.
"""

from __future__ import annotations

import contextlib
import functools
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nbtasks.jupyter import markup
from nbtasks.jupyter.ansi import one_line
from nbtasks.jupyter.comms import free
from nbtasks.jupyter.shown import MARKS, View
from nbtasks.status import Status

Press = Callable[[str], None]  # with the verb

_NAMESPACE = uuid.UUID("6f1d2a0e-7c1b-5e0a-9d43-0b6a1c5e8f27")
_REATTACH = 60.0  # seconds after a page asked for all widgets in which it shows them
_MESSAGE = 1000  # bytes that a message takes beside what it says

# verb: the word on the button, and what a screen reader and the tooltip say
_BUTTONS: dict[str, tuple[str, str]] = {
    "cancel": ("Cancel", "Cancel {task}"),
    "stopping": ("Stopping …", "{task} was asked to stop"),
    "retry": ("Retry", "Run {task} again"),
    "log": ("Log", "Show more of the log of {task}"),
    "less": ("Less", "Show the last lines of the log of {task} only"),
    "here": ("Debug here", "Show the line that runs {task} in this kernel, for %debug"),
    "notify": ("Notify me", "Tell me when {task} has ended"),
    "quiet": ("Notify: on", "Do not tell me when {task} has ended"),
    "copy": ("Copy id", "Copy the id of {task}"),
}


def model_id(queue_uuid: str, id: str, part: str = "strip") -> str:
    """The id of a widget of a task, the same in every kernel: so a new kernel can make it again."""
    return uuid.uuid5(_NAMESPACE, f"{queue_uuid}/{id}/{part}").hex


@dataclass(frozen=True)
class Face:
    """What a strip shows: HTML of its parts, and the buttons."""

    colour: str
    head: str = ""
    body: str = ""
    log: str = ""
    pictures: str = ""
    task: str = ""  # "k7q2 (train_model)", in the names of the buttons
    verbs: tuple[str, ...] = ()
    line: str = ""  # a line for the person to copy


@dataclass
class Wishes:
    """What was asked of one strip by its buttons."""

    log: bool = False
    notify: bool = False
    stopping: bool = False
    line: str = ""


def face_of(view: View, wishes: Wishes) -> Face:
    """A card as a strip shows it."""
    log = pictures = ""
    if not view.status.ended:
        # Each part is sent when it changes: a bar that moves must not take the pictures along.
        log = markup.tail(view.log) if view.log else ""
        pictures = "".join(map(markup.image, view.pictures))
        view = replace(view, log=None, pictures=(), foot=())
    head, body = markup.parts(view)
    task = f"{view.ref} ({one_line(view.name, 60)})"
    return Face(MARKS[view.status].colour, head, body, log, pictures, task, _verbs(view.status, wishes), wishes.line)


def _verbs(status: Status, wishes: Wishes) -> tuple[str, ...]:
    """The buttons that make sense."""
    if status is Status.SUCCEEDED:
        return ("copy",)
    if status.ended:
        return ("retry", "here", "copy") if status is Status.FAILED else ("retry", "copy")
    log = ["less" if wishes.log else "log"] if status is Status.RUNNING else []
    return "stopping" if wishes.stopping else "cancel", *log, "quiet" if wishes.notify else "notify", "copy"


_shared: dict[str, Any] = {}  # layouts and styles, one for all strips: each is a message and an object on the page


def _layout(name: str) -> Any:
    import ipywidgets

    known = _shared.get(name)
    if known is None or known.comm is None:  # Widget.close_all() may have closed it
        made: Mapping[str, Callable[[], Any]] = {
            "text": lambda: ipywidgets.Layout(margin="0", width="auto", min_width="0", flex="1 1 240px", height="auto"),
            "wide": lambda: ipywidgets.Layout(margin="0", width="auto", height="auto"),
            "row": lambda: ipywidgets.Layout(
                margin="0", flex_flow="row wrap", align_items="flex-start", justify_content="space-between",
                overflow="visible",
            ),
            "buttons": lambda: ipywidgets.Layout(
                margin="0 0 0 -6px", flex="0 1 auto", flex_flow="row wrap", overflow="visible"
            ),
            "button": lambda: ipywidgets.Layout(margin="0 0 2px 6px", width="auto", padding="0 9px"),
            "line": lambda: ipywidgets.Layout(margin="4px 0 0 0", width="auto", max_width="420px"),
            "hidden": lambda: ipywidgets.Layout(display="none"),
        }  # fmt: skip
        known = _shared[name] = made[name]()
    return known


def _html(layout: str) -> Any:
    import ipywidgets

    return _open(ipywidgets.HTML(layout=_layout(layout)))


def _open(widget: Any) -> Any:
    free(widget)
    return widget


class Strip:
    """The widgets of one task. All but the buttons is called under the lock of whoever owns it."""

    def __init__(self, model: str, press: Press) -> None:
        """Opens the widgets; `press` is called with the verb of a button, in any thread."""
        import ipywidgets

        self.face = Face("")
        self.wishes = Wishes()
        self._press = press
        self._asked = float("-inf")  # when a page asked for all widgets
        self._again = False
        self._made: dict[str, Any] = {}  # buttons
        self._head, self._body, self._log, self._pictures = _html("text"), *(_html("wide") for _ in range(3))
        self._buttons = _open(ipywidgets.HBox(layout=_layout("buttons")))
        top = _open(ipywidgets.HBox([self._head, self._buttons], layout=_layout("row")))
        self._parts = [top, self._body, self._log, self._pictures]
        self._line: Any = None
        self._script: Any = None
        frame = "1px solid rgba(128,128,128,0.3)"
        self._frame = ipywidgets.Layout(
            margin="4px 20px 4px 0", padding="7px 12px", max_width="860px", width="auto", overflow="visible",
            border_top=frame, border_right=frame, border_bottom=frame, border_left=frame,
        )  # fmt: skip
        self._root = ipywidgets.VBox(self._parts, layout=self._frame, model_id=model, _view_count=0)
        self._root.observe(self._on_views, "_view_count")
        self._root.get_state = functools.partial(self._on_asked, self._root.get_state)
        free(self._root)

    # What the page tells.

    @property
    def is_open(self) -> bool:
        """False once somebody closed the widgets."""
        return self._root.comm is not None

    @property
    def is_seen(self) -> bool:
        """Whether a page shows it."""
        return self.is_open and (self._root._view_count or 0) > 0

    @property
    def is_reattached(self) -> bool:
        """Whether a page that was loaded again shows it: updates of displays no longer reach that one."""
        return self._again

    def _on_asked(self, get_state: Callable[..., Any], key: Any = None, **more: Any) -> Any:
        if key is None:
            self._asked = time.monotonic()
        return get_state(key, **more)

    def _on_views(self, change: Mapping[str, Any]) -> None:
        # A page that only lost its connection asks, too, but makes no new view.
        if (change["new"] or 0) > (change["old"] or 0) and time.monotonic() - self._asked < _REATTACH:
            self._again = True

    # What it shows.

    def cost(self, face: Face) -> int:
        """About the bytes that showing `face` sends; 0: it is what is shown."""
        if face == self.face:
            return 0
        old, total = self.face, 0
        for name in ("head", "body", "log", "pictures", "verbs", "colour", "line"):
            new = getattr(face, name)
            if new != getattr(old, name):
                total += _MESSAGE + (len(new) if isinstance(new, str) else 2000)
        return total

    def show(self, face: Face) -> None:
        """Send what is new."""
        old, self.face = self.face, face
        self._head.value, self._body.value, self._log.value = face.head, face.body, face.log
        self._pictures.value = face.pictures
        if face.colour != old.colour:
            self._frame.border_left = f"4px solid {face.colour}"
        if (face.verbs, face.task) != (old.verbs, old.task):
            self._buttons.children = [self._button(verb, face.task) for verb in face.verbs]
        if face.line != old.line:
            self._show_line(face.line)

    def _button(self, verb: str, task: str) -> Any:
        button = self._made.get(verb)
        if button is None:
            import ipywidgets

            word, title = _BUTTONS[verb]
            button = self._made[verb] = ipywidgets.Button(
                description=word, tooltip=title.format(task=task), layout=_layout("button"), disabled=verb == "stopping"
            )
            button.on_click(lambda _: self._press(verb))
            free(button)
        return button

    def _show_line(self, line: str) -> None:
        if self._line is None:
            import ipywidgets

            self._line = _open(ipywidgets.Text(layout=_layout("line"), tooltip="A line to copy"))
        self._line.value = line
        self._arrange()

    def _arrange(self) -> None:
        more = [self._line] if self.face.line else []
        self._root.children = [*self._parts, *more, *([self._script] if self._script is not None else [])]

    # What a page is told to do.

    def run(self, script: str) -> None:
        """Let the page run a script of ours, once. Nothing happens where it does not run scripts of notebooks."""
        import ipywidgets

        if self._script is None:
            self._script = _open(ipywidgets.Output(layout=_layout("hidden")))
        shown = {"output_type": "display_data", "data": {"application/javascript": script}, "metadata": {}}
        self._script.outputs = (shown,)
        self._arrange()

    def forget_script(self) -> None:
        """So that a page which is loaded again does not run it again."""
        if self._script is not None:
            self._script.outputs = ()

    def vanish(self) -> None:
        """Take no room on the page any more; a script may still run there."""
        self._frame.display = "none"

    def close(self) -> None:
        """Close all widgets of its own: they go from every page."""
        for widget in (self._root, *self._parts, self._head, self._buttons, *self._made.values(), self._line,
                       self._script, self._frame):  # fmt: skip
            with contextlib.suppress(Exception):  # the kernel is about to end, or somebody closed it before
                if widget is not None:
                    widget.close()
