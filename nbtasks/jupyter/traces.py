"""Tracebacks for a card: paths without their folders, frames of installed packages folded."""

from __future__ import annotations

import re
from typing import NamedTuple

from nbtasks.jupyter.ansi import strip
from nbtasks.jupyter.words import listed, plural

# The head of a frame, as Python prints it and as IPython does.
_PYTHON = re.compile(r'File "(?P<path>[^"]+)", line \d+')
_IPYTHON = re.compile(r"^File (?P<path>.+?):\d+(?:, in .*|\(.*)?$")
_CELL = re.compile(r"^(?:Cell|Input) In ?\[\d*\]")
_HEADS = ('  File "', "  Cell In[")  # of a frame as Python prints it, in a file and in a cell of the notebook
_HEAD = re.compile(r'^  (?P<where>File "[^"]+"|Cell In\[\d*\]), (?P<line>line \d+)(?P<rest>.*)$')
_CARETS = re.compile(r"^ {4,}[~^]+\s*$")
_INSTALLED = re.compile(r".*[/\\](?:site-packages|dist-packages|[lL]ib[/\\]python3\.\d+t?)[/\\](?P<inside>.+)")
_FROZEN = re.compile(r"<frozen (?P<inside>[\w.]+)>")
# What IPython prints above the frames; the card has it already.
_BANNER = re.compile(r"-{20,}|\S+ {3,}Traceback \(most recent call last\)")


class Trace(NamedTuple):
    """A traceback as it is shown, and a note on what was folded (may be empty)."""

    text: str
    note: str


class _Frame(NamedTuple):
    start: int
    end: int
    package: str  # "" for the user's own code


def tidy(text: str, last_line: str = "") -> Trace:
    """The traceback `text` (it may hold ANSI colours) without folders' names and without installed packages' frames.

    `last_line` is the exception as text; it is dropped at the end, as the card has it above.
    """
    lines = text.rstrip().split("\n")
    if "\x1b[" not in text:
        lines = [_coloured(line) for line in lines]
    plain = [strip(line).rstrip() for line in lines]
    while plain and _BANNER.fullmatch(plain[0]):
        del lines[0], plain[0]
    if len(plain) > 1 and last_line and plain[-1] == last_line:
        del lines[-1], plain[-1]
    frames = _frames(plain)
    lines = [_short_line(line, shown) for line, shown in zip(lines, plain, strict=True)]
    packages: dict[str, int] = {}
    if any(not frame.package for frame in frames):
        for run in _runs(frames):
            _fold(lines, plain, run)
            for frame in run:
                packages[frame.package] = packages.get(frame.package, 0) + 1
    note = f"{plural(sum(packages.values()), 'frame')} of {_named(packages)} folded" if packages else ""
    return Trace("\n".join(line for line in lines if line != _GONE).strip("\n"), note)


def short_path(path: str) -> str:
    """A path without folders that belong to a person or a machine: ``pandas/core/frame.py``, ``helper.py``."""
    inside = _inside(path)
    return inside if inside else re.split(r"[/\\]", path)[-1]


def _inside(path: str) -> str:
    match = _INSTALLED.fullmatch(path) or _FROZEN.fullmatch(path)
    return match["inside"].replace("\\", "/") if match else ""


def _path_of(line: str) -> str:
    match = _PYTHON.search(line) or _IPYTHON.match(line)
    return match["path"] if match else ""


def _short_line(line: str, plain: str) -> str:
    path = _path_of(plain)
    return line.replace(path, short_path(path), 1) if path and not path.startswith("<") else line


def _frames(plain: list[str]) -> list[_Frame]:
    """The frames among the lines, each with its lines of code."""
    frames = []
    for index, line in enumerate(plain):
        python = line.startswith(_HEADS)
        if not (python or line.startswith("File ") or _CELL.match(line)):
            continue
        path = _path_of(line)
        end = index + 1
        while end < len(plain) and not _over(plain[end], python):
            end += 1
        if not python and end < len(plain):
            end += 1  # the empty line between frames goes with the frame
        package = re.split(r"[/.]", _inside(path))[0] if path else ""
        frames.append(_Frame(index, end, package))
    return frames


def _over(line: str, python: bool) -> bool:
    return (not line.startswith(" ") or line.startswith(_HEADS)) if python else not line


def _coloured(line: str) -> str:
    """A line of Python's own traceback in the colours that IPython has for it."""
    if head := _HEAD.match(line):
        return f"  \x1b[36m{head['where']}\x1b[39m, \x1b[32m{head['line']}\x1b[39m{head['rest']}"
    return f"\x1b[31m{line}\x1b[39m" if _CARETS.match(line) else line


def _runs(frames: list[_Frame]) -> list[list[_Frame]]:
    """Frames of packages that follow each other."""
    runs: list[list[_Frame]] = []
    for frame in frames:
        if frame.package and runs and runs[-1][-1].end == frame.start:
            runs[-1].append(frame)
        elif frame.package:
            runs.append([frame])
    return runs


def _fold(lines: list[str], plain: list[str], run: list[_Frame]) -> None:
    names = _named({frame.package: 1 for frame in run})
    first, end = run[0].start, run[-1].end
    indent = "  " if plain[first].startswith(" ") else ""
    gap = [""] if not plain[end - 1] else []
    # Line numbers of other frames must stay true: the fold takes the place of its lines one for one.
    lines[first:end] = [
        f"{indent}… {plural(len(run), 'frame')} of {names}",
        *gap,
        *[_GONE] * (end - first - 1 - len(gap)),
    ]


def _named(packages: dict[str, int]) -> str:
    names = list(packages)
    return listed(names if len(names) <= 3 else [*names[:2], "others"])


_GONE = "\0"
