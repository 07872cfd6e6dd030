"""What the magics say and do, through a real ipykernel."""

from __future__ import annotations

import re

import pytest

from tests.jupyter.kernel import Cell, Gate, Kernel


def short_id(cell: Cell) -> str:
    """The id on a card."""
    match = re.search(r"%task (\w+)|get\(\"(\w+)\"", cell.card)
    assert match is not None, cell.card
    return match[1] or match[2]


def shape_of(traceback: str) -> str:
    """A traceback without colours and without the number of its cell."""
    return re.sub(r"In\[\d+\]", "In[]", re.sub(r"\x1b\[[0-9;]*m", "", traceback))


def background(kernel: Kernel, source: str, options: str = "", until: str = "") -> Cell:
    """Run a background cell, and wait until its card shows a status."""
    cell = kernel.run(f"%%background {options}\n{source}")
    assert cell.status == "ok", cell.error + cell.text
    if until:
        kernel.until(lambda: f"  {until}" in cell.card, until)
    return cell


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--retires 3", "no option --retires; did you mean --retries?"),
        ("--retries many", "argument --retries: invalid int value: 'many'"),
        ("--retries -1", "retries=-1 cannot be"),
        ("--timeout soon", "'soon' is no duration"),
        ("--priority 12", "priority=12 cannot be"),
        ("--lane 'a b'", "lane 'a b' cannot be"),
        ("--after nonesuch", "no task 'nonesuch'"),
        ("--as x", "--as x is also assigned in the cell"),
        ("--as not-a-name", "--as 'not-a-name' is no name of a variable"),
        ("-i lengt", "-i lengt: the notebook has no variable of that name; did you mean length?"),
        ("-o 3x", "-o '3x' is no name of a variable"),
        ("-n 'open", "no closing quotation"),
        ("everything", "%%background: everything is never assigned in the cell; it assigns x"),
        ("totl", "%%background: totl is never assigned in the cell; did you mean total?"),
        ("-o totl", "%%background: totl is never assigned in the cell; did you mean total?"),
        ("--grace 2m", "%%background: no option --grace; there are --help, --input"),
        ("--cores 2", "%%background: no option --cores; there are"),
        ("--gpu 1", "%%background: no option --gpu; there are"),
        ("--memory 8G", "%%background: no option --memory; there are"),
        ("--limit two", "%%background: --limit='two' cannot be: give a whole number of at least 1"),
        ("--rate api=30/week", "%%background: --rate api='30/week' is no rate"),
        ("--resource scanner", "nobody has said how many 'scanner' this machine has"),
        ("--seed 1", "%%background: no option --seed; there are"),
        ("--hold 30m", "%%background: no option --hold; there are"),
        ("--in k7q2", "%%background: no option --in; there are"),
        ("--fresh --replace", "--fresh leaves what runs alone, --replace cancels it: give one of them"),
        ("--cwd nowhere", "%%background: --cwd nowhere: there is no such folder"),
        (
            "--env HOEM",
            "%%background: --env HOEM: the kernel has no environment variable of that name; did you mean HOME?",
        ),
        ("--env HOME=/x", "%%background: --env HOME: the kernel has no environment variable of that name"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_nothing_is_queued(kernel: Kernel, line: str, says: str) -> None:
    kernel.run("length = 1")
    before = kernel.ask("len(nbtasks.tasks())")
    cell = kernel.run(f"%%background {line}\nx = total = 1")
    assert cell.status == "error"
    assert says.replace("it assigns x", "it assigns x, total") in cell.text
    assert len(cell.text.splitlines()) == 1
    assert "Traceback" not in cell.text + cell.error
    assert kernel.ask("len(nbtasks.tasks())") == before


def test_a_cell_that_is_no_python_is_not_submitted(kernel: Kernel) -> None:
    before = kernel.ask("len(nbtasks.tasks())")
    plain, cell = kernel.run("#\nx = 1\ny = 2 2"), kernel.run("%%background\nx = 1\ny = 2 2")
    assert cell.status == plain.status == "error"
    assert "SyntaxError" in cell.error
    assert shape_of(cell.error) == shape_of(plain.error), "as that of a plain cell, with the line in the notebook"
    assert not cell.displays
    assert kernel.ask("len(nbtasks.tasks())") == before


def test_a_comment_may_follow_the_options(kernel: Kernel) -> None:
    cell = background(kernel, "x = 1", "-n one  # don't wait", until="succeeded")
    assert "one" in cell.card


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("# Train the model --\nmodel = 1", "Train the model"),
        ("# noqa\nx = 1\n# The rest\ny = 2", "The rest"),
        ("x = 1  # inline\ny, z = 2, 3", "x, y, z"),
        ("print('hello')\n", "print('hello')"),
    ],
)
def test_what_a_task_is_called(kernel: Kernel, source: str, name: str) -> None:
    cell = background(kernel, source)
    assert f" {name}  {short_id(cell)}  " in cell.card


