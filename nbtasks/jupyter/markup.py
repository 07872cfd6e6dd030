"""The HTML of cards and tables: a few elements with inline styles, every text escaped.

Scripts, and in most viewers style sheets, do not survive in a saved notebook, and JupyterLab drops from an untrusted one each
declaration with ``var()`` in it; so what carries meaning has plain values, and a declaration that may be
dropped stands alone. Backgrounds are a thin grey that suits light and dark; quiet text is made by opacity.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from nbtasks.jupyter import ansi
from nbtasks.jupyter.shown import MARKS, Bar, Block, Line, Picture, View
from nbtasks.status import Status

MONO = "font-family:var(--jp-code-font-family,ui-monospace,Menlo,Consolas,monospace);font-size:12px"
_TEXT = (
    "overflow-wrap:break-word;font-size:13px;line-height:1.45;"
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);color:var(--jp-ui-font-color1,inherit)"
)
_CARD = (
    "border:1px solid rgba(128,128,128,0.3);border-left:4px solid {colour};border-radius:4px;padding:7px 12px;"
    f"margin:4px 0;max-width:860px;box-sizing:border-box;{_TEXT}"
)
_CODE = f"{MONO};background:none;padding:0;color:inherit"
_QUIET = "opacity:0.72"
_GAP = "margin-top:5px"
_PRE = (
    f"{MONO};line-height:1.45;margin:6px 0 0 0;padding:5px 9px;border-radius:3px;background:rgba(128,128,128,0.1);"
    "color:inherit;white-space:pre-wrap;overflow-wrap:break-word;overflow:auto;max-height:320px"
)
_TRACK = "clear:both;margin-top:3px;height:6px;border-radius:3px;background:rgba(128,128,128,0.22);overflow:hidden"

_ABOVE = "nbtasks-above"
# Where no kernel knows the widgets below, JupyterLab writes an error in their place. It is no news: the line says where to look.
NO_ERROR = (
    f"<style>.jp-OutputArea-child:has(.{_ABOVE})+.jp-OutputArea-child>.jupyter-widgets:not(:has(*))"
    "{display:none!important}</style>"
)

# Where a card stands in Markdown, a blank line would end it; written as an entity it is none.
_BLANK = re.compile(r"\n(?=[ \t]*\n)")


def escape(text: object, limit: int = 400) -> str:
    """`text` on one line, without control characters, cut at `limit`, escaped for text and attributes."""
    return html.escape(ansi.one_line(text, limit))


def code(text: object, limit: int = 400) -> str:
    """A piece of code in a sentence."""
    return f'<code style="{_CODE}">{escape(text, limit)}</code>'


def mark(status: Status) -> tuple[str, str]:
    """Icon and word of a status, coloured."""
    look = MARKS[status]
    return (
        f'<span style="color:{look.colour};font-weight:bold">{look.icon}</span>',
        f'<span style="color:{look.colour};font-weight:600">{status}</span>',
    )


def above_widgets(line: str) -> str:
    """What stands in a line above widgets, which a page may have to do without."""
    look = "font-size:12px;line-height:1.45;margin:2px 0"
    return f'<div class="tex2jax_ignore mathjax_ignore {_ABOVE}" style="{look}">{NO_ERROR}{line}</div>'


def quiet(line: str) -> str:
    """A piece of HTML that does not stand out."""
    return f'<span style="{_QUIET}">{line}</span>'


def card(view: View) -> str:
    """A whole card; one block on each line, so that a version control system shows what changed."""
    # The class keeps MathJax away: a log with two dollar signs is no formula.
    opening = f'<div class="tex2jax_ignore mathjax_ignore" style="{_CARD.format(colour=MARKS[view.status].colour)}">'
    return "\n".join([opening, _head(view), *_blocks(view), "</div>"])


def parts(view: View) -> tuple[str, str]:
    """Head and body of a card without its frame, for the live strip, which has buttons between them."""
    opening = f'<div class="tex2jax_ignore mathjax_ignore" style="{_TEXT}">'
    blocks = "\n".join(_blocks(view))
    return f"{opening}{_head(view)}</div>", f"{opening}{blocks}</div>" if blocks else ""


def plain(sentence: str) -> str:
    """A sentence that stands alone."""
    return f'<div style="{_TEXT}">{escape(sentence)}</div>'


def tail(block: Block) -> str:
    """A log that stays at its end while it grows."""
    look = f"{_TEXT};display:flex;flex-direction:column-reverse;max-height:320px;overflow:auto"
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{look}">{_block(block)}</div>'


def _blocks(view: View) -> list[str]:
    """What stands below the head."""
    colour = MARKS[view.status].colour
    blocks = [*_error(view, colour), *(_line(line) for line in view.lines)]
    blocks += [_bar(bar, colour) for bar in view.bars]
    blocks += [_block(block) for block in (view.trace, view.log, *map(Block, view.texts)) if block]
    blocks += [image(picture) for picture in view.pictures]
    blocks += [_line(line) for line in view.after]
    blocks += [f'<div style="{_GAP};font-size:12px;{_QUIET}">{sentence(view.foot)}</div>'] if view.foot else []
    return blocks


def sentence(line: Line) -> str:
    """The pieces of a line, escaped."""
    parts = []
    for text, look in line:
        if look == "code":
            parts.append(code(text))
        else:
            lead, tail = " " * text.startswith(" "), " " * (text.endswith(" ") and len(text) > 1)
            words = f"{lead}{escape(text)}{tail}"
            parts.append(f"<b>{words}</b>" if look == "strong" else words)
    return "".join(parts)


def _head(view: View) -> str:
    icon, word = mark(view.status)
    parts = [icon, f"<b>{escape(view.name, 120)}</b>", code(view.ref), word]
    if view.facts:
        parts.append(quiet(" · ".join(map(_fact, view.facts))))
    return f"<div>{'&ensp;'.join(parts)}</div>"


def _fact(text: str) -> str:
    shown = escape(text)
    return f'<span style="white-space:nowrap">{shown}</span>' if len(text) < 30 else shown


def _error(view: View, colour: str) -> Iterable[str]:
    if view.error:
        kind, message = view.error
        tail = f": {escape(message, 600)}" if message else ""
        named = f'<b style="color:{colour}">{escape(kind)}</b>'
        yield f'<div style="{_GAP}"><code style="{_CODE}">{named}{tail}</code></div>'


def _line(line: Line) -> str:
    return f'<div style="{_GAP}">{sentence(line)}</div>'


def _bar(bar: Bar, colour: str) -> str:
    percent = [] if bar.fraction is None else [f"{bar.fraction:.0%}"]
    notes = " · ".join([*percent, escape(bar.count), *map(escape, bar.notes)])
    label = f"<span>{escape(bar.label)}</span> " if bar.label else ""
    text = f'{label}<span style="float:right;{_QUIET};{MONO}">{notes}</span>'
    fill = f"width:{(bar.fraction or 0) * 100:.3g}%;height:6px;background:{colour}"
    track = "" if bar.fraction is None else f'<div style="{_TRACK}"><div style="{fill}"></div></div>'
    return f'<div style="{_GAP};overflow:hidden">{text}{track}</div>'


def _block(block: Block) -> str:
    lines = _BLANK.sub("&#10;", ansi.to_html(block.text, lines=block.lines))
    printed = f'<pre style="{_PRE}">{lines}</pre>'
    if not block.summary:
        return printed
    summary = f'<summary style="cursor:pointer">{quiet(escape(block.summary))}</summary>'
    return f'<details style="{_GAP}"{" open" if block.open else ""}>{summary}{printed}</details>'


def image(picture: Picture) -> str:
    """A picture, no wider than the page."""
    width = f' width="{picture.width}"' if picture.width else ""
    style = "display:block;margin-top:6px;max-width:100%;height:auto;background:#ffffff"
    return f'<img alt="{escape(picture.alt)}" src="{picture.source}"{width} style="{style}">'
