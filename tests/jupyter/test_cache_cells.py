"""``%%background --cache``: a cell whose code and inputs are the same brings back what it brought before."""

from __future__ import annotations

from tests.jupyter.kernel import Cell, Gate, Kernel

SETUP = """
RATE = 2
def scaled(x): return x * RATE
start = [1, 2]
"""
WORK = "open('cached-runs', 'a').write('x')\ntotal = scaled(sum(start))"


def run(kernel: Kernel, source: str, options: str = "--cache", cell_id: str = "cache-1") -> Cell:
    cell = kernel.run(f"%%background {options}\n{source}", cell_id)
    assert cell.status == "ok", cell.error + cell.text
    return cell


def short(cell: Cell) -> str:
    return next(word for word in cell.card.split("  ")[1:] if len(word) == 4)


def runs(kernel: Kernel) -> int:
    path = kernel.folder / "cached-runs"
    return len(path.read_text()) if path.exists() else 0


def test_a_cell_is_not_computed_twice(own_kernel: Kernel) -> None:
    kernel = own_kernel
    kernel.run(SETUP)
    first = run(kernel, WORK, "--cache -b")
    assert kernel.ask("total") == "6"
    kernel.run("del total")
    second = run(kernel, f"# a comment\n{WORK}", cell_id="another-cell")
    assert short(second) == short(first)
    assert "cached: it succeeded 20" in second.card
    assert "`--fresh` lets it run again" in second.card
    assert kernel.ask("total") == "6"
    for change in ("RATE = 3", "start.append(3)", "def scaled(x): return x - RATE"):
        kernel.run(change)
        run(kernel, WORK, "--cache -b")
    assert kernel.ask("total") == "3"
    assert runs(kernel) == 4
    kernel.restart()
    kernel.run(f"%load_ext nbtasks\nimport nbtasks\n{SETUP}")
    third = run(kernel, WORK, "--cache=7d", cell_id="in-a-new-kernel")
    assert short(third) == short(first)
    assert kernel.ask("total") == "6"
    fresh = run(kernel, WORK, "--cache --fresh -b")
    assert short(fresh) != short(first)
    assert short(run(kernel, WORK)) == short(fresh), "the newest one counts"
    assert runs(kernel) == 5


def test_the_same_cell_elsewhere_attaches_to_what_runs(kernel: Kernel) -> None:
    gate = Gate(kernel)
    first = run(kernel, f"{gate.code}reached = 1", cell_id="attach-1")
    second = run(kernel, f"{gate.code}reached = 1", cell_id="attach-2")
    assert short(second) == short(first)
    assert "attached: the same call is" in second.card
    gate.open()
    kernel.until(lambda: "  succeeded" in second.card, "the end")
    assert kernel.ask("reached") == "1"


def test_what_cannot_be_compared_is_named(kernel: Kernel) -> None:
    kernel.run("import types\nodd = [1, types.ModuleType('made_here')]")
    cell = run(kernel, "held = len(odd)", "--cache -b")
    assert "the cell is not cached: the variable odd[1] is the module made_here" in cell.text
    assert kernel.ask("held") == "2"


def test_a_name_behind_it_is_a_variable_to_bring_back(kernel: Kernel) -> None:
    kernel.run("kept = None")
    run(kernel, "kept, other_one = 1, 2", "--cache kept --wait")
    assert kernel.ask("(kept, 'other_one' in globals())") == "(1, False)"
    cell = kernel.run("%%background --cache=soon\nx = 1")
    assert "--cache='soon' is no duration" in cell.error + cell.text
