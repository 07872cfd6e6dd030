"""What a slot's process prints and displays lands in the task's files, in order, whoever prints it.

A capture takes over descriptors 0 to 2 for good, so each test runs its code in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from nbtasks.logs import read_log, text_of
from nbtasks.outputs import outputs

START = """
import json, os, subprocess, sys, threading
from nbtasks.capture import Capture
capture = Capture("slot")
def begin(name="t"):
    capture.begin(f"tasks/{name}.log", f"tasks/{name}.events", f"tasks/{name}.progress")
begin()
"""


def run(folder: Path, code: str, *, end: bool = True, ok: bool = True, **environment: str) -> int:
    """Run code in a process with a capture that has begun the task ``t``; its exit code."""
    (folder / "slot").mkdir(exist_ok=True)
    (folder / "tasks").mkdir(exist_ok=True)
    source = START + textwrap.dedent(code) + ("\ncapture.end()\ncapture.close()\n" if end else "")
    root = str(Path(__file__).parent.parent)
    ran = subprocess.run(
        [sys.executable, "-c", source], cwd=folder, env=os.environ | {"PYTHONPATH": root} | environment, timeout=60,
        capture_output=True,
    )  # fmt: skip
    log = folder / "tasks/t.log"
    assert not ok or ran.returncode == 0, log.read_text() if log.exists() else ran.stderr
    return ran.returncode


def events(folder: Path, name: str = "t") -> list[dict[str, Any]]:
    path = folder / f"tasks/{name}.events"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def log(folder: Path, name: str = "t") -> str:
    return text_of(read_log(str(folder / f"tasks/{name}.log")))


def shown(folder: Path) -> list[Any]:
    found = outputs(read_log(str(folder / "tasks/t.log")), events(folder))
    return [(output["name"], output["text"]) if "text" in output else output["data"] for output in found]


# ---------------------------------------------------------------------- files


def test_a_silent_task_makes_no_file(tmp_path: Path) -> None:
    run(tmp_path, "assert os.listdir('tasks') == ['t.log'], 'it is there to be followed while the task runs'")
    assert list((tmp_path / "tasks").iterdir()) == []
    assert list((tmp_path / "slot").iterdir()) == []


def test_each_task_has_its_own_log(tmp_path: Path) -> None:
    run(tmp_path, "print('one')\ncapture.end()\nbegin('quiet')\ncapture.end()\nbegin('u')\nprint('two')")
    assert (log(tmp_path), log(tmp_path, "u")) == ("one\n", "two\n")
    assert sorted(path.name for path in (tmp_path / "tasks").iterdir()) == ["t.log", "u.log"]


def test_the_log_can_be_followed_line_by_line(tmp_path: Path) -> None:
    run(tmp_path, "print('now')\nassert open('tasks/t.log').read() == 'now\\n'")


def test_what_is_printed_between_tasks_is_nobodys(tmp_path: Path) -> None:
    run(tmp_path, "capture.end()\nprint('stray')\nbegin('u')\nprint('mine')")
    assert log(tmp_path, "u") == "mine\n"


def test_modes_are_private(tmp_path: Path) -> None:
    run(
        tmp_path,
        "os.umask(0)\nprint('x')\ncapture.emit('display', {'data': {}})\ncapture.emit('progress', {'bars': []})",
    )
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "tasks").iterdir()} == {0o600}


def test_where_links_cannot_be_made(tmp_path: Path) -> None:
    code = "os.unlink('slot/log')\nbegin('u')\nprint('kept')\ncapture.end()\nbegin('v')\ncapture.end()\nbegin('w')\nprint('too')"
    run(tmp_path, "capture.end()\n" + code)
    assert (log(tmp_path, "u"), log(tmp_path, "w")) == ("kept\n", "too\n")
    assert sorted(path.name for path in (tmp_path / "tasks").iterdir()) == ["u.log", "w.log"]


# ---------------------------------------------------------------------- what is printed


def test_all_that_prints_in_order(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import ctypes
        libc = ctypes.CDLL(None)
        print("python")
        os.system("echo system")
        os.write(1, b"descriptor\\n")
        libc.puts(b"C library")
        libc.fflush(None)
        subprocess.run(["sh", "-c", "echo child; echo child err >&2"])
        print("partial ", end="")
        print("error", file=sys.stderr)
        sys.stdout.buffer.write(b"bytes\\n")
        print("end")
        """,
    )
    assert log(tmp_path).splitlines() == [
        "python", "system", "descriptor", "C library", "child", "child err", "partial error", "bytes", "end",
    ]  # fmt: skip


