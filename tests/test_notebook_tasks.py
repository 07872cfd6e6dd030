"""Notebooks as tasks: parameters in, values and an executed copy out, the same that nbclient alone writes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import nbtasks
from nbtasks import NbtasksError, OptionError, PayloadError, TaskLost, TaskTimedOut, config
from nbtasks.jupyter import ansi
from nbtasks.notebook_files import expand
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from tests.notebook_tools import KERNEL, alone, outputs, read, shown, write

DEFAULTS = ("alpha = 0.5\nepochs: int = 3\nlabel = 'a'\ndeep = True\nlayers = [8, 8]\nwhen = None", "parameters")


@pytest.fixture
def folder(queue: Queue, tmp_path: Path) -> Iterator[Path]:
    """A folder for notebooks, in which nothing but what was asked for is left."""
    work = tmp_path / "work"
    work.mkdir()
    yield work
    assert not [path.name for path in work.iterdir() if path.name.endswith("~")], "half a file was left"


@pytest.fixture
def quiet(folder: Path) -> Path:
    """The same, and no worker starts."""
    nbtasks.configure(autostart=False)
    return folder


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds, half a minute at most."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def copies(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-*.ipynb"))


# What comes out.

VARIED = [
    "import matplotlib.pyplot as plt, ipywidgets, sys, time\nfrom IPython.display import HTML, Image, clear_output, display",
    "print('größe ☃ \\U0001f600')\nprint('warned', file=sys.stderr)\n'∑ = 3'",
    "",
    ("never run", "skip-execution"),
    ("1 / 0", "raises-exception"),
    "handle = display('one', display_id='here')\ndisplay(HTML('<b>bold</b>'))",
    "handle.update('two')\ndisplay('other', display_id='here')",
    "for step in range(3):\n    clear_output(wait=True)\n    print('step', step)",
    "print('gone')\nclear_output()\nprint('kept', end='')",
    "plt.plot([1, 4, 9])\nplt.title('squares')\nplt.show()",
    "bar = ipywidgets.IntProgress(value=0, max=5)\ndisplay(bar)\nbar.value = 4\nbox = ipywidgets.VBox([ipywidgets.Label('x')])\nbox",
    "out = ipywidgets.Output()\ndisplay(out)\nwith out:\n    print('inside')\n    display('and this')\nout.clear_output()\nwith out:\n    print('last')",
    "# Text",
    "!echo from a shell",
    "%precision 3\n3.14159",
    "from IPython.display import Markdown\nMarkdown('*emphasis*')",
    "Image(data=bytes.fromhex('89504e470d0a1a0a0000000d4948445200000001000000010806000000'\n '1f15c4890000000d49444154789c6300010000000500010d0a2db40000000049454e44ae426082'))",
]


# What is rare: errors of other kinds, text of other kinds, widgets that are changed later, data that few know.
ODD = [
    "import sys, warnings, ipywidgets, numpy as np\nfrom IPython.display import JSON, SVG, Javascript, Latex, clear_output, display",
    ("def broken(:\n    pass", "raises-exception"),
    ("raise SystemExit(3)", "raises-exception"),
    ("input('name? ')", "raises-exception"),
    (
        "class Fehler(Exception): pass\ntry:\n    {}['ü']\nexcept KeyError as e:\n    raise Fehler('☃ ' * 3) from e",
        "raises-exception",
    ),
    ("raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])", "raises-exception"),
    "print('10 %\\r20 %\\r100 %')\nprint('\\x1b[31mred\\x1b[0m', end='')\nprint('x' * 30_000)",
    "sys.stdout.write('no line end'); warnings.warn('mind this', UserWarning)",
    "import asyncio\nawait asyncio.sleep(0.01)\n'after ' + 'await'",
    "display({'text/plain': 'p', 'application/x-own+json': {'a': [1, None]}}, raw=True, metadata={'own': 1})\nJSON({'ü': [1]})",
    "display(Latex('$x^2$'), Javascript('1'), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\nnp.arange(3000).reshape(50, 60)",
    "slider = ipywidgets.IntSlider(3)\nshown = display(slider, display_id='s')\n_ = shown.update(ipywidgets.HTML('<b>two</b>'))",
    "slider.value = 8\nout = ipywidgets.Output()\nout.append_stdout('late')\nout",
    "with out:\n    1 / 0",
    "%%capture kept\nprint('not seen')",
    "kept.show()\n%xmode Minimal",
    ("1 / 0", "raises-exception"),
    "%%html\n<i>cell</i>",
    "get_ipython().set_next_input('never there')\n%pinfo2 len",
    "for n in range(3):\n    display(n, display_id='n', update=n > 0)\nclear_output(wait=True)",
    "print('cleared before')\nNone",
]


@pytest.mark.parametrize(
    "cells", [pytest.param(VARIED, id="varied", marks=pytest.mark.torture), pytest.param(ODD, id="odd")]
)
def test_outputs_are_those_of_nbclient(folder: Path, tmp_path: Path, cells: list[Any]) -> None:
    path = write(folder / "varied.ipynb", *cells)
    if cells is ODD:  # as older editors write it: lines without ids, with cells that are no code
        content = json.loads(path.read_text()) | {"nbformat_minor": 2}
        for cell in content["cells"]:
            del cell["id"]
        content["cells"].insert(
            3, {"cell_type": "raw", "metadata": {"format": "text/x-rst"}, "source": ["*raw*\n", "ü"]}
        )
        path.write_text(json.dumps(content))
    expected = alone(path, tmp_path)
    task = nbtasks.submit_notebook(path, output=folder / "out" / "done.ipynb")
    assert task.result(60) == str(folder / "out" / "done.ipynb")
    done = read(task.result())
    assert shown(done) == shown(expected)
    assert "widget-state" in json.dumps(done.metadata)
    assert done.metadata.language_info == expected.metadata.language_info


@pytest.mark.torture
def test_replies_that_come_while_a_widget_answers_are_seen(folder: Path) -> None:
    cells = [
        "import ipywidgets\nout = ipywidgets.Output()\nout",
        *["with out:\n    print('x')\nout.clear_output()"] * 60,
    ]
    assert nbtasks.submit_notebook(write(folder / "widgets.ipynb", *cells)).result(60)


def test_a_failing_notebook_leaves_what_nbclient_leaves(folder: Path, tmp_path: Path) -> None:
    path = write(
        folder / "fails.ipynb",
        "# First",
        "print('fine')",
        "# Second",
        "x = 1\nx.missing\nprint('no')",
        "print('not run')",
    )
    expected = alone(path, tmp_path)
    task = nbtasks.submit_notebook(path)
    with pytest.raises(AttributeError, match="no attribute 'missing'"):
        task.result(60)
    (copy,) = copies(folder, "fails")
    assert shown(read(copy)) == shown(expected)
    outcome = task.record.outcome
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.where == "cell [2], line 2"
    assert "Cell In[2], line 2" in ansi.strip(outcome.failure.traceback)
    assert f"cell 2 of 3 (Second) failed; the notebook so far: {os.path.relpath(copy)}" in task.log
    assert task.vars == {"x": 1}, "what there was before it failed"


# Parameters.


def test_parameters_are_injected_below_their_defaults(folder: Path) -> None:
    path = write(
        folder / "report.ipynb", "# Report", DEFAULTS,
        "import nbtasks\nnbtasks.return_((alpha, epochs, label, deep, layers, when))",
    )  # fmt: skip
    task = nbtasks.submit_notebook(
        path, {"alpha": 2, "label": "ü'\"\n", "layers": (4, [float("inf")]), "when": Path("x.csv")}
    )
    assert task.result(60) == (2, 3, "ü'\"\n", True, (4, [float("inf")]), "x.csv")
    assert task.name == "report"
    cells = read(copies(folder, "report")[0]).cells
    assert [cell.metadata.get("tags") for cell in cells] == [None, ["parameters"], ["injected-parameters"], None]
    assert cells[2].source.startswith("# Parameters\nalpha = 2\n")
    assert [cell.execution_count for cell in cells if cell.cell_type == "code"] == [1, 2, 3]


def test_an_executed_copy_runs_again_with_other_parameters(folder: Path) -> None:
    path = write(
        folder / "again.ipynb", DEFAULTS, ("alpha = 7", "injected-parameters"), "import nbtasks; nbtasks.return_(alpha)"
    )
    task = nbtasks.submit_notebook(path, {"alpha": 1})
    assert task.result(60) == 1
    assert len(read(copies(folder, "again")[0]).cells) == 3


def test_the_value_of_a_task_is_a_parameter(folder: Path) -> None:
    path = write(folder / "chained.ipynb", DEFAULTS, "import nbtasks; nbtasks.return_(epochs)")
    before = nbtasks.submit(len, "four")
    wrong = nbtasks.submit(str, "text")
    assert nbtasks.submit_notebook(path, {"epochs": before, "label": "b"}).result(60) == 4
    with pytest.raises(OptionError, match=r"epochs cannot be 'text' \(str\)"):
        nbtasks.submit_notebook(path, {"epochs": wrong}).result(60)


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"alhpa": 0.1}, r"no parameter 'alhpa'; did you mean 'alpha'\?"),
        ({"nothing_like_it": 0.1}, "there are alpha, epochs, label, deep, layers, when"),
        ({"epochs": 0.5}, r"epochs cannot be 0.5 \(float\), the notebook has epochs: int: give a whole number"),
        ({"epochs": True}, "give a whole number"),
        ({"alpha": "0.1"}, r"alpha cannot be '0.1' \(str\), the notebook has 0.5 \(float\): give a number"),
        ({"label": 3}, "give a text"),
        ({"deep": 1}, "give True or False"),
        ({"layers": {"a": 1}}, "give a list"),
        ({"when": object()}, "object, which cannot be written into a cell"),
        ({"label": "b", "alpha": None}, r"alpha cannot be None \(NoneType\)"),
    ],
)
def test_a_wrong_parameter_is_refused(quiet: Path, parameters: dict[str, Any], complaint: str) -> None:
    path = write(quiet / "report.ipynb", DEFAULTS, "alpha")
    with pytest.raises(OptionError, match=complaint):
        nbtasks.submit_notebook(path, parameters)
    assert not list(nbtasks.tasks())


@pytest.mark.parametrize("parameters", [["alpha"], "alpha=1"])
def test_parameters_are_a_dict(quiet: Path, parameters: Any) -> None:
    path = write(quiet / "report.ipynb", DEFAULTS, "alpha")
    with pytest.raises(OptionError, match=r"the parameters cannot be .*: give a dict of their values by name"):
        nbtasks.submit_notebook(path, parameters)
    assert not list(nbtasks.tasks())


@pytest.mark.parametrize("cache", [False, True])
def test_a_task_of_another_queue_is_no_parameter(quiet: Path, tmp_path: Path, cache: bool) -> None:
    path = write(quiet / "report.ipynb", DEFAULTS, "alpha")
    task = nbtasks.submit(len, "four")
    nbtasks.configure(queue=tmp_path / "other")
    with pytest.raises(OptionError, match=rf"parameter 'layers' holds the task {task.id}, which is not in .* but in"):
        nbtasks.submit_notebook(path, {"alpha": 1.0, "layers": [task]}, cache=cache)
    assert not list(nbtasks.tasks())


def test_a_notebook_without_parameters_takes_none(quiet: Path) -> None:
    path = write(quiet / "report.ipynb", "alpha = 1")
    with pytest.raises(OptionError, match="no cell is tagged 'parameters'"):
        nbtasks.submit_notebook(path, {"alpha": 1})
    assert not list(nbtasks.tasks())


# Notebooks that cannot be.


def _no_notebook(folder: Path) -> Path:
    (folder / "x.ipynb").write_text("print('a script')")
    return folder / "x.ipynb"


def _json(content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "x.ipynb").write_text(content)
        return folder / "x.ipynb"

    return make


@pytest.mark.parametrize(
    ("make", "options", "complaint"),
    [
        (_no_notebook, {}, "is no notebook: it is no JSON"),
        (_json('{"a": 1}'), {}, "has no 'nbformat'"),
        (_json('{"nbformat": 9, "cells": []}'), {}, "format 9"),
        (_json('{"nbformat": 4, "cells": [], "metadata": {}}'), {}, "no cell that could be run"),
        (_json('{"nbformat": 4,\n<<<<<<< HEAD\n"cells": []}'), {}, "has the marks of a merge conflict"),
        (
            _json('{"nbformat": 4, "cells": [{"cell_type": "code", "source": ["a", 1]}]}'),
            {},
            "source of cell 1 is no text",
        ),
        (lambda folder: 3, {}, "3 is no path of a notebook: give one"),
        (lambda folder: folder, {}, "is a folder"),
        (lambda folder: folder / "rport.ipynb", {}, "did you mean 'report.ipynb'"),
        (lambda folder: write(folder / "x.ipynb", "1", kernel=None), {}, "names no kernel: give one, kernel_name="),
        (lambda folder: write(folder / "x.ipynb", "1", kernel={**KERNEL, "name": "py9"}), {}, "'py9' is not installed"),
        (None, {"kernel_name": "julia-9"}, r"'julia-9' is not installed \(there are .*python3"),
        (None, {"kernel_name": 3}, "give the name of a kernel"),
        (None, {"output": 3}, "give the name of a file"),
        (None, {"output": "{nme}.ipynb"}, r"there is no \{nme\}; did you mean \{name\}"),
        (None, {"output": "copy.txt"}, "ends in .ipynb or .html"),
        (None, {"output": "."}, "ends in .ipynb or .html"),
        (None, {"output": "report.ipynb"}, "is the notebook itself"),
        (None, {"output": "report.ipynb/x.ipynb"}, "could not be written"),
        (None, {"output": "/proc/x/y.ipynb"}, "could not be written"),
        (None, {"timeout_per_cell": "soon"}, "is no duration"),
        (None, {"resume": "yes"}, "give True or False"),
    ],
)
def test_what_cannot_run_is_refused(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, make: Any, options: dict[str, Any], complaint: str
) -> None:
    monkeypatch.chdir(quiet)
    path = write(quiet / "report.ipynb", "1")
    before = set(quiet.iterdir())
    with pytest.raises(OptionError, match=complaint):
        nbtasks.submit_notebook(make(quiet) if make else path, **options)
    assert not list(nbtasks.tasks())
    assert {one.name for one in set(quiet.iterdir()) - before} <= {"x.ipynb"}


def test_names_of_copies() -> None:
    fields = {"name": "report", "id": "k7q2", "alpha": "a/b c"}
    assert expand("/x/{name}-{alpha}-{id}.ipynb", fields) == "/x/report-a-b-c-k7q2.ipynb"
    assert expand("/x/plain.ipynb", fields) == "/x/plain.ipynb"


# What comes back.


def test_values_are_handed_back(folder: Path) -> None:
    named = nbtasks.submit_notebook(
        write(
            folder / "named.ipynb",
            "import nbtasks, numpy\nclass Point: x = 3\nnbtasks.return_(score=1, big=numpy.arange(400_000))",
            "nbtasks.return_(score=2, point=Point())\nprint('goes on')",
        )
    )
    both = nbtasks.submit_notebook(
        write(folder / "both.ipynb", "import nbtasks\nnbtasks.return_([1], n=1)\nnbtasks.return_([2])")
    )
    glued = nbtasks.submit_notebook(
        write(
            folder / "glued.ipynb",
            "from IPython.display import display\ndef glue(name, data):\n"
            "    scrap = {'name': name, 'data': data, 'encoder': 'json', 'version': 1}\n"
            "    display({'application/scrapbook.scrap.json+json': scrap}, raw=True)",
            "glue('auc', 0.9)\nglue('classes', ['a', 'b'])",
        )
    )
    result = named.result(60)
    assert (result["score"], result["point"].x, result["big"].sum()) == (2, 3, 79999800000)
    assert set(named.vars) == {"score", "point", "big"}
    assert both.result(60) == [2]
    assert both.vars == {"n": 1}
    assert glued.result(60) == {"auc": 0.9, "classes": ["a", "b"]}


def test_what_cannot_be_handed_back_fails_where_it_stands(folder: Path) -> None:
    path = write(folder / "lock.ipynb", "import nbtasks, threading\nnbtasks.return_(lock=threading.Lock())")
    task = nbtasks.submit_notebook(path)
    with pytest.raises(PayloadError, match="lock of return_"):
        task.result(60)
    assert task.record.outcome.failure.where == "cell [1], line 2"  # type: ignore[union-attr]


def test_return_does_nothing_outside_of_a_task() -> None:
    nbtasks.return_(1, score=2)


# Going on.


def test_resume_goes_on_from_the_cell_that_failed(folder: Path) -> None:
    counter = f"open({str(folder / 'ran')!r}, 'a').write('x')"
    cells = [
        "import random, os, nbtasks\nimport numpy as np\nfrom math import floor", f"{counter}\ntable = [1, 2]\nrandom.seed(3)\nos.environ['HELLO'] = 'you'",
        "def total():\n    return sum(table)\nprint('first')", "table.append(3)\nraise OSError('no network')",
        "nbtasks.return_((total(), os.environ['HELLO'], random.random(), floor(np.arange(3).sum())))\ntotal()",
    ]  # fmt: skip
    path = write(folder / "long.ipynb", *cells)
    first = nbtasks.submit_notebook(path)
    assert isinstance(first.exception(60), OSError)
    write(path, *cells[:3], "table.append(30)", cells[4])
    second = nbtasks.submit_notebook(path, output=folder / "second.ipynb", resume=True)
    import random

    assert second.result(60) == (36, "you", random.Random(3).random(), 3), (
        "what the failed cell did before it failed is done"
    )
    assert (folder / "ran").read_text() == "x", "the cells before it did not run again"
    assert f"Going on from cell 4: those before it are as they were in {first.short}." in second.log
    done = read(folder / "second.ipynb")
    assert [cell.execution_count for cell in done.cells] == [1, 2, 3, 4, 5]
    assert outputs(done) == ["", "", "first\n", "", "36"]
    assert done.cells[4].outputs[0].execution_count == 5


def test_a_retry_resumes_too(folder: Path) -> None:
    cells = [
        f"open({str(folder / 'ran')!r}, 'a').write('x')\nn = 1",
        f"import os, nbtasks\nif not os.path.exists({str(folder / 'there')!r}):\n    raise OSError('not there')",
        "nbtasks.return_(n)",
    ]
    task = nbtasks.submit_notebook(write(folder / "flaky.ipynb", *cells), resume=True)
    assert isinstance(task.exception(60), OSError)
    assert "There is no failed run to go on from" in task.log
    (folder / "there").touch()
    again = task.retry()
    assert again.result(60) == 1
    assert (folder / "ran").read_text() == "x"


@pytest.mark.parametrize(
    ("cells", "mended", "why"),
    [
        (["x = 1", "x.y"], ["x = 2", "x"], "cell 1 was changed since"),
        (["x = (i for i in 'ab')", "y = 1", "y.z"], ["x = (i for i in 'ab')", "y = 1", "list(x)"], "x could not be kept, and is still needed"),
    ],
)  # fmt: skip
def test_all_cells_run_when_going_on_would_be_wrong(
    folder: Path, cells: list[str], mended: list[str], why: str
) -> None:
    path = write(folder / "r.ipynb", *cells)
    first = nbtasks.submit_notebook(path)
    assert isinstance(first.exception(60), AttributeError)
    second = nbtasks.submit_notebook(write(path, *mended), resume=True)
    second.result(60)
    assert f"{first.short} failed, but all cells are executed again: {why}." in second.log


# Stopping.


SLOW = "import time, os\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(100)"


def running_kernel(folder: Path) -> int:
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text() != "")
    return int((folder / "pid").read_text())


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists() or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def bar_of(task: nbtasks.Task[Any]) -> tuple[Any, ...]:
    (bar,) = (task.progress or {})["bars"]
    return bar["desc"], bar["n"], bar["total"], bar["postfix"]


def test_cancel_interrupts_the_cell_and_keeps_what_there_is(folder: Path) -> None:
    path = write(
        folder / "slow.ipynb",
        "# Waiting",
        "import nbtasks\nnbtasks.return_(1)\nprint('before')",
        SLOW,
        "print('after')",
    )
    task = nbtasks.submit_notebook(path)
    pid = running_kernel(folder)
    wait_for(lambda: bar_of(task) == ("cell", 2, 3, "Waiting"))
    assert outputs(read(copies(folder, "slow")[0])) == ["before\n", "", ""], "it is written after every cell"
    assert task.cancel()
    wait_for(task.done)
    assert task.cancelled()
    with pytest.raises(CancelledError):
        task.result()
    assert task.value == 1
    copy = read(copies(folder, "slow")[0])
    assert [output.ename for output in copy.cells[2].outputs] == ["KeyboardInterrupt"]
    assert copy.cells[3].outputs == []
    assert "stopped at cell 2 of 3 (Waiting): " in task.log
    wait_for(lambda: gone(pid))


def test_a_cell_that_ignores_the_interrupt_is_killed(folder: Path) -> None:
    stubborn = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SLOW
    task = nbtasks.using(grace=0.5).submit_notebook(write(folder / "stubborn.ipynb", "print('before')", stubborn))
    pid = running_kernel(folder)
    task.cancel()
    wait_for(task.done)
    assert task.cancelled()
    wait_for(lambda: gone(pid))
    assert outputs(read(copies(folder, "stubborn")[0]))[0] == "before\n"


def test_a_killed_slot_leaves_no_kernel(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    task = nbtasks.submit_notebook(write(folder / "orphan.ipynb", SLOW))
    pid = running_kernel(folder)
    slot = next(member for member in members.list_slots(task.queue) if member.name == task.record.slot)
    os.kill(slot.process.pid, signal.SIGKILL)
    with pytest.raises(TaskLost, match="signal 9"):
        task.result(60)
    wait_for(lambda: gone(pid))
    assert list(scratch.iterdir())
    nbtasks.submit_notebook(write(folder / "next.ipynb", "1")).result(60)
    assert not list(scratch.iterdir()), "nor its scratch files, once another notebook has run"


def test_a_killed_kernel_fails_the_task(folder: Path) -> None:
    task = nbtasks.submit_notebook(write(folder / "dead.ipynb", "print('before')", SLOW))
    os.kill(running_kernel(folder), signal.SIGKILL)
    with pytest.raises(TaskLost, match=r"the notebook's kernel: killed by signal 9 \(SIGKILL\), in cell \[2\]"):
        task.result(60)
    assert outputs(read(copies(folder, "dead")[0]))[0] == "before\n"


def test_a_cell_over_its_time_fails_the_task(folder: Path) -> None:
    stubborn = "try:\n    import time; time.sleep(100)\nexcept KeyboardInterrupt:\n    print('caught')"
    task = nbtasks.submit_notebook(write(folder / "over.ipynb", "1", stubborn, "print('no')"), timeout_per_cell=0.5)
    with pytest.raises(TaskTimedOut, match=r"cell \[2\] took longer than 0.5 s"):
        task.result(60)
    assert outputs(read(copies(folder, "over")[0])) == ["1", "caught\n", ""]


# Pages, places.


def test_a_page_is_written(folder: Path) -> None:
    path = write(folder / "report.ipynb", "# Numbers", DEFAULTS, "print(6 * 7)")
    alone = nbtasks.submit_notebook(path, {"label": "b c"}, output=folder / "pages" / "{name} {label}.html")
    beside = nbtasks.submit_notebook(path, output=folder / "beside.ipynb", html=True)
    page = folder / "pages" / "report b-c.html"
    assert alone.result(60) == str(page)
    assert ">Numbers<" in page.read_text()
    assert "42" in page.read_text()
    assert [one.name for one in (folder / "pages").iterdir()] == [page.name]
    assert beside.result(60) == str(folder / "beside.ipynb")
    assert "42" in (folder / "beside.html").read_text()


def test_it_runs_in_its_folder_as_it_was_submitted(folder: Path) -> None:
    deep = folder / "steps"
    deep.mkdir()
    (deep / "data.txt").write_text("here")
    path = write(deep / "reads.ipynb", "import nbtasks; nbtasks.return_(open('data.txt').read())")
    nbtasks.configure(autostart=False)
    task = nbtasks.submit_notebook(path)
    write(path, "raise SystemError('saved since')")
    nbtasks.configure(autostart=True)
    nbtasks.submit(len, "").result(60)
    assert task.result(60) == "here"


def test_notebooks_do_not_run_twice_unasked(quiet: Path) -> None:
    path = write(quiet / "mail.ipynb", "1")
    assert nbtasks.submit_notebook(path).spec.at_most_once
    task = nbtasks.using(retries=1, lane="gpu").submit_notebook(path)
    assert (task.spec.at_most_once, task.spec.lane, task.spec.kind, task.spec.need) == (False, "gpu", "notebook", "c")


def test_in_place(folder: Path) -> None:
    nbtasks.configure(engine="inline")
    path = write(folder / "inline.ipynb", "import nbtasks; nbtasks.return_(5)")
    task = nbtasks.submit_notebook(path)
    assert task.done()
    assert task.result() == 5


# The command line.


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "nbtasks", *arguments], capture_output=True, text=True, timeout=60)


def test_run_on_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    write(
        folder / "report.ipynb",
        "# Sum",
        DEFAULTS,
        "import nbtasks\nnbtasks.return_([alpha, label, deep, layers, when])",
    )
    done = run(
        "run",
        "report.ipynb",
        "-p",
        "alpha=2",
        "-p",
        "label=5",
        "-p",
        "deep=no",
        "-p",
        "layers=[4]",
        "-p",
        "when=12",
        "-o",
        "a.ipynb",
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"3 cells in \d\.\d s, the last one \(Sum\): a.ipynb\nreturned list, 5 items\n", done.stdout)
    assert re.search(r"^report \w{4}: cell 3/3 100 % Sum$", done.stderr, re.M)
    assert next(iter(nbtasks.tasks())).result() == [2.0, "5", False, [4], 12]
    write(folder / "fails.ipynb", "1 / 0")
    failed = run("run", "fails.ipynb", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stdout)["failure"]["where"] == "cell [1], line 1"
    refused = run("run", "report.ipynb", "-p", "alpha=much")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith(
        "nbtasks: the parameter alpha cannot be 'much' (str), the notebook has 0.5 (float)"
    )


def test_a_notebook_may_wait_for_tasks_where_there_is_one_slot(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_SLOTS", "1")
    config.reset()
    path = write(folder / "parent.ipynb", "import nbtasks\nnbtasks.return_(nbtasks.submit(len, 'four').result(30))")
    assert nbtasks.submit_notebook(path).result(60) == 4


def test_a_kernel_that_does_not_start(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, language in (("broken", "python"), ("other", "julia")):
        kernel = tmp_path / "jupyter" / "kernels" / name
        kernel.mkdir(parents=True)
        facts = {
            "argv": [sys.executable, "-c", "raise SystemExit('no such thing')"],
            "display_name": name,
            "language": language,
        }
        (kernel / "kernel.json").write_text(json.dumps(facts))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = write(folder / "report.ipynb", DEFAULTS, "1")
    with pytest.raises(OptionError, match="'other' is a kernel for julia"):
        nbtasks.submit_notebook(path, {"alpha": 1.0}, kernel_name="other")
    task = nbtasks.submit_notebook(path, kernel_name="broken")
    with pytest.raises(NbtasksError, match="the kernel broken ended before it was ready; what it said is in the log"):
        task.result(60)
    assert "no such thing" in task.log


def test_what_a_copy_is_called_and_where_it_lies(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    path = write(folder / "r.ipynb", DEFAULTS, "alpha")
    task = nbtasks.submit_notebook("r.ipynb", {"label": "../up"}, output="made/{name}-{label}-{id}.ipynb")
    assert task.result(60) == str(folder / "made" / f"r-up-{task.short}.ipynb")
    assert len(json.dumps(task.record.log_tail())) < 200, "the outputs are in the copy, and not in the queue"
    assert path.read_text() == (folder / "r.ipynb").read_text()
