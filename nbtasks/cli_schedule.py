"""``nbtasks schedule``: what recurs, listed, added, paused, resumed, run once, removed."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click
import msgspec

from nbtasks import cli_show, config, schedule_words
from nbtasks.decorate import Using
from nbtasks.errors import OptionError
from nbtasks.jupyter import schedule_view
from nbtasks.queue import schedules
from nbtasks.queue.directory import Queue
from nbtasks.scheduling import Schedule

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_name = click.argument("name")


@click.group()
def schedule() -> None:
    """What recurs: list it, add to it, pause, run and remove it."""


@schedule.command("list")
@_json
def list_all(as_json: bool) -> int:
    """List schedules: when next, from when their code is, and what became of the last moments.

    ✓ succeeded, ✕ failed, – not run or cancelled, … not ended yet, · removed since.
    """
    root = config.find_queue_root()
    queue = Queue.open(create=False) if os.path.exists(root) else None
    found = [Schedule(queue, name) for name in schedules.names(queue)] if queue else []
    if as_json:
        cli_show.print_json([_as_json(one) for one in found])
    elif queue is None or not found:
        print(f"no schedules in {root}; nbtasks schedule add MODULE:FUNCTION --every 10m makes one")
    else:
        table = cli_show.grid("schedule", "when", "next", "code of", "lane", "history")
        for one in found:
            row = schedule_view.row_of(one)
            entry = schedules.find_entry(queue, one.name) if row[3] else None
            table.add_row(*map(cli_show.clean, row[:4]), entry.lane if entry else "", schedule_view.marks(row[4]))
        cli_show.print_rich(table)
        for sentence in dict.fromkeys(schedule_words.life(queue, entry) for entry in schedules.entries(queue)):
            print(sentence)
    return 0


def _as_json(one: Schedule) -> dict[str, Any]:
    entry = one.entry
    return {
        "name": entry.name, "when": entry.when, "tz": entry.tz, "next": one.next, "paused": entry.paused,
        "registered": one.registered, "kind": entry.kind, "summary": entry.summary, "lane": entry.lane, "env": entry.env,
        "missed": entry.missed, "overlap": entry.overlap, "expires": entry.expires,
        "history": [{"time": m.time, "mark": m.mark, "why": m.why, "id": m.id} for m in one.history()],
    }  # fmt: skip


@schedule.command()
@click.argument("function", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1)
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="K=V", help="An argument by its name.")
@click.option("--every", metavar="TIME", help="Every 90, 10m, 6h, 1d.")
@click.option("--cron", metavar="LINE", help="At the moments of a cron line, such as '0 3 * * *'.")
@click.option(
    "--tz", metavar="ZONE", help="The time zone of the cron line, such as Europe/Berlin (default: this machine's)."
)
@click.option("-n", "--name", help="What it is called (default: as the function).")
@click.option(
    "--missed", type=click.Choice(schedules.POLICIES), help="Moments at which no worker lived (default: once)."
)
@click.option("--overlap", is_flag=True, default=None, help="A run may begin while the one before goes on.")
@click.option("-l", "--lane", help="The lane that its tasks wait in.")
@click.option("--timeout", metavar="TIME", help="Stop a run after so long.")
@click.option("--retries", type=int, metavar="N", help="Run again after a failure, N times at most.")
@click.option("--expires", metavar="TIME", help="Cancel a run that has not started so long after its moment.")
def add(
    function: str,
    arguments: tuple[str, ...],
    parameters: tuple[str, ...],
    every: str | None,
    cron: str | None,
    **options: Any,
) -> int:
    """Let a function recur; of a name that is there it takes the place.

    ARGUMENTS, and V, are JSON where they can be read as such, else texts.
    """
    if (every is None) == (cron is None):
        raise click.UsageError("say when: --every TIME or --cron LINE")
    using = Using(options)
    called = _load(function)
    kwargs = dict(_parameter(one) for one in parameters)
    recur = using.every if every is not None else using.cron
    recur(every or cron or "", called, *map(_value, arguments), **kwargs)
    return 0


def _load(path: str) -> Callable[..., Any]:
    module, colon, name = path.partition(":")
    if not (module and colon and name):
        raise OptionError(f"{path!r} names no function: give MODULE:FUNCTION, such as reports:nightly")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise OptionError(f"{path}: there is no module {error.name!r} here or installed") from None
    except AttributeError:
        import difflib

        near = difflib.get_close_matches(name, [one for one in vars(found) if one[:1] != "_"], 1)
        raise OptionError(
            f"{path}: {module} has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")
        ) from None
    if not callable(found):
        raise OptionError(f"{path} is a {type(found).__name__}, no function")
    return found  # type: ignore[no-any-return]  # it was looked up by name


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise OptionError(f"-p {text!r} cannot be: give NAME=VALUE")
    return name, _value(value)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


@schedule.command()
@_name
def pause(name: str) -> int:
    """Let a schedule rest."""
    schedules.set_paused(Queue.open(create=False), name, True)
    print(f"{name} is paused; what runs goes on. nbtasks schedule resume {name}")
    return 0


@schedule.command()
@_name
def resume(name: str) -> int:
    """Let a schedule go on."""
    queue = Queue.open(create=False)
    entry = schedules.set_paused(queue, name, False)
    print(f"{name}: {schedule_words.next_words(entry)}. {schedule_words.life(queue, entry)}")
    return 0


@schedule.command("run")
@_name
def run_now(name: str) -> int:
    """Run a schedule once now, beside its moments."""
    queue = Queue.open(create=False)
    task = Schedule(queue, schedules.get_entry(queue, name).name).run()
    print(f"{name} {task.short} {task.status}: nbtasks wait {task.short}")
    return 0


@schedule.command()
@_name
def rm(name: str) -> int:
    """Remove a schedule; tasks that it made stay."""
    queue = Queue.open(create=False)
    made = [id for id, fate in schedules.fates(queue, name).items() if fate in (schedules.MADE, schedules.BY_HAND)]
    schedules.remove(queue, name)
    left = sum(1 for id in made if schedules.is_live(queue, id))
    print(f"{name} is removed" + (f"; {left} of its tasks still live: nbtasks status -n {name}" if left else ""))
    return 0
