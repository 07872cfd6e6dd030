"""The dashboard of a real queue: its controls set as a page sets them, its parts read as they go to the page."""

from __future__ import annotations

import html
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from nbtasks import processes, tasklist
from nbtasks.errors import OptionError
from nbtasks.jupyter.dashboard_board import Dashboard
from nbtasks.jupyter.dashboard_facts import Facts
from nbtasks.jupyter.dashboard_filters import Filters, Order, statuses_of
from nbtasks.jupyter.dashboard_html import throughput
from nbtasks.jupyter.dashboard_view import Contents
from nbtasks.jupyter.live import Live
from nbtasks.jupyter.page import Sent
from nbtasks.outcome import Failure
from nbtasks.queue.catalogue import Catalogue
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import LOG, PROGRESS
from nbtasks.queue.members import Member, register
from nbtasks.status import Status
from tests.jupyter.page import Page
from tests.queue.tools import LINE, claim, end, finish, put

MANY = 10_000
_TAG = re.compile(r"<[^>]*>")


class Screen:
    """A dashboard as a person sees it, and the displays of its cell."""

    shown: ClassVar[list[Screen]] = []

    def __init__(self, queue: Queue, filters: Filters | None = None) -> None:
        self.displays: dict[str, dict[str, Any]] = {}
        self.sizes: list[int] = []
        close_all()
        self.shown.append(self)
        live = Live(self._take, lambda id: ({}, []))
        live.cell = {"msg_id": "cell"}
        catalogue = Catalogue(queue)
        catalogue.look_at_all()
        self.board = Dashboard(live, Contents(queue, catalogue, live.bundle), filters or Filters())
        self.controls = self.board._controls
        for name in ("rows", "summary", "where", "said", "below"):
            getattr(self.controls, name).observe(lambda change: self.sizes.append(len(change["new"])), "value")
        self.board._show(forced=True)

    def _take(self, sent: Sent) -> None:
        self.displays[sent.display_id] = dict(sent.data)

    def look(self, *ended: str) -> None:
        """One round of the refresher."""
        self.board.look(set(ended))

    def until(self, true: Callable[[], bool]) -> None:
        """Rounds of the refresher, until it is so."""
        deadline = time.monotonic() + 20
        while not true():
            assert time.monotonic() < deadline, self.text
            self.look()
            time.sleep(0.02)

    def press(self, button: str) -> None:
        """Press a button, and wait for the next round."""
        found = getattr(self.controls, button)
        assert not found.disabled, f"{button} cannot be pressed"
        found.click()
        self.look()

    def tick(self, *rows: int) -> None:
        """Select rows of the page, or select them no more."""
        for row in rows:
            self.controls.boxes[row].value = not self.controls.boxes[row].value
        self.look()

    def set(self, control: str, value: object) -> None:
        """Choose in a control."""
        getattr(self.controls, control).value = value
        self.look()

    @property
    def names(self) -> list[str]:
        """The names in the table."""
        return [html.unescape(name) for name in re.findall(r"<b(?: title=[^>]*)?>(.*?)</b>", self.controls.rows.value)]

    @property
    def shorts(self) -> list[str]:
        """The ids beside the table."""
        return [box.description for box in self.controls.column.children[1:]]

    @property
    def text(self) -> str:
        """All that can be read."""
        controls = self.controls
        parts = (controls.summary, controls.rows, controls.where, controls.said, controls.below)
        return "\n".join(html.unescape(_TAG.sub(" ", part.value)) for part in parts)


