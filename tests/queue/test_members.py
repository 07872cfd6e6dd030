"""Who lives is known for sure, and a doubt is never a death."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from nbtasks import processes
from nbtasks.queue import members
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member, Stop
from tests.queue.tools import Child, Gate, dead_slot, live_slot


def test_names_are_new_for_every_incarnation() -> None:
    names = {members.new_name("s", "k3f9ab", 1) for _ in range(1000)}
    assert len(names) == 1000
    assert all(name.startswith("s-k3f9ab-1-") for name in names)


def test_a_member_is_read_back(queue: Queue) -> None:
    member = Member(
        name="w-1", process=processes.identify(), started=time.time(), lanes=("default", "gpu"), env="e", slots=4, auto=True
    )  # fmt: skip
    members.register(queue, member)
    assert members.find_member(queue, "w-1") == member
    assert os.listdir(queue.layout.worker_folder("w-1")) == ["identity"]
    assert members.find_member(queue, "w-2") is None


def test_the_living_and_the_dead(queue: Queue) -> None:
    with Gate() as gate:
        child = Child(lambda: (live_slot(queue, "s-child"), gate.tell("up"), gate.pass_through()))
        gate.hear()
        assert not members.is_dead(queue, "s-child")
        child.kill()
        assert members.is_dead(queue, "s-child")
    assert not members.is_dead(queue, live_slot(queue, "s-me"))
    assert members.is_dead(queue, dead_slot(queue, "s-dead"))


def test_a_dead_one_whose_number_was_given_to_another(queue: Queue) -> None:
    assert members.is_dead(queue, dead_slot(queue, "s-1", pid=os.getpid()))


def test_one_from_before_the_restart_is_dead(queue: Queue) -> None:
    name = dead_slot(queue, "s-1", boot="another", pid=os.getpid(), start=processes.identify().start)
    assert members.is_dead(queue, name)


@pytest.mark.parametrize("facts", [{"host": "other", "boot": "x", "machine": "y"}, {"pidns": "pid:[1]"}])
def test_one_that_cannot_be_seen_from_here_is_not_dead(queue: Queue, facts: dict[str, str]) -> None:
    assert not members.is_dead(queue, dead_slot(queue, "s-1", **facts))


def test_who_never_said_who_it_is_is_dead_once_its_folder_is_old(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    assert members.is_dead(queue, "s-none"), "not even a folder"
    os.makedirs(queue.layout.slot_folder("s-new"))
    assert not members.is_dead(queue, "s-new"), "it may be about to"
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert members.is_dead(queue, "s-new")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\0" * 100])
def test_a_broken_identity_is_none(queue: Queue, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    live_slot(queue, "s-1")
    Path(queue.layout.identity("s-1")).write_bytes(data)
    assert members.find_member(queue, "s-1") is None
    assert list(members.list_slots(queue)) == []
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    assert members.is_dead(queue, "s-1")


def test_an_error_of_the_disk_is_no_death(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    name = dead_slot(queue, "s-1")

    def read(path: str, limit: int | None = None) -> bytes:
        raise OSError(24, "Too many open files", path)

    monkeypatch.setattr(queue.disk, "read", read)
    assert not members.is_dead(queue, name)


def test_an_identity_is_never_seen_half(queue: Queue) -> None:
    def look() -> int:
        gate.tell("ready")
        gate.pass_through()
        seen: set[str] = set()
        while not os.path.exists(f"{queue.root}/over"):
            for name in set(queue.names(queue.layout.slots)) - seen:
                if os.path.exists(queue.layout.identity(name)):
                    assert members.find_member(queue, name) is not None, name
                    seen.add(name)
        return len(seen)

    with Gate() as gate:
        watcher = Child(look)
        gate.hear()
    for number in range(500):
        live_slot(queue, f"s-{number}")
    Path(f"{queue.root}/over").write_text("")
    assert watcher.result() > 100


def test_lists(queue: Queue) -> None:
    for name in ("w-2", "w-1"):
        live_slot(queue, name)
    dead_slot(queue, "w-3")
    dead_slot(queue, "s-1")
    live_slot(queue, "s-2")
    os.makedirs(queue.layout.auto)
    Path(queue.layout.workers, ".DS_Store").write_text("")
    Path(queue.layout.slots, "notes.txt").write_text("")
    assert [member.name for member in members.list_workers(queue)] == ["w-1", "w-2"]
    assert [member.name for member in members.list_workers(queue, alive=False)] == ["w-1", "w-2", "w-3"]
    assert [member.name for member in members.list_slots(queue)] == ["s-1", "s-2"]


def test_a_request_to_stop(queue: Queue) -> None:
    live_slot(queue, "s-1")
    assert members.find_stop(queue, "s-1") is None
    for stop in (Stop("T.1.0.0", "timeout", "over its limit"), Stop("T.2.0.0", "cancel")):
        members.request_stop(queue, "s-1", stop)
        assert members.find_stop(queue, "s-1") == stop
    Path(queue.layout.stop("s-1")).write_bytes(b"{")
    assert members.find_stop(queue, "s-1") is None


def test_forgetting_leaves_nothing_but_a_claim(queue: Queue) -> None:
    live_slot(queue, "s-1")
    members.request_stop(queue, "s-1", Stop("T.1.0.0", "cancel"))
    folder = queue.layout.running_folder("s-1")
    os.makedirs(folder)
    Path(folder, "ticket").write_text("")
    members.forget(queue, "s-1")
    assert not os.path.exists(queue.layout.slot_folder("s-1"))
    assert os.path.exists(f"{folder}/ticket")
    os.remove(f"{folder}/ticket")
    members.forget(queue, "s-1")
    assert os.listdir(queue.layout.running) == []
    members.forget(queue, "s-never")


def test_a_cluster_that_ended_with_its_worker_is_waited_for_by_nobody(queue: Queue) -> None:
    me = processes.identify()
    dead = msgspec.structs.replace(me, start=me.start - 1)
    for name, process, engine, worker in (
        ("w-alive", me, "dask://local", ""),
        ("w-dead", dead, "dask://local", ""),
        ("b-1", dead, "dask://local of w-alive", "w-alive"),
        ("b-2", dead, "dask://local of w-dead", "w-dead"),
        ("b-3", dead, "dask://local of w-gone", "w-gone"),
        ("b-4", dead, "rq+redis://host", "w-dead"),
    ):
        members.register(queue, Member(name=name, process=process, started=time.time(), worker=worker, engine=engine))
    left = [name for name in ("b-1", "b-2", "b-3", "b-4") if members.is_left_to_bridges(queue, name)]
    assert left == ["b-1", "b-4"]
