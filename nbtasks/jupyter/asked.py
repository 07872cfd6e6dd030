"""What the magics can be asked: their options, in words, and what was asked, in fields."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbtasks import needs
from nbtasks.errors import OptionError
from nbtasks.jupyter.lines import Parser, names
from nbtasks.spec import seconds
from nbtasks.status import Status

VERBS = ("show", "logs", "result", "vars", "here", "cancel", "retry", "save", "rm")


@dataclass(frozen=True)
class CellOptions:
    """What stood behind ``%%background`` or ``%background``."""

    inputs: tuple[str, ...] = ()  # in addition to what the cell is seen to read
    outputs: tuple[str, ...] | None = None  # None: all that it assigns
    handle: str | None = None
    wait: bool = False
    fresh: bool = False
    replace: bool = False
    notify: bool = False
    cache: float = 0.0  # how old a result may be that is used instead, in seconds; 0: none
    cwd: str = ""
    env: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    every: str | None = None  # it recurs; the handle is that of the schedule then
    cron: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)  # those that tasks of every kind have


def _background_parser(prog: str, description: str, example: str) -> Parser:
    parser = Parser(prog, description, example)
    add, many = parser.add_argument, parser.add_repeatable
    many("-i", "--input", dest="inputs", metavar="NAMES", help="take along these variables, too")
    many("-o", "--output", dest="outputs", metavar="NAMES", help="bring back these variables only")
    add("--as", dest="handle", metavar="TASK", help="bind the task's handle to this name")
    add("-n", "--name", metavar="LABEL", help="what the task is called")
    add("-l", "--lane", help="the lane that it waits in")
    many("--after", metavar="TASK", help="not before this task has succeeded: a handle or an id")
    add("--priority", type=int, metavar="N", help="0 to 9, higher is sooner (5)")
    add("--timeout", metavar="TIME", help="stop it after so long: 90, 10m, 2h")
    add("--retries", type=int, metavar="N", help="run it again after a failure, N times at most")
    many("--limit", metavar="KEY=N", help="at most N tasks of this key at once; of this name, if only N is given")
    many("--rate", metavar="KEY=N/m", help="at most N starts a minute (/s, /h, /d) under this key, or of this name")
    many("--resource", metavar="NAME=N", help="it needs N (1) of what the settings say this machine has")
    add("--fresh", action="store_true", help="run it, though it runs already or has succeeded before")
    cached = "use what the same code has brought before with the same inputs, if it is no older than TIME"
    add("--cache", nargs="?", const="", metavar="TIME", help=f"{cached} (--cache=7d); any age without")
    add("--replace", action="store_true", help="cancel what this cell has running, then run it")
    add("-b", "--wait", action="store_true", help="return when it has ended")
    add("--cwd", metavar="DIR", help="the working directory (the notebook's)")
    many("--env", metavar="NAME", help="take this environment variable along, by its name; nothing shows its value")
    add("--notify", action="store_true", help="tell me when it has ended")
    return parser


def _cell_parser() -> Parser:
    parser = _background_parser(
        "%%background",
        "Run the cell in the background. The prompt is back at once, a card below shows how far it is, and\n"
        "the names that the cell assigns come back when it has succeeded.",
        "%%background -n fit --notify\n  model = train(X, y, epochs=200)",
    )
    parser.add_argument(
        "--every", metavar="TIME", help="again and again: 90, 10m, 6h, 1d; --as then binds the schedule"
    )
    parser.add_argument(
        "--cron", metavar="LINE", help="at the moments of a cron line: '0 3 * * *' is every day at 03:00"
    )
    parser.add_argument("outputs_too", nargs="*", metavar="NAMES", help="the same as -o NAMES")
    return parser


def _line_parser() -> Parser:
    return _background_parser(
        "%background",
        "Run the rest of the line in the background, as %%background does a cell. Options come first.",
        "%background --timeout 2h model = train(X, y)",
    )


def _tasks_parser() -> Parser:
    parser = Parser("%tasks", "Show the tasks of the queue, whoever submitted them.", "%tasks running queued --mine")
    statuses = f"only these: {', '.join(Status)}; live, ended"
    parser.add_argument("status", nargs="*", metavar="STATUS", help=statuses)
    parser.add_argument("-l", "--lane", help="only tasks of this lane")
    parser.add_argument("-n", "--name", help="only tasks with this in their name")
    parser.add_argument("--mine", action="store_true", help="only tasks of this notebook")
    parser.add_argument("-a", "--all", action="store_true", help="without limit")
    parser.add_argument("--static", action="store_true", help="a plain table, that stays as it is")
    return parser


def _task_parser() -> Parser:
    parser = Parser("%task", "Show a task, or do something about it.", "%task k7q2 logs")
    about = "the name of a handle, or any unique part (3 characters or more) of an id"
    parser.add_argument("id", metavar="ID", help=about)
    parser.add_argument(
        "verb", nargs="?", default="show", metavar="VERB",
        help="show its card (this is meant without a verb); logs: what it printed; result: wait for its value; "
        "vars: the names that it left, also when it failed; here: run it in this kernel, with its inputs as they were, "
        "for %%debug; cancel; retry; save PATH: value and names into a file of your own; rm: remove an ended task",
    )  # fmt: skip
    parser.add_argument("path", nargs="?", metavar="PATH", help="of save")
    return parser


def _wait_parser() -> Parser:
    parser = Parser(
        "%wait", "Wait until tasks have ended, and bind what they brought back.", "%wait k7q2 fit --timeout 10m"
    )
    parser.add_argument("ids", nargs="*", metavar="ID", help="ids or handles (default: all of this notebook that live)")
    parser.add_argument("--timeout", metavar="TIME", help="give up after 90, 10m, 2h")
    return parser


CELL, LINE, TASKS, TASK, WAIT = _cell_parser(), _line_parser(), _tasks_parser(), _task_parser(), _wait_parser()
# By the magic's name as it is written; for help and completion.
PARSERS = {parser.prog: parser for parser in (CELL, LINE, TASKS, TASK, WAIT)}

_FIELDS = ("name", "lane", "priority", "timeout", "retries")


def cell_options(line: str) -> CellOptions:
    """The options of ``%%background``. OptionError says in one line what cannot be."""
    return _options(CELL, line)


def line_options(line: str) -> tuple[CellOptions, str]:
    """The options of ``%background``, and the statement behind them."""
    given, statement = LINE.split(line)
    return _options(LINE, given), statement


def _cache(given: str | None, line: str) -> tuple[float, list[str]]:
    """The age that ``--cache`` allows; a name behind it is one of a variable to bring back."""
    if given is None:
        return 0.0, []
    if given == "" or (given.replace(",", "").isidentifier() and f"--cache={given}" not in line):
        return math.inf, [given] if given else []
    if not (age := seconds("--cache", given)):
        raise OptionError("%%background: --cache=0 would never use anything: leave it out")
    return age, []


def _pairs(option: str, given: list[str], parse: Callable[[str, str], Any]) -> dict[str | None, Any] | None:
    """``api=2`` by its key. Of ``2`` alone the key is None: the task's name."""
    found: dict[str | None, Any] = {}
    for text in given:
        key, _, value = text.rpartition("=")
        parse(f"%%background: {option} {key}".rstrip(), value)  # refused under the name that it has here
        found[key.strip() or None] = int(value) if value.isdecimal() else value
    return found or None


