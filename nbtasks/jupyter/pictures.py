"""Images and text that a task displayed, for its card: checked, and within a limit."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any

from nbtasks.jupyter.ansi import one_line, to_text
from nbtasks.jupyter.shown import Picture
from nbtasks.jupyter.words import plural

IMAGE_LIMIT = 4 << 20  # characters of data URIs on one card
_MOST = 20
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_SVG_SIZE = 1 << 20


def pictures_of(outputs: Iterable[Mapping[str, Any]]) -> tuple[tuple[Picture, ...], tuple[str, ...], str]:
    """Images, displayed texts, and a sentence about what was left out, from nbformat outputs.

    HTML and scripts are not taken: what has no image form is shown as its plain text.
    """
    pictures: list[Picture] = []
    texts: list[str] = []
    room, left_out = IMAGE_LIMIT, 0
    for data, metadata in _bundles(outputs):
        picture = _picture(data, metadata)
        if picture is None:
            texts += [text for text in (_text(data.get("text/plain")),) if text]
        elif len(picture.source) > room or len(pictures) == _MOST:
            left_out += 1
        else:
            room -= len(picture.source)
            pictures.append(picture)
    note = f"{plural(left_out, 'more image')} in" if left_out else ""
    return tuple(pictures), tuple(texts[-_MOST:]), note


def has_result(outputs: Iterable[Mapping[str, Any]]) -> bool:
    """True when the value of a cell's last line is among the outputs."""
    return any(output.get("output_type") == "execute_result" for output in outputs)


def _bundles(outputs: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for output in outputs:
        data, metadata = output.get("data"), output.get("metadata")
        if output.get("output_type") in ("display_data", "execute_result") and isinstance(data, Mapping):
            yield data, metadata if isinstance(metadata, Mapping) else {}


def _picture(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> Picture | None:
    alt = one_line(_joined(data.get("text/plain")), 100).strip("<>") or "image"
    for kind in _IMAGES:
        code = "".join(_joined(data.get(kind)).split())
        if code and _BASE64.fullmatch(code):
            about = metadata.get(kind)
            width = about.get("width") if isinstance(about, Mapping) else None
            fits = isinstance(width, (int, float)) and not isinstance(width, bool) and 1 <= width <= 10_000
            return Picture(f"data:{kind};base64,{code}", alt, int(width) if fits and width else None)
    drawing = _joined(data.get("image/svg+xml"))
    if "<svg" in drawing[:2000] and len(drawing) < _SVG_SIZE:
        # As an <img>, a drawing cannot run scripts or load anything; inline it could.
        code = base64.b64encode(drawing.encode("utf-8", "replace")).decode()
        return Picture(f"data:image/svg+xml;base64,{code}", alt)
    return None


def _joined(value: object) -> str:
    # nbformat allows text as a list of lines.
    if isinstance(value, list):
        return "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def _text(value: object) -> str:
    return to_text(_joined(value), lines=40, size=8_000).strip("\n")
