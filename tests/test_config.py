"""Settings: which place wins, what an error says, and which queue is found."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest

from nbtasks import config
from nbtasks.errors import OptionError
from nbtasks.queue.layout import TAG
from nbtasks.spec import seconds

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project as working directory, and a home of its own."""
    folder = tmp_path / "project" / "notebooks"
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config").mkdir()
    monkeypatch.chdir(folder)
    return folder.parent


def test_each_place_wins_over_the_one_before(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grace() -> float:
        monkeypatch.setattr(config, "_settings", None)
        return config.settings().grace

    assert (grace(), config.origin("grace")) == (5, "default")
    (tmp_path / "config" / "nbtasks.toml").write_text("grace = 10")
    assert grace() == 10
    (project / "pyproject.toml").write_text('[tool.nbtasks]\ngrace = "20s"')
    assert (grace(), config.origin("grace")) == (20, str(project / "pyproject.toml"))
    monkeypatch.setenv("NBTASKS_GRACE", "1m")
    assert (grace(), config.origin("grace")) == (60, "environment")
    config.configure(grace="2m")
    assert (grace(), config.origin("grace")) == (120, "configure()")
    config.reset()
    assert grace() == 60


def test_nearest_project_file_counts(project: Path) -> None:
    (project / "nbtasks.toml").write_text('lane = "far"')
    (project / "notebooks" / "pyproject.toml").write_text('[project]\nname = "no settings of ours"')
    assert config.settings().lane == "far"
    config.reset()
    (project / "notebooks" / "nbtasks.toml").write_text('lane = "near"')
    assert config.settings().lane == "near"


def test_values_are_read_as_what_they_mean(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "AUTOSTART": "0", "WAIT": "yes", "SLOTS": "3", "IDLE_EXIT": "1.5h", "LOG_LIMIT": "2 MB", "QUEUE": "~/q",
        "BRING_BACK_LIMIT": "3GiB", "DURABILITY": "power", "KEY_FILE": "key", "ENGINE": "", "LANE": "gpu",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"NBTASKS_{name}", text)
    monkeypatch.setenv("NBTASKS_SLOT", "not a setting of ours")
    got = config.settings()
    assert (got.autostart, got.wait, got.slots, got.idle_exit) == (False, True, 3, 5400)
    assert (got.log_limit, got.bring_back_limit, got.durability, got.lane) == (2 << 20, 3 << 30, "power", "gpu")
    assert got.queue == os.path.expanduser("~/q")
    assert got.key_file == str(project / "notebooks" / "key")
    assert got.engine == "processes", "an empty variable counts as not set"


def test_paths_in_a_file_count_from_that_file(project: Path) -> None:
    (project / "nbtasks.toml").write_text('queue = "shared/queue"\nkey_file = "../key"')
    assert config.settings().queue == str(project / "shared/queue")
    assert config.settings().key_file == str(project.parent / "key")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"slots": 0}, "at least 1"),
        ({"slots": "many"}, "whole number"),
        ({"slots": True}, "whole number"),
        ({"lane": "GPU!"}, "a-z"),
        ({"durability": "always"}, "'second' or 'power'"),
        ({"grace": "soon"}, "'10m'"),
        ({"grace": None}, "'10m'"),
        ({"autostart": "perhaps"}, "true or false"),
        ({"log_limit": "big"}, "'64MB'"),
        ({"log_limit": -1}, "'64MB'"),
        ({"engine": 3}, "text"),
        ({"env": "a b"}, "characters"),
        ({"idle_exti": 3}, "did you mean 'idle_exit'"),
        ({"banana": 3}, "there are queue, autostart"),
    ],
)
def test_configure_refuses_what_cannot_be(change: dict[str, object], says: str) -> None:
    before = config.settings()
    with pytest.raises(OptionError, match=re.escape(says)) as caught:
        config.configure(**{"wait": True, **change})
    assert next(iter(change)) in str(caught.value)
    assert config.settings() == before