def test_stderr_of_python_is_told_apart(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import logging, warnings
        print("out")
        print("err", "or", file=sys.stderr)
        print("out again")
        logging.warning("logged")
        """,
    )
    assert shown(tmp_path) == [
        ("stdout", "out\n"), ("stderr", "err or\n"), ("stdout", "out again\n"), ("stderr", "WARNING:root:logged\n"),
    ]  # fmt: skip


def test_a_display_stands_behind_what_was_printed_before_it(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        print("before", end=" ")
        print("err", end=" ", file=sys.stderr)
        assert capture.emit("display", {"data": {"text/plain": "here"}, "metadata": {}}) is True
        print("after")
        """,
    )
    assert shown(tmp_path) == [("stdout", "before "), ("stderr", "err "), {"text/plain": "here"}, ("stdout", "after\n")]


def test_displays_of_any_data_are_json(tmp_path: Path) -> None:
    run(
        tmp_path,
        "capture.emit('display', {'data': {'image/png': b'\\x89PNG', 'application/json': {'x': {1}, 'y': object()}}})",
    )
    (event,) = events(tmp_path)
    assert event["data"]["image/png"] == "iVBORw=="
    assert event["kind"] == "display"
    assert event["at"] == 0


def test_characters_that_cannot_be_written(tmp_path: Path) -> None:
    run(tmp_path, "print('é € \\ud800 😀')")
    assert log(tmp_path) == "é € \\ud800 😀\n"


def test_the_streams_are_like_those_of_a_notebook(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        assert not sys.stdout.isatty() and not sys.stderr.isatty() and not sys.stdin.isatty()
        assert [sys.stdin.fileno(), sys.stdout.fileno(), sys.stderr.fileno()] == [0, 1, 2]
        assert sys.stdout.encoding == sys.stderr.encoding == "utf-8"
        assert sys.__stdout__ is sys.stdout
        """,
    )


def test_what_a_task_did_to_the_streams_ends_with_it(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import io
        sys.stdout.close()
        sys.stderr = io.StringIO()
        os.close(1)
        capture.end()
        begin("u")
        print("fine")
        print("this too", file=sys.stderr)
        os.system("echo and this")
        """,
    )
    assert log(tmp_path, "u") == "fine\nthis too\nand this\n"


