"""What goes along with a cell and what cannot; what is saved and removed. Through a real ipykernel."""

from __future__ import annotations

import pickle
import re

import pytest

from tests.jupyter.kernel import Gate, Kernel
from tests.jupyter.test_magics import background, short_id

MAKE = "make it inside the task"
OPEN = "open it inside the task, and pass what it is opened with (a path, an address)"


@pytest.mark.parametrize(
    ("made", "kind", "cure"),
    [
        ("open('some.txt', 'w')", "_io.TextIOWrapper", "pass its path, and open it inside the task"),
        ("open('some.txt', 'wb')", "_io.BufferedWriter", "pass its path, and open it inside the task"),
        ("__import__('threading').Lock()", "_thread.lock", MAKE),
        ("__import__('sqlite3').connect(':memory:')", "sqlite3.Connection", OPEN),
        ("__import__('socket').socket()", "socket.socket", OPEN),
        ("(n for n in range(3))", "generator", "turn it into a list first: list(…)"),
        ("__import__('threading').Thread()", "_thread.lock", MAKE),
        ("__import__('concurrent.futures').futures.ThreadPoolExecutor(1)", "_queue.SimpleQueue", MAKE),
        ("{'deep': [1, __import__('threading').Lock()]}", "_thread.lock", MAKE),
        ("__import__('sys')._getframe()", "frame", MAKE),
    ],
)
def test_what_cannot_be_pickled_is_named_with_its_type_and_a_cure(
    kernel: Kernel, made: str, kind: str, cure: str
) -> None:
    kernel.run(f"handle = {made}")
    before = kernel.ask("len(nbtasks.tasks())")
    cell = kernel.run("%%background\nprint(handle)")
    kernel.run("getattr(handle, 'close', int)()")
    assert cell.status == "error"
    assert cell.error.startswith("PayloadError: the variable handle"), cell.error
    assert f"it is of type {kind} (" in cell.error
    assert f"To mend it: {cure}" in cell.error
    assert len(cell.error.splitlines()) == 1
    assert kernel.ask("len(nbtasks.tasks())") == before


def test_a_value_over_a_gigabyte_is_sent_only_when_it_is_asked_for(kernel: Kernel) -> None:
    kernel.run("import numpy as np\nbig = np.lib.stride_tricks.as_strided(np.zeros(1), (1 << 28,), (0,))")
    before = kernel.ask("len(nbtasks.tasks())")
    cell = kernel.run("%%background\nx = big.shape")
    said = "the cell reads big (2 GB), which is too large to be sent unasked (over 1 GB): ask for it with `-i big`"
    assert said in cell.text
    assert len(cell.text.splitlines()) == 1
    assert kernel.ask("len(nbtasks.tasks())") == before


def test_a_secret_goes_along_by_its_name_and_stays_off_the_page(kernel: Kernel) -> None:
    background(kernel, "pass", until="succeeded")  # a worker that starts now would have it from the kernel
    kernel.run("import os\nos.environ['NBTASKS_TEST_TOKEN'] = 'hush-hush-42'")
    source = "import os\nsize = len(os.environ.get('NBTASKS_TEST_TOKEN', ''))"
    without = background(kernel, source, until="succeeded")
    assert kernel.ask("size") == "0", "such variables stay where they are"
    cell = background(kernel, source, "--env NBTASKS_TEST_TOKEN --env HOME", until="succeeded")
    assert kernel.ask("size") == "12"
    id = short_id(cell)
    shown = kernel.run(f"%task {id}\n%tasks")
    everything = repr((cell, without, shown, kernel.ask(f"nbtasks.get({id!r}).spec")))
    assert "hush-hush-42" not in everything


def test_another_working_directory(kernel: Kernel) -> None:
    (kernel.folder / "datas").mkdir()
    background(kernel, "import os\nhere = os.getcwd()", "--cwd datas", until="succeeded")
    assert kernel.ask("here") == repr(str(kernel.folder / "datas"))
    wrong = kernel.run("%%background --cwd dats\nx = 1")
    assert "--cwd dats: there is no such folder; did you mean datas?" in wrong.text


def test_outputs_by_their_names(kernel: Kernel) -> None:
    background(kernel, "x, y, z = 1, 2, 3", "x -n some z", until="succeeded")
    assert kernel.ask("(x, z, 'y' in globals())") == "(1, 3, False)"
    kernel.run("log = []")
    background(kernel, "log.append(1)\ny = 2", "log", until="succeeded")
    assert kernel.ask("(log, 'y' in globals())") == "([1], False)"


def test_a_handle_that_is_misspelled(kernel: Kernel) -> None:
    background(kernel, "x = 1", "--as training", until="succeeded")
    assert "no task 'trainig'; did you mean training?" in kernel.run("%task trainig").text
    assert "no task 'trainig'; did you mean training?" in kernel.run("%%background --after trainig\ny = 1").text


def test_saving_value_and_names(kernel: Kernel) -> None:
    task = short_id(background(kernel, "x = [1]\nname = 'n'\nx + [2]", until="succeeded"))
    cell = kernel.run(f"%task {task} save kept.pickle")
    assert re.match(r"saved the value and x and name to kept\.pickle \(\d+ B\)\. To load it anywhere:\n", cell.text)
    assert (
        kernel.run(cell.text.splitlines()[1] + "\nsaved").text == "{'value': [1, 2], 'vars': {'x': [1], 'name': 'n'}}"
    )
    with open(kernel.folder / "kept.pickle", "rb") as file:
        assert pickle.load(file)["value"] == [1, 2]
    assert f"save needs a path: %task {task} save result.pickle" in kernel.run(f"%task {task} save").text
    assert "cannot be written: No such file" in kernel.run(f"%task {task} save no/where.pickle").text
    assert sorted(path.name for path in kernel.folder.glob("kept*")) == ["kept.pickle"]


def test_removing(kernel: Kernel) -> None:
    gate = Gate(kernel)
    cell = background(kernel, f"{gate.code}print('x')", "-n gone", until="running")
    task = short_id(cell)
    assert f"gone {task} is running: only what has ended can be removed; `%task {task} cancel` ends it" in (
        kernel.run(f"%task {task} rm").text
    )
    gate.open()
    kernel.until(lambda: "  succeeded" in cell.card, "the end")
    assert kernel.run(f"%task {task} rm").text == f"removed {task} with what it printed, showed and gave\n"
    assert f"no task '{task}'" in kernel.run(f"%task {task}").text
    assert not [path for path in (kernel.folder / ".nbtasks").rglob(f"*{task}*") if "cells" not in path.parts]


def test_a_task_that_another_one_needs_is_not_removed(kernel: Kernel) -> None:
    gate = Gate(kernel)
    first = short_id(background(kernel, "x = 1", until="succeeded"))
    second = background(kernel, f"{gate.code}y = 1", f"--after {first}", until="running")
    assert "which has not ended: cancel that one first" in kernel.run(f"%task {first} rm").text
    gate.open()
    kernel.until(lambda: "  succeeded" in second.card, "the end")
    assert kernel.run(f"%task {first} rm").status == "ok"
