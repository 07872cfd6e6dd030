"""Tracebacks on a card: no folders' names, no frames of installed packages."""

from __future__ import annotations

import pytest

from nbtasks.jupyter.ansi import strip
from nbtasks.jupyter.traces import short_path, tidy
from tests.jupyter.samples import PYTHON_TRACEBACK, TRACEBACK

LAST = "ValueError: could not convert string to float: 'n/a'"


def test_a_notebook_traceback_shows_the_cell() -> None:
    trace = tidy(TRACEBACK, LAST)
    plain = strip(trace.text).split("\n")
    assert plain[0] == "Cell In[12], line 3"
    assert any(line.startswith("----> 3 prices") for line in plain)
    assert plain[-1] == "… 2 frames of pandas"
    assert trace.note == "2 frames of pandas folded"
    assert "/home" not in strip(trace.text)


def test_a_python_traceback_keeps_what_is_the_users() -> None:
    trace = tidy(PYTHON_TRACEBACK)
    assert strip(trace.text).split("\n") == [
        "Traceback (most recent call last):",
        '  File "helper.py", line 40, in load',
        "    return json.loads(text)",
        "           ^^^^^^^^^^^^^^^^",
        "  … 2 frames of json",
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    ]


def test_a_callback_from_a_package_stays_between_folds() -> None:
    package = '  File "/v/lib/python3.12/site-packages/torch/nn.py", line 1, in call\n    self(x)\n'
    own = '  File "C:\\Users\\anna\\net.py", line 9, in forward\n    raise E\n'
    trace = tidy("Traceback (most recent call last):\n" + own + package * 3 + own + package + "E: x")
    assert strip(trace.text).count('File "net.py"') == 2
    assert "… 3 frames of torch" in strip(trace.text)
    assert "… 1 frame of torch" in strip(trace.text)
    assert trace.note == "4 frames of torch folded"


def test_frames_of_packages_alone_are_not_folded() -> None:
    text = 'Traceback (most recent call last):\n  File "/v/site-packages/pandas/io/x.py", line 1, in f\n    g()\nE: x'
    trace = tidy(text)
    assert trace.note == ""
    assert 'File "pandas/io/x.py", line 1' in strip(trace.text)


def test_chained_exceptions_keep_their_sentences() -> None:
    other = "\n\nDuring handling of the above exception, another exception occurred:\n\n"
    trace = tidy(PYTHON_TRACEBACK + other + PYTHON_TRACEBACK)
    assert "During handling" in strip(trace.text)
    assert trace.text.count("… 2 frames of json") == 2
    assert trace.text.count("JSONDecodeError") == 2


def test_paths_in_exception_groups_are_short_too() -> None:
    text = (
        '  + Exception Group Traceback (most recent call last):\n  |   File "/home/anna/a.py", line 1, in f\n  | E: x'
    )
    assert '  |   File "a.py", line 1' in tidy(text).text


@pytest.mark.parametrize("text", ["", "\n", "no traceback at all", "File ", '  File "', "Cell In[", "-" * 75])
def test_what_is_no_traceback_comes_through(text: str) -> None:
    assert tidy(text).note == ""


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/home/anna/churn/helper.py", "helper.py"),
        ("/home/anna/.venv/lib/python3.11/site-packages/pandas/core/frame.py", "pandas/core/frame.py"),
        ("/usr/lib/python3/dist-packages/numpy/x.py", "numpy/x.py"),
        ("/usr/lib/python3.11/json/decoder.py", "json/decoder.py"),
        ("C:\\Users\\anna\\proj\\helper.py", "helper.py"),
        ("~/proj/helper.py", "helper.py"),
        ("helper.py, line 40", "helper.py, line 40"),
        ("cell [12], line 3", "cell [12], line 3"),
    ],
)
def test_short_paths(path: str, short: str) -> None:
    assert short_path(path) == short


def test_a_plain_traceback_gets_colours_and_keeps_the_cells_of_the_notebook() -> None:
    trace = tidy(
        "Traceback (most recent call last):\n  Cell In[4], line 3, in f\n    return g(x)\n           ^^^^\n"
        '  File "/v/lib/python3.11/site-packages/pandas/core/frame.py", line 7, in get\n    raise E\n'
        "  Cell In[2], line 1, in g\n    1 / 0\nZeroDivisionError: division by zero",
        "ZeroDivisionError: division by zero",
    )
    assert strip(trace.text).split("\n")[1:] == [
        "  Cell In[4], line 3, in f",
        "    return g(x)",
        "           ^^^^",
        "  … 1 frame of pandas",
        "  Cell In[2], line 1, in g",
        "    1 / 0",
    ]
    assert "\x1b[36mCell In[4]\x1b[39m, \x1b[32mline 3\x1b[39m, in f" in trace.text
