"""Colours and looks of terminal text (SGR sequences, also 256 and true colour) as plain CSS values."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

# Middle tones that can be read on white and on black; as a background they become tints, fit for any text. White and bright white are the theme's own text colour.
_PALETTE = (
    "#767676", "#d32f2f", "#2f8336", "#a56a00", "#2472c8", "#a742b5", "#0a7f91", "",
    "#8a8a8a", "#e04848", "#388e3c", "#b8860b", "#3b82e0", "#b85fc4", "#1591a5", "",
)  # fmt: skip


_DARKEST, _LIGHTEST = 0.13, 0.27  # luminance: a contrast of more than 3 on white and on nearly black


class Style(NamedTuple):
    """How a run of characters looks; colours are palette numbers as text, or ``#rrggbb``, or empty."""

    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    strike: bool = False
    reverse: bool = False
    ink: str = ""
    paper: str = ""


PLAIN = Style()
_SWITCHES = {1: "bold", 2: "dim", 3: "italic", 4: "underline", 7: "reverse", 9: "strike"}
_OFF = {23: ("italic",), 24: ("underline",), 27: ("reverse",), 29: ("strike",), 22: ("bold", "dim")}


@lru_cache(1000)
def apply(style: Style, numbers: str) -> Style:
    """`style` after the parameters of one SGR sequence (``1;38;5;208``); what is unknown changes nothing."""
    codes = [part.split(":") for part in numbers.split(";")]
    while codes:
        code = _number(codes[0][0])
        if code in (38, 48, 58):
            colour, codes = _colour(codes)
            if colour is not None and code != 58:
                style = _with(style, **{"ink" if code == 38 else "paper": colour})
            continue
        on = code != 4 or codes[0][1:] != ["0"]
        codes = codes[1:]
        if code == 0:
            style = PLAIN
        elif code in _SWITCHES:
            style = _with(style, **{_SWITCHES[code]: on})
        elif code in _OFF:
            style = _with(style, **dict.fromkeys(_OFF[code], False))
        else:
            style = _basic_colour(style, code)
    return style


def _basic_colour(style: Style, code: int) -> Style:
    for first, last, field, base in (
        (30, 37, "ink", 0),
        (90, 97, "ink", 8),
        (40, 47, "paper", 0),
        (100, 107, "paper", 8),
    ):
        if first <= code <= last:
            return _with(style, **{field: str(code - first + base)})
    if code in (39, 49):
        return _with(style, **{"ink" if code == 39 else "paper": ""})
    return style


def _with(style: Style, **changes: Any) -> Style:
    return style._replace(**changes)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else (0 if text == "" else -1)


def _colour(codes: list[list[str]]) -> tuple[str | None, list[list[str]]]:
    """The colour that a 38 or 48 at the head of `codes` selects, and what follows it."""
    if len(codes[0]) > 1:  # the form with colons keeps its parameters to itself; 38:2 may name a colour space
        numbers, rest = [_number(part) for part in codes[0][1:]], codes[1:]
        if numbers[0] == 2 and len(numbers) > 4:
            del numbers[1]
    else:
        numbers = [_number(part[0]) for part in codes[1:5]]
        rest = codes[1 + {5: 2, 2: 4}.get(numbers[0] if numbers else 0, 0) :]
    if len(numbers) >= 2 and numbers[0] == 5 and 0 <= numbers[1] <= 255:
        return _from_256(numbers[1]), rest
    if len(numbers) >= 4 and numbers[0] == 2 and all(0 <= part <= 255 for part in numbers[1:4]):
        return "#{:02x}{:02x}{:02x}".format(*numbers[1:4]), rest
    return None, rest


def _from_256(number: int) -> str:
    if number < 16:
        return str(number)
    if number >= 232:
        return "#" + f"{8 + 10 * (number - 232):02x}" * 3
    levels = [0, 95, 135, 175, 215, 255]
    red, green, blue = (number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6
    return f"#{levels[red]:02x}{levels[green]:02x}{levels[blue]:02x}"


@lru_cache(1000)
def css(style: Style) -> str:
    """`style` as the value of a ``style`` attribute; empty for plain text."""
    ink, paper = style.ink, style.paper
    if style.reverse:
        ink, paper = paper, ink or "8"
    colour, background = _ink(ink, paper), _paper(paper)
    looks = [
        (style.bold, "font-weight:bold"),
        (style.dim, "opacity:0.7"),
        (style.italic, "font-style:italic"),
        (style.underline or style.strike, f"text-decoration:{'underline' if style.underline else 'line-through'}"),
        (colour, f"color:{colour}"),
        (background, f"background-color:{background}"),
    ]
    return ";".join(look for wanted, look in looks if wanted)


def _ink(ink: str, paper: str) -> str:
    if paper.startswith("#") and not ink:
        return "#000000" if _bright(paper) else "#ffffff"
    if ink.startswith("#"):
        return ink if paper.startswith("#") else readable(ink)
    if not ink:
        return ""
    # Black on a tint is meant to stand out: there the theme's own colour does it.
    return "" if paper and ink == "0" else _PALETTE[int(ink)]


@lru_cache(1000)
def readable(colour: str) -> str:
    """`colour` (``#rrggbb``), made darker or lighter until it can be read on white and on black.

    What is nearly white or black becomes empty: the theme's own text colour is meant.
    """
    linear = [(part / 255) ** 2.2 for part in _parts(colour)]
    light = linear[0] * 0.2126 + linear[1] * 0.7152 + linear[2] * 0.0722
    if max(linear) - min(linear) < 0.05 and not 0.02 < light < 0.6:
        return ""
    if light > _LIGHTEST:
        linear = [part * _LIGHTEST / light for part in linear]
    elif light < _DARKEST:
        white = (_DARKEST - light) / (1 - light)
        linear = [part + (1 - part) * white for part in linear]
    else:
        return colour
    return "#" + "".join(f"{round(255 * part ** (1 / 2.2)):02x}" for part in linear)


def _paper(paper: str) -> str:
    if paper.startswith("#") or not paper:
        return paper
    return f"rgba({','.join(map(str, _parts(_PALETTE[int(paper)] or '#9e9e9e')))},0.22)"


def _parts(colour: str) -> list[int]:
    return [int(colour[at : at + 2], 16) for at in (1, 3, 5)]


def _bright(colour: str) -> bool:
    red, green, blue = _parts(colour)
    return red * 299 + green * 587 + blue * 114 > 140_000
