"""A background cell that is run again, in the same kernel and in a new one."""

from __future__ import annotations

from tests.jupyter.kernel import Cell, Gate, Kernel

TRAINED = "open('trained', 'a').write('x')\n"  # told apart from what was only taken from an earlier run


def run(kernel: Kernel, source: str, cell_id: str, options: str = "") -> Cell:
    """Run a cell of the notebook."""
    cell = kernel.run(f"%%background {options}\n{source}", cell_id)
    assert cell.status == "ok", cell.error + cell.text
    return cell


def short(cell: Cell) -> str:
    """The id on the first line of a card."""
    return next(word for word in cell.card.split("  ")[1:] if len(word) == 4)


def count(kernel: Kernel) -> int:
    return int(kernel.ask("len(nbtasks.tasks())"))


def trainings(kernel: Kernel) -> int:
    path = kernel.folder / "trained"
    return len(path.read_text()) if path.exists() else 0


def test_the_same_cell_attaches_to_what_runs(kernel: Kernel) -> None:
    gate = Gate(kernel)
    kernel.run("n = 2")
    first = run(kernel, f"{gate.code}x = n", "again-1")
    before = count(kernel)
    second = run(kernel, f"{gate.code}x = n", "again-1", "--as handle")
    assert count(kernel) == before
    assert short(second) == short(first)
    assert "attached: this cell is running already, with the same source and inputs" in second.card
    assert kernel.ask("handle.short") == repr(short(first))
    gate.open()
    kernel.until(lambda: "  succeeded" in second.card and "  succeeded" in first.card, "the end")
    assert kernel.ask("x") == "2"
    third = run(kernel, f"{gate.code}x = n", "again-1")
    assert short(third) != short(first), "in the same kernel it runs again once it has succeeded"


def test_with_other_inputs_both_run_and_it_says_so(kernel: Kernel) -> None:
    gate = Gate(kernel)
    kernel.run("n = 2")
    first = run(kernel, f"{gate.code}x = n", "again-2")
    kernel.run("n = 3")
    second = run(kernel, f"{gate.code}x = n", "again-2")
    id = short(first)
    said = f"{id} of this cell runs on, with other inputs (n): `%task {id} cancel` stops it"
    assert said in second.card
    third = run(kernel, f"{gate.code}y = n", "again-2")
    assert f"{short(second)} of this cell runs on, with another source" in third.card
    gate.open()
    kernel.until(lambda: all("  succeeded" in cell.card for cell in (first, second, third)), "all to end")
    assert kernel.ask("(x, y)") == "(3, 3)", "of two the one submitted last counts"


def test_replace_cancels_what_the_cell_has_running(kernel: Kernel) -> None:
    gate = Gate(kernel)
    first = run(kernel, f"{gate.code}x = 1", "again-3")
    other = run(kernel, f"{gate.code}z = 1", "again-4")
    second = run(kernel, "x = 2", "again-3", "--replace")
    kernel.until(lambda: "  cancelled" in first.card, "the first to be cancelled")
    kernel.until(lambda: "  succeeded" in second.card, "the second to run")
    assert f"{short(first)} of this cell was cancelled for it" in second.card
    assert kernel.ask("x") == "2"
    gate.open()
    kernel.until(lambda: "  succeeded" in other.card, "the task of another cell, which is left alone")


def test_fresh_runs_beside(kernel: Kernel) -> None:
    gate = Gate(kernel)
    first = run(kernel, f"{gate.code}x = 1", "again-5")
    second = run(kernel, f"{gate.code}x = 1", "again-5", "--fresh")
    assert short(second) != short(first)
    assert f"{short(first)} of this cell runs on, with the same source and inputs" in second.card
    gate.open()
    kernel.run("%wait")


def test_several_submits_of_one_cell_do_not_take_each_other_for_the_same(kernel: Kernel) -> None:
    gate = Gate(kernel)
    code = f"for n in range(3):\n    get_ipython().run_cell_magic('background', f'-n loop{{n}}', {gate.code!r})"
    before = count(kernel)
    assert kernel.run(code).status == "ok"
    lines = kernel.run("%background a = 1\n%background b = 2")
    assert lines.status == "ok", lines.error
    assert count(kernel) == before + 5
    gate.open()
    kernel.run("%wait")
    assert kernel.ask("(a, b)") == "(1, 2)"