def close_all() -> None:
    while Screen.shown:
        Screen.shown.pop().controls.shut()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Queue:
    """A queue of 10,000 tasks that have ended."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "NBTASKS_HOST_DIR"):
            patch.setenv(name, str(tmp_path_factory.mktemp("home")))
        queue = Queue(str(tmp_path_factory.mktemp("many") / ".nbtasks"))
        bell = queue.bell("flush", "test")  # so that nobody waits for the disk
        claimer = Claimer(queue, "s-1", [LINE])
        specs = [put(queue, f"fit {number % 50}", lane="default") for number in range(MANY)]
        tickets = [claimer.try_claim() for _ in specs]
        for number, (spec, ticket) in enumerate(zip(specs, tickets, strict=True)):
            assert ticket is not None
            status = Status.FAILED if number % 100 == 0 else Status.SUCCEEDED
            finish(queue, spec, ticket, status, peak_memory=number)
        bell.close()
    return queue


# What it shows.


def test_every_task_has_a_row_that_says_one_thing(queue: Queue) -> None:
    fine, bad = put(queue, "fine"), put(queue, "bad")
    end(queue, fine)
    finish(queue, bad, claim(queue), Status.FAILED, failure=Failure(type="ValueError", message="no such column"))
    runs = put(queue, "train")
    ticket = claim(queue)
    bar = b'{"bars": [{"desc": "epoch", "n": 7, "total": 20, "unit": "it", "rate": 0.5, "closed": false}]}'
    queue.disk.replace(queue.layout.file(runs.id, ticket.delivery, PROGRESS), bar)
    put(queue, "later", lane="nobody", after=(runs.id,))
    put(queue, "first in line", lane="nobody")
    screen = Screen(queue)
    assert screen.names == ["train", "first in line", "later", "bad", "fine"]
    assert screen.shorts[0] == runs.short
    for said in ("epoch 7/20 · 35%", f"for train {runs.short} (running)", "ValueError: no such column", "next in line"):
        assert said in screen.text, screen.text
    assert re.search(r"1\s+waiting.*1\s+queued.*1\s+running.*1\s+succeeded.*1\s+failed", screen.text)
    assert "1–5 of 5" in screen.text


def test_nothing_of_a_task_becomes_markup(queue: Queue) -> None:
    evil = "<img src=x onerror=alert(1)>&lt;b>\"'"
    spec = put(queue, evil, summary=evil)
    ticket = claim(queue)
    with open(queue.layout.file(spec.id, ticket.delivery, LOG), "w") as log:
        log.write(evil)
    finish(queue, spec, ticket, Status.FAILED, failure=Failure(type=evil, message=evil, traceback=evil), preview=evil)
    screen = Screen(queue)
    screen.tick(0)
    for pane in ("Card", "Log", "Timeline", "Workers"):
        screen.set("pane", pane)
        for part in (screen.controls.rows, screen.controls.below, screen.controls.said):
            assert "<img src=x" not in part.value
            assert Page(part.value).tags.count("img") == 0
    screen.press("retry")
    assert evil in screen.names


def test_an_empty_queue_and_filters_that_nothing_fits(queue: Queue) -> None:
    assert "no tasks yet" in Screen(queue).text
    put(queue, "train")
    screen = Screen(queue, Filters(statuses=(Status.FAILED,)))
    assert "no task fits the filters" in screen.text
    assert screen.controls.status.value == "failed"


def test_the_log_and_the_card_of_the_selected_task(queue: Queue) -> None:
    spec = put(queue, "train")
    ticket = claim(queue)
    screen = Screen(queue)
    assert "worker" in screen.text
    screen.tick(0)
    assert screen.controls.pane.value == "Card"
    assert "running" in screen.controls.below.value
    screen.set("pane", "Log")
    assert "printed nothing" in screen.text
    with open(queue.layout.file(spec.id, ticket.delivery, LOG), "w") as log:
        log.write("epoch 1\n\x1b[31mepoch 2\x1b[0m\n")
    screen.until(lambda: "epoch 2" in screen.text)
    finish(queue, spec, ticket)
    screen.look(spec.id)
    screen.set("pane", "Card")
    assert "succeeded" in screen.controls.below.value


def test_workers_and_what_their_slots_run(queue: Queue) -> None:
    me = processes.identify()
    register(queue, Member(name="w-abc", process=me, started=time.time(), lanes=("default",), slots=2))
    for name in ("s-1", "s-2"):
        register(queue, Member(name=name, process=me, started=time.time(), worker="w-abc"))
    spec = put(queue, "train")
    claim(queue)
    screen = Screen(queue)
    assert "1 worker, 1 of 2 slots busy" in screen.text
    assert re.search(rf"worker abc.*2 slots.*train\s+{spec.short}\s+0:0\d.*1 slot idle", screen.text, re.DOTALL)


def test_a_worker_with_an_engine_shows_what_is_there(queue: Queue) -> None:
    me, engine = processes.identify(), "dask://cluster:8786"
    register(queue, Member(name="w-abc", process=me, started=time.time(), lanes=("default",), slots=2, engine=engine))
    register(queue, Member(name="s-1", process=me, started=time.time(), worker="w-abc", engine=engine))
    for number in range(22):
        put(queue, f"train {number}")
        claim(queue)
    screen = Screen(queue)
    assert f"1 worker, 22 tasks at {engine}" in screen.text
    assert re.search(rf"worker abc.*{engine}.*train 0.*and 2 tasks more", screen.text, re.DOTALL)
    assert "idle" not in screen.text
    assert "slot" not in screen.text.partition("worker abc")[2]


def test_the_timeline_can_be_read(queue: Queue) -> None:
    for name in ("one", "two"):
        end(queue, put(queue, name))
    put(queue, "three")
    claim(queue)
    screen = Screen(queue)
    screen.set("pane", "Timeline")
    assert re.search(r"running\s+three.*succeeded\s+(one|two)", screen.text, re.DOTALL)
    assert "2 ended in 15 min" in screen.text


def test_throughput_counts_minutes() -> None:
    shown = throughput({99: 3, 100: 12, 86: 1, 85: 7}, 100 * 60 + 5.0)
    assert "16 ended in 15 min; in each, up to now: 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 12" in shown
    assert throughput({85: 7}, 6005.0) == ""


# Filters, order, pages.


def test_filters(queue: Queue) -> None:
    end(queue, put(queue, "train forest"), Status.FAILED)
    put(queue, "Train trees", lane="gpu")
    put(queue, "load", notebook="mine.ipynb")
    screen = Screen(queue, Filters(notebook="mine.ipynb"))
    screen.set("name", "train")
    screen.until(lambda: len(screen.names) == 2)
    screen.set("status", "live")
    assert screen.names == ["Train trees"]
    screen.set("name", "")
    screen.set("lane", "gpu")
    assert screen.names == ["Train trees"]
    screen.set("lane", "")
    screen.set("status", "")
    screen.set("mine", True)
    assert screen.names == ["load"]


def test_what_this_kernel_submitted_is_mine_whatever_its_notebook_is_called(queue: Queue) -> None:
    import os

    put(queue, "here", host=processes.host_name(), pid=os.getpid())
    put(queue, "elsewhere", host=processes.host_name(), pid=1)
    screen = Screen(queue, Filters(mine=True))
    screen.until(lambda: screen.names == ["here"])


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (Order.NEWEST, ["c", "B", "a"]), (Order.OLDEST, ["a", "B", "c"]), (Order.NAME, ["a", "B", "c"]),
        (Order.LONGEST, ["B", "c", "a"]), (Order.MEMORY, ["c", "a", "B"]),
    ],
)  # fmt: skip
def test_orders(queue: Queue, order: Order, names: list[str]) -> None:
    for name, seconds, memory in (("a", 1, 20), ("B", 9, 10), ("c", 5, 30)):
        spec = put(queue, name)
        ticket = claim(queue)
        now = time.time()
        from nbtasks.outcome import Outcome

        outcome = Outcome(
            id=spec.id, delivery=1, status=Status.SUCCEEDED, started=now - seconds, ended=now, peak_memory=memory
        )
        queue.finish(spec, ticket, "s-1", outcome)
    screen = Screen(queue)
    screen.set("order", order)
    screen.until(lambda: screen.names == names)


def test_pages(queue: Queue) -> None:
    specs = [put(queue, f"task {number}") for number in range(40)]
    screen = Screen(queue)
    assert screen.shorts == [spec.short for spec in specs[:15]]
    assert screen.controls.back.disabled
    screen.press("next")
    screen.press("next")
    assert screen.shorts == [spec.short for spec in specs[30:]]
    assert screen.controls.next.disabled
    assert "31–40 of 40" in screen.text
    screen.set("page", 2)
    assert screen.shorts == [spec.short for spec in specs[15:30]]
    screen.set("name", "task 39")
    screen.until(lambda: screen.names == ["task 39"])
    assert "1–1 of 1" in screen.text


def test_rows_keep_their_places_while_something_is_selected(queue: Queue) -> None:
    first = put(queue, "first")
    screen = Screen(queue)
    screen.set("order", Order.NEWEST)
    screen.tick(0)
    put(queue, "second")
    screen.until(lambda: bool(re.search(r"2\s+queued", screen.text)))
    assert screen.shorts == [first.short], "what is about to be pressed does not move"
    screen.press("clear")
    assert screen.names == ["second", "first"]


# Cancel and retry.


def test_one_task_is_cancelled_with_one_press(queue: Queue) -> None:
    spec = put(queue, "train")
    screen = Screen(queue)
    assert screen.controls.cancel.disabled
    screen.tick(0)
    assert (screen.controls.cancel.description, screen.controls.cancel.tooltip) == (
        f"Cancel {spec.short}",
        f"Cancel {spec.short} (train)",
    )
    screen.press("cancel")
    assert queue.record(spec.id).status is Status.CANCELLED
    assert "1 task cancelled" in screen.text
    assert screen.controls.cancel.disabled


def test_many_are_cancelled_with_the_second_press(queue: Queue) -> None:
    specs = [put(queue, f"task {number}") for number in range(70)]
    other = put(queue, "keep this", lane="other")
    screen = Screen(queue)
    screen.set("lane", "default")
    screen.until(lambda: "of 70" in screen.text)
    screen.press("everything")
    assert screen.controls.cancel.description == "Cancel 70"
    screen.press("cancel")
    assert {record.status for record in queue.records()} == {Status.QUEUED}, "the first press only asks"
    assert screen.controls.cancel.description == "Really cancel 70?"
    assert "cancel task 0 " in screen.text
    screen.press("cancel")
    screen.until(lambda: bool(re.search("(?<!of )70 tasks cancelled", screen.text)))
    assert {queue.record(spec.id).status for spec in specs} == {Status.CANCELLED}
    assert queue.record(other.id).status is Status.QUEUED


def test_the_question_is_forgotten_after_a_while_and_when_the_selection_changes(queue: Queue) -> None:
    for number in range(3):
        put(queue, f"task {number}")
    screen = Screen(queue)
    screen.tick(0, 1)
    screen.press("cancel")
    screen.tick(2)
    assert screen.controls.cancel.description == "Cancel 3"
    screen.press("cancel")
    assert screen.controls.cancel.description == "Really cancel 3?"
    screen.board._state.armed_until = time.monotonic() - 1
    screen.look()
    assert screen.controls.cancel.description == "Cancel 3"
    assert {record.status for record in queue.records()} == {Status.QUEUED}


def test_failed_and_cancelled_tasks_are_retried_and_others_left_alone(queue: Queue) -> None:
    end(queue, put(queue, "fine"))
    end(queue, bad := put(queue, "bad"), Status.FAILED)
    queue.cancel((gone := put(queue, "gone")).id)
    screen = Screen(queue)
    screen.set("all", True)
    assert screen.controls.retry.description == "Retry 2"
    assert screen.controls.cancel.disabled
    screen.press("retry")
    assert [queue.record(spec.id).status for spec in (bad, gone)] == [Status.QUEUED, Status.QUEUED]
    assert "2 tasks put back to run again" in screen.text
    assert re.search(r"2\s+queued.*1\s+succeeded", screen.text)


def test_what_moved_on_meanwhile_is_said(queue: Queue) -> None:
    spec = put(queue, "train")
    screen = Screen(queue)
    screen.tick(0)
    end(queue, spec)
    screen.press("cancel")
    assert "0 tasks cancelled; 1 other had moved on before" in screen.text
    assert queue.record(spec.id).status is Status.SUCCEEDED


# Coming and going.


def test_tasks_of_others_appear_and_end_by_themselves(queue: Queue) -> None:
    screen = Screen(queue)
    spec = put(Queue(queue.root), "from elsewhere")
    screen.until(lambda: screen.names == ["from elsewhere"])
    end(Queue(queue.root), spec)
    screen.until(lambda: "succeeded" in screen.controls.rows.value)


def test_close_leaves_the_table_and_takes_the_widgets_away(queue: Queue) -> None:
    put(queue, "train")
    screen = Screen(queue)
    screen.controls.close.click()
    assert not screen.board.is_live
    table, strip = screen.displays[screen.board._table], screen.displays[screen.board._strip]
    assert strip == {}
    assert "train" in table["text/plain"]
    assert "1 queued" in table["text/html"]
    assert screen.controls.root.comm is None


def test_it_closes_by_itself_when_nothing_lives_and_nobody_touches_it(queue: Queue) -> None:
    spec = put(queue, "train")
    screen = Screen(queue)
    screen.controls.root._view_count = 1  # a page shows it
    screen.board._state.touched -= 601
    screen.look()
    assert screen.board.is_live, "something lives"
    end(queue, spec)
    screen.until(lambda: not screen.board.is_live)
    assert "succeeded" in screen.displays[screen.board._table]["text/plain"]


def test_the_table_is_one_line_while_a_page_shows_the_dashboard(queue: Queue) -> None:
    put(queue, "train")
    screen = Screen(queue)
    screen.look()
    assert screen.board._table not in screen.displays
    screen.controls.root._view_count = 1
    screen.look()
    assert re.fullmatch(
        r"tasks as of [\d: -]+: 1 queued; %tasks shows now", screen.displays[screen.board._table]["text/plain"]
    )


def test_it_goes_when_no_page_ever_shows_it(queue: Queue) -> None:
    put(queue, "train")
    screen = Screen(queue)
    screen.board._state.touched -= 301
    screen.look()
    assert not screen.board.is_live


def test_a_removed_task_keeps_a_row_that_says_so(queue: Queue) -> None:
    spec = put(queue, "train")
    queue.cancel(spec.id)
    screen = Screen(queue)
    screen.tick(0)
    queue.disk.remove(screen.board._contents.catalogue.places[spec.id].path)
    queue.disk.remove(queue.layout.call(spec.id))
    screen.until(lambda: "it is no longer in the queue" in screen.text)


def test_a_fault_of_the_dashboard_does_not_reach_the_cards(queue: Queue) -> None:
    import shutil

    put(queue, "train")
    screen = Screen(queue)
    shutil.rmtree(queue.root)
    screen.until(lambda: not screen.board.is_live or not screen.names)
    screen.look()


# Many.


class Opened:
    """Paths that this process opens, while it is asked to look."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event == "open" and isinstance(args[0], str):
            self.paths.append(args[0])

    @contextmanager
    def looking(self) -> Iterator[list[str]]:
        self.paths.clear()
        self.on = True
        try:
            yield self.paths
        finally:
            self.on = False


