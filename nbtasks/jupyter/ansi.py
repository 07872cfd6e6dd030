"""What a program printed, as a terminal would show it: carriage returns, colours, nothing that could do harm.

Colours (SGR, also 256 and true colour) become spans with plain values. Carriage return, backspace, tab,
erasing and relative cursor moves are played on a small screen. Every other control sequence is removed.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from itertools import groupby

from nbtasks.jupyter.sgr import PLAIN, Style, apply, css

LINES = 200
SIZE = 20_000  # characters
_HTML_SIZE = 120_000  # a colour change at every character is not worth a notebook of that size
_MAX_COLUMN = 2_000

_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f-\x9f]+)"
    r"|(?:\x1b\[|\x9b)(?P<numbers>[0-?]*)(?P<middle>[ -/]*)(?P<final>[@-~]?)"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC and its kin, with their text
    r"|\x1b[ -/]*[0-~]?"
    r"|(?P<control>[\n\r\b\t])"
    r"|[\x00-\x1f\x7f-\x9f]"
)
# Text that is seen in another order than it is written, or not at all, has no place in a log.
_UNSEEN = {
    **dict.fromkeys([0x200E, 0x200F, 0x061C, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    **dict.fromkeys(range(0xE0000, 0xE0080)),
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
    0x2028: "\n",
    0x2029: "\n",
}
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

_Row = tuple[list[str], list[Style]]


def to_html(text: str, *, lines: int = LINES, size: int = SIZE) -> str:
    """The end of `text` as escaped HTML for a ``<pre>``: at most `lines` lines and `size` characters.

    Where something was cut, the first line is an ellipsis.
    """
    rows, cut = _shown(text, lines, size)
    marked = "\n".join(_row_html(row) for row in rows)
    if len(marked) > _HTML_SIZE:
        marked = "\n".join(html.escape("".join(chars)) for chars, _ in rows)
    return f"…\n{marked}" if cut else marked


def to_text(text: str, *, lines: int = LINES, size: int = SIZE) -> str:
    """As `to_html`, as plain text: no colours, no control characters but line feeds and tabs."""
    rows, cut = _shown(text, lines, size)
    plain = "\n".join("".join(chars).rstrip() for chars, _ in rows)
    return f"…\n{plain}" if cut else plain


def one_line(text: object, limit: int = 200) -> str:
    """`text` on one line of at most `limit` characters, without control characters (an ellipsis where cut)."""
    said = str(text)[: 20 * limit]
    if _CONTROL.search(said) or not said.isascii():
        said = to_text(said, lines=50, size=20 * limit)
    plain = " ".join(said.split())
    return plain if len(plain) <= limit else plain[: limit - 1].rstrip() + "…"


def strip(text: str) -> str:
    """`text` without control sequences and with its lines as they are; for looking at, line by line."""
    return _TOKEN.sub(lambda match: match["text"] or match["control"] or "", text)


def _shown(text: str, lines: int, size: int) -> tuple[list[_Row], bool]:
    # Only the end will be seen. What is cut off here is far more than that, so that overwritten text fits in.
    cut = len(text) > 10 * size
    if cut:
        text = text[-10 * size :]
        text = text[text.find("\n") + 1 :]
    if not text.isascii():
        text = text.translate(_UNSEEN)
    rows = _rows(text)
    kept = _last(rows, lines, size)
    return kept, cut or len(kept) < len(rows) or (bool(kept) and len(kept[0][0]) < len(rows[-len(kept)][0]))


@lru_cache(8)  # a card wants the same log as text and as HTML
def _rows(text: str) -> list[_Row]:
    rows: list[_Row]
    if _CONTROL.search(text):
        rows = _Screen().play(text)
    else:
        rows = [(list(line), [PLAIN] * len(line)) for line in text.split("\n")]
    while rows and not "".join(rows[-1][0]).strip():
        rows.pop()
    return rows


def _last(rows: list[_Row], lines: int, size: int) -> list[_Row]:
    """As many of the last rows as fit; where not even one does, its end."""
    kept: list[_Row] = []
    for row in reversed(rows[-lines:]):
        if len(row[0]) >= size:
            kept += [] if kept else [(row[0][-size:], row[1][-size:])]
            break
        kept.append(row)
        size -= len(row[0]) + 1
    return kept[::-1]


class _Screen:
    """As many rows as were printed; a cursor that may go back."""

    def __init__(self) -> None:
        self.rows: list[_Row] = [([], [])]
        self.row = self.column = 0
        self.style = PLAIN

    def play(self, text: str) -> list[_Row]:
        """The rows after printing `text`."""
        for match in _TOKEN.finditer(text):
            if match["text"]:
                self._put(match["text"])
            elif match["control"]:
                self._control(match["control"])
            elif match["final"] == "m" and not match["middle"]:
                self.style = apply(self.style, match["numbers"])
            elif match["final"] and not match["middle"]:
                self._move(match["final"], match["numbers"])
        return self.rows

    def _put(self, run: str) -> None:
        chars, styles = self.rows[self.row]
        missing = self.column - len(chars)
        if missing > 0:
            chars.extend(" " * missing)
            styles.extend([PLAIN] * missing)
        end = self.column + len(run)
        chars[self.column : end] = run
        styles[self.column : end] = [self.style] * len(run)
        self.column = end

    def _control(self, control: str) -> None:
        if control == "\n":
            self.row, self.column = self.row + 1, 0
            if self.row == len(self.rows):
                self.rows.append(([], []))
        elif control == "\r":
            self.column = 0
        elif control == "\b":
            self.column = max(0, self.column - 1)
        elif self.column == len(self.rows[self.row][0]):
            self._put("\t")  # kept as it is, for whoever copies it
        else:
            self.column += 8 - self.column % 8

    def _move(self, final: str, numbers: str) -> None:
        count = int(numbers) if numbers.isascii() and numbers.isdigit() and len(numbers) < 6 else 0
        step = max(1, count)
        if final == "A":
            self.row = max(0, self.row - step)
        elif final == "B":
            self.row = min(len(self.rows) - 1, self.row + step)
        elif final == "C":
            self.column = min(_MAX_COLUMN, self.column + step)
        elif final == "D":
            self.column = max(0, self.column - step)
        elif final == "G":
            self.column = min(_MAX_COLUMN, step - 1)
        elif final in "KJ":
            self._erase(final, count)

    def _erase(self, what: str, how: int) -> None:
        chars, styles = self.rows[self.row]
        if how == 0:
            del chars[self.column :], styles[self.column :]
            if what == "J":
                del self.rows[self.row + 1 :]
        elif how == 1:
            end = min(self.column + 1, len(chars))
            chars[:end], styles[:end] = " " * end, [PLAIN] * end
        elif what == "K":
            del chars[:], styles[:]
        else:
            self.rows, self.row = [([], [])], 0


def _row_html(row: _Row) -> str:
    parts = []
    start = 0
    for style, group in groupby(row[1]):
        end = start + sum(1 for _ in group)
        text = html.escape("".join(row[0][start:end]))
        look = css(style)
        parts.append(f'<span style="{look}">{text}</span>' if look else text)
        start = end
    return "".join(parts)
