"""A task sees the working directory, path, environment and modules of where it was submitted; then all is as before."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from nbtasks import context
from nbtasks.blobs import Blobs
from nbtasks.context import Context
from nbtasks.durable import RealDisk
from nbtasks.errors import FrameDamaged


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(RealDisk(), str(tmp_path / "blobs"))


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(os.getcwd())
    path, environ = list(sys.path), dict(os.environ)
    yield
    sys.path[:] = path
    for name in set(os.environ) - set(environ):
        del os.environ[name]


def taken(blobs: Blobs) -> Context:
    return context.load(blobs, context.capture(blobs))


def test_what_was_changed_since_the_start_is_taken_along(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.chdir(tmp_path)
    sys.path.append("/somewhere")
    monkeypatch.setenv("MY_TOKEN", "s3cret")
    monkeypatch.delenv("PATH")
    monkeypatch.setenv("NBTASKS_QUEUE", "/tmp/queue")
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    found = taken(blobs)
    assert found.cwd == str(tmp_path)
    assert found.path[-1] == "/somewhere"
    assert found.environ["MY_TOKEN"] == "s3cret"
    assert found.environ["PATH"] is None
    assert {"HOME", "NBTASKS_QUEUE", "JPY_PARENT_PID", "PWD"}.isdisjoint(found.environ)
    assert __name__ in found.sources


def test_it_is_private(blobs: Blobs) -> None:
    path = blobs.path(context.capture(blobs))
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_it_is_stored_once_until_something_changes(blobs: Blobs, tmp_path: Path) -> None:
    def files() -> int:
        return len([path for path in Path(blobs.folder).rglob("*") if path.is_file()])

    first = context.capture(blobs)
    count = files()
    assert context.capture(blobs) == first
    os.environ["NEW_ONE"] = "1"
    second = context.capture(blobs)
    os.environ["NEW_ONE"] = "2"
    third = context.capture(blobs)
    os.chdir(tmp_path)
    fourth = context.capture(blobs)
    sys.path.insert(0, "/first")
    fifth = context.capture(blobs)
    assert len({first, second, third, fourth, fifth}) == 5
    assert files() == count + 4
    other = Blobs(RealDisk(), str(tmp_path / "other"))
    assert context.capture(other) == fifth
    assert other.has(fifth)


def test_a_path_object_on_the_path_is_a_text_there(blobs: Blobs, tmp_path: Path) -> None:
    sys.path.append(tmp_path)  # type: ignore[arg-type]
    assert taken(blobs).path[-1] == str(tmp_path)


def test_entering_and_leaving(blobs: Blobs, tmp_path: Path) -> None:
    before = os.getcwd(), list(sys.path), dict(os.environ)
    os.environ["GOES"] = "1"
    leave = context.enter(
        Context(str(tmp_path), ("/first", *sys.path[:1]), {"COMES": "é", "GOES": None, "HOME": "/h"}), blobs.read
    )
    try:
        assert leave.notes == ()
        assert os.getcwd() == str(tmp_path)
        assert sys.path[:2] == ["/first", before[1][0]]
        assert set(before[1]) < set(sys.path), "what the slot itself needs stays, behind"
        assert (os.environ["COMES"], os.environ["HOME"], "GOES" in os.environ) == ("é", "/h", False)
        seen = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
        assert "COMES=é" in seen
        os.environ["BY_THE_TASK"] = "1"
        sys.path.append("/by/the/task")
        os.chdir("/")
    finally:
        leave()
    assert os.environ.pop("GOES") == "1"
    assert (os.getcwd(), list(sys.path), dict(os.environ)) == before


def test_a_missing_directory_is_said_and_no_failure(blobs: Blobs, tmp_path: Path) -> None:
    here = os.getcwd()
    leave = context.enter(Context(str(tmp_path / "gone")), blobs.read)
    assert os.getcwd() == here
    assert leave.notes == (
        f"{tmp_path / 'gone'} cannot be entered (No such file or directory): the task runs in {here}",
    )
    leave()


def test_submitting_from_a_directory_that_was_removed(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    found = taken(blobs)
    assert found.cwd == ""
    leave = context.enter(found, blobs.read)
    leave()
    os.chdir("/")


def test_where_it_was_submitted_the_modules_stay(blobs: Blobs) -> None:
    """The engine "inline" runs in the notebook itself: nothing is dropped there, nothing served."""
    finders = list(sys.meta_path)
    context.enter(taken(blobs), blobs.read)()
    assert sys.meta_path == finders
    assert sys.modules[__name__].__dict__ is globals()


def test_in_a_slot_the_modules_are_those_of_the_submitter(tmp_path: Path) -> None:
    """Without bytecode, which would tell of which form of a file a module was made."""
    (tmp_path / "helper.py").write_text("answer = 42\n")
    (tmp_path / "late.py").write_text("answer = 1\n")
    before = """
        import sys
        from nbtasks import context, payload
        from nbtasks.blobs import Blobs
        from nbtasks.durable import RealDisk
        blobs = Blobs(RealDisk(), sys.argv[1] + "/blobs")
    """
    submit = "sys.path.insert(0, sys.argv[1]); import helper; print(context.capture(blobs))"
    slot = """
        for edit in ("answer = 2", "answer = 3"):
            payload.make_home()
            leave = context.enter(context.load(blobs, sys.argv[2]), blobs.read)
            import helper, late
            print(helper.answer, late.answer)
            leave()
            with open(sys.argv[1] + "/late.py", "w") as file:
                file.write(edit)
    """

    def run(code: str, *arguments: str) -> list[str]:
        command = [sys.executable, "-B", "-c", textwrap.dedent(before) + textwrap.dedent(code), str(tmp_path)]
        ran = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()

    [hash] = run(submit)
    (tmp_path / "helper.py").write_text("answer = 43\n")
    assert run(slot, hash) == ["42 1", "42 2"]


def test_what_is_no_context_is_damaged(blobs: Blobs) -> None:
    for data in (b"", b"{}", b"[" * 100_000, b"\xff", b'{"cwd":1}', b'{"cwd":"/","environ":{"a":1}}'):
        with pytest.raises(FrameDamaged, match="submit the task again"):
            context.decode(data)
    with pytest.raises(FrameDamaged):
        context.load(blobs, "0" * 64)
