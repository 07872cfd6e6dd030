"""What this machine is and gives us: its name and boot, the cores and memory that we may use."""

from __future__ import annotations

import functools
import math
import os
import platform
import sys
from collections.abc import Iterator

from nbtasks.config import settings

_SLOT_MEMORY = 512 << 20


@functools.cache
def host_name() -> str:
    """The name of this host, as the network knows it."""
    return platform.node() or "localhost"


def boot_id() -> str:
    """A short name of this boot of the machine, fit for a folder; another one after every restart."""
    return settings().boot or _boot_id()


@functools.cache
def _boot_id() -> str:
    text = _read("/proc/sys/kernel/random/boot_id") or _mac_boot_id()
    if text:
        return text.replace("-", "").lower()[:12]
    import psutil

    # Clocks are corrected while the machine runs, and the boot time with them; by less than this.
    return f"b{round(psutil.boot_time() / 100)}"


def _mac_boot_id() -> str:
    if sys.platform != "darwin":
        return ""
    import ctypes

    buffer, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    failed = ctypes.CDLL(None).sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(size), None, 0)
    return "" if failed else buffer.value.decode()


@functools.cache
def machine_id() -> str:
    """A few characters that tell this machine from others of the same name; "" when the system has none."""
    return (_read("/etc/machine-id") or _read("/var/lib/dbus/machine-id"))[:12]


def usable_cores(root: str = "") -> int:
    """The cores that this process may use: by affinity, and by the quota of its control groups. At least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _groups("cpu", root):
        quota, _, period = _read(f"{folder}/cpu.max").partition(" ")
        if not quota:
            quota, period = _read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def memory_limit(root: str = "") -> int:
    """The memory in bytes that this process and its kin may use: the machine's, or less by their control groups."""
    limit = _total_memory()
    for folder in _groups("memory", root):
        text = _read(f"{folder}/memory.max") or _read(f"{folder}/memory.limit_in_bytes")
        if text.isdigit():
            limit = min(limit, int(text))
    return limit


def _total_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        import psutil

        return int(psutil.virtual_memory().total)


def oom_kills(root: str = "") -> int:
    """How many processes of our control group the kernel has killed for want of memory; 0 if it does not tell."""
    for folder in _groups("memory", root):
        counts = _read(f"{folder}/memory.events") or _read(f"{folder}/memory.oom_control")
        for line in counts.splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and count.isdigit():
                return int(count)
    return 0


def default_slots() -> int:
    """How many slots a worker has when nobody says: one per usable core, but 512 MiB for each; at least 1."""
    return max(1, min(usable_cores(), memory_limit() // _SLOT_MEMORY))


def _groups(controller: str, root: str) -> Iterator[str]:
    """The folders of our control groups that may limit `controller`, innermost first; versions 1 and 2.

    `root` stands before every path that is read ("" is the machine itself).
    """
    paths = _group_paths(controller, root)
    for line in _read(f"{root}/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind not in paths or (kind == "cgroup" and controller not in options.rpartition(" ")[2].split(",")):
            continue
        top, mount = before.split()[3:5]
        inner = paths[kind].removeprefix(top if top != "/" else "").strip("/")
        while inner:
            yield f"{root}{mount}/{inner}"
            inner = inner.rpartition("/")[0]
        yield f"{root}{mount}"


def _group_paths(controller: str, root: str) -> dict[str, str]:
    """Our group's path by the kind of file system: ``cgroup2`` and, where `controller` is of version 1, ``cgroup``."""
    paths: dict[str, str] = {}
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            paths["cgroup2"] = path
        elif controller in controllers.split(","):
            paths["cgroup"] = path
    return paths


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def raise_file_limit() -> bool:
    """Allow this process as many open files as it may have at all; False when it has them already."""
    import resource  # not on every system

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True
