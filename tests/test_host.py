"""What the machine gives us: read from made-up control groups, and from the real ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from nbtasks.config import configure
from nbtasks.host import boot_id, default_slots, host_name, memory_limit, oom_kills, usable_cores
from nbtasks.queue.layout import TAG

V2 = ("0::/user/job", "30 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw")
V2_NAMESPACE = ("0::/../job", "30 23 0:28 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
V1 = (
    "4:memory:/user/job\n3:cpu,cpuacct:/user/job\n0::/",
    "32 31 0:29 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
)
V1_CONTAINER = (
    "4:memory:/docker/1f2e\n3:cpu,cpuacct:/docker/1f2e",
    "32 31 0:29 /docker/1f2e /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 /docker/1f2e /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
)


def machine(root: Path, groups: tuple[str, str], files: dict[str, str]) -> str:
    """A root folder whose processes live in `groups` (/proc/self/cgroup and mountinfo), with `files` in /sys/fs/cgroup."""
    texts = {"proc/self/cgroup": groups[0], "proc/self/mountinfo": groups[1]}
    texts |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return str(root)


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        (V2, {"user/job/cpu.max": "50000 100000"}),
        (V2, {"user/job/cpu.max": "max 100000", "user/cpu.max": "100000 100000"}),
        (V2_NAMESPACE, {"cpu.max": "20000 100000"}),
        (V1, {"cpu/user/job/cpu.cfs_quota_us": "100000", "cpu/user/job/cpu.cfs_period_us": "100000"}),
        (V1_CONTAINER, {"cpu/cpu.cfs_quota_us": "90000", "cpu/cpu.cfs_period_us": "100000"}),
    ],
)
def test_cores_by_quota(tmp_path: Path, groups: tuple[str, str], files: dict[str, str]) -> None:
    assert usable_cores(machine(tmp_path, groups, files)) == 1


@pytest.mark.parametrize(
    "files",
    [{}, {"user/job/cpu.max": "max 100000"}, {"user/job/cpu.max": "6400000 100000"}, {"user/job/cpu.max": "nonsense"}],
)
def test_cores_without_a_quota_are_those_of_the_affinity(tmp_path: Path, files: dict[str, str]) -> None:
    expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert usable_cores(machine(tmp_path, V2, files)) == expected


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        (V2, {"user/job/memory.max": str(64 << 20), "user/memory.max": "max"}),
        (V2, {"user/job/memory.max": str(128 << 20), "user/memory.max": str(64 << 20)}),
        (V1, {"memory/user/job/memory.limit_in_bytes": str(64 << 20)}),
        (V1_CONTAINER, {"memory/memory.limit_in_bytes": str(64 << 20)}),
    ],
)
def test_memory_by_limit(tmp_path: Path, groups: tuple[str, str], files: dict[str, str]) -> None:
    assert memory_limit(machine(tmp_path, groups, files)) == 64 << 20


def test_memory_without_limit_is_the_machine_s(tmp_path: Path) -> None:
    unlimited = {"memory/user/job/memory.limit_in_bytes": "9223372036854771712"}
    total = memory_limit(machine(tmp_path, V1, unlimited))
    assert 64 << 20 < total < 1 << 50


def test_oom_kills(tmp_path: Path) -> None:
    events = "low 0\noom 3\noom_kill 2\noom_group_kill 0"
    assert oom_kills(machine(tmp_path / "2", V2, {"user/job/memory.events": events})) == 2
    control = "oom_kill_disable 0\nunder_oom 0\noom_kill 5"
    assert oom_kills(machine(tmp_path / "1", V1, {"memory/user/job/memory.oom_control": control})) == 5
    assert oom_kills(str(tmp_path / "nothing")) == 0


def test_this_machine() -> None:
    assert 1 <= default_slots() <= usable_cores() <= (os.cpu_count() or 1)
    assert memory_limit() > 0
    assert oom_kills() >= 0
    assert host_name()


def test_boot_is_short_and_can_be_set() -> None:
    assert TAG.fullmatch(boot_id())
    assert re.fullmatch("[0-9a-z]{1,12}", boot_id())
    assert boot_id() == boot_id()
    configure(boot="after-restart")
    assert boot_id() == "after-restart"