opened = Opened()


def test_of_ten_thousand_only_the_page_is_read(many: Queue) -> None:
    screen = Screen(many)
    assert f"1–15 of {MANY:,}" in screen.text
    with opened.looking() as paths:
        screen.press("next")
    read = [path for path in paths if path.endswith((".call", ".outcome"))]
    assert 15 <= len({path.rpartition("/")[2][:27] for path in read}) <= 16, read
    with opened.looking() as paths:
        screen.press("back")
        screen.press("next")
    assert not [path for path in paths if path.endswith((".call", ".outcome"))], "what has ended is kept"
    assert max(screen.sizes) < 12_000, "bytes for a page"


def test_ten_thousand_are_counted_filtered_and_sorted(many: Queue) -> None:
    screen = Screen(many)
    assert re.search(r"9,900\s+succeeded.*100\s+failed", screen.text)
    screen.set("status", "failed")
    assert "1–15 of 100" in screen.text
    screen.set("status", "")
    screen.set("order", Order.MEMORY)
    screen.until(lambda: not screen.board._contents.facts.missing)
    screen.set("name", "fit 49")
    screen.until(lambda: "of 200" in screen.text)
    assert screen.names == ["fit 49"] * 15
    assert screen.board._contents.facts.record(screen.board._state.shown[0]).outcome.peak_memory == MANY - 1  # type: ignore[union-attr]