def test_threads_and_children_do_not_mix_up_lines(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        def work(n, stream):
            for i in range(200):
                stream.write(f"{n} {i}\\n")
        threads = [threading.Thread(target=work, args=(n, (sys.stdout, sys.stderr)[n % 2])) for n in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        """,
    )
    lines = log(tmp_path).splitlines()
    assert sorted(lines) == sorted(f"{n} {i}" for n in range(4) for i in range(200))
    errors = "".join(text for stream, text in shown(tmp_path) if stream == "stderr").splitlines()
    assert sorted(errors) == sorted(f"{n} {i}" for n in (1, 3) for i in range(200))


@pytest.mark.parametrize("death", ["os.kill(os.getpid(), 9)", "os._exit(3)", "import ctypes; ctypes.string_at(0)"])
def test_what_was_printed_survives_the_process(tmp_path: Path, death: str) -> None:
    code = run(tmp_path, f"print('last words')\ncapture.emit('display', {{'data': {{}}}})\n{death}", ok=False)
    assert code != 0
    assert log(tmp_path).startswith("last words\n")
    assert len(events(tmp_path)) == 1
    assert ("Segmentation fault" in log(tmp_path)) == ("ctypes" in death), "and says where it crashed"


def test_a_forked_child_prints_but_does_not_display(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        pid = os.fork()
        if pid == 0:
            print("from the child")
            capture.emit("display", {"data": {}})
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(pid, 0)
        """,
    )
    assert log(tmp_path) == "from the child\n"
    assert events(tmp_path) == []


# ---------------------------------------------------------------------- progress


def test_progress_is_a_small_file_with_the_last_state(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        from nbtasks.bars import progress
        for i in progress(range(1000), desc="epoch"): pass
        state = capture.end()
        assert state["bars"][0]["n"] == 1000
        begin("u")
        assert capture.end() is None
        """,
    )
    (bar,) = json.loads((tmp_path / "tasks/t.progress").read_text())["bars"]
    assert (bar["desc"], bar["n"], bar["total"], bar["closed"]) == ("epoch", 1000, 1000, True)
    assert [path.name for path in (tmp_path / "tasks").iterdir()] == ["t.progress"]


# ---------------------------------------------------------------------- floods


def test_a_flood_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        for i in range(40_000): print(f"line {i:05d} " + "x" * 100)
        assert os.stat("tasks/t.log").st_blocks * 512 < 1_600_000
        """,
        NBTASKS_LOG_LIMIT="1000000",
    )
    text = log(tmp_path)
    assert text.startswith("line 00000 ")
    assert text.endswith("line 39999 " + "x" * 100 + "\n")
    assert "MB left out" in text
    assert len(text) < 1_700_000


def test_a_flood_is_said_once_in_the_log_itself(tmp_path: Path) -> None:
    code = "for i in range(12_000): print('x' * 99)\nassert open('tasks/t.log').read().count('is over 1,000,000 bytes') == 1"
    run(tmp_path, code, NBTASKS_LOG_LIMIT="1000000")


PLOT = "capture.emit('display', {'data': {'image/png': 'x' * 20_000}, 'metadata': {}})\n"


def test_a_plot_that_is_drawn_over_and_over_takes_the_room_of_one(tmp_path: Path) -> None:
    code = f"print('first')\nfor i in range(200):\n    capture.emit('clear_output', {{'wait': True}})\n    print(i)\n    {PLOT}"
    run(tmp_path, code, NBTASKS_LOG_LIMIT="400kB")
    assert (tmp_path / "tasks/t.events").stat().st_size < 400_000
    assert [list(one) if isinstance(one, dict) else one for one in shown(tmp_path)] == [
        ("stdout", "199\n"),
        ["image/png"],
    ]


def test_an_updated_display_takes_the_room_of_one(tmp_path: Path) -> None:
    code = f"""
        {PLOT.replace("'metadata'", "'display_id': 'd', 'metadata'")}
        for i in range(200):
            capture.emit("update_display", {{"data": {{"text/plain": f"{{i}}" + " " * 10_000}}, "display_id": "d"}})
    """
    run(tmp_path, code, NBTASKS_LOG_LIMIT="400kB")
    assert (tmp_path / "tasks/t.events").stat().st_size < 400_000
    assert [one["text/plain"].strip() for one in shown(tmp_path)] == ["199"]


def test_a_flood_of_displays_keeps_the_first_and_says_so_until_they_are_cleared(tmp_path: Path) -> None:
    run(tmp_path, f"for i in range(100):\n    {PLOT}", NBTASKS_LOG_LIMIT="400kB")
    assert (tmp_path / "tasks/t.events").stat().st_size < 300_000
    *plots, said = shown(tmp_path)
    assert 5 <= len(plots) <= 15
    assert "no more of them are kept" in said[1]
    clear = "capture.emit('clear_output', {'wait': False})\n"
    (again := tmp_path / "again").mkdir()
    run(again, f"for i in range(100):\n    {PLOT}{clear}{PLOT}", NBTASKS_LOG_LIMIT="400kB")
    assert len([one for one in shown(again) if isinstance(one, dict)]) == 1


# ---------------------------------------------------------------------- no keyboard


@pytest.mark.parametrize(
    "ask",
    [
        "input('name? ')", "sys.stdin.read()", "sys.stdin.readline()", "list(sys.stdin)", "sys.stdin.buffer.read()",
        "import getpass; getpass.getpass()", "breakpoint()", "import pdb; pdb.set_trace()", "import code; code.interact()",
        "import fileinput; list(fileinput.input([]))", "from ipywidgets import interact; interact(print, x=3)",
    ],
)  # fmt: skip
def test_no_keyboard(tmp_path: Path, ask: str) -> None:
    run(
        tmp_path,
        f"""
        from nbtasks.errors import NoKeyboard
        try:
            {ask}
        except NoKeyboard as error:
            assert "a background task has no keyboard" in str(error), error
        else:
            assert "code.interact" in {ask!r}  # ends by itself at the end of the input
        """,
    )


def test_children_find_an_empty_input(tmp_path: Path) -> None:
    run(tmp_path, "subprocess.run(['cat'], check=True)\nassert os.read(0, 1) == b''")
