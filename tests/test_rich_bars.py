"""rich's progress as bars of the card: counted by rich, drawn by nobody."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

RUN = """
import json, sys
from nbtasks import bars
states = []
bars.install_hook(lambda kind, state: states.append(state) or True)
%s
print("@@" + json.dumps(bars.BARS.finish()))
"""


def run(code: str) -> tuple[str, list[tuple[Any, ...]]]:
    """What was printed, and the bars at the end."""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", RUN % code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    printed, _, state = ran.stdout.partition("@@")
    found = json.loads(state) or {"bars": []}
    rows = [(bar["desc"], bar["n"], bar["total"], bar["postfix"], bar["closed"]) for bar in found["bars"]]
    return printed + ran.stderr, rows


NESTED = """
from rich.progress import Progress
with Progress() as progress:
    outer = progress.add_task("[green]epoch[/]", total=3)
    inner = progress.add_task("batch", total=4, loss=0.123456, name="")
    for i in range(3):
        progress.reset(inner)
        for j in range(4):
            progress.update(inner, advance=1)
        progress.advance(outer)
    progress.console.print("done")
"""


@pytest.mark.parametrize(
    ("code", "printed", "rows"),
    [
        ("from rich.progress import track\nfor i in track(range(5), 'loop'): pass", "", [("loop", 5, 5, "", True)]),
        (NESTED, "done\n", [("epoch", 3, 3, "", True), ("batch", 4, 4, "loss=0.1235", True)]),
        (
            "from rich.progress import Progress\nwith Progress() as p:\n    for i in p.track(range(3), total=6): pass",
            "", [("Working...", 3, 6, "", True)],
        ),
        (
            "from rich.progress import Progress\nwith Progress(transient=True) as p:\n    p.add_task('x')",
            "", [],
        ),
        (
            "from rich.progress import Progress\nwith Progress() as p:\n    a = p.add_task('gone')\n    b = p.add_task('hidden', visible=False)\n"
            "    p.remove_task(a)\n    c = p.add_task('seen [x', total=None)\n    p.update(c, completed=5)",
            "", [("seen [x", 5, None, "", True)],
        ),
        ("from rich.progress import Progress\nwith Progress(disable=True) as p:\n    p.add_task('x')", "", []),
    ],
    ids=["track", "nested", "half", "transient", "hidden", "disabled"],
)  # fmt: skip
def test_progress_of_every_kind(code: str, printed: str, rows: list[tuple[Any, ...]]) -> None:
    assert run(code) == (printed, rows)


def test_a_failure_leaves_the_bar_where_it_was() -> None:
    code = "from rich.progress import track\ntry:\n    for i in track(range(10)):\n        if i == 3: raise ValueError\nexcept ValueError: pass"
    _, rows = run(code)
    assert [(row[1], row[2]) for row in rows] in ([(3, 10)], [(0, 10)]), "rich counts every tenth of a second"


def test_bytes_are_bytes_and_updates_are_few() -> None:
    code = (
        "from rich.progress import *\nwith Progress(DownloadColumn()) as p:\n    t = p.add_task('d', total=1e6)\n"
        "    for i in range(100000): p.advance(t, 10)\nprint(len(states) < 50, bars.BARS.state()['bars'][0]['unit'])"
    )
    printed, rows = run(code)
    assert printed == "True B\n"
    assert rows == [("d", 1_000_000, 1e6, "", True)]


def test_a_progress_to_the_users_own_file_is_text() -> None:
    code = (
        "import io\nfrom rich.console import Console\nfrom rich.progress import Progress\nfile = io.StringIO()\n"
        "with Progress(console=Console(file=file)) as p: p.update(p.add_task('mine', total=2), advance=2)\nprint('mine' in file.getvalue())"
    )
    assert run(code) == ("True\n", [])


def test_outside_of_a_task_rich_draws_as_ever() -> None:
    printed, rows = run(
        "bars.BARS.connect(None)\nfrom rich.progress import track\nfor i in track(range(2), 'plain'): pass"
    )
    assert rows == []
    assert "plain" in printed