def test_kernel_restart_and_run_all_after_four_finished_trainings(own_kernel: Kernel) -> None:
    """None of them starts a second time, and all names are there."""
    kernel = own_kernel
    setup = """
import numpy as np
from sklearn.linear_model import Ridge
X, y, seen = np.arange(60_000.0).reshape(-1, 2), np.arange(30_000.0), {"a", "b", "c"}
class Net:
    def __init__(self, width): self.width = width
    def fit(self, X): self.mean = float(X.mean() * self.width)
def train(alpha):
    "Fit."
    return Ridge(alpha=alpha).fit(X, y)
net = Net(3)
"""
    notebook = {
        "c1": f"{TRAINED}ridge = train(1.0)",
        "c2": f"{TRAINED}net.fit(X)",
        "c3": f"{TRAINED}words = sorted(seen)",
        "c4": f"{TRAINED}score = round(ridge.score(X, y), 3)",  # reads what the first one brings
    }

    def run_all() -> list[Cell]:
        kernel.load()
        assert kernel.run(setup, "c0").status == "ok"
        cells = [run(kernel, source, id) for id, source in notebook.items()]
        assert kernel.run("print(net.mean, score, words)").text.endswith("1.0 ['a', 'b', 'c']\n")
        return cells

    first = run_all()
    kernel.until(lambda: all("  succeeded" in cell.card for cell in first), "the trainings")
    ids = [short(cell) for cell in first]
    kernel.restart()
    second = run_all()
    assert trainings(kernel) == 4
    assert [short(cell) for cell in second] == ids
    for cell in second:
        assert "  succeeded" in cell.card
        assert "not run again: it succeeded with the same source and inputs, 20" in cell.card
    third = run(kernel, notebook["c3"], "c3")
    kernel.until(lambda: "  succeeded" in third.card, "a third run: it is asked for by hand now")
    assert trainings(kernel) == 5


def test_a_new_kernel_attaches_and_binds(own_kernel: Kernel) -> None:
    kernel = own_kernel
    gate = Gate(kernel)
    first = run(kernel, f"{gate.code}x = 1", "c1")
    second = run(kernel, "y = x + 1", "c2")
    kernel.restart()
    kernel.load()
    again = run(kernel, f"{gate.code}x = 1", "c1")
    both = run(kernel, "y = x + 1", "c2")
    assert (short(again), short(both)) == (short(first), short(second))
    cell = kernel.start("print(y)")
    kernel.until(lambda: "waiting" in str(cell.displays), "the cell to wait for what runs since before the restart")
    gate.open()
    kernel.until(lambda: cell.over, "the cell")
    assert cell.text == "2\n"


# What is run in one kernel, what in the next, the options, and how often the cell really ran in the end.
ROUNDS = {
    "the same data": ("n = 1", "n = 1", "", 1),
    "other data": ("n = 1", "n = 2", "", 2),
    "random data": ("import random; n = random.random()", "n = random.random()", "", 2),
    "the same function": ("def n(): return 1", "# moved, with a comment\n\ndef n():\n    return 1", "", 1),
    "another function": ("def n(): return 1", "def n(): return 2", "", 2),
    "an edited module": ("import helper; n = helper.value()", "import helper; n = helper.value()", "", 2),
    "it failed": ("n = None", "n = None", "", 2),
    "it is to be fresh": ("n = 1", "n = 1", "--fresh", 2),
    "other names are wanted": ("n = 1", "n = 1", "", 2),
}


def test_what_a_new_kernel_runs_again(own_kernel: Kernel) -> None:
    kernel = own_kernel
    helper = kernel.folder / "helper.py"
    for turn in range(2):
        helper.write_text(f"# {turn}\ndef value():\n    return 1\n")
        kernel.run("import random")
        for name, (*setups, options, _) in ROUNDS.items():
            assert kernel.run(setups[turn]).status == "ok"
            code = f"open({name!r}, 'a').write('x')\nlength, other = len(repr(n)), 1"
            if name == "an edited module":
                code = code.replace("repr(n)", "repr((n, helper))")
            if name == "it failed":
                code += "\nassert n"
            if name == "other names are wanted":
                options = "length" if turn else ""
            kernel.run(f"%%background {options} -b\n{code}", name)
        # What executes notebooks by itself tells neither a cell nor a notebook.
        reply = kernel.client.execute("%%background -b\nopen('nobody', 'a').write('x')", reply=True, timeout=60)
        assert reply["content"]["status"] == "ok"
        if not turn:
            kernel.restart()
            kernel.load()
    ran = {name: len((kernel.folder / name).read_text()) for name in [*ROUNDS, "nobody"]}
    assert ran == {name: times for name, (*_, times) in ROUNDS.items()} | {"nobody": 2}


def test_looking_for_earlier_tasks_costs_the_same_in_a_long_queue(kernel: Kernel) -> None:
    """Only tasks of this cell are looked at: the folders of others are not even listed."""
    kernel.run("for n in range(300): nbtasks.submit(abs, n)\n%wait")
    run(kernel, "x = 1", "long", "-b")
    code = """
import os, sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event in ("open", "os.listdir", "os.scandir") else None)
get_ipython().run_cell_magic("background", "", "x = 1")
files = [path for path in opened if "/.nbtasks/tasks/" in path]
"""
    assert kernel.run(code, "long").status == "ok"
    assert int(kernel.ask("len(files)")) < 20
