"""The real disk: what is there afterwards, whoever else was at it, and whatever went wrong."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import tracemalloc
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbtasks.durable import CreateUncertain, RealDisk, on_network, open_disk
from nbtasks.durable_calls import write_all
from nbtasks.durable_faults import FaultyDisk

ROOT = Path(__file__).parent.parent


@pytest.fixture
def disk() -> RealDisk:
    return RealDisk()


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path)


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# -- create and read --


@pytest.mark.parametrize("flush", [False, True])
def test_what_was_created_is_read(disk: RealDisk, root: str, flush: bool) -> None:
    path = f"{root}/a/b/c/file"
    disk.create(path, (b"one ", bytearray(b"two "), memoryview(b"three")), flush=flush)
    assert disk.read(path) == b"one two three"
    assert disk.read(path, 5) == b"one t"
    assert disk.read(path, 1000) == b"one two three"
    assert [mode(p) for p in (f"{root}/a", f"{root}/a/b", f"{root}/a/b/c", path)] == [0o700, 0o700, 0o700, 0o600]
    assert disk.list(f"{root}/a/b/c") == ["file"]


def test_an_empty_file_is_a_file(disk: RealDisk, root: str) -> None:
    disk.create(f"{root}/ticket", ())
    assert disk.exists(f"{root}/ticket")
    assert disk.read(f"{root}/ticket") == b""


def test_a_name_in_use_is_left_as_it_is(disk: RealDisk, root: str) -> None:
    disk.create(f"{root}/x", (b"first",))
    with pytest.raises(FileExistsError):
        disk.create(f"{root}/x", (b"second",))
    os.symlink(f"{root}/elsewhere", f"{root}/link")
    with pytest.raises(FileExistsError):
        disk.create(f"{root}/link", (b"through the link",))
    assert disk.read(f"{root}/x") == b"first"
    assert disk.list(root).count("elsewhere") == 0


def test_many_parts_of_every_kind(disk: RealDisk, root: str) -> None:
    numbers = memoryview(array("d", [1.5, 2.5]))
    square = memoryview(bytes(range(12))).cast("B", (3, 4))
    parts: list[bytes | bytearray | memoryview] = [numbers, b"", square, memoryview(b""), bytearray(b"z")]
    parts += [b"%d," % n for n in range(2500)]
    disk.create(f"{root}/many", parts)
    assert disk.read(f"{root}/many") == b"".join(bytes(part) for part in parts)
    disk.create(f"{root}/one", [numbers])
    assert disk.read(f"{root}/one") == bytes(numbers)


def test_writes_cut_short_by_signals_go_on(root: str) -> None:
    """A pipe with a slow reader, and a signal every half millisecond: the system call returns early, often."""
    parts = [os.urandom(300_000), b"", os.urandom(7), memoryview(os.urandom(400_000))]
    reader, writer = os.pipe()
    got = bytearray()

    def read() -> None:
        while chunk := os.read(reader, 5000):
            got.extend(chunk)

    thread = threading.Thread(target=read)
    thread.start()
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        write_all(writer, parts)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(writer)
        thread.join()
        os.close(reader)
    assert got == b"".join(parts)


def test_big_buffers_are_not_copied(disk: RealDisk, root: str) -> None:
    data = memoryview(bytearray(64 << 20))
    tracemalloc.start()
    try:
        disk.create(f"{root}/big", (b"header", data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert os.path.getsize(f"{root}/big") == (64 << 20) + 6


def test_reading_what_is_no_plain_file(disk: RealDisk, root: str) -> None:
    os.mkfifo(f"{root}/fifo")
    os.symlink(f"{root}/fifo", f"{root}/link")
    for name in ("fifo", "link", ""):
        with pytest.raises(OSError, match=root) as caught:
            disk.read(f"{root}/{name}")
        assert not isinstance(caught.value, FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        disk.read(f"{root}/nothing")


def test_list_exists_remove(disk: RealDisk, root: str) -> None:
    assert disk.list(f"{root}/nothing") == []
    assert not disk.exists(f"{root}/nothing")
    assert not disk.remove(f"{root}/nothing")
    assert not disk.remove_folder(f"{root}/nothing")
    disk.make_folder(f"{root}/a/b")
    disk.make_folder(f"{root}/a/b")
    os.symlink(f"{root}/nothing", f"{root}/a/dangling")
    assert disk.exists(f"{root}/a/dangling")
    assert not disk.exists(f"{root}/a/dangling/below")
    assert not disk.remove_folder(f"{root}/a")
    assert disk.remove(f"{root}/a/dangling")
    assert disk.remove_folder(f"{root}/a/b")
    assert disk.remove_folder(f"{root}/a")
    disk.create(f"{root}/file", ())
    with pytest.raises(FileExistsError):
        disk.make_folder(f"{root}/file")


def test_replace_shows_old_or_new(disk: RealDisk, root: str) -> None:
    """A reader that never stops sees whole contents only, and no file is left over."""
    path = f"{root}/progress"
    contents = [bytes([65 + n]) * 20_000 for n in range(20)]
    disk.replace(path, contents[0])
    seen: set[bytes] = set()
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(disk.read(path))

    thread = threading.Thread(target=read)
    thread.start()
    for content in contents * 10:
        disk.replace(path, content)
    stop.set()
    thread.join()
    assert seen <= set(contents)
    assert disk.list(root) == ["progress"]


def test_flush(disk: RealDisk, root: str) -> None:
    disk.create(f"{root}/a/b/x", (b"data",))
    disk.flush(f"{root}/a/b/x")
    disk.flush_all(root)
    with pytest.raises(FileNotFoundError):
        disk.flush(f"{root}/a/b/y")


def test_flushing_reaches_every_new_name(disk: RealDisk, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """File, folder, and each new folder's name in the one above; afterwards only what is new."""
    flushed: list[str] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    disk.create(f"{root}/a/b/x", (b"1",), flush=True)
    assert flushed[:4] == [f"{root}/a/b/x", f"{root}/a/b", f"{root}/a", root]
    flushed.clear()
    disk.create(f"{root}/a/b/y", (b"2",), flush=True)
    assert flushed == [f"{root}/a/b/y", f"{root}/a/b"]


