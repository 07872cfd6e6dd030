"""The user's key: made once, whatever the number of processes, and refused when others could have it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbtasks import cli, config, keys
from nbtasks.errors import OptionError, QueueError, QueueUnsafe


@pytest.fixture
def state(tmp_path: Path) -> Path:
    config.configure(state_dir=str(tmp_path / "state"))
    return tmp_path / "state"


def test_made_when_missing_and_the_same_ever_after(state: Path) -> None:
    key = keys.load_key()
    assert len(key) == 32
    assert keys.load_key() == key
    assert (state / "key").stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in state.iterdir()] == ["key"]


def test_private_whatever_the_umask(state: Path) -> None:
    before = os.umask(0)
    try:
        keys.load_key()
    finally:
        os.umask(before)
    assert (state / "key").stat().st_mode & 0o777 == 0o600


def test_two_users_have_two_keys(tmp_path: Path) -> None:
    config.configure(state_dir=str(tmp_path / "one"))
    one = keys.load_key()
    config.configure(state_dir=str(tmp_path / "two"))
    assert keys.load_key() != one


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    code = "from nbtasks import keys; print(keys.load_key().hex())"
    environment = {**os.environ, "NBTASKS_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o666])
def test_refused_when_others_may_read_or_write_it(state: Path, mode: int) -> None:
    key = keys.load_key()
    (state / "key").chmod(mode)
    with pytest.raises(QueueUnsafe, match=f"chmod 600 {state / 'key'}"):
        keys.load_key()
    subprocess.run(["chmod", "600", str(state / "key")], check=True)
    assert keys.load_key() == key


def test_refused_when_it_is_somebody_elses(state: Path) -> None:
    keys.load_key()
    if os.geteuid() == 0:
        os.chown(state / "key", 12345, -1)
    else:
        config.configure(key_file="/etc/passwd")
    with pytest.raises(QueueUnsafe, match=r"belongs to user (12345|0), not to you"):
        keys.load_key()


def test_a_link_is_not_followed(state: Path, tmp_path: Path) -> None:
    keys.load_key()
    (state / "key").rename(tmp_path / "elsewhere")
    (state / "key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(QueueUnsafe, match="symbolic link"):
        keys.load_key()


def test_a_fifo_does_not_hang(state: Path) -> None:
    state.mkdir()
    os.mkfifo(state / "key", 0o600)
    with pytest.raises(QueueUnsafe, match="not a regular file"):
        keys.load_key()


@pytest.mark.parametrize("text", ["", "short", "ab" * 31, "ab" * 33, "zz" * 32, "\xff" * 64])
def test_what_is_no_key_is_said_to_be_none(state: Path, text: str) -> None:
    state.mkdir()
    (state / "key").write_text(text, encoding="latin-1")
    (state / "key").chmod(0o600)
    with pytest.raises(QueueError, match="is no key"):
        keys.load_key()


def test_a_key_that_is_named_is_used_and_must_exist(tmp_path: Path, state: Path) -> None:
    own = keys.load_key()
    named = tmp_path / "other.key"
    config.configure(key_file=str(named))
    with pytest.raises(QueueError, match=r"named by configure\(\)\) does not exist: copy there"):
        keys.load_key()
    assert not named.exists()
    named.write_text("0f" * 32 + "\n")
    named.chmod(0o600)
    assert keys.load_key() == b"\x0f" * 32 != own


def test_sub_keys_differ_by_queue_and_kind() -> None:
    key = b"k" * 32
    made = {keys.derive(key, queue, kind) for queue in ("a", "b") for kind in ("call", "outcome")}
    assert len(made) == 4
    assert keys.derive(key, "a", "call") == keys.derive(key, "a", "call")
    assert {len(sub) for sub in made} == {32}


def test_the_key_is_carried_to_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.configure(state_dir=str(tmp_path / "here"))
    key, copy = keys.load_key(), str(tmp_path / "copy")
    assert cli.run(["key", "export", copy]) == 0
    assert os.stat(copy).st_mode & 0o777 == 0o600
    assert cli.run(["key", "export", copy]) == 2
    config.configure(state_dir=str(tmp_path / "there"))
    with pytest.raises(QueueError, match="nbtasks key import FILE"):
        keys.find_key()
    assert not (tmp_path / "there").exists(), "looking makes none"
    for _ in range(2):
        assert cli.run(["key", "import", copy]) == 0
    assert keys.find_key() == keys.load_key() == key


def test_another_key_is_set_aside_only_when_asked(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_text("ab" * 32 + "\n")
    copy.chmod(0o600)
    config.configure(state_dir=str(tmp_path / "there"))
    old = keys.load_key()
    with pytest.raises(OptionError, match="--replace"):
        keys.import_key(str(copy))
    assert keys.load_key() == old
    keys.import_key(str(copy), replace=True)
    assert keys.load_key() == bytes.fromhex("ab" * 32)
    assert [path.read_text().strip() for path in (tmp_path / "there").glob("key.old-*")] == [old.hex()]
    copy.chmod(0o644)
    with pytest.raises(QueueUnsafe, match="chmod 600"):
        keys.import_key(str(copy))