def test_as_binds_the_handle(kernel: Kernel) -> None:
    background(kernel, "x = 2\nx + 1", "--as fit")
    assert kernel.ask("(fit.result(60), x)") == "(3, 2)", "names are there when result() returns"
    shown = kernel.run("fit")
    assert "succeeded" in shown.text


def test_only_the_outputs_that_were_asked_for_come_back(kernel: Kernel) -> None:
    background(kernel, "x, y = 1, 2", "-o x", until="succeeded")
    assert kernel.ask("(x, 'y' in globals())") == "(1, False)"


def test_a_variable_named_by_hand_is_taken_along(kernel: Kernel) -> None:
    kernel.run("hidden = 41")
    background(kernel, "x = eval('hid' + 'den') + 1", "-i hidden", until="succeeded")
    assert kernel.ask("x") == "42"


def test_waiting_blocks_and_binds(kernel: Kernel) -> None:
    cell = background(kernel, "import time\ntime.sleep(0.2)\nx = 1", "-b")
    assert "succeeded" in cell.card, "before the prompt is back"
    assert kernel.ask("x") == "1"


def test_an_interrupt_ends_only_the_waiting(kernel: Kernel) -> None:
    gate = Gate(kernel)
    cell = kernel.start(f"%%background -b\nprint('beg' + 'un', flush=True)\n{gate.code}x = 1")
    kernel.until(lambda: bool(cell.displays) and "begun" in cell.card, "the task to run")
    kernel.interrupt()
    kernel.until(lambda: cell.over, "the prompt")
    assert "only the waiting was stopped" in cell.error
    assert "magics.py" not in cell.error
    gate.open()
    kernel.until(lambda: "  succeeded" in cell.card, "the task to end")
    assert kernel.ask("x") == "1"


def test_wait_is_for_all_of_this_notebook(kernel: Kernel) -> None:
    cells = [background(kernel, f"import time\ntime.sleep(0.1)\nx{n} = {n}") for n in range(2)]
    assert kernel.run("%wait\nprint(x0, x1)").text == "0 1\n"
    kernel.until(lambda: all("  succeeded" in cell.card for cell in cells), "the cards")


def test_a_wait_has_its_limit(kernel: Kernel) -> None:
    gate = Gate(kernel)
    cell = background(kernel, gate.code, "-n slow", until="running")
    waited = kernel.run(f"%wait {short_id(cell)} --timeout 0.05")
    assert waited.status == "error"
    assert f"the time is up; still there: slow {short_id(cell)} (running)" in waited.error
    gate.open()
    assert kernel.run("%wait").status == "ok"


def test_a_failed_cell_shows_where_and_runs_again(kernel: Kernel) -> None:
    kernel.run("numbers = []")
    cell = background(kernel, "y = 1\nx = numbers[3]", until="failed")
    assert "IndexError: list index out of range" in cell.card
    assert "line 3" in cell.card, "counted from the magic, as the notebook does"
    result = kernel.run(f"%task {short_id(cell)} result")
    assert "IndexError" in result.error
    assert "magics.py" not in result.error
    assert kernel.ask("'y' in globals()") == "False"
    assert kernel.ask(f"nbtasks.get({short_id(cell)!r}).vars") == "{'y': 1}"
    again = kernel.run(f"%task {short_id(cell)} retry")
    assert "  queued" in again.card or "  running" in again.card or "  failed" in again.card
    kernel.run("%wait")
    assert kernel.ask(f"nbtasks.get({short_id(cell)!r}).attempt") in ("1", "2")


def test_a_cell_that_a_retry_mends_is_bound(kernel: Kernel) -> None:
    gate = Gate(kernel)
    source = f"import os\nassert os.path.exists({str(gate.path)!r})\nx = 1"
    cell = background(kernel, source, until="failed")
    gate.open()
    kernel.run(f"%task {short_id(cell)} retry\n%wait")
    assert kernel.ask("x") == "1"


def test_a_retry_by_option(kernel: Kernel) -> None:
    source = "import os\nfirst = not os.path.exists('tried')\nopen('tried', 'w').close()\nassert not first\nx = 1"
    cell = background(kernel, source, "--retries 1", until="succeeded")
    assert "attempt 2 of 2" in cell.card


def test_cancelling(kernel: Kernel) -> None:
    cell = background(kernel, "print('beg' + 'un', flush=True)\nimport time\ntime.sleep(600)", until="running")
    kernel.until(lambda: "begun" in cell.card, "the user's code")
    assert kernel.run(f"%task {short_id(cell)} cancel").status == "ok"
    kernel.run("%wait")
    kernel.until(lambda: "  cancelled" in cell.card, "the card")
    assert "had ended before: cancelled" in kernel.run(f"%task {short_id(cell)} cancel").text


