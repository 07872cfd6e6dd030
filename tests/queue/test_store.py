"""A queue is made whole or not at all, and refused when others could have written to it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from nbtasks.errors import QueueError, QueueNewer, QueueUnsafe
from nbtasks.queue import layout
from nbtasks.queue.directory import Queue
from nbtasks.queue.store import Store
from tests.queue.tools import Child, Gate


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / ".nbtasks"


def test_what_a_new_queue_has(root: Path) -> None:
    old = os.umask(0o077)
    os.umask(0)  # whatever the umask, nobody else reads or writes
    try:
        store = Store(str(root))
    finally:
        os.umask(old)
    for folder in layout.FOLDERS:
        assert (root / folder).is_dir()
    for path in [root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    mark = json.loads((root / "nbtasks-queue.json").read_text())
    assert mark == {"format": 1, "read": 1, "write": 1, "queue": store.uuid}
    assert (root / ".gitignore").read_text() == "*\n"
    assert "nbtasks status" in (root / "README.txt").read_text()
    assert sorted(path.name for path in root.iterdir() if path.is_file()) == [
        ".gitignore", "README.txt", "nbtasks-queue.json",
    ], "no half files"  # fmt: skip


def test_opened_again_it_is_the_same(root: Path) -> None:
    assert Store(str(root)).uuid == Store(str(root)).uuid


def test_opened_once_per_process(root: Path) -> None:
    queue = Queue.open(str(root))
    assert Queue.open(str(root)) is queue
    assert Child(lambda: Queue.open(str(root)) is not queue).result(), "a fork opens its own"


def test_one_that_was_removed_is_made_anew(root: Path, tmp_path: Path) -> None:
    first = Queue.open(str(root))
    os.rename(root, tmp_path / "old")
    assert Queue.open(str(root)).uuid != first.uuid


def test_none_is_made_by_looking(root: Path) -> None:
    with pytest.raises(QueueError, match="is no queue"):
        Store(str(root), create=False)
    assert not root.exists()


def test_many_processes_make_one_queue(root: Path) -> None:
    def make() -> str:
        gate.tell("ready")
        gate.pass_through()
        return Store(str(root)).uuid

    for _ in range(10):
        with Gate() as gate:
            children = [Child(make) for _ in range(4)]
            gate.hear(4)
        assert len({child.result() for child in children}) == 1
        assert [path.name for path in root.glob(".*")] == [".gitignore"]
        os.rename(root, f"{root}.{os.urandom(4).hex()}")


def test_one_uuid_where_there_are_no_hard_links(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted", source)

    monkeypatch.setattr(os, "link", link)
    assert Store(str(root)).uuid == Store(str(root)).uuid
    assert [path.name for path in root.glob(".*")] == [".gitignore"]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o777, 0o1777])
def test_writable_by_others_is_refused_with_the_cure(root: Path, mode: int) -> None:
    Store(str(root))
    root.chmod(mode)
    with pytest.raises(QueueUnsafe, match=rf"can be written to by others.*chmod go-w {root}$"):
        Store(str(root))
    root.chmod(stat.S_IMODE(root.stat().st_mode) & ~0o022)  # what the message says
    Store(str(root))


def test_a_folder_that_others_may_write_to_does_not_become_a_queue(root: Path) -> None:
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(QueueUnsafe, match="chmod go-w"):
        Store(str(root))
    assert list(root.iterdir()) == []


def test_readable_by_others_is_theirs_to_choose(root: Path) -> None:
    Store(str(root))
    root.chmod(0o755)
    Store(str(root))


def test_somebody_elses_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(str(root))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(QueueUnsafe, match=rf"{root} belongs to user {os.getuid()}, not to you.*NBTASKS_QUEUE"):
        Store(str(root))


def test_a_link_is_judged_by_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    real = tmp_path / "scratch"
    store = Store(str(real))
    root.symlink_to(real)
    assert Store(str(root)).uuid == store.uuid
    assert Store(str(root)).root == str(real)
    real.chmod(0o777)
    with pytest.raises(QueueUnsafe, match=f"chmod go-w {real}$"):
        Store(str(root))


def test_a_file_in_its_place(root: Path) -> None:
    root.write_text("")
    with pytest.raises(QueueUnsafe, match="is not a folder"):
        Store(str(root))


def write_mark(root: Path, **changes: object) -> None:
    Store(str(root))
    path = root / layout.MARK
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_newer_format_that_we_cannot_read(root: Path) -> None:
    write_mark(root, format=3, read=2, write=3)
    with pytest.raises(QueueNewer, match=r"has format 3, this nbtasks reads up to 1.*pip install -U nbtasks"):
        Store(str(root))


def test_a_newer_format_that_we_can_use(root: Path) -> None:
    write_mark(root, format=2, read=1, write=1, added="something")
    Store(str(root))


def test_a_newer_format_that_we_must_not_write(root: Path) -> None:
    write_mark(root, format=2, read=1, write=2)
    with pytest.raises(QueueNewer, match=r"this nbtasks writes up to 1: pip install -U nbtasks"):
        Store(str(root))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"format":1}', b"\xff\xfe", b'{"format":"x"}' * 1000])
def test_a_broken_mark(root: Path, text: bytes) -> None:
    Store(str(root))
    (root / layout.MARK).write_bytes(text)
    with pytest.raises(QueueError, match=r"nbtasks-queue\.json cannot be read.*restore it"):
        Store(str(root))


def test_a_mark_that_is_a_link_or_a_pipe_is_not_opened(root: Path, tmp_path: Path) -> None:
    Store(str(root))
    mark = root / layout.MARK
    os.rename(mark, tmp_path / "elsewhere")
    mark.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(QueueError, match="cannot be read"):
        Store(str(root))
    mark.unlink()
    os.mkfifo(mark)
    with pytest.raises(QueueError, match="cannot be read"):  # and it does not hang
        Store(str(root))


def test_a_stray_file_where_a_folder_should_be_holds_no_names(root: Path) -> None:
    store = Store(str(root))
    (root / "queued" / ".DS_Store").write_text("")
    assert store.names(f"{root}/queued/.DS_Store") == []
    assert store.names(f"{root}/queued/none") == []
    assert store.names(f"{root}/waiting") == ["parents", "until"]