# -- move --


def test_move(disk: RealDisk, root: str) -> None:
    disk.create(f"{root}/queued/t", (b"x",))
    assert disk.move(f"{root}/queued/t", f"{root}/running/slot/t")
    assert disk.list(f"{root}/queued") == []
    assert disk.read(f"{root}/running/slot/t") == b"x"
    assert not disk.move(f"{root}/queued/t", f"{root}/running/slot/t"), "somebody was faster, even to the same target"
    assert not disk.move(f"{root}/queued/t", f"{root}/running/other/t")
    assert disk.list(f"{root}/running") == ["slot"], "a lost race makes no folder"


def test_move_that_cannot_be_is_an_error_and_no_move(disk: RealDisk, root: str) -> None:
    disk.create(f"{root}/t", ())
    disk.create(f"{root}/file", ())
    with pytest.raises(NotADirectoryError):
        disk.move(f"{root}/t", f"{root}/file/t")
    os.mkdir(f"{root}/folder")
    with pytest.raises(IsADirectoryError):
        disk.move(f"{root}/t", f"{root}/folder")
    assert disk.exists(f"{root}/t")


def strike(at: str, number: int, times: int = 1) -> Callable[[str, str], None]:
    left = [times]

    def plan(step: str, path: str) -> None:
        if step == at and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number), path)

    return plan


def test_a_lost_reply_is_a_move(root: str) -> None:
    """The rename has happened, and the answer is an error: NFS after a server that was gone for a moment."""
    for number in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT):
        disk = FaultyDisk(RealDisk(), strike("rename:after", number))
        disk.create(f"{root}/{number}", ())
        assert disk.move(f"{root}/{number}", f"{root}/there/{number}")
        assert disk.exists(f"{root}/there/{number}")


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EMFILE])
def test_an_error_that_moved_nothing_is_raised(root: str, number: int) -> None:
    disk = FaultyDisk(RealDisk(), strike("rename:before", number))
    disk.create(f"{root}/t", ())
    with pytest.raises(OSError, match=root) as caught:
        disk.move(f"{root}/t", f"{root}/there/t")
    assert caught.value.errno == number
    assert disk.exists(f"{root}/t")
    assert disk.move(f"{root}/t", f"{root}/there/t"), "and it goes on when the trouble is over"


@pytest.mark.parametrize("number", [errno.EINTR, errno.ESTALE])
def test_a_passing_error_is_tried_again(root: str, number: int) -> None:
    disk = FaultyDisk(RealDisk(), strike("rename:before", number))
    disk.create(f"{root}/t", ())
    assert disk.move(f"{root}/t", f"{root}/t2")


def test_trying_again_ends(root: str) -> None:
    disk = FaultyDisk(RealDisk(), strike("rename:before", errno.ENOENT, times=10**9))
    disk.create(f"{root}/t", ())
    with pytest.raises(FileNotFoundError):
        disk.move(f"{root}/t", f"{root}/there/t")


def grab(root: str, me: int, tickets: int, barrier: object) -> int:
    """Move every ticket to a folder of this process; how many it got. The target folders come and go."""
    disk = RealDisk()
    barrier.wait()  # type: ignore[attr-defined]
    return sum(disk.move(f"{root}/queued/{n}", f"{root}/running/{me}/{n % 7}/{n}") for n in range(tickets))


def tidy(root: str, people: int, stop: object) -> None:
    """Remove empty folders all the time, as whoever finds one may."""
    disk = RealDisk()
    while not stop.is_set():  # type: ignore[attr-defined]
        for folder in [f"{root}/running/{me}/{n}" for me in range(people) for n in range(7)]:
            disk.remove_folder(folder)