def test_the_static_table_of_ten_thousand(many: Queue) -> None:
    catalogue = Catalogue(many)
    catalogue.look_at_all()
    contents = Contents(many, catalogue, lambda record, shown: {})
    text = contents.table(Filters(), Order.LIVE, time.time())["text/plain"].split("\n")
    assert text[21:23] == ["9,900 succeeded, 100 failed", f"the first 20 of {MANY:,}; %tasks -a shows all"]
    assert "no worker" in text[23]
    text = contents.table(Filters(name="fit 49"), Order.LIVE, time.time())["text/plain"].split("\n")
    assert text[22] == "the first 20, there are more; %tasks -a shows all"
    assert text[23] == "only name 'fit 49'"


def test_a_list_of_tasks_counts_all_of_them(many: Queue) -> None:
    listed = tasklist.TaskList(many, [record.id for record in Facts(all_of(many)).wanted(Filters())])
    assert listed.statuses == {Status.SUCCEEDED: 9_900, Status.FAILED: 100}
    text = listed._repr_mimebundle_()["text/plain"].split("\n")
    assert text[-2:] == ["9,900 succeeded, 100 failed", f"the first 50 of {MANY:,}; [50:] has the rest, .frame() all"]


def all_of(queue: Queue) -> Catalogue:
    catalogue = Catalogue(queue)
    catalogue.look_at_all()
    return catalogue


# Bad input.


@pytest.mark.parametrize(
    ("word", "hint"),
    [("faild", "did you mean failed?"), ("Running", "did you mean running?"), ("xyz", "there are wait")],
)
def test_an_unknown_status_is_one_line_with_the_nearest(word: str, hint: str) -> None:
    with pytest.raises(OptionError, match=re.escape(hint)) as caught:
        statuses_of([word])
    assert "\n" not in str(caught.value)


def test_groups_of_statuses() -> None:
    assert statuses_of(["live"]) == (Status.WAITING, Status.QUEUED, Status.RUNNING)
    assert statuses_of(["failed", "ended"]) == (Status.FAILED, Status.SUCCEEDED, Status.CANCELLED)
