"""The command line: ``nbtasks status``, ``show``, ``logs``, ``result``, ``cancel``, ``retry``, ``wait`` and the workers' verbs.

Exit codes: 0 fine; 1 a task failed or was cancelled, or `doctor` found something; 2 a usage error, an unknown
task, a queue that cannot be used; 124 the time was up; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from nbtasks import api, cli_graph, cli_show, config
from nbtasks.cli_clean import clean
from nbtasks.cli_follow import follow
from nbtasks.cli_key import key
from nbtasks.cli_notebooks import enable, refresh
from nbtasks.cli_run import run_file
from nbtasks.cli_schedule import schedule
from nbtasks.cli_service import service
from nbtasks.cli_worker import doctor, stop, worker, workers
from nbtasks.errors import NbtasksError, OptionError
from nbtasks.handle import Task
from nbtasks.jupyter import ansi
from nbtasks.jupyter.dashboard_crew import read_crew
from nbtasks.queue import lookup
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.spec import seconds
from nbtasks.status import Status

FAILED, USAGE, TIME_UP, STOPPED = 1, 2, 124, 130

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_ids = click.argument("ids", nargs=-1, required=True, metavar="ID...")
_timeout = click.option("--timeout", metavar="TIME", help="Give up after 90, 10m, 2h (exit code 124).")
_notify = click.option("--notify", is_flag=True, help="Ring the terminal's bell at the end.")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line, that of this process unless given; ends the process."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code. Errors are one sentence on stderr, never a traceback."""
    try:
        return cli.main(arguments, prog_name="nbtasks", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except NbtasksError as error:
        print(f"nbtasks: {error}", file=sys.stderr)
        return USAGE
    except (click.Abort, KeyboardInterrupt):
        return STOPPED
    except BrokenPipeError:  # `nbtasks status | head`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("-q", "--queue", metavar="FOLDER", help="The queue, or the folder that holds its .nbtasks.")
@click.version_option(package_name="nbtasks")
def cli(queue: str | None) -> None:
    """Background tasks of notebooks: look at them, fetch them, stop them, run workers.

    ID is any unique part of a task's id, usually its last four characters, or the name of a pipeline.
    """
    if queue is not None:
        config.configure(queue=queue)


def _full_ids(queue: Queue, parts: Sequence[str]) -> list[str]:
    # All are looked up before anything is done: a misspelt one changes nothing. The name of a pipeline is all its tasks.
    found = [
        cli_graph.ids_of(queue, part) if cli_graph.is_pipeline(queue, part) else [queue.find(part)] for part in parts
    ]
    return list(dict.fromkeys(id for ids in found for id in ids))


@cli.command()
@click.option("-s", "--status", type=click.Choice([str(one) for one in Status]), help="Only these.")
@click.option("-l", "--lane", help="Only tasks of this lane.")
@click.option("-n", "--name", help="Only tasks of this name.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="At most this many.")
@click.option("-a", "--all", "everything", is_flag=True, help="Without limit.")
@_json
def status(status: str | None, lane: str | None, name: str | None, limit: int, everything: bool, as_json: bool) -> int:
    """List tasks: those that live, then those that have ended, the newest first."""
    root = config.find_queue_root()
    if not os.path.exists(root) and config.origin("queue") != "configure()":  # with -q it was misspelt
        return _print_status(root, {}, [], as_json)
    queue = Queue.open(create=False)
    wanted = Status(status) if status else None
    found = list(queue.records(status=wanted, lane=lane, name=name, limit=None if everything else limit + 1))
    notes = [f"the first {limit:,}; -a shows all"] if not everything and len(found) > limit else []
    crew = read_crew(queue, lookup.live_tickets(queue)).words
    shown = found if everything else found[:limit]
    return _print_status(queue.root, lookup.counts(queue), shown, as_json, [*notes, crew])


def _print_status(
    root: str, counts: dict[Status, int], found: list[Record], as_json: bool, notes: Sequence[str] = ()
) -> int:
    if as_json:
        cli_show.print_json({"queue": root, "counts": counts, "tasks": [cli_show.as_json(record) for record in found]})
        return 0
    if found:
        cli_show.print_rich(cli_show.table_of(found))
    said = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    paused = "; paused: nothing is claimed" if os.path.exists(f"{root}/paused") else ""
    there = f"in {root}" if os.path.exists(root) else f"and no queue: the first submit makes {root}"
    print("; ".join([f"{said or 'no tasks yet'} {there}{paused}", *notes]))
    return 0


@cli.command()
@_ids
@click.option("--lines", default=20, show_default=True, help="How much of the log.")
@_json
def show(ids: tuple[str, ...], lines: int, as_json: bool) -> int:
    """All about tasks: facts, log, traceback. Of a pipeline, given by its name: its graph."""
    queue = Queue.open(create=False)
    if len(ids) == 1 and cli_graph.is_pipeline(queue, ids[0]):
        if as_json:
            cli_show.print_json(cli_graph.facts_of(queue, ids[0]))
        else:
            cli_graph.show(queue, ids[0])
        return 0
    found = [queue.record(id) for id in _full_ids(queue, ids)]
    if as_json:
        cli_show.print_json([cli_show.as_json(record) for record in found])
        return 0
    for index, record in enumerate(found):
        if index:
            print()
        cli_show.print_rich(*cli_show.page_of(record, lines=lines))
    return 0


@cli.command()
@click.argument("id")
@click.option("-f", "--follow", "following", is_flag=True, help="Go on until the task ends; its exit code says how.")
@click.option("-n", "--lines", type=click.IntRange(0), help="Only the last lines.")
@click.option("--attempt", type=click.IntRange(1), metavar="N", help="What an earlier attempt printed.")
@_notify
def logs(id: str, following: bool, lines: int | None, attempt: int | None, notify: bool) -> int:
    """Print what a task printed, as it is."""
    queue = Queue.open(create=False)
    record = queue.record(queue.find(id))
    out = sys.stdout.buffer
    pieces, printed = record.log_pieces(), record.read_log()
    if attempt is not None and attempt != record.ticket.attempt:
        if attempt > record.ticket.attempt:
            raise OptionError(
                f"{record.name} {record.short} has not come to attempt {attempt}: {record.ticket.attempt} so far"
            )
        printed, following = record.log_of(attempt).encode(), False
    if lines is not None:
        printed = b"".join(printed.splitlines(keepends=True)[-lines or len(printed) :])
    out.write(printed)
    out.flush()
    if not following:
        return 0
    record = follow(queue, record.id, out, start=max((at + len(data) for at, data in pieces), default=0))
    _ring(notify)
    if record.status is not Status.SUCCEEDED:
        print(f"{record.name} {record.short} {record.status}: {cli_show.note(record)}", file=sys.stderr)
    return _verdict([record])


@cli.command()
@click.argument("id")
@_timeout
@_json
def result(id: str, timeout: str | None, as_json: bool) -> int:
    """Wait for a task and print its value.

    Of a failed one: its traceback, on stderr; with --json all that is known about it.
    """
    sys.path.append(os.getcwd())  # classes of the project, which the value may need
    task = api.get(Queue.open(create=False).find(id))
    try:
        value = _value(task, seconds("--timeout", timeout))
    except TimeoutError:
        return _time_up([task])
    record = task.record
    if record.status is not Status.SUCCEEDED:
        failure = record.outcome.failure if record.outcome else None
        text = failure.traceback if failure else f"{record.name} {record.short} {record.status} {record.reason}"
        if as_json:
            cli_show.print_json(cli_show.as_json(record))
        else:
            print((cli_show.clean(text) if sys.stderr.isatty() else ansi.strip(text)).rstrip(), file=sys.stderr)
        return FAILED
    print(cli_show.value_as_json(value) if as_json else repr(value))
    return 0


def _value(task: Task[Any], timeout: float | None) -> Any:
    done, _ = api.wait([task], timeout=timeout)
    if not done:
        raise TimeoutError
    return task.result() if task.status is Status.SUCCEEDED else None


@cli.command()
@_ids
@click.option("--force", is_flag=True, help="Begin with SIGTERM instead of KeyboardInterrupt.")
@_json
def cancel(ids: tuple[str, ...], force: bool, as_json: bool) -> int:
    """Stop tasks, running ones within their grace."""
    queue = Queue.open(create=False)
    full = _full_ids(queue, ids)
    asked = {id: queue.cancel(id, force=force) for id in full}
    return _print_done(queue, full, as_json, lambda record: _cancelled(record, asked[record.id]))


def _cancelled(record: Record, asked: bool) -> str:
    if not asked:
        return f"had ended before: {record.status}"
    return "cancelled" if record.status is Status.CANCELLED else f"is asked to stop, {record.spec.grace:g} s grace"


@cli.command()
@_ids
@_json
def retry(ids: tuple[str, ...], as_json: bool) -> int:
    """Run failed or cancelled tasks again; of a pipeline, given by its name, all of them and what hangs on them."""
    queue = Queue.open(create=False)
    if len(ids) == 1 and cli_graph.is_pipeline(queue, ids[0]):
        full = cli_graph.retry(queue, ids[0])
    else:
        full = _full_ids(queue, ids)
        for id in full:
            queue.retry(id)
    return _print_done(queue, full, as_json, lambda record: f"again {record.status}")


def _print_done(queue: Queue, ids: list[str], as_json: bool, sentence: Callable[[Record], str]) -> int:
    found = [queue.record(id) for id in ids]
    if as_json:
        cli_show.print_json([cli_show.as_json(record) for record in found])
    else:
        for record in found:
            print(f"{record.name} {record.short} {sentence(record)}")
    return 0


@cli.command()
@click.argument("ids", nargs=-1, metavar="[ID...]")
@_timeout
@_notify
@_json
def wait(ids: tuple[str, ...], timeout: str | None, notify: bool, as_json: bool) -> int:
    """Wait until tasks have ended.

    Without ID: all that live now. Exit code 1 if one failed or was cancelled, 124 if the time was up.
    """
    queue = Queue.open(create=False)
    # One look may miss a ticket that is put back just then.
    live = [] if ids else [place.ticket.id for _ in range(2) for place in lookup.live_tickets(queue)]
    full = _full_ids(queue, ids) if ids else list(dict.fromkeys(live))
    tasks = [api.get(id) for id in full]
    _, pending = api.wait(tasks, timeout=seconds("--timeout", timeout))
    _ring(notify)
    if pending:
        return _time_up(sorted(pending, key=lambda task: task.id))
    found = [queue.record(id) for id in full]
    if as_json:
        cli_show.print_json([cli_show.as_json(record) for record in found])
    elif found:
        cli_show.print_rich(cli_show.table_of(found))
    return _verdict(found)


def _ring(wanted: bool) -> None:
    """The bell of the terminal: on its error stream, so that what is piped on stays as it is."""
    if wanted:
        print("\a", end="", file=sys.stderr, flush=True)


def _time_up(tasks: Sequence[Task[Any]]) -> int:
    names = ", ".join(f"{task.name} {task.short} ({task.status})" for task in tasks[:5])
    more = f" and {len(tasks) - 5} more" if len(tasks) > 5 else ""
    print(f"the time is up; still there: {names}{more}", file=sys.stderr)
    return TIME_UP


def _verdict(records: Sequence[Record]) -> int:
    return 0 if all(record.status is Status.SUCCEEDED for record in records) else FAILED


for command in (worker, workers, stop, clean, doctor, refresh, enable, run_file, schedule, service, key):
    cli.add_command(command)
