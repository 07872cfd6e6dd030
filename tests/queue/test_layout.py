"""Ids sort by time and read as one, and nothing but an id becomes a path."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from nbtasks.errors import OptionError
from nbtasks.queue import layout
from nbtasks.queue.layout import Layout
from tests.queue.tools import Child


def test_an_id_tells_its_moment() -> None:
    id = layout.id_at(1_795_212_371_482_913, "k7q2")
    assert id == "20261120-220611-482913-k7q2"
    assert layout.submitted_at(id) == pytest.approx(1_795_212_371.482913, abs=1e-6)
    assert layout.second_of(id) == "20261120-2206/11"


def test_a_new_id_is_of_now() -> None:
    before = time.time()
    made = layout.submitted_at(layout.new_id())
    assert before - 0.001 <= made <= time.time() + 0.001


def test_new_ids_sort_as_they_were_made() -> None:
    ids = [layout.new_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert len({id[:22] for id in ids}) == 5000, "no two share a microsecond"


def test_ids_of_threads_and_forked_processes_differ() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(layout.new_id() for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    children = [Child(lambda: [layout.new_id() for _ in range(500)]) for _ in range(4)]
    for child in children:
        found += child.result()
    assert len(set(found)) == 10_000


def test_a_clock_that_is_set_back_makes_no_id_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = layout.new_id("aaaa")
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_000_000)
    assert layout.new_id("aaaa") > first


@pytest.mark.parametrize(
    "text",
    [
        "", "k7q2", "20261120-220611-482913-k7q", "20261120-220611-482913-k7q2k7q2k7q2k7", "20261120-220611-482913-K7Q2",
        "../../../../../etc/passwd", "20261120-220611-482913-k7q2\n", "20261120-220611-482913-k7/2",
        "٢٠٢٦١١٢٠-220611-482913-k7q2", " 20261120-220611-482913-k7q2",
    ],
)  # fmt: skip
def test_what_is_no_id_becomes_no_path(text: str) -> None:
    with pytest.raises(OptionError, match="is not a task id"):
        layout.check_id(text)


@pytest.mark.parametrize("suffix", ["k7q2", "0123456789abc"])
def test_suffixes_have_4_to_13_characters(suffix: str) -> None:
    id = layout.id_at(0, suffix)
    assert layout.check_id(id) == id


def test_every_path_lies_in_the_queue(tmp_path: Path) -> None:
    paths = Layout(tmp_path / "q")
    id = layout.new_id()
    made = [
        paths.call(id), paths.file(id, 3, layout.LOG), paths.task_folder(id), paths.queued_folder("a@b@f", 5, id),
        paths.ended_folder(id), paths.running_folder("s-1"), paths.slot_folder("s-1"), paths.worker_folder("w-1"),
        paths.edges_folder(id), paths.identity("s-1"), paths.identity("w-1"), paths.lock("w-1"), paths.stop("s-1"),
        paths.worker_log("w-1"), paths.cancel_file(id), paths.bells_of("b", "clients"), paths.auto_lock("a@b"),
        paths.auto_log("a@b"), paths.cell_folder("0" * 32), *(getattr(paths, name) for name in Layout.__slots__),
    ]  # fmt: skip
    for path in made:
        assert path == os.path.normpath(path)
        assert path == paths.root or path.startswith(f"{paths.root}/")
        if path != paths.root:
            top = path.removeprefix(f"{paths.root}/").split("/")[0]
            files = {layout.MARK, layout.README, layout.GITIGNORE, "paused", "flushed"}
            assert top in files | {folder.split("/")[0] for folder in layout.FOLDERS}


def test_a_relative_root_is_fixed_when_it_is_first_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = Layout("q")
    monkeypatch.chdir("/")
    assert paths.root == str(tmp_path / "q")


def test_slots_and_workers_lie_apart() -> None:
    paths = Layout("/q")
    assert paths.identity("w-abc").startswith(paths.workers)
    assert paths.identity("s-abc").startswith(paths.slots)
    assert paths.identity("i-abc").startswith(paths.slots)


def test_a_higher_priority_comes_first_in_a_listing() -> None:
    paths, id = Layout("/q"), layout.new_id()
    folders = [paths.queued_folder("a@b@f", priority, id) for priority in (9, 5, 0)]
    assert folders == sorted(folders)
