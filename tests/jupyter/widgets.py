"""The widgets of a kernel as a page keeps them: their states, and messages back when something is pressed."""

from __future__ import annotations

from typing import Any

from tests.jupyter.kernel import Kernel


class Widgets:
    """Hears all that a kernel says about widgets. `shows`: it has views, and tells the kernel so."""

    def __init__(self, kernel: Kernel, *, shows: bool = True) -> None:
        self.kernel, self.shows = kernel, shows
        self.states: dict[str, dict[str, Any]] = {}  # by model id, of those that are open
        self.bytes = 0  # about as many as came over the wire, of messages of all kinds
        self.updates: list[str] = []  # display ids of updates, in the order in which they came
        kernel.hear = self._hear

    def _hear(self, message: dict[str, Any]) -> None:
        content, kind = message["content"], message["msg_type"]
        self.bytes += sum(
            len(self.kernel.client.session.pack(message[part])) for part in ("content", "header", "parent_header")
        )
        if kind == "comm_open" and content["target_name"] == "jupyter.widget":
            self.states[content["comm_id"]] = dict(content["data"]["state"])
            if self.shows and content["data"]["state"].get("_view_count") == 0:
                self.tell(content["comm_id"], {"method": "update", "state": {"_view_count": 1}, "buffer_paths": []})
        elif kind == "comm_msg" and content["data"].get("method") == "update":
            self.states.get(content["comm_id"], {}).update(content["data"]["state"])
        elif kind == "update_display_data":
            self.updates.append(content["transient"]["display_id"])
        elif kind == "comm_close":
            self.states.pop(content["comm_id"], None)

    def tell(self, model: str, data: dict[str, Any]) -> None:
        """A message of the page to a widget."""
        client = self.kernel.client
        client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": model, "data": data}))

    def press(self, title: str) -> None:
        """Press the button whose tooltip begins with `title`, once it is there."""
        self.kernel.until(lambda: self.button(title) is not None, f"a button {title!r}")
        found = self.button(title)
        assert found is not None
        self.tell(found, {"method": "custom", "content": {"event": "click"}})

    def button(self, title: str) -> str | None:
        """The model of a button that is shown."""
        shown = {child for state in self.states.values() for child in state.get("children") or ()}
        for model, state in self.states.items():
            if f"IPY_MODEL_{model}" in shown and (state.get("tooltip") or "").startswith(title):
                return model
        return None

    @property
    def html(self) -> str:
        """All HTML that is shown."""
        return "\n".join(state["value"] for state in self.states.values() if state.get("_model_name") == "HTMLModel")
