"""Pipelines on the command line: ``nbtasks show NAME``, and ``nbtasks run`` for a script or a function."""

from __future__ import annotations

import ast
import importlib
import os
import runpy
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nbtasks import cli_show, graph
from nbtasks.errors import OptionError
from nbtasks.graph import Pipeline
from nbtasks.jupyter import graph_html
from nbtasks.jupyter.graph_shape import steps_of
from nbtasks.jupyter.shown import MARKS
from nbtasks.queue import groups
from nbtasks.queue.directory import Queue
from nbtasks.status import Status

if TYPE_CHECKING:
    from rich.text import Text

_LOOK = 1.0  # seconds between two lines about what runs
_EARLIER = 5  # runs that are told of


def is_pipeline(queue: Queue, name: str) -> bool:
    """Whether a pipeline of that name has run."""
    return bool(groups.runs_of(queue, name))


def ids_of(queue: Queue, name: str) -> list[str]:
    """The tasks of the last run of a pipeline."""
    return list(_last(queue, name).look())


def _last(queue: Queue, name: str) -> Pipeline:
    return Pipeline(queue, groups.runs_of(queue, name)[-1])


def retry(queue: Queue, name: str) -> list[str]:
    """Run again what failed or was cancelled, and what hangs on it; these tasks."""
    pipeline = _last(queue, name)
    before = pipeline.look()
    after = pipeline.retry().look()
    return [id for id, one in before.items() if one.place.ticket.delivery < after[id].place.ticket.delivery]


def show(queue: Queue, name: str) -> None:
    """Print the graph of the last run of a pipeline, and how the runs before it ended."""
    cli_show.print_rich(*page_of(_last(queue, name)), *_earlier(queue, name))


def page_of(pipeline: Pipeline) -> Iterator[Text]:
    """The head and a line for each step, with marks in the colours of their statuses."""
    from rich.text import Text

    members, now = pipeline.look(spans=True), time.time()
    steps = steps_of(members)
    status = graph.status_of(graph.status_counts(members))
    facts = "  ".join(graph_html.head_of(members, now)) if members else "no tasks yet"
    yield Text.assemble((pipeline.name, "bold"), "  ", (str(status), cli_show.STYLES[status]), f"  {facts}")
    for step, label in zip(steps, graph_html.labels(steps, now), strict=True):
        yield Text.assemble("  ", (MARKS[step.status].icon, cli_show.STYLES[step.status]), f" {cli_show.clean(label)}")


def _earlier(queue: Queue, name: str) -> Iterator[Text]:
    from rich.text import Text

    runs = groups.runs_of(queue, name)[:-1]
    for group in reversed(runs[-_EARLIER:]):
        run = Pipeline(queue, group)
        yield Text(f"  run of {cli_show.when(run.started)}: {run.status}", style="dim")
    if len(runs) > _EARLIER:
        yield Text(f"  and {len(runs) - _EARLIER:,} runs before", style="dim")


def facts_of(queue: Queue, name: str) -> dict[str, Any]:
    """The last run of a pipeline for a program."""
    pipeline = _last(queue, name)
    members = pipeline.look()
    tasks = [cli_show.as_json(queue.record(id)) | {"after": one.parents} for id, one in members.items()]
    counts = graph.status_counts(members)
    return {"pipeline": name, "status": graph.status_of(counts), "counts": counts, "tasks": tasks}


# Running.


def is_code(path: str) -> bool:
    """Whether `path` is a script or a function, and no notebook."""
    return path.endswith(".py") or (":" in path and not path.endswith((".ipynb", ".html")) and not os.path.exists(path))


def run(path: str, given: Mapping[str, str], *, detach: bool, as_json: bool) -> int:
    """Run a script, or the function MOD:FN with `given`, and wait for the pipelines that it begins; the exit code."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)) if path.endswith(".py") else os.getcwd())
    graph.begun.clear()
    _run_script(path, given) if path.endswith(".py") else _run_function(path, given)
    if not graph.begun:
        print(f"{path} began no pipeline: submit inside `with nbtasks.pipeline(name)`", file=sys.stderr)
        return 0
    for pipeline in graph.begun:
        if not detach:
            _watch(pipeline, quiet=as_json)
        if as_json:
            cli_show.print_json(facts_of(pipeline.queue, pipeline.name))
        else:
            cli_show.print_rich(*page_of(pipeline))
            _print_failures(pipeline)
    return 0 if detach or all(one.status is Status.SUCCEEDED for one in graph.begun) else 1


def _run_script(path: str, given: Mapping[str, str]) -> None:
    if not os.path.isfile(path):
        raise OptionError(f"there is no script {path}")
    if given:
        raise OptionError(f"{path} is a script, which takes no -p: give a function instead, {path[:-3]}:main -p …")
    before, sys.argv = sys.argv, [path]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as error:
        if error.code not in (None, 0):
            raise OptionError(f"{path} left with {error.code}") from None
    finally:
        sys.argv = before


def _run_function(path: str, given: Mapping[str, str]) -> None:
    module, _, name = path.partition(":")
    try:
        function = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise
        raise OptionError(f"there is no module {module!r} in {os.getcwd()} or where Python looks for modules") from None
    for part in name.split("."):
        if not hasattr(function, part):
            raise OptionError(f"the module {module!r} has no {name!r}")
        function = getattr(function, part)
    if not callable(function):
        raise OptionError(f"{path} is no function but a {type(function).__name__}")
    function(**{key: _literal(value) for key, value in given.items()})


def _literal(text: str) -> object:
    """``0.1``, ``True``, ``[1, 2]`` as Python reads them; what is no literal is a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _watch(pipeline: Pipeline, quiet: bool) -> None:
    """Wait for the end, with a line on stderr whenever something has changed."""
    said = ""
    while not pipeline.wait(_LOOK):
        counts = pipeline.counts
        line = ", ".join(f"{counts[status]:,} {status}" for status in Status if counts.get(status))
        if line != said and not quiet:
            print(f"{pipeline.name}: {line}", file=sys.stderr, flush=True)
            said = line


def _print_failures(pipeline: Pipeline, most: int = 3) -> None:
    bad = [id for id, one in pipeline.look().items() if one.status is Status.FAILED]
    own = [record for record in map(pipeline.queue.record, bad) if record.outcome and record.outcome.kind != "upstream"]
    for record in own[:most]:
        print(f"{record.name} {record.short} failed: {cli_show.note(record)}", file=sys.stderr)
    if own:
        print(f"`nbtasks retry {pipeline.name}` runs again what failed, and what hangs on it", file=sys.stderr)
