"""Cards follow their tasks, at a bounded rate, and nothing goes on when nothing lives."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from nbtasks import config, payload
from nbtasks.jupyter.live import Live
from nbtasks.jupyter.page import Sent
from nbtasks.outcome import Outcome
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import EVENTS, LOG
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status

PATIENCE = 20.0


class Page:
    """What reaches the page, and when; and a task that the test runs by hand."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.updates: list[tuple[float, str, Mapping[str, str]]] = []
        self.rich: list[Sent] = []
        self.live = Live(self._take, lambda id: ({}, []))
        self._claimer = Claimer(queue, "s-test", ["default@env@c"])
        self._news = threading.Condition()

    def _take(self, sent: Sent) -> None:
        with self._news:
            if sent.new:
                self.rich.append(sent)
            else:
                self.updates.append((time.monotonic(), sent.display_id, sent.data))
            self._news.notify_all()

    def until(self, text: str) -> None:
        """Wait for an update with `text` in it."""
        with self._news:
            assert self._news.wait_for(lambda: any(text in shown for shown in self.texts), PATIENCE), self.texts

    @property
    def texts(self) -> list[str]:
        return [bundle["text/plain"] for _, _, bundle in self.updates]

    def start(self) -> tuple[Spec, Ticket]:
        spec = Spec(id=self.queue.new_id(), name="cell", kind="cell", need="c", env="env")
        self.queue.put(spec, [payload.dump("cell", None)])
        self.live.show(self.queue, spec.id, {"msg_id": "its cell"})
        ticket = self._claimer.try_claim()
        assert ticket is not None
        return spec, ticket

    def log(self, ticket: Ticket, text: str) -> None:
        with open(self.queue.layout.file(ticket.id, ticket.delivery, LOG), "a") as log:
            log.write(text)

    def end(self, spec: Spec, ticket: Ticket) -> None:
        outcome = Outcome(id=spec.id, delivery=ticket.delivery, status=Status.SUCCEEDED, preview="done", has_value=True)
        assert self.queue.finish(spec, ticket, "s-test", outcome, [payload.dump("cell", (None, {}))])


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(Queue.open(str(tmp_path / ".nbtasks")))
    yield page
    page.live.close()


def refreshers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "nbtasks-cards"]


def test_a_card_follows_its_task_to_the_end(page: Page) -> None:
    spec, ticket = page.start()
    page.until("  running")
    page.log(ticket, "a line\n")
    page.until("a line")
    page.end(spec, ticket)
    page.until("  succeeded")
    assert "  succeeded" in page.texts[-1]
    assert len(set(page.texts)) == len(page.texts), "nothing is sent twice"


def test_one_thread_for_all_cards_and_none_when_all_have_ended(page: Page) -> None:
    tasks = [page.start() for _ in range(5)]
    assert len(refreshers()) == 1
    for spec, ticket in tasks:
        page.end(spec, ticket)
    for thread in refreshers():
        thread.join(PATIENCE)
    assert not refreshers()
    assert sum("  succeeded" in text for text in page.texts) == 5
    page.start()
    assert len(refreshers()) == 1, "and again when there is something to show"


def test_at_most_five_updates_a_second(page: Page) -> None:
    spec, ticket = page.start()
    stop = threading.Event()

    def chatter() -> None:
        while not stop.wait(0.005):
            page.log(ticket, f"{time.monotonic()}\n")

    thread = threading.Thread(target=chatter)
    thread.start()
    with page._news:
        page._news.wait_for(lambda: len(page.updates) >= 6, PATIENCE)
    stop.set()
    thread.join()
    times = [moment for moment, _, _ in page.updates]
    assert min(later - earlier for earlier, later in pairwise(times)) > 0.19
    page.end(spec, ticket)
    page.until("  succeeded")


def test_a_flood_of_output_does_not_flood_the_page(page: Page) -> None:
    spec, ticket = page.start()
    for round in range(40):
        page.log(ticket, f"{round} ".ljust(200, "x") + "\n")
    page.until("running")
    page.end(spec, ticket)
    page.until("  succeeded")
    assert all(len(bundle["text/html"]) < 130_000 for _, _, bundle in page.updates)


def test_a_removed_task_ends_its_card(page: Page) -> None:
    spec, _ = page.start()
    page.until("  running")
    page.queue.disk.remove(page.queue.layout.call(spec.id))
    for thread in refreshers():
        thread.join(PATIENCE)
    assert not refreshers()


def test_without_activity_only_news_are_sent(page: Page) -> None:
    config.configure(activity=False)
    try:
        spec, ticket = page.start()
        page.until("  running")
        quiet = time.monotonic() + 2.5
        with page._news:
            seen = len(page.updates)
            page._news.wait_for(lambda: time.monotonic() > quiet, 2.5)
            assert len(page.updates) == seen
        page.log(ticket, "a line\n")
        page.until("a line")
        page.end(spec, ticket)
        page.until("  succeeded")
    finally:
        config.configure(activity=True)


def test_what_a_card_cannot_hold_goes_out_once_below_it(page: Page) -> None:
    spec, ticket = page.start()
    page.until("  running")
    events = page.queue.layout.file(ticket.id, ticket.delivery, EVENTS)
    table = {"text/html": "<table></table>", "text/plain": "a table"}
    with open(events, "w") as file:
        file.write(json.dumps({"kind": "display", "at": 0, "data": table, "metadata": {}}) + "\n")
    page.end(spec, ticket)
    page.until("  succeeded")
    page.live.update(spec.id)
    assert [sent.data for sent in page.rich] == [table]
    assert page.rich[0].metadata["nbtasks"]["part"] == "display"


def test_other_views_are_looked_at_by_the_same_thread(page: Page) -> None:
    class View:
        is_live, looks = True, 0

        def look(self, ended: set[str]) -> bool:
            self.looks += 1
            self.is_live = self.looks < 3
            return True

    view = View()
    page.live.add_view(view)
    assert len(refreshers()) == 1
    for thread in refreshers():
        thread.join(PATIENCE)
    assert view.looks == 3
    assert not refreshers()
