"""Two of the worst surprises that a background cell could have; the others are under their own names beside this file."""

from __future__ import annotations

from nbtasks import processes
from tests.jupyter.kernel import Gate, Kernel
from tests.jupyter.test_kernel import start, wait_for_end

POOLS = "import os, numpy, threadpoolctl\nfound = [pool['num_threads'] for pool in threadpoolctl.threadpool_info()]"
DRAW = "import random, numpy\n{name} = random.random(), float(numpy.random.rand())"


def test_a_lone_background_cell_has_all_cores_for_its_matrices(own_kernel: Kernel) -> None:
    wait_for_end(own_kernel, own_kernel.run(f"%%background\n{POOLS}"))
    assert own_kernel.ask(f"found and set(found) == {{{processes.usable_cores()}}}") == "True"


def test_background_cells_at_once_share_the_cores(own_kernel: Kernel) -> None:
    gate = Gate(own_kernel)
    own_kernel.run("%env NBTASKS_SLOTS=2")
    first = start(own_kernel, gate.code)
    wait_for_end(own_kernel, own_kernel.run(f"%%background\n{POOLS}"))
    gate.open()
    wait_for_end(own_kernel, first)
    assert own_kernel.ask(f"found and set(found) == {{{max(1, processes.usable_cores() // 2)}}}") == "True"


def test_tasks_do_not_draw_the_same_random_numbers(own_kernel: Kernel) -> None:
    cells = [own_kernel.run("%%background\n" + DRAW.format(name=name)) for name in ("first", "second", "third")]
    for cell in cells:
        wait_for_end(own_kernel, cell)
    own_kernel.run(
        f"def draw(_):\n    {DRAW.format(name='drawn').replace(chr(10), chr(10) + '    ')}\n    return drawn"
    )
    own_kernel.run("drawn = nbtasks.gather(nbtasks.map(draw, range(4)))")
    assert own_kernel.ask("len({*drawn, first, second, third})") == "7"
    assert own_kernel.ask("len({number for pair in [*drawn, first, second, third] for number in pair})") == "14"
