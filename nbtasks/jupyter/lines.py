"""Lines of magics: parsed as on a command line, with errors of one sentence and the nearest match."""

from __future__ import annotations

import argparse
import difflib
import keyword
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from nbtasks.errors import OptionError

_SHELLS = frozenset({"In", "Out", "exit", "get_ipython", "open", "quit"})


class HelpAsked(Exception):
    """``--help`` stood on the line; the message is the help."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises OptionError instead of leaving the process, and knows what was meant."""

    def __init__(self, prog: str, description: str, example: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"example:\n  {example}",
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("-h", "--help", action="store_true", help="show this")

    def add_repeatable(self, *flags: str, **about: Any) -> None:
        """An option that may be given several times; its value is a list."""
        self.add_argument(*flags, action="append", default=[], **about)

    def error(self, message: str) -> NoReturn:
        """Raise OptionError."""
        raise OptionError(f"{self.prog}: {message}")

    def parse_line(self, line: str) -> argparse.Namespace:
        """The options of a magic's line; what follows an unquoted ``#`` is a comment. Raises OptionError, HelpAsked."""
        try:
            words = shlex.split(without_comment(line))
        except ValueError as error:
            self.error(f"{str(error).lower()} in {line!r}")
        if "--help" in words or "-h" in words:
            raise HelpAsked(self.format_help())
        found, rest = self.parse_known_intermixed_args(words)
        if rest:
            self._unknown(rest[0])
        return found

    def split(self, line: str) -> tuple[str, str]:
        """The options at the beginning of a line, and the statement behind them."""
        at = 0
        while (start := _next(line, at)) < len(line):
            end = _end_of_word(line, start)
            word = line[start:end]
            if word == "--":
                return line[:start], line[end:].strip()
            option, equals, _ = word.partition("=")
            action = self._option_string_actions.get(option)
            if action is None:
                if not option.startswith("--"):
                    break  # also `-x`, which is Python
                self._unknown(word)
            at = end
            if action.nargs is None and not equals:
                at = _end_of_word(line, _next(line, end))
        return line[:at], line[at:].strip()

    def takes_value(self, option: str) -> bool:
        """Whether a word follows this option."""
        action = self._option_string_actions.get(option)
        return action is not None and action.nargs is None

    def options(self) -> list[str]:
        """The long options."""
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]

    def _unknown(self, word: str) -> NoReturn:
        if not word.startswith("-"):
            self.error(f"{word!r} is one too many; options are {', '.join(self.options())}")
        given = word.partition("=")[0]
        self.error(f"no option {given}; {did_you_mean(given, self.options(), near=0.8)}")


def _next(line: str, at: int) -> int:
    """Where the next word begins."""
    return len(line) - len(line[at:].lstrip())


def _end_of_word(line: str, at: int) -> int:
    quote = ""
    for here in range(at, len(line)):
        char = line[here]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            return here
    return len(line)


def without_comment(line: str) -> str:
    """A line up to an unquoted ``#`` that begins a word."""
    quote = ""
    for at, char in enumerate(line):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace()):
            return line[:at]
    return line


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "there are ", near: float = 0.6) -> str:
    """``did you mean model?``, or what there is, or "" when `otherwise` is empty and nothing is near."""
    words = list(known)
    if found := difflib.get_close_matches(word, words, 1, near):
        return f"did you mean {found[0]}?"
    return otherwise + ", ".join(words[:20]) if otherwise and words else ""


def names(option: str, given: Iterable[str], magic: str = "%%background") -> tuple[str, ...]:
    """The variables in texts such as ``"X,y"`` or ``"X y"``, each once. OptionError for what is no name."""
    found = [name for text in given for name in text.replace(",", " ").split()]
    for name in found:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise OptionError(f"{magic}: {option} {name!r}".replace(":  ", ": ") + " is no name of a variable")
    return tuple(dict.fromkeys(found))


def there(option: str, wanted: tuple[str, ...], namespace: Mapping[str, Any]) -> None:
    """Raise OptionError for the first of `wanted` that the notebook has not, with the nearest name it has."""
    for name in wanted:
        if name not in namespace:
            hint = did_you_mean(name, users_names(namespace), "")
            raise OptionError(
                f"%%background: {option} {name}: the notebook has no variable of that name"
                + (f"; {hint}" if hint else "")
            )


def users_names(namespace: Mapping[str, Any]) -> list[str]:
    """The variables that are the person's own."""
    return [name for name in namespace if name[:1] != "_" and name not in _SHELLS]