def back_and_forth(root: str, me: int, rounds: int, barrier: object) -> int:
    """Steal all tickets from wherever they are, again and again; how often a move of this process succeeded."""
    disk = RealDisk()
    barrier.wait()  # type: ignore[attr-defined]
    won = 0
    for turn in range(rounds):
        for folder in disk.list(f"{root}/running"):
            for name in disk.list(f"{root}/running/{folder}"):
                won += disk.move(f"{root}/running/{folder}/{name}", f"{root}/running/{me}.{turn}/{name}")
    return won


def test_every_ticket_has_one_winner(root: str) -> None:
    people, tickets = 4, 3000
    disk = RealDisk()
    for n in range(tickets):
        disk.create(f"{root}/queued/{n}", ())
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(people + 1) as pool:
        barrier, stop = manager.Barrier(people), manager.Event()
        tidying = pool.apply_async(tidy, (root, people, stop))
        results = [pool.apply_async(grab, (root, me, tickets, barrier)) for me in range(people)]
        got = [result.get(timeout=100) for result in results]
        stop.set()
        tidying.get(timeout=100)
    held = [
        [name for n in disk.list(f"{root}/running/{me}") for name in disk.list(f"{root}/running/{me}/{n}")]
        for me in range(people)
    ]
    assert [len(names) for names in held] == got, "who was told so has it, and nobody else"
    assert sorted(int(name) for names in held for name in names) == list(range(tickets))
    assert disk.list(f"{root}/queued") == []


def test_stolen_tickets_are_never_doubled(root: str) -> None:
    people, tickets, rounds = 3, 200, 15
    disk = RealDisk()
    for n in range(tickets):
        disk.create(f"{root}/running/start/{n}", ())
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(people) as pool:
        barrier = manager.Barrier(people)
        results = [pool.apply_async(back_and_forth, (root, me, rounds, barrier)) for me in range(people)]
        moves = sum(result.get(timeout=100) for result in results)
    assert moves >= tickets * rounds // 2
    everywhere = [name for folder in disk.list(f"{root}/running") for name in disk.list(f"{root}/running/{folder}")]
    assert sorted(map(int, everywhere)) == list(range(tickets))


# -- a disk that is full or refuses --

FULL = """
import os, resource, sys
from nbtasks.durable import RealDisk
root, limited = sys.argv[1], sys.argv[2] == "limited"
disk = RealDisk()
if limited:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
else:
    disk.create(f"{root}/ballast", (bytes(400_000),))
for parts in ([bytes(800_000)], [b"head", bytes(300_000), bytes(500_000)]):
    try:
        disk.create(f"{root}/new/call", parts)
    except OSError as error:
        print(type(error).__name__, error.errno, disk.list(f"{root}/new"))
disk.create(f"{root}/new/small", ())
print(disk.move(f"{root}/new/small", f"{root}/small"))
if limited:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
else:
    disk.remove(f"{root}/ballast")
disk.create(f"{root}/new/call", [b"head", bytes(300_000)])
print(len(disk.read(f"{root}/new/call")))
"""


@pytest.fixture
def small_disk(root: str) -> Iterator[tuple[str, int, str]]:
    """A file system of one megabyte; where we may not mount one, a limit on the size of files. And their errno."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", root], capture_output=True)
    if mounted.returncode:
        yield root, errno.EFBIG, "limited"
        return
    yield root, errno.ENOSPC, "mounted"
    subprocess.run(["umount", "-l", root], check=True)


def test_a_full_disk_leaves_no_half_file(small_disk: tuple[str, int, str]) -> None:
    root, number, how = small_disk
    done = subprocess.run([sys.executable, "-c", FULL, root, how], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"OSError {number} []"] * 2 + ["True", "300004"], done.stderr


def test_creation_that_raises_leaves_nothing(disk: RealDisk, root: str) -> None:
    """Neither a half file nor an open descriptor, whatever was raised."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(TypeError):
        disk.create(f"{root}/x", (b"some bytes", "and what is none"))  # type: ignore[arg-type]
    assert disk.list(root) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_failed_file_that_somebody_took_is_uncertain(root: str) -> None:
    """The flush fails when the ticket has already been claimed: the error says that the file may live on."""

    class Snatched(RealDisk):
        def _flush_folder(self, folder: str) -> None:
            os.rename(f"{folder}/ticket", f"{root}/claimed")
            raise OSError(errno.EIO, "Input/output error", folder)

    with pytest.raises(CreateUncertain) as caught:
        Snatched().create(f"{root}/queued/ticket", (), flush=True)
    assert caught.value.errno == errno.EIO
    assert os.path.exists(f"{root}/claimed")


def test_local_folders_are_not_on_the_network(root: str) -> None:
    assert not on_network(root)
    assert not on_network(f"{root}/nothing")


def test_open_disk_is_the_real_one() -> None:
    assert type(open_disk()) is RealDisk