def test_what_a_cancelled_cell_still_gives_comes_back(kernel: Kernel) -> None:
    source = "import time\ntry:\n    print('beg' + 'un', flush=True)\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    x = 'so far'"
    cell = background(kernel, source, until="running")
    kernel.until(lambda: "begun" in cell.card, "the user's code")
    kernel.run(f"%task {short_id(cell)} cancel\n%wait")
    kernel.until(lambda: "  cancelled" in cell.card, "the card")
    assert kernel.ask("x") == "'so far'"


def test_what_a_cancelled_cell_left_half_done_is_kept_apart(kernel: Kernel) -> None:
    cell = background(kernel, "x = 1\nprint('beg' + 'un', flush=True)\nimport time\ntime.sleep(600)", until="running")
    kernel.until(lambda: "begun" in cell.card, "the user's code")
    kernel.run(f"%task {short_id(cell)} cancel\n%wait")
    assert kernel.ask("'x' in globals()") == "False"
    assert kernel.ask(f"nbtasks.get({short_id(cell)!r}).vars") == "{'x': 1}"


def test_a_time_limit(kernel: Kernel) -> None:
    cell = background(kernel, "import time\ntime.sleep(600)", "--timeout 0.3", until="failed")
    assert "timed out" in cell.card


def test_what_there_is_to_know_of_a_task(kernel: Kernel) -> None:
    cell = background(kernel, "print('one\\ntwo')\nx = [1]\n'value'", until="succeeded")
    id = short_id(cell)
    assert kernel.run(f"%task {id} logs").text == "one\ntwo\n"
    assert kernel.run(f"%task {id} result").text == "'value'"
    assert kernel.run(f"%task {id} vars").text == "{'x': [1]}"
    assert "succeeded" in kernel.run(f"%task {id}").card
    wrong = kernel.run(f"%task {id} explode")
    assert "'explode' cannot be done; there are show, logs, result, vars, here, cancel, retry, rm, save" in wrong.text
    assert "no task 'zzzzzz'" in kernel.run("%task zzzzzz").text


def test_the_table(kernel: Kernel) -> None:
    background(kernel, "x = 1", "-n first", until="succeeded")
    background(kernel, "1 / 0", "-n second", until="failed")
    table = kernel.run("%tasks").card
    assert table.index("second") < table.index("first")
    assert "second" not in kernel.run("%tasks succeeded").card
    assert "first" in kernel.run("%tasks succeeded failed -n first").card
    assert "'lost' is no status" in kernel.run("%tasks lost").text


def test_a_cell_after_another(kernel: Kernel) -> None:
    gate = Gate(kernel)
    first = background(kernel, f"{gate.code}open('written', 'w').write('by the first')", until="running")
    second = background(kernel, "text = open('written').read()", f"--after {short_id(first)}")
    assert "  waiting" in second.card
    gate.open()
    kernel.run("%wait")
    assert kernel.ask("text") == "'by the first'"


def test_the_task_knows_where_it_comes_from(kernel: Kernel) -> None:
    cell = kernel.run("%%background --as task\nx = 1", cell_id="4f2c9e")
    spec = "(task.spec.cell_id, task.spec.kind, task.spec.at_most_once, task.spec.source_hash is not None)"
    assert kernel.ask(spec) == "('4f2c9e', 'cell', True, True)"
    assert cell.status == "ok"


def test_magics_and_shell_commands_inside(kernel: Kernel) -> None:
    kernel.run("word = 'hello'")
    cell = background(kernel, "%%time\nout = !echo $word", until="succeeded")
    assert "Wall time" in cell.card
    assert kernel.ask("list(out)") == "['hello']"
    background(kernel, "import asyncio\nx = await asyncio.sleep(0, 'awaited')", until="succeeded")
    assert kernel.ask("x") == "'awaited'"


def test_loading_twice_is_loading_once(kernel: Kernel) -> None:
    kernel.run("%reload_ext nbtasks")
    gate = Gate(kernel)
    cell = background(kernel, f"{gate.code}x = 1", until="running")
    gate.open()
    kernel.until(lambda: "  succeeded" in cell.card, "the end")
    assert kernel.ask("x") == "1"


def test_help(kernel: Kernel) -> None:
    documented = kernel.ask("get_ipython().find_cell_magic('background').__doc__")
    assert "--retries N" in documented
    assert "run it again after a failure" in documented


def test_a_cell_waits_for_its_turn_and_says_for_whom(kernel: Kernel) -> None:
    gate = Gate(kernel)
    kernel.run("nbtasks.configure(resources={'scanner': 1})")
    first = background(kernel, gate.code, "--resource scanner -n first", until="running")
    second = background(kernel, "turn = 'second'", "--resource scanner=1 --limit 3 --rate api=30/m", until="queued")
    kernel.until(lambda: f"for scanner: 1 of 1 in use by {short_id(first)} (first, " in second.card, "the reason")
    gate.open()
    kernel.until(lambda: "  succeeded" in second.card, "its end")
    assert kernel.ask("turn") == "'second'"