def _options(parser: Parser, line: str) -> CellOptions:
    found = parser.parse_line(line)
    magic = parser.prog
    cache, more = _cache(found.cache, line)
    outputs = names("-o", [*found.outputs, *more], magic) + names("", getattr(found, "outputs_too", ()), magic)
    handle = names("--as", [found.handle], magic) if found.handle is not None else ()
    if len(handle) > 1:
        parser.error(f"--as takes one name, not {len(handle)}")
    if found.fresh and found.replace:
        parser.error("--fresh leaves what runs alone, --replace cancels it: give one of them")
    every, cron = getattr(found, "every", None), getattr(found, "cron", None)
    if (every or cron) and (found.wait or found.fresh or found.replace or cache or (every and cron)):
        parser.error("--every and --cron cannot stand together, nor with --wait, --fresh, --replace or --cache")
    return CellOptions(
        every=every, cron=cron,
        inputs=names("-i", found.inputs, magic),
        outputs=tuple(dict.fromkeys(outputs)) or None,
        handle=handle[0] if handle else None,
        wait=found.wait, fresh=found.fresh, replace=found.replace, notify=found.notify, cache=cache,
        cwd=found.cwd or "", env=tuple(dict.fromkeys(found.env)), after=tuple(found.after),
        fields={
            **{name: getattr(found, name) for name in _FIELDS}, "notify": found.notify or None,
            "limit": _pairs("--limit", found.limit, needs.whole_text), "rate": _pairs("--rate", found.rate, needs.rate),
            "resources": _pairs("--resource", [text if "=" in text else f"{text}=1" for text in found.resource], needs.whole_text),
        },
    )  # fmt: skip
