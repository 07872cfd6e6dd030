"""Bars of a task as the card gets them: ours and tqdm's, never behind for long, and nothing of it as text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nbtasks.bars import BARS, progress


class Card:
    """Takes what is sent, as a card would."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []
        self.came = threading.Condition()

    def emit(self, kind: str, data: dict[str, Any]) -> bool:
        assert kind == "progress"
        with self.came:
            self.states.append(data)
            self.came.notify_all()
        return True

    def wait_for(self, n: float) -> None:
        """Until the first bar shows `n`."""
        with self.came:
            assert self.came.wait_for(lambda: self.states and self.states[-1]["bars"][0]["n"] == n, timeout=10)


@pytest.fixture
def card() -> Iterator[Card]:
    card = Card()
    BARS.connect(card.emit)
    yield card
    BARS.connect(None)


def rows(state: dict[str, Any] | None) -> list[tuple[Any, ...]]:
    assert state is not None
    return [(bar["id"], bar["desc"], bar["n"], bar["total"], bar["closed"]) for bar in state["bars"]]


def test_a_loop_counts(card: Card) -> None:
    assert [i * 2 for i in progress(range(3), desc="epoch")] == [0, 2, 4]
    assert rows(BARS.finish()) == [(1, "epoch", 3, 3, True)]
    json.dumps(card.states)


def test_by_hand(card: Card) -> None:
    with progress(total=100, desc="bytes", unit="B") as bar:
        bar.update(30, loss=0.123456)
        bar.set(40.5)
        assert BARS.state()["bars"][0]["postfix"] == "loss=0.1235"
        bar.message("slowly")
    state = BARS.finish()
    assert rows(state) == [(1, "bytes", 40.5, 100, True)]
    assert state is not None
    assert (state["bars"][0]["unit"], state["bars"][0]["postfix"]) == ("B", "slowly")


def test_a_message_alone(card: Card) -> None:
    progress().message("loading")
    state = BARS.finish()
    assert state is not None
    assert (state["message"], state["bars"]) == ("loading", [])


def test_the_card_is_not_behind_when_a_step_takes_long(card: Card) -> None:
    bar = progress(total=10)
    for _ in range(7):  # all within the fifth of a second in which nothing more may be sent
        bar.update()
    card.wait_for(7)  # though the code does nothing any more
    assert len(card.states) <= 3


def test_a_flood_of_updates_is_few_sendings(card: Card) -> None:
    began = time.monotonic()
    for _ in progress(range(200_000)):
        pass
    BARS.finish()
    assert len(card.states) <= 4 + 6 * (time.monotonic() - began)


def test_the_end_leaves_no_thread_and_no_bar(card: Card) -> None:
    bar = progress(total=2)
    bar.update()
    bar.update()
    assert rows(BARS.finish())[0][2] == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "nbtasks-progress"]
    assert BARS.finish() is None


def test_stopped_in_the_middle_the_bar_says_where(card: Card) -> None:
    for i in progress(range(10)):
        if i == 4:
            break
    assert rows(BARS.finish()) == [(1, "", 4, 10, True)]


def test_many_inner_loops_keep_the_last(card: Card) -> None:
    outer = progress(range(40), desc="outer")
    for _ in outer:
        for _ in progress(range(2), desc="inner"):
            pass
    state = BARS.finish()
    assert state is not None
    assert len(state["bars"]) <= 10
    assert state["bars"][0]["desc"] == "outer", "an open bar is never dropped"


def test_needs_something_to_loop_over(card: Card) -> None:
    with pytest.raises(TypeError, match="nothing to loop over"):
        iter(progress(total=3)).__next__()


