"""The table of docs/engines.md: what the contract suite proves on each engine. ``python -m tests.engines.table`` writes it.

It is made of the names of the tests and of what each place says it lacks; where a place lacks something, the suite fails if
the engine can do it after all.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.engines.servers import PLACES

HERE = Path(__file__).parent
PAGE = HERE.parent.parent / "docs" / "engines.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
SUITES = (("test_contract.py", False), ("foreign_contract.py", True))


def tests_of(file: str) -> list[str]:
    """The tests of a suite that `make test` runs."""
    tree = ast.parse((HERE / file).read_text())
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [node.name for node in found if "torture" not in ast.unparse(ast.Module(node.decorator_list, []))]


def make() -> str:
    """The table and its notes, as Markdown."""
    notes: list[str] = []
    rows = ["| | " + " | ".join(place.name for place in PLACES) + " |", "|---" * (len(PLACES) + 1) + "|"]
    for file, only_foreign in SUITES:
        for name in tests_of(file):
            cells = []
            for place in PLACES:
                lack = place.lacks.get(name, "")
                if lack and lack not in notes:
                    notes.append(lack)
                is_tested = place.is_foreign or not only_foreign
                cells.append(f"no ({notes.index(lack) + 1})" if lack else "yes" if is_tested else "")
            rows.append(f"| {name.removeprefix('test_').replace('_', ' ')} | {' | '.join(cells)} |")
    rows += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))] if notes else []
    return "\n".join(rows) + "\n"


def parts() -> tuple[str, str, str]:
    """The page before the table, the table, the page after it."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    return before, table, after


if __name__ == "__main__":
    head, _, tail = parts()
    PAGE.write_text(f"{head}{BEGIN}{make()}{END}{tail}", encoding="utf-8")
