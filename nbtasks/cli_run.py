"""``nbtasks run NOTEBOOK``: a notebook as a task, watched to its end."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from nbtasks import api, cli_graph, cli_show, notebook_files, notebook_parameters
from nbtasks.errors import OptionError
from nbtasks.handle import Task
from nbtasks.jupyter import ansi
from nbtasks.spec import seconds
from nbtasks.status import Status

_LOOK = 0.3  # seconds between two looks at the progress
_WIDTH = 78


@click.command("run")
@click.argument("path", metavar="FILE", type=click.Path())
@click.option("-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="A parameter; may be repeated.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The executed copy, or a page if it ends in .html; {name}, {date}, {id} may stand in it.",
)
@click.option("--html", is_flag=True, help="Write a page beside the copy, too.")
@click.option("-k", "--kernel", metavar="NAME", help="Instead of the kernel that the notebook names.")
@click.option("--timeout-per-cell", metavar="TIME", help="The longest that a cell may take: 90, 10m, 2h.")
@click.option("--resume", is_flag=True, help="Go on from the cell that failed, if those before it are unchanged.")
@click.option("--cache", is_flag=True, help="Use what the same cells have brought before with the same parameters.")
@click.option("--max-age", metavar="TIME", help="As --cache, with nothing that is older: 12h, 7d.")
@click.option("--timeout", metavar="TIME", help="The longest that all of it may take.")
@click.option("--retries", type=click.IntRange(0), help="How often to try again when it fails.")
@click.option("-l", "--lane", help="Submit it to this lane.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait for its end: print its id, and leave it running.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def run_file(
    path: str, given: tuple[str, ...], output: str | None, html: bool, kernel: str | None, timeout_per_cell: str | None,
    resume: bool, cache: bool, max_age: str | None, timeout: str | None, retries: int | None, lane: str | None,
    detach: bool, as_json: bool,
) -> int:  # fmt: skip
    """Run a notebook in the background, or a script that makes pipelines (pipeline.py, or MODULE:FUNCTION), and wait for it.

    A notebook runs in its own folder with its own kernel. The executed copy is written after every cell, beside the notebook
    unless -o names another place. Ctrl-C leaves it running; `nbtasks cancel` stops it. Exit code 1 when it failed.
    Of a script, -p goes to the function; the other options but --detach and --json are for notebooks.
    """
    if cli_graph.is_code(path):
        others = {"-o": output, "--html": html, "-k": kernel, "--timeout-per-cell": timeout_per_cell, "--resume": resume,
                  "--cache": cache, "--max-age": max_age, "--timeout": timeout, "--retries": retries, "-l": lane}  # fmt: skip
        if wrong := [name for name, value in others.items() if value]:
            raise OptionError(
                f"{', '.join(wrong)} cannot be given with {path}: it is for notebooks; set it with nbtasks.using"
            )
        return cli_graph.run(path, dict(map(_pair, given)), detach=detach, as_json=as_json)
    using = api.using(timeout=seconds("--timeout", timeout), retries=retries, lane=lane)
    task = using.submit_notebook(
        path, _parameters(path, given), output=output, html=html, kernel_name=kernel, timeout_per_cell=timeout_per_cell,
        resume=resume, cache=_age(max_age) or cache,
    )  # fmt: skip
    found = task.cached and task.done()
    if task.cached and not as_json:
        print(task.remark.replace("task.invalidate()", f"nbtasks clean --cache -n {task.name}"))
    if not detach:
        _watch(task, quiet=as_json)
    if as_json:
        cli_show.print_json(cli_show.as_json(task.record))
    elif detach:
        print(f"{task.name} {task.short} {task.status}")
    else:
        _report(task, with_log=not found)
    return 0 if detach or task.status is Status.SUCCEEDED else 1


def _parameters(path: str, given: tuple[str, ...]) -> dict[str, object]:
    """What ``-p NAME=VALUE`` says, each read as the type of the notebook's default."""
    pairs = dict(_pair(text) for text in given)
    if not pairs:
        return {}
    path, content = notebook_files.read(path)
    known = notebook_parameters.parameters_of(content)
    notebook_parameters.check_names(pairs, known, path)
    return {name: notebook_parameters.from_text((known or {})[name], text) for name, text in pairs.items()}


def _age(text: str | None) -> float | None:
    age = seconds("--max-age", text)
    if age == 0:
        raise OptionError("--max-age=0 would never use anything: leave it out")
    return age


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip().isidentifier():
        raise OptionError(f"-p {text!r} cannot be: give a name and a value, -p alpha=0.1")
    return name.strip(), value


def _watch(task: Task[Any], quiet: bool) -> None:
    """Wait for the end, with a line for each cell; in a terminal one line that is written over."""
    is_terminal = sys.stderr.isatty()
    said = ""
    while True:
        _, pending = api.wait([task], timeout=_LOOK)
        lines = cli_show.bar_lines(task.progress)
        line = f"{task.name} {task.short}: {lines[0]}" if lines else ""
        if line and line != said and not quiet:
            print(
                f"\r{line[:_WIDTH]:<{_WIDTH}}" if is_terminal else line,
                end="" if is_terminal else "\n",
                file=sys.stderr,
                flush=True,
            )
            said = line
        if not pending:
            break
    if said and is_terminal:
        print(file=sys.stderr)


def _report(task: Task[Any], with_log: bool) -> None:
    record = task.record
    if with_log:
        print(cli_show.clean(record.read_log().decode("utf-8", "replace")).rstrip())
    if record.status is Status.SUCCEEDED:
        value = task.value
        if not (isinstance(value, str) and os.path.isfile(value)):  # the path is in the log
            print(f"returned {record.outcome.preview if record.outcome else ''}")
        return
    failure = record.outcome.failure if record.outcome else None
    text = (
        failure.traceback
        if failure and failure.traceback
        else f"{record.name} {record.short} {record.status} {record.reason}"
    )
    print((cli_show.clean(text) if sys.stderr.isatty() else ansi.strip(text)).rstrip(), file=sys.stderr)
