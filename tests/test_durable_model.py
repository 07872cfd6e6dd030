"""The crash model: it behaves like a disk, loses what was not flushed, and keeps what was."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbtasks.durable import Disk, RealDisk
from nbtasks.durable_faults import FaultyDisk
from nbtasks.durable_model import ModelDisk

State = frozenset[tuple[str, bytes]]


def states(disk: ModelDisk, limit: int = 10_000) -> set[State]:
    return {frozenset(left.files().items()) for left in disk.crash_states(limit)}


def state(files: dict[str, bytes]) -> State:
    return frozenset(files.items())


def test_a_file_that_was_not_flushed_may_be_lost_empty_or_half() -> None:
    disk = ModelDisk()
    disk.create("/q/x", (b"12", b"34"))
    assert states(disk) == {state({}), *(state({"/q/x": data}) for data in (b"", b"12", b"1234"))}


def test_a_rename_without_flush_may_lose_everything() -> None:
    """Create, move: acknowledged, and yet a power cut may leave nothing, or an empty file in either place."""
    disk = ModelDisk()
    disk.create("/queued/t", (b"call",))
    assert disk.move("/queued/t", "/running/t")
    assert states(disk) == {state({})} | {
        state({path: data}) for path in ("/queued/t", "/running/t") for data in (b"", b"ca", b"call")
    }


def test_a_flushed_file_is_in_one_place_and_whole() -> None:
    disk = ModelDisk()
    disk.create("/queued/t", (b"call",), flush=True)
    assert disk.move("/queued/t", "/running/t")
    assert states(disk) == {state({"/queued/t": b"call"}), state({"/running/t": b"call"})}
    disk.flush("/running/t")
    assert states(disk) == {state({"/running/t": b"call"})}


def test_flushing_one_folder_saves_the_rename_in_both() -> None:
    disk = ModelDisk({"/a/t": b"1", "/b/other": b"2"})
    disk.move("/a/t", "/b/t")
    disk.create("/c/new", (b"3",))
    disk.flush("/b/other")
    assert {path for left in states(disk) for path, _ in left} == {"/b/t", "/b/other", "/c/new"}
    assert all(("/b/t", b"1") in left for left in states(disk))
    assert state({"/b/t": b"1", "/b/other": b"2"}) in states(disk), "what is in /c was not flushed"


def test_flush_all_leaves_one_state() -> None:
    disk = ModelDisk()
    for n in range(20):
        disk.create(f"/q/{n}", (b"data",))
    disk.flush_all("/")
    disk.remove("/q/0")
    assert len(states(disk)) == 2
    disk.flush_all("/")
    assert states(disk) == {state(disk.files())}


def test_replace_leaves_old_or_new() -> None:
    disk = ModelDisk({"/q/mark": b"old!"})
    disk.replace("/q/mark", b"new!")
    seen = {dict(left).get("/q/mark") for left in states(disk)}
    assert seen == {b"old!", b"new!", b"ne", b""}, "the new data was not flushed, but the name is never missing"
    disk.flush("/q/mark")
    disk.replace("/q/mark", b"3rd!")
    disk.move("/q/mark", "/elsewhere/mark")
    disk.create("/elsewhere/x", (), flush=True)
    assert all("/elsewhere/mark" in dict(left) and "/q/mark" not in dict(left) for left in states(disk))


def test_what_was_overwritten_does_not_come_back() -> None:
    """The file under a flushed rename is gone, although its own creation had never been flushed."""
    disk = ModelDisk({"/b/new": b"new"})
    disk.create("/a/mark", (b"old",))
    disk.move("/b/new", "/a/mark")
    disk.create("/b/x", (), flush=True)
    assert states(disk) == {state({"/a/mark": b"new", "/b/x": b""})}


def test_the_number_of_states_is_bounded() -> None:
    disk = ModelDisk()
    for n in range(60):
        disk.create(f"/q/{n}", (b"data",))
    some = states(disk, limit=300)
    assert len(some) <= 300
    assert {state({}), state(disk.files())} <= some
    assert len(some) > 250, "and drawn widely"
    assert some == states(disk, limit=300), "the same draw each time"


def test_a_crash_state_is_a_disk() -> None:
    disk = ModelDisk()
    disk.create("/queued/t", (), flush=True)
    disk.move("/queued/t", "/running/t")
    for left in disk.crash_states():
        assert left.move("/queued/t", "/running/t") != left.exists("/nothing") or left.exists("/running/t")
        assert left.list("/running") == ["t"]
        assert len(list(left.crash_states())) in (1, 2)


# -- what a model must do: show that code which forgets to flush loses, and code which does not forget does not --


def submit(disk: Disk, n: int, flush: bool) -> None:
    disk.create(f"/tasks/{n}.call", (b"call",), flush=flush)
    disk.create(f"/queued/{n}", (), flush=flush)


def damage(left: ModelDisk, acknowledged: Iterable[int]) -> str:
    """What the crash has done to tasks whose submit had returned, or to any ticket."""
    for n in acknowledged:
        if not left.exists(f"/queued/{n}") and not left.exists(f"/running/{n}"):
            return f"lost {n}"
    for name in left.list("/queued") + left.list("/running"):
        if not left.exists(f"/tasks/{name}.call") or left.read(f"/tasks/{name}.call") != b"call":
            return f"ticket {name} without its call"
    return ""


@pytest.mark.parametrize(("flush", "finds"), [(True, False), (False, True)])
def test_the_model_finds_the_missing_flush(flush: bool, finds: bool) -> None:
    """Crashes are tried before and after every operation, as the torture does with the real queue."""
    model, acknowledged, found, looked = ModelDisk(), list[int](), set[str](), itertools.count()

    def crash(step: str, path: str) -> None:
        for left in model.crash_states(limit=2000):
            next(looked)
            found.add(damage(left, acknowledged))

    disk = FaultyDisk(model, crash)
    for n in range(4):
        submit(disk, n, flush)
        acknowledged.append(n)
        if n % 2:
            disk.move(f"/queued/{n}", f"/running/{n}")
    assert (found != {""}) == finds
    assert next(looked) > 20


# -- against the real disk, and against the model's own words --

PATHS = [f"/{folder}/{name}" for folder in "ab" for name in "xyz"]
path = st.sampled_from(PATHS)
operation = st.one_of(
    st.tuples(st.just("create"), path, st.binary(max_size=3), st.booleans()),
    st.tuples(st.just("move"), path, path),
    st.tuples(st.just("remove"), path),
    st.tuples(st.just("replace"), path, st.binary(max_size=3)),
    st.tuples(st.just("flush"), path),
    st.tuples(st.just("flush_all"), st.just("/")),
)


def perform(disk: Disk, root: str, step: tuple[object, ...]) -> object:
    """The result of one operation, or the kind of its error; paths under `root`."""
    name, *rest = step
    arguments = [f"{root}{value}" if isinstance(value, str) else value for value in rest]
    try:
        if name == "create":
            return disk.create(arguments[0], (arguments[1],), flush=bool(arguments[2]))  # type: ignore[arg-type,func-returns-value]
        method: Callable[..., object] = getattr(disk, str(name))
        return method(*arguments)
    except (FileNotFoundError, FileExistsError) as error:
        return type(error)


@settings(max_examples=60, deadline=None)
@given(st.lists(operation, max_size=12))
def test_the_model_does_what_the_disk_does(steps: list[tuple[object, ...]]) -> None:
    real, model = RealDisk(), ModelDisk()
    with tempfile.TemporaryDirectory() as root:
        for step in steps:
            assert perform(real, root, step) == perform(model, root, step), step
        for one in PATHS:
            assert real.exists(root + one) == model.exists(root + one)
            assert perform(real, root, ("read", one)) == perform(model, root, ("read", one))
        for folder in ("/a", "/b"):
            assert sorted(real.list(root + folder)) == sorted(model.list(root + folder))


@settings(max_examples=150, deadline=None)
@given(st.lists(operation, max_size=10))
def test_what_every_crash_leaves(steps: list[tuple[object, ...]]) -> None:
    """The live disk is among the states; each holds only prefixes of what was written; what was flushed is whole."""
    disk, written, flushed = ModelDisk(), set[bytes](), ModelDisk()
    for step in steps:
        perform(disk, "", step)
        written |= {value for value in step if isinstance(value, bytes)}
        left = states(disk)
        assert state(disk.files()) in left
        for one in left:
            assert all(any(whole.startswith(data) for whole in written) for _, data in one)
        if step[0] == "flush_all":
            flushed = ModelDisk(disk.files())
            assert left == {state(disk.files())}
    if len(states(flushed)) == 1 and not any(step[0] in ("remove", "move", "replace") for step in steps):
        for one in states(disk):
            assert state(flushed.files()) <= one
