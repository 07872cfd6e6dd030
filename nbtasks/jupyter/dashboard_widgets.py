"""The controls of the dashboard: core widgets, made once. What they mean is in `dashboard`; what they show comes later.

Looks and sizes are shared among the widgets, which halves what is sent when the dashboard opens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from nbtasks.jupyter.dashboard_filters import Order
from nbtasks.jupyter.dashboard_html import ROW
from nbtasks.status import Status

PAGE = 15  # rows
EVERY = ""  # the choice of all statuses, or of all lanes
PANES = ("Card", "Log", "Workers", "Timeline")
_TIPS = (
    "The card of the task that was selected last",
    "The last lines that it printed",
    "Workers and what their slots run",
    "What ran when, in the last minutes",
)


class Controls:
    """All widgets of one dashboard; `root` is the one to display."""

    def __init__(self, model_id: str) -> None:
        import ipywidgets as w  # only where there are widgets
        from ipywidgets.widgets.widget_bool import CheckboxStyle
        from ipywidgets.widgets.widget_description import DescriptionStyle
        from ipywidgets.widgets.widget_string import HTMLStyle, TextStyle

        self._w = w
        self._wide = w.Layout(width="auto", margin="0", min_width="0", flex="1 1 auto")
        self._small = w.Layout(width="auto", margin="0", flex="0 0 auto")
        self._free = DescriptionStyle(description_width="initial")
        self._plain = CheckboxStyle(description_width="initial")
        self._text, self._typed = HTMLStyle(), TextStyle(description_width="initial")
        self._pressed = w.ButtonStyle()
        self.summary = self._html()
        self.close = self._button("Close", "Close the dashboard; the table stays")
        self._make_filters()
        self._make_table()
        self._make_actions()
        self._make_root(model_id)

    def _make_root(self, model_id: str) -> None:
        w = self._w
        self.pane = w.ToggleButtons(
            options=PANES, value="Workers", tooltips=_TIPS, style=w.ToggleButtonsStyle(button_width="84px"), layout=self._small
        )  # fmt: skip
        self.below = self._html()
        border = "1px solid rgba(128,128,128,0.3)"
        layout = w.Layout(border=border, padding="8px 12px", margin="4px 0", max_width="960px", grid_gap="6px")
        layout.border_left = "4px solid rgba(128,128,128,0.5)"
        top = w.HBox([self.summary, self.close], layout=w.Layout(align_items="flex-start", grid_gap="12px"))
        self.root = w.VBox(
            [top, self._filters, self._table, self._pager, self._actions, self.pane, self.below],
            layout=layout, model_id=model_id, _view_count=0,
        )  # fmt: skip

    def _html(self) -> Any:
        return self._w.HTML(layout=self._wide, style=self._text)

    def _button(self, text: str, tip: str) -> Any:
        return self._w.Button(description=text, tooltip=tip, layout=self._small, style=self._pressed)

    def _row(self, *widgets: Any) -> Any:
        if not hasattr(self, "_wrapped"):
            self._wrapped = self._w.Layout(flex_flow="row wrap", align_items="center", grid_gap="4px 12px")
        return self._w.HBox(widgets, layout=self._wrapped)

    def _make_filters(self) -> None:
        w, free = self._w, self._free
        short, long = w.Layout(width="150px", margin="0"), w.Layout(width="190px", margin="0")
        every = [("all", EVERY), ("live", "live"), ("ended", "ended"), *((status, str(status)) for status in Status)]
        self.status = w.Dropdown(options=every, value=EVERY, description="status", style=free, layout=short)
        self.lane = w.Dropdown(options=[("all", EVERY)], value=EVERY, description="lane", style=free, layout=short)
        self.name = w.Text(placeholder="part of a name", description="task", style=self._typed, layout=long)
        self.order = w.Dropdown(options=list(Order), description="order", style=free, layout=long)
        self.mine = w.Checkbox(
            description="mine",
            indent=False,
            style=self._plain,
            layout=self._small,
            tooltip="Only those of this notebook",
        )
        self._filters = self._row(self.status, self.lane, self.name, self.order, self.mine)

    def _make_table(self) -> None:
        w = self._w
        look = w.Layout(width="76px", height=f"{ROW}px", margin="0", flex="0 0 auto")
        self.all = self._check("all", look, "Select all tasks on this page")
        self.boxes = [self._check("", look, "") for _ in range(PAGE)]
        self.column = w.VBox([self.all], layout=w.Layout(flex="0 0 78px", overflow="hidden"))
        self.rows = self._html()
        self._table = w.HBox([self.column, self.rows], layout=w.Layout(align_items="flex-start", overflow="hidden"))
        self.back = self._button("‹ Back", "The page before")
        self.next = self._button("Next ›", "The next page")
        self.page = w.BoundedIntText(
            value=1, min=1, max=1, description="page", style=self._free, layout=w.Layout(width="112px", margin="0")
        )
        self.where = self._html()
        self._pager = self._row(self.back, self.page, self.next, self.where)

    def _check(self, text: str, layout: Any, tip: str) -> Any:
        return self._w.Checkbox(description=text, indent=False, layout=layout, style=self._plain, tooltip=tip)

    def _make_actions(self) -> None:
        self.cancel = self._button("Cancel", "Cancel the selected tasks")
        self.retry = self._button("Retry", "Run the selected tasks again that failed or were cancelled")
        self.everything = self._button("Select all", "Select all tasks that the filters leave, on all pages")
        self.clear = self._button("Clear", "Select nothing")
        self.said = self._html()
        self._actions = self._row(self.cancel, self.retry, self.everything, self.clear, self.said)

    def listening(self) -> Iterator[Any]:
        """The widgets that people use."""
        yield from (self.status, self.lane, self.name, self.order, self.mine, self.all, *self.boxes)
        yield from (self.back, self.next, self.page, self.cancel, self.retry, self.everything, self.clear)
        yield from (self.pane, self.close)

    def everyone(self) -> Iterator[Any]:
        """All widgets, each once, the innermost first; with their layouts and styles."""
        seen: set[int] = set()

        def walk(widget: Any) -> Iterator[Any]:
            for child in (
                *getattr(widget, "children", ()),
                getattr(widget, "layout", None),
                getattr(widget, "style", None),
            ):
                if child is not None:
                    yield from walk(child)
            if id(widget) not in seen:
                seen.add(id(widget))
                yield widget

        yield from walk(self.root)
        yield from (box for box in self.boxes if id(box) not in seen)  # those without a row

    def free(self, free: Any) -> None:
        """Apply `free` to each widget that people use, and to the root."""
        for widget in (*self.listening(), self.root):
            free(widget)

    def shut(self) -> None:
        """Take all widgets from the page."""
        for widget in list(self.everyone())[::-1]:
            widget.close()

    # Showing. A value that stays the same is not sent.

    def show_boxes(self, shorts: Sequence[str], names: Sequence[str], ticked: Sequence[bool]) -> None:
        """As many boxes as there are rows, with ids and marks."""
        for box, short, name, on in zip(self.boxes, shorts, names, ticked, strict=False):
            box.description, box.tooltip, box.value = short, f"Select {name} {short}", on
        self.all.value = bool(ticked) and all(ticked)
        if len(self.column.children) != len(shorts) + 1:
            self.column.children = [self.all, *self.boxes[: len(shorts)]]

    def show_actions(self, cancel: tuple[str, str, bool], retry: tuple[str, str, bool], armed: bool) -> None:
        """Text, tip and use of the two buttons."""
        for button, (text, tip, usable) in ((self.cancel, cancel), (self.retry, retry)):
            button.description, button.tooltip, button.disabled = text, tip, not usable
        self.cancel.button_style = "danger" if armed else ""

    @property
    def is_seen(self) -> bool:
        """True once a page has shown it."""
        return bool(self.root._view_count)

    def show_page(self, page: int, pages: int) -> None:
        """Where in how many pages."""
        if self.page.max != pages:
            self.page.max = pages
        self.page.value = page
        self.back.disabled, self.next.disabled = page <= 1, page >= pages

    def show_lanes(self, lanes: Sequence[str], chosen: str) -> None:
        """The lanes that there are."""
        options = [("all", EVERY), *((lane, lane) for lane in dict.fromkeys([*lanes, *filter(None, [chosen])]))]
        if tuple(options) != tuple(self.lane.options):
            self.lane.options = options
        self.lane.value = chosen
