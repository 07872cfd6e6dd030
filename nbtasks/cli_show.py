"""What the command line prints: tables, the page of one task, and the same as JSON. rich is imported when needed."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from nbtasks.errors import OptionError
from nbtasks.jupyter import ansi, words
from nbtasks.outcome import Failure, Outcome
from nbtasks.status import Status

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from nbtasks.outcome import Variable
    from nbtasks.queue.records import Record

# Colour is never alone: the word is beside it.
STYLES = {
    Status.WAITING: "dim", Status.QUEUED: "dim", Status.RUNNING: "blue", Status.SUCCEEDED: "green",
    Status.FAILED: "red", Status.CANCELLED: "yellow",
}  # fmt: skip
_PIPE_WIDTH = 240  # a pipe has no edge: nothing is folded for it
# All but line feed, tab, and the colours (SGR): what a task printed must not move the cursor of a terminal.
_CONTROL = re.compile(r"\x1b\[(?![0-9;:]*m)[0-?]*[ -/]*[@-~]?|\x1b(?!\[)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")


def print_json(value: object) -> None:
    """One JSON document on standard output, indented."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def as_json(record: Record) -> dict[str, Any]:
    """A task for a program: times are ISO 8601 in UTC, durations seconds, sizes bytes."""
    spec, outcome = record.spec, record.outcome
    facts: dict[str, Any] = {
        "id": record.id, "short": record.short, "name": record.name, "kind": spec.kind, "status": record.status,
        "reason": record.reason, "lane": spec.lane, "env": spec.env, "priority": spec.priority,
        "attempt": record.attempt, "attempts": spec.retries + 1, "summary": spec.summary, "notebook": spec.notebook,
        "after": spec.dependencies, "slot": record.slot, "submitted": _iso(record.submitted),
        "started": _iso(record.started), "ended": _iso(record.ended), "seconds": seconds_of(record),
        "progress": record.progress(), "log": record.log_path,
    }  # fmt: skip
    if outcome is not None:
        facts |= {
            "value": outcome.preview if outcome.has_value else None, "failure": _plain_failure(outcome), "kind_of_end": outcome.kind,
            "variables": outcome.variables, "signal": outcome.signal, "exit_code": outcome.exit_code,
            "peak_memory": outcome.peak_memory, "cpu": outcome.cpu,
        }  # fmt: skip
    return facts


def _plain_failure(outcome: Outcome) -> Failure | None:
    failure = outcome.failure
    return failure and msgspec.structs.replace(failure, traceback=ansi.strip(failure.traceback))


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat()


def seconds_of(record: Record) -> float | None:
    """How long it has run or ran, in seconds; None when it has not started."""
    if record.started is None:
        return None
    return max(0.0, (record.ended or time.time()) - record.started)


def took(record: Record) -> str:
    """How long it has run or ran, for people."""
    seconds = seconds_of(record)
    if seconds is None:
        return ""
    return words.duration(seconds) if record.status.ended else words.clock(seconds)


def when(moment: float | None) -> str:
    """A moment in local time: the hour today, the date before."""
    if moment is None:
        return ""
    local = datetime.fromtimestamp(moment).astimezone()
    today = datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M")


def clean(text: str) -> str:
    """What a task printed, with its colours but without whatever else moves a terminal."""
    return _CONTROL.sub("", text)


def print_rich(*things: Table | Text) -> None:
    """Print on standard output: folded and coloured in a terminal, plain and unfolded into a pipe."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for thing in things:
            console.print(thing, soft_wrap=not hasattr(thing, "columns"))
    for line in captured.get().splitlines():
        print(line.rstrip())


def table_of(records: Iterable[Record]) -> Table:
    """One line per task."""
    from rich.text import Text

    table = grid("id", "task", "status", "took", "submitted", "")
    for record in records:
        status = Text(record.status, style=STYLES[record.status])
        table.add_row(record.short, clean(record.name), status, took(record), when(record.submitted), note(record))
    return table


def grid(*columns: str) -> Table:
    """A table without lines; the last column takes what is left of the width."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold", show_edge=False)
    for index, column in enumerate(columns):
        last = index == len(columns) - 1
        table.add_column(column, no_wrap=not last, overflow="fold" if last else "ellipsis")
    return table


