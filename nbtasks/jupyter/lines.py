"""The options of the magics: parsed as on a command line, with errors of one line."""

from __future__ import annotations

import argparse
import difflib
import keyword
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from nbtasks.errors import OptionError

_SHELLS = frozenset({"In", "Out", "exit", "get_ipython", "open", "quit"})


@dataclass(frozen=True)
class CellOptions:
    """What stood behind ``%%background``."""

    inputs: tuple[str, ...] = ()  # in addition to what the cell is seen to read
    outputs: tuple[str, ...] | None = None  # None: all that it assigns
    handle: str | None = None
    wait: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)  # those that tasks of every kind have


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises OptionError instead of leaving the process, and knows what was meant."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """Raise OptionError."""
        raise OptionError(f"{self.prog}: {message}")

    def parse_line(self, line: str) -> argparse.Namespace:
        """The options of a magic's line; what follows an unquoted ``#`` is a comment."""
        try:
            words = shlex.split(_without_comment(line))
        except ValueError as error:
            self.error(f"{str(error).lower()} in {line!r}")
        found, rest = self.parse_known_args(words)
        if rest:
            self._unknown(rest[0])
        return found

    def _unknown(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            self.error(f"{word!r} is one too many; options are {', '.join(self._long())}")
        given = word.partition("=")[0]
        near = difflib.get_close_matches(given, self._long(), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self._long())}"
        self.error(f"no option {given}; {hint}")

    def _long(self) -> list[str]:
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]


def _without_comment(line: str) -> str:
    quote = ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace()):
            return line[:at]
    return line


def _cell_parser() -> Parser:
    parser = Parser("%%background", "Run the cell in the background; its names come back when it has ended.")
    add = parser.add_argument
    add(
        "-i",
        "--input",
        dest="inputs",
        action="append",
        default=[],
        metavar="NAMES",
        help="variables to take along, too",
    )
    add("-o", "--output", dest="outputs", action="append", metavar="NAMES", help="bring back these variables only")
    add("--as", dest="handle", metavar="TASK", help="bind the task's handle to this name")
    add("-n", "--name", metavar="LABEL", help="what the task is called")
    add("-l", "--lane", help="the lane that it waits in")
    add("--priority", type=int, metavar="N", help="0 to 9, higher is sooner (5)")
    add("--after", action="append", default=[], metavar="TASK", help="not before this task has succeeded")
    add("--timeout", metavar="TIME", help="stop it after so long: 90, 10m, 2h")
    add("--grace", metavar="TIME", help="how long it may take to stop (5s)")
    add("--retries", type=int, metavar="N", help="run it again after a failure, N times at most")
    add("-b", "--wait", action="store_true", help="return when it has ended")
    return parser


CELL = _cell_parser()
_FIELDS = ("name", "lane", "priority", "timeout", "grace", "retries")


def cell_options(line: str) -> CellOptions:
    """The options of ``%%background``. OptionError says in one line what cannot be."""
    found = CELL.parse_line(line)
    outputs = None if found.outputs is None else names("-o", found.outputs)
    handle = names("--as", [found.handle]) if found.handle is not None else ()
    if len(handle) > 1:
        CELL.error(f"--as takes one name, not {len(handle)}")
    fields = {name: getattr(found, name) for name in _FIELDS}
    return CellOptions(
        inputs=names("-i", found.inputs),
        outputs=outputs,
        handle=handle[0] if handle else None,
        wait=found.wait,
        fields={**fields, "after": tuple(found.after) or None},
    )


def names(option: str, given: list[str]) -> tuple[str, ...]:
    """The variables in texts such as ``"X,y"`` or ``"X y"``, each once. OptionError for what is no name."""
    found = [name for text in given for name in text.replace(",", " ").split()]
    for name in found:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise OptionError(f"%%background: {option} {name!r} is no name of a variable")
    return tuple(dict.fromkeys(found))


def there(option: str, wanted: tuple[str, ...], namespace: Mapping[str, Any]) -> None:
    """Raise OptionError for the first of `wanted` that the notebook has not, with the nearest name it has."""
    for name in wanted:
        if name not in namespace:
            known = [other for other in namespace if other[:1] != "_" and other not in _SHELLS]
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise OptionError(f"%%background: {option} {name}: the notebook has no variable of that name{hint}")
