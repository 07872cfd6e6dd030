"""``%task ID here``: a task's call in the notebook's own process, for ``%debug``."""

from __future__ import annotations

import re

from tests.jupyter.kernel import PATIENCE, Cell, Kernel
from tests.jupyter.test_magics import background, short_id


def plain(cell: Cell) -> str:
    """A traceback without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", cell.error)


def failing_frame(kernel: Kernel, expression: str) -> str:
    """What an expression is in the frame in which ``%debug`` would stand."""
    kernel.run("import sys, traceback\nframe = list(traceback.walk_tb(sys.last_traceback))[-1][0]")
    return kernel.ask(f"eval({expression!r}, frame.f_globals, frame.f_locals)")


def test_a_failed_cell_fails_here_with_its_inputs_as_they_were(kernel: Kernel) -> None:
    kernel.run("numbers, other = [1, 2], 'mine'\ndef pick(at):\n    return numbers[at]")
    task = background(
        kernel, "# first\nother = 'of the task'\nprint('begun')\nat = len(numbers)\npick(at)", until="failed"
    )
    kernel.run("numbers.extend([3, 4, 5]); other = 'mine still'")
    here = kernel.run(f"%task {short_id(task)} here")
    assert here.text == "begun\n"
    assert "IndexError: list index out of range" in plain(here)
    assert "----> 3     return numbers[at]" in plain(here)
    assert re.search(r"Cell In\[\d+\], line 6\n", plain(here)), "the line in the notebook's cell"
    assert "here.py" not in plain(here)
    assert "magics.py" not in plain(here)
    assert failing_frame(kernel, "(at, numbers)") == "(2, [1, 2])"
    assert kernel.ask("(other, numbers, 'at' in globals())") == "('mine still', [1, 2, 3, 4, 5], False)"


def test_debug_stands_in_the_failing_frame(kernel: Kernel) -> None:
    kernel.run("def divide(a, b):\n    return a / b")
    task = background(kernel, "divide(1, 0)", until="failed")
    kernel.run(f"%task {short_id(task)} here")
    answers = ["p (a, b)", "u", "p 6 * 7", "q"]
    id = kernel.client.execute("%debug", allow_stdin=True)
    cell = kernel.cells[id] = Cell(id)
    for answer in answers:
        kernel.client.get_stdin_msg(timeout=PATIENCE)
        kernel.client.input(answer)
    kernel.until(lambda: cell.over, "the end of the debugger")
    assert "(1, 0)" in cell.text
    assert "42" in cell.text


def test_a_function_is_called_with_its_arguments(kernel: Kernel) -> None:
    kernel.run("def root(x, *, power=0.5):\n    assert x >= 0, x\n    return x ** power")
    kernel.run("good, bad = nbtasks.submit(root, 9), nbtasks.submit(root, -1, power=2)\n%wait")
    assert kernel.run("%task good here").text == "3.0"
    assert "AssertionError: -1" in plain(kernel.run("%task bad here"))
    assert failing_frame(kernel, "(x, power)") == "(-1, 2)"


def test_magics_await_and_the_last_value(kernel: Kernel) -> None:
    kernel.run("word = 'hello'")
    source = "import asyncio\nout = !echo $word\nlater = await asyncio.sleep(0, 2)\n%time x = later\n(out[0], x)"
    task = background(kernel, source, until="succeeded")
    kernel.run("word, out, x = 'changed', 1, 2")
    here = kernel.run(f"%task {short_id(task)} here")
    assert "('hello', 2)" in here.text, here
    assert kernel.ask("(word, out, x)") == "('changed', 1, 2)"


def test_in_a_new_kernel(own_kernel: Kernel) -> None:
    kernel = own_kernel
    kernel.run(
        "limit = 3\nclass Point:\n    def __init__(self, x): self.x = x\n    def check(self):\n        assert self.x < limit, self.x"
    )
    task = background(kernel, "point = Point(5)\npoint.check()", until="failed")
    kernel.restart()
    kernel.load()
    here = plain(kernel.run(f"%task {short_id(task)} here"))
    assert "AssertionError: 5" in here
    assert "----> 5         assert self.x < limit, self.x" in here
    assert failing_frame(kernel, "self.x") == "5"
    assert kernel.ask("'Point' in globals() or 'limit' in globals()") == "False"


def test_the_names_of_a_failed_cell(kernel: Kernel) -> None:
    task = background(kernel, "first = [1]\nsecond = first[5]", until="failed")
    assert "kept in task.vars: first" in task.card
    assert kernel.run(f"%task {short_id(task)} vars").text == "{'first': [1]}"
