"""Tab completion on the lines of our magics: options, ids (with the name of the task beside them), verbs, variables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, SimpleMatcherResult, context_matcher

from nbtasks import cells, config, context
from nbtasks.errors import NbtasksError
from nbtasks.jupyter.asked import CELL, LINE, PARSERS, TASK, TASKS, VERBS, WAIT
from nbtasks.jupyter.handles import handles
from nbtasks.jupyter.lines import Parser, users_names
from nbtasks.queue.directory import Queue
from nbtasks.status import LIVE, Status

_MOST = 50  # tasks that are offered

Offer = tuple[str, str]  # what is offered, and what it is
Offers = Iterable[Offer]


def completer(namespace: Callable[[], Mapping[str, Any]]) -> Callable[[CompletionContext], SimpleMatcherResult]:
    """A matcher for IPython's completer; `namespace` gives the notebook's names."""

    def matcher(asked: CompletionContext) -> SimpleMatcherResult:
        before = asked.text_until_cursor
        word = before.rpartition(" ")[2] if before[-1:] != " " else ""
        found: list[Offer] = []
        with contextlib.suppress(NbtasksError, OSError):  # no queue, say: then there is nothing to offer
            found = [offer for offer in _offers(asked, before, namespace()) if offer[0].startswith(_last(word))]
        return {
            "completions": [SimpleCompletion(text, type=what) for text, what in dict(found).items()],
            "matched_fragment": _last(word),
            "suppress": bool(found),
            "ordered": True,
        }

    matched: Callable[[CompletionContext], SimpleMatcherResult] = context_matcher(identifier="nbtasks", priority=100)(
        matcher
    )
    return matched


def _last(word: str) -> str:
    """Of ``X,y`` only the last name is being typed; of ``--lane=gp`` the value."""
    return word.rpartition(",")[2] if word[:2] != "--" else word.rpartition("=")[2]


def _offers(asked: CompletionContext, before: str, namespace: Mapping[str, Any]) -> Iterator[Offer]:
    magic, space, rest = before.lstrip().partition(" ")
    parser = PARSERS.get(magic)
    if parser is None or not space or (magic[:2] == "%%" and asked.cursor_line):
        return
    words = rest.split()
    current = words.pop() if words and rest[-1:] != " " else ""
    option = words[-1] if words else ""
    if current.startswith("--") and "=" in current:
        option = current.partition("=")[0]
    if parser.takes_value(option):
        yield from _values(option, namespace)
    elif current.startswith("-"):
        yield from _options(parser)
    elif parser is not LINE or _is_in_options(rest):
        yield from _places(parser, words, namespace, asked.full_text)


def _is_in_options(rest: str) -> bool:
    """Of ``%background`` nothing but options is ours; what follows is Python."""
    return not rest.strip()


def _options(parser: Parser) -> Iterator[Offer]:
    for action in parser._actions:
        yield from ((flag, action.help or "") for flag in action.option_strings if flag.startswith("--"))


def _values(option: str, namespace: Mapping[str, Any]) -> Iterator[Offer]:
    if option in ("-i", "--input", "-o", "--output"):
        yield from _variables(namespace)
    elif option == "--after":
        yield from _tasks(namespace, None)
    elif option in ("-l", "--lane"):
        yield from ((lane, "lane") for lane in dict.fromkeys(record.spec.lane for record in _records(None)))
    elif option == "--resource":
        yield from ((name, f"{count} on this machine") for name, count in config.settings().resources.items())
    elif option == "--env":
        yield from ((name, "environment") for name in context.environment_names())


def _places(parser: Parser, words: list[str], namespace: Mapping[str, Any], cell: str) -> Iterator[Offer]:
    """What may stand beside options."""
    if parser is CELL:
        yield from _assigned(cell)
    elif parser is TASK and not words:
        yield from _tasks(namespace, None)
    elif parser is TASK and len(words) == 1:
        yield from ((verb, "verb") for verb in VERBS)
    elif parser is TASKS:
        yield from ((status, "status") for status in (*map(str, Status), "live", "ended"))
    elif parser is WAIT:
        yield from _tasks(namespace, LIVE)


def _assigned(cell: str) -> Iterator[Offer]:
    with contextlib.suppress(SyntaxError):
        yield from ((name, "assigned") for name in cells.names_assigned(cell.partition("\n")[2]))


def _variables(namespace: Mapping[str, Any]) -> Iterator[Offer]:
    for name in users_names(namespace):
        yield name, type(namespace[name]).__name__


def _tasks(namespace: Mapping[str, Any], wanted: Iterable[Status] | None) -> Iterator[Offer]:
    for name, task in handles(namespace).items():
        if wanted is None or task.status in wanted:
            yield name, f"{task.name} {task.short}, {task.status}"
    for record in _records(wanted):
        yield record.short, f"{record.name}, {record.status}"


def _records(wanted: Iterable[Status] | None) -> Iterator[Any]:
    queue = Queue.open(create=False)
    for status in wanted or (None,):
        yield from queue.records(status=status, limit=_MOST)
