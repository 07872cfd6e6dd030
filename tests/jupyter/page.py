"""Reading the HTML of a card as a browser would: elements, attributes, and the text."""

from __future__ import annotations

import re
from html.parser import HTMLParser

# All that a card or a table is made of. Nothing a task writes may add to it.
ALLOWED = {
    "div": {"style", "class"},
    "span": {"style"},
    "code": {"style"},
    "pre": {"style"},
    "details": {"style", "open"},
    "summary": {"style"},
    "b": {"style"},
    "img": {"alt", "src", "width", "style"},
    "table": {"style"},
    "thead": set[str](),
    "tbody": set[str](),
    "tr": set[str](),
    "th": {"style"},
    "td": {"style"},
}
_STYLE = re.compile(r"[a-z-]+:[-a-z0-9 #.,%()]+")
_FONT = re.compile(r"(font-family|color):var\(--jp-[a-z0-9-]+,[-a-z, A-Z]+\)")
_SOURCE = re.compile(r"data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/]+=*")


class Page(HTMLParser):
    """Elements in order, all text, and a list of what does not belong."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.alts: list[str] = []
        self.wrong: list[str] = []
        self.feed(html)
        self.close()
        if self.open:
            self.wrong.append(f"not closed: {self.open}")
        self.text = "".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "img":
            self.open.append(tag)
        for name, value in attrs:
            if name not in ALLOWED.get(tag, set()):
                self.wrong.append(f"<{tag} {name}>")
            elif name == "style" and not all(_is_plain(part) for part in (value or "").split(";")):
                self.wrong.append(f"style={value!r}")
            elif name == "src" and not _SOURCE.fullmatch(value or ""):
                self.wrong.append(f"src={value!r:.80}")
            elif name == "alt":
                self.alts.append(value or "")
        if tag not in ALLOWED:
            self.wrong.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}")

    def handle_decl(self, decl: str) -> None:
        self.wrong.append(f"<!{decl}")

    def handle_pi(self, data: str) -> None:
        self.wrong.append(f"<?{data}")

    def unknown_decl(self, data: str) -> None:
        self.wrong.append(f"<![{data}")


def _is_plain(declaration: str) -> bool:
    return bool(_STYLE.fullmatch(declaration) or _FONT.fullmatch(declaration))
