"""``%%background --every`` in a real kernel: the cell recurs with what it was given, and what cannot be registers nothing."""

from __future__ import annotations

import pytest

from tests.jupyter.kernel import Kernel


def test_a_cell_recurs(kernel: Kernel) -> None:
    kernel.run("rate = 3")
    cell = kernel.run("%%background --every 1s -n prices --as prices\n# fetch prices\ntotal = rate * 2\nprint(total)")
    assert cell.status == "ok", cell.error
    assert "prices: next 20" in cell.text
    assert "does not survive a reboot" in cell.text
    kernel.run("rate = 4")
    kernel.until(
        lambda: kernel.ask("[one.mark for one in prices.history()].count('✓') > 0") == "True", "a run that succeeded"
    )
    assert kernel.ask("prices.tasks[0].vars['total']") == "6", "with the variables of the time of registering"
    assert kernel.ask("prices.tasks[0].record.spec.kind") == "'cell'"
    assert kernel.ask("'total' in globals()") == "False", "what recurs binds nothing in the notebook"
    again = kernel.run("%%background --every 1h -n prices\n# fetch prices\ntotal = rate * 2")
    assert "It replaces the prices of 20" in again.text
    assert "same name, the code of now" in again.text
    assert "every 1h" in kernel.ask("nbtasks.schedules()._repr_mimebundle_()['text/html']")
    kernel.run("prices.remove()")
    assert kernel.ask("len(nbtasks.schedules())") == "0"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--every soon", "every='soon' is no duration"),
        ("--every 0.1", "every '0.1' cannot be: give 1 second to 10 years"),
        ("--cron '61 * * * *'", "'61' is no minute (0 to 59)"),
        ("--every 1h --wait", "cannot stand together"),
        ("--every 1h --cache", "cannot stand together"),
        ("--every 1h --cron @daily", "cannot stand together"),
        ("--every 1h -n 'No Good'", "the name of a schedule 'No Good' cannot be"),
    ],
)
def test_a_wrong_option_registers_nothing(kernel: Kernel, line: str, says: str) -> None:
    cell = kernel.run(f"%%background {line}\nx = 1")
    assert cell.status == "error"
    assert says in cell.text
    assert len(cell.text.splitlines()) == 1
    assert kernel.ask("len(nbtasks.schedules())") == "0"


def test_what_cannot_be_pickled_registers_nothing(kernel: Kernel) -> None:
    kernel.run("import threading; lock = threading.Lock()")
    cell = kernel.run("%%background --every 1h\nx = lock")
    assert cell.status == "error"
    assert "lock" in cell.text + cell.error
    assert kernel.ask("len(nbtasks.schedules())") == "0"


def test_a_cell_without_a_name_is_called_by_its_comment(kernel: Kernel) -> None:
    kernel.run("%%background --cron '0 3 * * *' --as s\n# Fetch the prices!\nx = 1")
    assert kernel.ask("s.name") == "'fetch-the-prices'"
    kernel.run("s.remove()")
