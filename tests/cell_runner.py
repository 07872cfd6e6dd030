"""Runs cells in front (plain IPython) and behind (as a slot does), and compares. A process of its own.

``python -m tests.cell_runner`` reads cases as JSON and prints a line for each. Front and back are forks of one clean process; the front
plays the notebook: it makes the namespace, packs the cell, runs it itself, and compares with what came back.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbtasks import cells, payload
from nbtasks.frames import Part
from nbtasks.logs import read_log
from nbtasks.outputs import outputs


def fork(work: Callable[[], object]) -> Callable[[], Any]:
    """Run `work()` in a child; call what this gives for what it gives, or its exception."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        try:
            answer: object = work(), ""
        except BaseException:
            answer = None, traceback.format_exc()
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(write)

    def wait() -> Any:
        with os.fdopen(read, "rb") as pipe:
            answer, crash = pickle.load(pipe)
        os.waitpid(pid, 0)
        if crash:
            raise AssertionError(crash)
        return answer

    return wait


def plain_shell() -> Any:
    """A notebook's shell, but for the displays, which are not compared here."""
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type
    from traitlets.config import Config

    class Hook(DisplayHook):
        def write_output_prompt(self):
            pass

        def write_format_data(self, format_dict, md_dict=None):
            pass

        def finish_displayhook(self):
            self._is_active = False

    class Publisher(DisplayPublisher):
        def publish(self, *args, **kwargs):
            pass

    class Plain(InteractiveShell):
        displayhook_class = Type(Hook)
        display_pub_class = Type(Publisher)

        def enable_gui(self, gui=None):
            pass

        def _showtraceback(self, etype, evalue, stb):
            pass

    config = Config()
    config.HistoryManager.hist_file = ":memory:"
    main = payload.make_home()
    shell = Plain.instance(config=config, user_module=main, user_ns=main.__dict__)
    shell.system = shell.system_raw
    return shell


def back(read: int, write: int, folder: str) -> Any:
    """Run the packed cell that comes through a pipe, as a slot does; what is to be said in the notebook."""
    from nbtasks.capture import Capture

    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        call, buffers = pickle.load(pipe)
    payload.make_home()
    os.mkdir(f"{folder}/slot")
    capture = Capture(f"{folder}/slot")
    capture.begin(f"{folder}/log", f"{folder}/events", f"{folder}/progress")
    cell = payload.load(Part("cell", call, tuple(map(memoryview, buffers))), home=True)
    run = cells.run_cell(cell, capture.emit)
    progress = capture.end()
    (part,), variables = cells.pack_result(run, cell.outputs)
    about = {variable.name: [variable.changed, variable.bind, variable.left_out] for variable in variables}
    report = {"about": about, "error": type(run.error).__name__, "where": run.where, "text": run.traceback}
    return *flat(part), report | {"progress": progress}


def flat(part: Part) -> tuple[bytes, list[bytes]]:
    """A part as it lies in a file."""
    return bytes(part.view()), [bytes(buffer) for buffer in part.buffers]


def front(setup: str, source: str, options: dict[str, Any], folder: str, compare: bool) -> dict[str, Any]:
    """The notebook: pack the cell, have it run behind; with `compare` run it here too, and compare."""
    read, write = os.pipe()
    result = fork(lambda: back(read, write, folder))  # before this process becomes a notebook
    os.close(read)
    shell = plain_shell()
    assert shell.run_cell(setup, store_history=True).success
    names = [] if "inputs" in options else cells.names_read(source, shell.user_ns)
    inputs = {name: shell.user_ns[name] for name in names}
    looks = cells.read_looks(inputs, shell.user_ns)
    with os.fdopen(write, "wb") as pipe:
        cell = cells.Cell(source, **{"inputs": inputs, "number": 7, "shell": looks, **options})
        pickle.dump(flat(payload.dump("cell", cell)), pipe)
    data, buffers, report = result()
    if not compare:
        _, given = payload.load(Part("cell", data, tuple(map(memoryview, buffers))))
        return report | {"given": {name: repr(value) for name, value in given.items()}, "names": names}
    printed = run_here(shell, source, f"{folder}/front.txt")
    mine = dict(shell.user_ns)
    value, given = payload.load(Part("cell", data, tuple(map(memoryview, buffers))))
    last = shell.last_execution_result
    differ = [name for name, one in given.items() if not same(mine.get(name), one)]
    report["differ"] = differ if same(last.result, value) else [*differ, "(value)"]
    error = type(last.error_before_exec or last.error_in_exec).__name__
    return report | {"given": sorted(given), "front": printed, "front_error": error, "names": names}


def run_here(shell: Any, source: str, path: str) -> str:
    """Run a cell in front; what it printed."""
    out = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    shell.run_cell(source, store_history=True)
    sys.stdout.flush()
    sys.stderr.flush()
    return Path(path).read_text()


def same(a: Any, b: Any) -> bool:
    """Equal, by the measure of each kind."""
    if a is b:
        return True
    if type(a).__name__ != type(b).__name__:
        return False
    if hasattr(a, "__wrapped__"):
        return same(a.__wrapped__, b.__wrapped__)
    if type(a).__name__ == "ndarray":
        return a.shape == b.shape and bool((a == b).all())
    if type(a).__name__ in ("DataFrame", "Series"):
        return bool(a.equals(b))
    if isinstance(a, type):
        return sorted(vars(a)) == sorted(vars(b))
    if callable(a) and hasattr(a, "__code__"):
        return bool(a.__code__.co_code == b.__code__.co_code)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if type(a).__module__.startswith(("sklearn", "numpy.random", "IPython")):
        return type(a) is type(b) and getattr(a, "n_features_in_", 0) == getattr(b, "n_features_in_", 0)
    if hasattr(a, "__dict__") and type(a).__module__ == "__main__":  # their classes are two
        return same(getattr(a, "name", vars(a)), getattr(b, "name", vars(b)))
    return bool(a == b)


def run(setup: str, source: str, options: dict[str, Any], compare: bool) -> dict[str, Any]:
    """A cell behind, and in front; `options` are further fields of the Cell."""
    with tempfile.TemporaryDirectory() as folder:
        report: dict[str, Any] = fork(lambda: front(setup, source, options, folder, compare))()
        events = Path(folder, "events")
        lines = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
        return report | {"outputs": outputs(read_log(f"{folder}/log"), lines)}


def main() -> None:
    """Every case on stdin, (name, setup, source, options, compare), as a line of JSON."""
    import IPython.core.interactiveshell  # noqa: F401 (once for all forks)
    import sklearn.linear_model  # noqa: F401

    for name, *case in json.load(sys.stdin):
        try:
            report = run(*case)
        except AssertionError as error:
            report = {"crash": str(error)}
        print(json.dumps({"name": name, **report}), flush=True)


if __name__ == "__main__":
    main()