def test_outside_of_a_task_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    BARS.connect(None)
    assert list(progress(range(3), desc="plain")) == [0, 1, 2]
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert shown.err.rstrip().endswith("plain 3/3 it")
    assert shown.out == ""
    BARS.finish()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_speak_for_the_task(card: Card) -> None:
    bar = progress(total=5, desc="parent")
    bar.update()
    pid = os.fork()
    if pid == 0:
        os._exit(7 if BARS.emit is None and BARS.finish() is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert rows(BARS.finish()) == [(1, "parent", 1, 5, False)]


# ---------------------------------------------------------------------- tqdm, in a process of its own

TQDM = """
import json, sys
from nbtasks.bars import BARS, install_hook
states = []
install_hook(lambda kind, data: states.append(data) or True)
%s
sys.stdout.write(json.dumps(BARS.finish() or {}))
"""


def run_tqdm(code: str) -> dict[str, Any]:
    ran = subprocess.run([sys.executable, "-c", TQDM % code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    state: dict[str, Any] = json.loads(ran.stdout)
    return state | {"stderr": ran.stderr}


@pytest.mark.parametrize(
    ("make", "desc"),
    [
        ("from tqdm import tqdm\nfor i in tqdm(range(4), desc='d'): pass", "d"),
        ("from tqdm.auto import tqdm\nfor i in tqdm(range(4), desc='d'): pass", "d"),
        ("from tqdm.std import trange\nfor i in trange(4, desc='d'): pass", "d"),
        ("from tqdm.notebook import tqdm\nfor i in tqdm(range(4), desc='d', display=True): pass", "d"),
        ("from tqdm.notebook import tnrange\nfor i in tnrange(4, desc='d'): pass", "d"),
        ("from tqdm import tqdm_notebook\nfor i in tqdm_notebook(range(4), desc='d'): pass", "d"),
        ("from tqdm.rich import tqdm\nfor i in tqdm(range(4), desc='d'): pass", "d"),
        ("from tqdm.asyncio import tqdm\nfor i in tqdm(range(4), desc='d'): pass", "d"),
        ("import tqdm\nbar = tqdm.tqdm(total=4)\nbar.set_description('d')\nbar.update(4)\nbar.close()", "d"),
        ("import tqdm, tqdm.std\nwith tqdm.tqdm(range(4), 'd', file=sys.stdout, ascii=True) as b:\n    list(b)", "d"),
    ],
)
def test_tqdm_of_every_flavour(make: str, desc: str) -> None:
    state = run_tqdm(make)
    assert rows(state) == [(1, desc, 4, 4, True)]
    assert "it/s" not in state["stderr"], "no text beside the bar"


def test_tqdm_imported_before() -> None:
    code = "import sys, tqdm\n" + (TQDM % "for i in tqdm.tqdm(range(4)): pass")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert rows(json.loads(ran.stdout))[0][2:] == (4, 4, True)


def test_tqdm_postfix_scale_and_leave() -> None:
    state = run_tqdm(
        "from tqdm import tqdm\n"
        "bar = tqdm(total=2048, unit='B', unit_scale=True, unit_divisor=1024)\n"
        "bar.set_postfix(loss=0.5)\nbar.update(1024)\n"
        "for i in tqdm(range(3), leave=False): pass\n"
        "import numpy\nbar.total = numpy.int64(4096)"
    )
    assert rows(state) == [(1, "", 1024, 4096, False)]
    assert state["bars"][0]["postfix"] == "loss=0.5"
    assert state["bars"][0]["unit"] == "B"


def test_tqdm_is_never_behind_for_long() -> None:
    # Its own guess of how often to look would leave the bar at the quick part's last figure.
    state = run_tqdm(
        "import time\nfrom tqdm import tqdm\nbar = tqdm(total=10**6)\nit = iter(range(1))\n"
        "for i in tqdm(range(300_000)): pass\n"
        "bar.update(1)\ntime.sleep(0.15)  # a step that takes a while\nbar.update(1)\n"
        "end = time.monotonic() + 20\n"
        "while states[-1]['bars'][0]['n'] != 2 and time.monotonic() < end: time.sleep(0.01)"
    )
    assert state["bars"][0]["n"] == 2


def test_tqdm_to_a_file_of_the_users_stays_text() -> None:
    state = run_tqdm(
        "import io\nfrom tqdm import tqdm\nf = io.StringIO()\nlist(tqdm(range(3), file=f))\nassert '3/3' in f.getvalue()"
    )
    assert state == {"stderr": ""}


def test_tqdm_write_is_text_alone() -> None:
    state = run_tqdm("from tqdm import tqdm\nfor i in tqdm(range(2)): tqdm.write('line', file=sys.stderr)")
    assert state["stderr"] == "line\nline\n"


def test_tqdm_of_a_forked_child_is_text() -> None:
    state = run_tqdm(
        "import multiprocessing\nfrom tqdm import tqdm\n"
        "def work(): list(tqdm(range(3), desc='child'))\n"
        "p = multiprocessing.get_context('fork').Process(target=work)\np.start()\np.join()"
    )
    assert "child: 100%" in state["stderr"]


def test_no_monitor_thread() -> None:
    run_tqdm(
        "import threading\nfrom tqdm import tqdm\nbar = tqdm(total=3)\nassert bar.monitor is None\nbar.update(3)\nbar.close()"
    )
