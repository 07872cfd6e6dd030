"""A lease is held by one, and is free at the instant its holder dies, whatever that forked."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nbtasks.queue.leases import Lease as FileLease
from nbtasks.queue.leases import QuickLease
from tests.queue.tools import Child, Gate

Lease: type[FileLease | QuickLease] = FileLease


@pytest.fixture(params=[FileLease, QuickLease], autouse=True)
def _kind(request: pytest.FixtureRequest) -> None:
    """Every test is of both."""
    global Lease
    Lease = request.param


def test_the_two_kinds_are_one_lock(path: str) -> None:
    for one, other in ((FileLease, QuickLease), (QuickLease, FileLease)):
        held = one(path)
        assert held.try_take()
        assert not other(path).try_take()
        held.release()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "workers" / "auto" / "default@env.lock")


def try_to_take(path: str) -> bool:
    return Lease(path).try_take()


def test_one_holds_it(path: str) -> None:
    lease = Lease(path)
    assert lease.try_take()
    assert not Lease(path).try_take(), "not even the same process twice"
    assert Child(try_to_take, path).result() is False
    lease.release()
    assert Child(try_to_take, path).result() is True


def test_released_twice_is_released(path: str) -> None:
    lease = Lease(path)
    lease.release()
    assert lease.try_take()
    lease.release()
    lease.release()
    assert lease.try_take()
    lease.release()


def test_only_its_user_may_open_it(path: str) -> None:
    lease = Lease(path)
    assert lease.try_take()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    lease.release()


def test_it_dies_with_its_process_and_not_with_that_process_children(path: str) -> None:
    def hold_and_fork() -> None:
        lease = Lease(path)
        assert lease.try_take()
        if os.fork() == 0:
            gate.tell(os.getpid())
            gate.pass_through()
            os._exit(0)
        gate.pass_through()
        lease.release()

    with Gate() as gate:
        child = Child(hold_and_fork)
        (pid,) = gate.hear()
        assert not try_to_take(path)
        child.kill()
        assert os.path.exists(f"/proc/{pid}"), "its child lives on"
        assert try_to_take(path)


def test_a_forked_child_that_ends_leaves_its_parent_the_lease(path: str) -> None:
    lease = Lease(path)
    assert lease.try_take()
    Child(int).result()
    Child(lease.release).result()
    assert not Lease(path).try_take()
    lease.release()


def test_of_many_that_try_at_once_one_gets_it(path: str) -> None:
    def race() -> None:
        lease = Lease(path)
        gate.tell(lease.try_take())
        gate.pass_through()
        lease.release()

    with Gate() as gate:
        children = [Child(race) for _ in range(8)]
        answers = gate.hear(8)
    assert sorted(answers) == ["False"] * 7 + ["True"]
    for child in children:
        child.result()
