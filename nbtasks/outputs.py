"""A log and its events as outputs of a notebook, in order: what a cell would have shown, had it run in front."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nbtasks.logs import Piece, left_out

Output = dict[str, Any]
Event = dict[str, Any]

_MOST = 1000  # outputs
_TEXT = 1_000_000  # characters of one stream output
_RUNS = re.compile(r"\r|\x08|[^\r\x08]+")
_NULS = re.compile(rb"\0{4096,}")  # a freed middle, where the file system does not tell it


def outputs(log: bytes | Sequence[Piece], events: Iterable[Event]) -> list[Output]:
    """nbformat outputs (``stream``, ``display_data``, ``execute_result``) in the order in which they were made.

    `log` is the whole log or its pieces (`nbtasks.logs.read_log`), `events` the lines of the events file. Updated
    displays show their last state, cleared outputs are gone, lines written over by ``\\r`` show what was written
    last. At most a thousand outputs and a million characters each; what is left out is said.
    """
    pieces = [(0, log)] if isinstance(log, bytes) else list(log)
    cell = _Cell(_Text(pieces, events))
    for event in events:
        cell.take(event)
    cell.finish()
    return _bounded(cell.outputs)


def compact(events: Iterable[Event]) -> list[Event]:
    """The events that still count: not what was cleared since, nor older states of an updated display."""
    kept: dict[int, Event] = {}
    updates: dict[object, int] = {}
    pending: Event | None = None
    for number, event in enumerate(events):
        kind, id = event.get("kind"), event.get("display_id")
        if kind == "clear_output" and event.get("wait"):
            pending = event
        elif kind == "clear_output" or (kind == "display" and pending is not None):
            clearing = pending if kind == "display" and pending is not None else event
            # What was printed before is cleared, too; what stderr got since is not.
            kept = {at: one for at, one in kept.items() if one.get("kind") == "stderr" and _is_after(one, clearing)}
            kept |= {number - 1: clearing} if clearing is not event else {}
            pending, updates = None, {}
        elif kind == "update_display":
            kept.pop(updates.get(id, -1), None)
            updates[id] = number
        kept[number] = event
    return [kept[number] for number in sorted(kept)]


def _is_after(text: Event, clearing: Event) -> bool:
    return (text.get("to") or 0) > (clearing.get("at") or 0)


class _Text:
    """The log, to be read from offset to offset as runs of stdout and stderr."""

    def __init__(self, pieces: Sequence[Piece], events: Iterable[Event]) -> None:
        self.pieces = pieces
        self.end = max((at + len(data) for at, data in self.pieces), default=0)
        ranges = [(event.get("from"), event.get("to")) for event in events if event.get("kind") == "stderr"]
        self._stderr = sorted((a, b) for a, b in ranges if isinstance(a, int) and isinstance(b, int) and a < b)

    def runs(self, start: int, end: int) -> Iterator[tuple[str, str]]:
        """(stream, text) from `start` to `end`."""
        for low, high in self._stderr:
            if high <= start or low >= end:
                continue
            if low > start:
                yield "stdout", self._read(start, low)
            yield "stderr", self._read(max(start, low), min(end, high))
            start = max(start, min(end, high))
        if start < end:
            yield "stdout", self._read(start, end)

    def _read(self, start: int, end: int) -> str:
        texts, here = [], start
        for at, data in self.pieces:
            if at + len(data) <= start or at >= end:
                continue
            if at > here:
                texts.append(left_out(at - here))
            part = data[max(0, start - at) : end - at]
            part = _NULS.sub(lambda match: left_out(len(match[0])).encode(), part)
            texts.append(part.decode("utf-8", "replace"))
            here = at + len(data)
        if here < min(end, self.end):
            texts.append(left_out(min(end, self.end) - here))
        return "".join(texts)


class _Cell:
    """The outputs so far, as a front end would keep them."""

    def __init__(self, text: _Text) -> None:
        self.outputs: list[Output] = []
        self._text = text
        self._at = 0
        self._clear_next = False
        self._ids: dict[str, list[Output]] = {}

    def take(self, event: Event) -> None:
        kind, at = event.get("kind"), event.get("at")
        if kind not in ("display", "update_display", "clear_output") or not isinstance(at, int):
            return
        self._advance(min(at, self._text.end))
        if kind == "clear_output":
            self._clear_next = True
            if not event.get("wait"):
                self._clear()
        elif kind == "display":
            self._display(event)
        else:
            self._update(event)

    def finish(self) -> None:
        self._advance(self._text.end)

    def _advance(self, at: int) -> None:
        if at > self._at:
            for name, text in self._text.runs(self._at, at):
                self._stream(name, text)
            self._at = at

    def _stream(self, name: str, text: str) -> None:
        if not text:
            return
        self._clear()
        last = self.outputs[-1] if self.outputs else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"] += text
        else:
            self.outputs.append({"output_type": "stream", "name": name, "text": text})

    def _clear(self) -> None:
        if self._clear_next:
            self._clear_next = False
            self.outputs.clear()
            self._ids.clear()

    def _display(self, event: Event) -> None:
        self._clear()
        output: Output = {"output_type": event.get("output_type") or "display_data"}
        if output["output_type"] == "execute_result":
            output["execution_count"] = event.get("execution_count")
        output |= {"data": event.get("data") or {}, "metadata": event.get("metadata") or {}}
        self.outputs.append(output)
        if event.get("display_id"):
            self._ids.setdefault(event["display_id"], []).append(output)

    def _update(self, event: Event) -> None:
        for output in self._ids.get(event.get("display_id") or "", ()):
            output |= {"data": event.get("data") or {}, "metadata": event.get("metadata") or {}}


def _bounded(shown: list[Output]) -> list[Output]:
    if len(shown) > _MOST:
        text = f"[… {len(shown) - _MOST:,} outputs left out …]\n"
        note = {"output_type": "stream", "name": "stdout", "text": text}
        shown = [*shown[: _MOST // 2], note, *shown[-_MOST // 2 :]]
    for output in shown:
        if output["output_type"] == "stream":
            output["text"] = _short(_last_written(output["text"]))
    return shown


def _last_written(text: str) -> str:
    """Each line as a terminal shows it, when ``\\r`` or ``\\b`` went back and something was written over it."""
    if "\r" not in text and "\b" not in text:
        return text
    return "\n".join(_overwritten(line) if "\r" in line or "\b" in line else line for line in text.split("\n"))


def _overwritten(line: str) -> str:
    body = line.rstrip("\r")
    end = line[len(body) :]
    if "\x1b" in body:  # colours take no room on the line, and some sequences erase it: what came last counts
        return body.rpartition("\r")[2] + end
    row: list[str] = []
    at = 0
    for run in _RUNS.findall(body):
        if run == "\r":
            at = 0
        elif run == "\b":
            at = max(0, at - 1)
        else:
            row[at : at + len(run)] = run
            at += len(run)
    return "".join(row) + end


def _short(text: str) -> str:
    if len(text) <= _TEXT:
        return text
    return text[: _TEXT // 2] + left_out(len(text) - _TEXT) + text[-_TEXT // 2 :]