def test_an_error_names_file_or_variable(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project / "nbtasks.toml"
    path.write_text("slot = 3")
    with pytest.raises(OptionError, match=re.escape(f"{path}: slot=3") + ".*did you mean 'slots'"):
        config.settings()
    path.write_text("slots = ")
    with pytest.raises(OptionError, match=re.escape(f"{path} is no TOML")):
        config.settings()
    path.unlink()
    monkeypatch.setenv("NBTASKS_SLOTS", "-1")
    with pytest.raises(OptionError, match="NBTASKS_SLOTS='-1' cannot be"):
        config.settings()


def test_a_broken_pyproject_is_not_ours_to_mend(project: Path) -> None:
    (project / "pyproject.toml").write_text("this is [no toml")
    assert config.settings().lane == "default"


# -- which queue --


def test_queue_without_any_sign_is_here(project: Path) -> None:
    assert config.find_queue_root(start=str(project / "notebooks")) == str(project / "notebooks" / ".nbtasks")


@pytest.mark.parametrize("sign", ["pyproject.toml", ".git"])
def test_queue_stands_beside_the_project(project: Path, sign: str) -> None:
    (project / sign).mkdir()
    assert config.find_queue_root() == str(project / ".nbtasks")


def test_existing_queue_wins_over_a_nearer_project(project: Path) -> None:
    (project / ".nbtasks").mkdir()
    (project / "notebooks" / ".git").mkdir()
    assert config.find_queue_root() == str(project / ".nbtasks")


def test_found_once_it_stays(project: Path, tmp_path: Path) -> None:
    first = config.find_queue_root()
    os.chdir(tmp_path)
    assert config.find_queue_root() == first
    config.configure(queue=str(tmp_path / "other"))
    assert config.find_queue_root() == str(tmp_path / "other" / ".nbtasks")


def test_named_queue(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".nbtasks").mkdir()
    monkeypatch.setenv("NBTASKS_QUEUE", str(tmp_path / "set"))
    assert config.find_queue_root() == str(tmp_path / "set" / ".nbtasks")
    assert config.find_queue_root(str(tmp_path / "named")) == str(tmp_path / "named" / ".nbtasks")
    assert config.find_queue_root(str(tmp_path / ".nbtasks")) == str(tmp_path / ".nbtasks")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "nbtasks-queue.json").touch()
    assert config.find_queue_root(str(tmp_path / "bare")) == str(tmp_path / "bare")


# -- what belongs to somebody else: only root can make such files, so only root has these tests --

FOREIGN = """
import os, sys
from nbtasks.config import find_queue_root
os.setuid(12345)
print(find_queue_root(start=sys.argv[1]))
"""

if hasattr(os, "geteuid") and os.geteuid() == 0:

    def test_a_file_of_somebody_else_chooses_nothing(project: Path) -> None:
        (project / "nbtasks.toml").write_text('key_file = "theirs"')
        os.chown(project / "nbtasks.toml", 12345, 12345)
        assert config.settings().key_file is None

    def test_a_queue_that_is_not_ours_is_passed_over(tmp_path: Path) -> None:
        course = Path(tempfile.mkdtemp(prefix="nbtasks-course-"))  # where everybody may go, unlike pytest's folders
        try:
            os.chmod(course, 0o755)
            (course / ".nbtasks").mkdir()
            (course / ".git").mkdir()
            mine = course / "mine"
            mine.mkdir()
            os.chown(mine, 12345, 12345)
            done = subprocess.run([sys.executable, "-c", FOREIGN, str(mine)], cwd=ROOT, capture_output=True, text=True)
            assert done.stdout.strip() == str(mine / ".nbtasks"), done.stderr
        finally:
            shutil.rmtree(course)


# -- the rest --


def test_tag_of_the_environment() -> None:
    tag = config.env_tag()
    assert TAG.fullmatch(tag)
    assert tag.startswith(f"py{sys.version_info.major}{sys.version_info.minor}-")
    config.configure(env="cluster-2026")
    assert config.env_tag() == "cluster-2026"


def test_the_page_lists_every_setting_with_its_default() -> None:
    """docs/settings.md against `Settings`; words stand for what is found or computed."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == [setting.name for setting in fields(config.Settings)]
    defaults = config.Settings()
    for name, key, variable, default, what in rows:
        assert (key, variable) == (f"`{name}`", f"`{config.variable(name)}`")
        assert what
        if default.startswith("`") and name not in ("state_dir", "host_dir"):
            value = getattr(defaults, name)
            shown = default.strip("`")
            if isinstance(value, bool):
                assert shown == str(value).lower()
            elif isinstance(value, float):
                assert seconds(name, shown) == value
            elif isinstance(value, int):
                config.configure(**{name: shown})
                assert getattr(config.settings(), name) == value
            else:
                assert shown == value
        elif not default.startswith("`"):
            assert not getattr(defaults, name)