def note(record: Record) -> str:
    """The one thing worth saying beside a status: the error, the value, the progress, or the reason."""
    outcome = record.outcome
    if outcome is not None and outcome.failure is not None:
        kind, message = outcome.failure.type.rpartition(".")[2], outcome.failure.message
        text = f"{kind}: {message}" if message else kind
        return clean(record.reason if outcome.kind and record.reason else text).split("\n")[0]
    if record.status is Status.SUCCEEDED and outcome is not None and outcome.has_value and outcome.preview != "None":
        return clean(f"-> {outcome.preview}")
    bars = bar_lines(record.progress()) if record.status is Status.RUNNING else []
    return bars[0] if bars else clean(record.reason)


def bar_lines(state: Mapping[str, Any] | None) -> list[str]:
    """The progress bars of a task, one line each, then its message."""
    lines = []
    for bar in (state or {}).get("bars", ()):
        done, total = bar.get("n") or 0, bar.get("total")
        head = f"{bar['desc']} " if bar.get("desc") else ""
        share = f"{done:g}/{total:g} {100 * done / total:.0f} %" if total else f"{done:g} {bar.get('unit', 'it')}"
        lines.append(clean(f"{head}{share} {bar.get('postfix') or ''}").rstrip())
    if message := (state or {}).get("message"):
        lines.append(clean(str(message)))
    return lines


def page_of(record: Record, *, lines: int) -> list[Text]:
    """All about one task: a line of facts each, its traceback, and the last `lines` of its log."""
    from rich.text import Text

    head = Text.assemble(
        (clean(record.name), "bold"), f"  {record.short}  ", (record.status, STYLES[record.status]),
        f"  {took(record)}",
    )  # fmt: skip
    page = [head, *(Text(f"  {name:<10} {text}") for name, text in _facts(record) if text)]
    page += [Text(f"  {line}", style="blue") for line in bar_lines(record.progress())]
    if log := record.log_tail(lines).rstrip():
        page += [Text("\nlog", style="bold"), Text.from_ansi(clean(log))]
    failure = record.outcome and record.outcome.failure
    if failure and failure.traceback.strip():  # what did not begin has none
        page += [Text("\ntraceback", style="bold"), Text.from_ansi(clean(failure.traceback.rstrip()))]
    return page


def _facts(record: Record) -> Iterable[tuple[str, str]]:
    spec, outcome = record.spec, record.outcome
    yield "id", record.id
    yield "reason", clean(record.reason)
    yield "call", clean(spec.summary)
    yield "notebook", clean(spec.notebook or "")
    yield "lane", f"{spec.lane}, priority {spec.priority}"
    yield "attempt", f"{record.attempt} of {spec.retries + 1}" if spec.retries else ""
    yield "submitted", when(record.submitted)
    yield "started", when(record.started)
    yield "ended", when(record.ended)
    yield "slot", record.slot or ""
    if outcome is not None:
        yield "value", clean(outcome.preview) if outcome.has_value else ""
        yield "variables", clean(", ".join(_variable(one) for one in outcome.variables))
        yield "memory", f"{words.size(outcome.peak_memory)} at most" if outcome.peak_memory else ""
    yield "log", record.log_path or ""


def _variable(variable: Variable) -> str:
    if variable.left_out:
        return f"{variable.name} left out ({variable.left_out})"
    changed = " changed in place" if variable.changed else ""
    return f"{variable.name} {variable.preview}{changed}".rstrip()


def value_as_json(value: object) -> str:
    """A result as JSON. Raises OptionError for what JSON cannot hold."""
    try:
        return msgspec.json.format(msgspec.json.encode(value, enc_hook=_plain), indent=2).decode()
    except (TypeError, NotImplementedError) as error:
        raise OptionError(
            f"the value is a {type(value).__name__}, which JSON cannot hold ({error}): leave --json out, "
            "or fetch it in Python with nbtasks.get(…).result()"
        ) from None


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    raise TypeError(f"there is a {type(value).__name__} in it")
