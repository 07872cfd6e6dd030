"""Frames: what comes back is what was written, or an error; nothing that we did not sign is ever unpickled."""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
import random
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nbtasks import frames, headers, payload
from nbtasks.blobs import Blobs
from nbtasks.durable import RealDisk
from nbtasks.durable_model import ModelDisk
from nbtasks.errors import FrameDamaged, FrameError, FrameForged, FrameNewer
from nbtasks.frames import Frame, Part

QUEUE = "0f" * 16
ID = "20261120-220611-482913-k7q2"
KEY = b"k" * 32
DISK = RealDisk()


class Place:
    """A folder for frames and blobs, and the frame that the tests write there."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "frame")
        self.blobs = Blobs(DISK, str(folder / "blobs"))

    def write(self, *parts: Part, body: bytes = b'{"name":"f"}', key: bytes = KEY) -> int:
        frame = Frame("call", QUEUE, ID, 0, body, {part.name: part for part in parts})
        return frames.write_frame(DISK, self.path, frame, key, self.blobs)

    def read(self, key: bytes = KEY) -> Frame:
        return frames.read_frame(self.path, key, self.blobs, kind="call", queue=QUEUE, id=ID)

    def header(self) -> bytes:
        return frames.read_header(self.path, KEY, kind="call", queue=QUEUE, id=ID)

    def overwrite(self, data: bytes) -> None:
        Path(self.path).write_bytes(data)

    @property
    def data(self) -> bytes:
        return Path(self.path).read_bytes()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Evil:
    """Says so when somebody unpickles it."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return os.mkdir, (self.path,)


def part(name: str, *buffers: bytes) -> Part:
    return Part(name, pickle.dumps(name), tuple(map(memoryview, buffers)))


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# There and back.


def test_what_was_written_comes_back(place: Place) -> None:
    size = place.write(part("function"), part("arguments"))
    frame = place.read()
    assert (frame.kind, frame.queue, frame.id, frame.delivery) == ("call", QUEUE, ID, 0)
    assert frame.body == place.header() == b'{"name":"f"}'
    assert {name: pickle.loads(part.view()) for name, part in frame.parts.items()} == {
        "function": "function",
        "arguments": "arguments",
    }
    assert size == os.path.getsize(place.path)
    assert os.stat(place.path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("sizes", [(0,), (1,), (20_000,), (20_000, 0, 5_000), (4096, 4096), (300_000,), (300_000, 7)])
def test_buffers_in_the_file_come_back_writable_and_aligned(place: Place, sizes: tuple[int, ...]) -> None:
    data = [noise(size, seed) for seed, size in enumerate(sizes)]
    place.write(part("a", *data), part("b", *data[::-1]))
    frame = place.read()
    assert [bytes(buffer) for buffer in frame.parts["a"].buffers] == data
    assert [bytes(buffer) for buffer in frame.parts["b"].buffers] == data[::-1]
    assert not any(buffer.readonly for buffer in frame.parts["a"].buffers)
    assert not os.path.exists(place.blobs.folder)
    for buffer in filter(None, data):
        assert place.data.index(buffer) % 4096 == 0


def test_writing_into_a_buffer_changes_nobody_elses(place: Place) -> None:
    for size in (20_000, 300_000, 2 << 20):
        place.write(part("a", noise(size)))
        place.read().parts["a"].buffers[0][:3] = b"new"
        assert bytes(place.read().parts["a"].buffers[0]) == noise(size)
        os.unlink(place.path)


def test_large_buffers_are_stored_once(place: Place, tmp_path: Path) -> None:
    data = noise(1 << 20)
    for number in range(3):
        place.path = str(tmp_path / f"frame{number}")
        assert place.write(part("a", data, data)) < 2000
    blobs = [path for path in Path(place.blobs.folder).rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in blobs] == [data]
    assert [bytes(buffer) for buffer in place.read().parts["a"].buffers] == [data, data]


def test_a_part_made_once_goes_into_many_frames_and_queues(tmp_path: Path) -> None:
    shared = part("a", noise(2 << 20))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        place = Place(tmp_path / name)
        place.write(shared)
        assert bytes(place.read().parts["a"].buffers[0]) == noise(2 << 20)


def test_a_record_with_line_breaks_becomes_one_line(place: Place) -> None:
    place.write(part("a"), body=b'{\n "name": "f",\n "summary": "a\\nb"\n}')
    assert msgspec.json.decode(place.read().body) == {"name": "f", "summary": "a\nb"}


def test_an_outcome_is_that_of_its_delivery(tmp_path: Path) -> None:
    path, blobs = str(tmp_path / "frame"), Blobs(DISK, str(tmp_path / "blobs"))
    frames.write_frame(DISK, path, Frame("outcome", QUEUE, ID, 3, b"{}", {}), KEY, blobs)
    read = frames.read_frame(path, KEY, blobs, kind="outcome", queue=QUEUE, id=ID, delivery=3)
    assert (read.delivery, read.body, read.parts) == (3, b"{}", {})
    with pytest.raises(FrameForged, match="delivery 3"):
        frames.read_frame(path, KEY, blobs, kind="outcome", queue=QUEUE, id=ID, delivery=4)


def test_over_a_wire_everything_is_inside_and_checked(place: Place) -> None:
    data = [noise(20_000), noise(3 << 20, 2)]
    frame = Frame("call", QUEUE, ID, 0, b"{}", {"a": part("a", *data)})
    sent = bytearray(b"".join(frames.to_bytes(frame, KEY)))
    got = frames.from_bytes(bytes(sent), KEY, kind="call", queue=QUEUE, id=ID)
    assert [bytes(buffer) for buffer in got.parts["a"].buffers] == data
    place.overwrite(sent)
    assert [bytes(buffer) for buffer in place.read().parts["a"].buffers] == data
    sent[-1] ^= 1
    with pytest.raises(FrameDamaged):
        frames.from_bytes(sent, KEY, kind="call", queue=QUEUE, id=ID)


def test_the_crash_model_reads_and_writes_the_same(tmp_path: Path) -> None:
    disk = ModelDisk()
    blobs = Blobs(disk, "/q/blobs")
    frame = Frame("call", QUEUE, ID, 0, b"{}", {"a": part("a", noise(20_000), noise(1 << 20))})
    frames.write_frame(disk, "/q/frame", frame, KEY, blobs, flush=True)
    for left in disk.crash_states():
        again = Blobs(left, "/q/blobs")
        read = frames.read_frame("/q/frame", KEY, again, kind="call", queue=QUEUE, id=ID)
        assert [len(buffer) for buffer in read.parts["a"].buffers] == [20_000, 1 << 20]


def test_half_a_blob_that_a_crash_left_is_replaced(place: Place) -> None:
    data = noise(1 << 20)
    hash = place.blobs.put(data)
    Path(place.blobs.path(hash)).write_bytes(data[:1000])
    place.write(part("a", data))
    assert bytes(place.read().parts["a"].buffers[0]) == data


# Damage.


@pytest.fixture(params=["without buffers", "with a buffer"])
def small(request: pytest.FixtureRequest, place: Place) -> Place:
    buffers = () if request.param == "without buffers" else (noise(300),)
    place.write(part("function"), part("arguments", *buffers))
    return place


def places(whole: bytes) -> list[int]:
    """Every byte of a frame; of the zeros between pickle and buffer a sample."""
    padding = whole.find(bytes(600))
    return [at for at in range(len(whole)) if padding < 0 or not padding + 50 < at < len(whole) - 350 or not at % 97]


def test_a_flipped_bit_is_never_a_value(small: Place) -> None:
    whole = small.data
    for at in places(whole):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << (at % 8)
        small.overwrite(flipped)
        with pytest.raises(FrameError):
            small.read()
        if at < whole.index(b"\n") + 66:
            with pytest.raises(FrameError):
                small.header()


def test_a_cut_or_longer_file_is_never_a_value(small: Place) -> None:
    whole = small.data
    for size in [*places(whole), len(whole) + 1, len(whole) + 5000]:
        small.overwrite((whole + bytes(5000))[:size])
        with pytest.raises(FrameError):
            small.read()


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_never_a_value(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    place.write(part("function"), part("arguments"))
    whole = place.data
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(20)] = chance.choice([chance.randbytes(9), b"\n", b"[" * 9, data[:40], b""])
        if data == whole:
            continue
        place.overwrite(data)
        with pytest.raises(FrameError):
            place.read()


HEADER = b'{"nbtasks":1,"kind":"call","queue":"q","id":"i","parts":'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"{}\n" + b"0" * 64 + b"\n",
        b"\x80\x04\x95" * 10,
        b"\xff\xfe\n" + b"a" * 65,
        HEADER + b"[" * 1_000_000,
        HEADER + b"[" * 1_000_000 + b"\n" + b"0" * 64 + b"\n",
        HEADER + b"[]}\n" + b"0" * 63 + b"\n",
        HEADER + b"[]}\n" + "é".encode() * 32 + b"\n",
        b'{"nbtasks":' + b"9" * 5000 + b"}\n" + b"0" * 65,
        b"x" * (17 << 20),
        bytes(17 << 20),
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_no_frame_is_damaged(place: Place, data: bytes) -> None:
    place.overwrite(data)
    for read in (place.read, place.header):
        with pytest.raises(FrameDamaged, match="submit the task again"):
            read()


def test_lengths_that_do_not_fit_the_file_are_refused_without_being_believed(place: Place) -> None:
    """Signed by ourselves, so only a mistake of ours could write it; still no memory is taken for it."""
    for pickle_size, at, size in ((1 << 60, 0, 1), (1, 1 << 60, 1), (1, 0, 1 << 60), (-5, 0, 1), (1, -7, 3)):
        header = headers.Header(1, "call", QUEUE, ID)
        header.parts = [headers.PartInfo("a", pickle_size, "0" * 64, [headers.BufferInfo(size, at)])]
        place.overwrite(headers.encode(header, b"{}", KEY) + bytes(8192))
        with pytest.raises(FrameDamaged):
            place.read()


@pytest.mark.parametrize("thing", ["fifo", "folder", "link", "dangling link", "socket", "device"])
def test_another_thing_in_the_files_place_neither_hangs_nor_is_read(place: Place, tmp_path: Path, thing: str) -> None:
    place.write(part("a"))
    whole = tmp_path / "whole"
    os.rename(place.path, whole)
    sock = socket.socket(socket.AF_UNIX)
    make: dict[str, Callable[[], object]] = {
        "fifo": lambda: os.mkfifo(place.path),
        "folder": lambda: os.mkdir(place.path),
        "link": lambda: os.symlink(whole, place.path),
        "dangling link": lambda: os.symlink("nowhere", place.path),
        "socket": lambda: sock.bind(place.path),
        "device": lambda: os.symlink("/dev/zero", place.path),
    }
    make[thing]()
    try:
        for read in (place.read, place.header):
            with pytest.raises(FrameDamaged, match="not a regular file"):
                read()
    finally:
        sock.close()


def test_a_blob_that_is_gone_short_or_no_file_is_named(place: Place) -> None:
    data = noise(1 << 20)
    place.write(part("a", data))
    blob = Path(place.blobs.path(place.blobs.put(data)))
    blob.write_bytes(data[:-1])
    with pytest.raises(FrameDamaged, match=f"{blob}.*{len(data) - 1} bytes"):
        place.read()
    blob.unlink()
    with pytest.raises(FrameDamaged, match="removed"):
        place.read()
    os.mkfifo(blob)
    with pytest.raises(FrameDamaged, match="not a regular file"):
        place.read()


def test_sources_are_compared_with_their_hash(place: Place) -> None:
    hash = place.blobs.put(b"x = 1\n")
    assert place.blobs.read(hash) == b"x = 1\n"
    Path(place.blobs.path(hash)).write_bytes(b"x = 2\n")
    with pytest.raises(FrameDamaged, match="altered"):
        place.blobs.read(hash)


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "/" * 64])
def test_only_a_hash_becomes_a_path(place: Place, name: str) -> None:
    for use in (place.blobs.read, place.blobs.map, place.blobs.has):
        with pytest.raises(FrameDamaged, match="names no blob"):
            use(name)


def test_a_missing_frame_is_missing(place: Place) -> None:
    for read in (place.read, place.header):
        with pytest.raises(FileNotFoundError):
            read()


# Forgery.


def test_an_evil_pickle_is_not_unpickled(place: Place, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    evil = Part("function", pickle.dumps(Evil(proof)))
    place.write(evil, key=b"another key".ljust(32))
    with pytest.raises(FrameForged, match="NBTASKS_KEY_FILE"):
        payload.load(place.read().parts["function"])
    good = part("function")
    os.unlink(place.path)
    place.write(good)
    place.overwrite(place.data.replace(bytes(good.view()), bytes(evil.view())))
    with pytest.raises(FrameDamaged):
        payload.load(place.read().parts["function"])
    assert not proof.exists()


def test_a_frame_of_another_task_queue_or_kind_is_refused(place: Place) -> None:
    place.write(part("a"))
    theirs = {"kind": "outcome", "queue": "0e" * 16, "id": "20261120-220611-482913-k7q3"}
    for name, value in theirs.items():
        asked = {"kind": "call", "queue": QUEUE, "id": ID, name: value}
        with pytest.raises(FrameForged):
            frames.read_frame(place.path, KEY, place.blobs, **asked)
        with pytest.raises(FrameForged):
            frames.read_header(place.path, KEY, **asked)


@pytest.mark.parametrize("is_signed", [True, False])
def test_a_newer_format_says_what_to_upgrade(place: Place, is_signed: bool) -> None:
    header = headers.Header(7, "call", QUEUE, ID)
    place.overwrite(headers.encode(header, b"{}", KEY if is_signed else b"x" * 32))
    for read in (place.read, place.header):
        with pytest.raises(FrameNewer, match=r"format 7.*pip install -U nbtasks"):
            read()


def test_what_a_later_version_adds_is_left_alone(place: Place) -> None:
    line = msgspec.json.encode({"nbtasks": 1, "kind": "call", "queue": QUEUE, "id": ID, "spec": {}, "colour": [1]})
    place.overwrite(line + b"\n" + headers._sign(KEY, QUEUE, "call", line) + b"\n")
    assert place.read().body == b"{}"


# Errors of the disk, memory and descriptors.


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """A file size limit stands for the full disk: the write fails half way."""
    code = """
import os, resource, signal, sys
from nbtasks.blobs import Blobs
from nbtasks.durable import RealDisk
from nbtasks.frames import Frame, Part, write_frame
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = sys.argv[1]
for sizes in [(200_000,), (2_000_000,)]:
    part = Part("a", b"", tuple(memoryview(bytes(size)) for size in sizes))
    try:
        write_frame(RealDisk(), folder + "/frame", Frame("call", "q", "i", 0, b"{}", {"a": part}), b"k", Blobs(RealDisk(), folder))
    except OSError as error:
        print(error.errno)
print([name for _, _, names in os.walk(folder) for name in names])
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ran.stdout.split() == ["27", "27", "[]"], ran.stderr


def test_many_mapped_results_do_not_use_up_the_descriptors(place: Place) -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    data = noise(1 << 20)
    place.write(part("a", data))
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 220, limit[1]))
    try:
        held = [place.read() for _ in range(400)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert all(frame.parts["a"].buffers[0][:5] == data[:5] for frame in held)


def test_an_array_of_256_mib_goes_there_and_back_without_a_second_copy(tmp_path: Path) -> None:
    code = """
import mmap, os, resource, sys
import numpy
from nbtasks import payload
from nbtasks.blobs import Blobs
from nbtasks.durable import RealDisk
from nbtasks.frames import Frame, read_frame, write_frame
def private():
    return sum(int(line.split()[1]) for line in open("/proc/self/smaps_rollup") if line.startswith("Anonymous:")) >> 10
folder, blobs = sys.argv[1], Blobs(RealDisk(), sys.argv[1] + "/blobs")
array = numpy.ones(32 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
frame = Frame("call", "q", "i", 0, b"{}", {"a": payload.dump("a", array)})
write_frame(RealDisk(), folder + "/f", frame, b"k", blobs)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) - before)
del array, frame
before = private()
array = payload.load(read_frame(folder + "/f", b"k", blobs, kind="call", queue="q", id="i").parts["a"])
assert array.sum() == 32 << 20 and array.flags.writeable
print(private() - before)
array[:] = 2
print(private() - before)
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    writing, reading, changed = map(int, ran.stdout.split())
    assert writing < 32, "MiB beyond the array itself, while it was written"
    assert reading < 32, "MiB for the array that was read"
    assert changed > 200, "the measure must see the array once it is changed, or it proves nothing"


def test_mapped_buffers_stay_when_the_file_goes(place: Place) -> None:
    place.write(part("a", noise(300_000)))
    frame = place.read()
    os.unlink(place.path)
    assert isinstance(frame.parts["a"].buffers[0].obj, mmap.mmap)
    assert bytes(frame.parts["a"].buffers[0]) == noise(300_000)


def test_a_large_blob_is_stored_once_by_whoever_comes(tmp_path: Path) -> None:
    """Both ways: known to this process (hashed first), and new to another one (written while it is hashed)."""
    data = noise(9 << 20)
    blobs = Blobs(DISK, str(tmp_path / "blobs"))
    hashes = {one.put(data) for one in (blobs, blobs, Blobs(DISK, blobs.folder), Blobs(DISK, blobs.folder))}
    assert hashes == {hashlib.sha256(data).hexdigest()}
    [path] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.read_bytes() == data == bytes(blobs.map(*hashes))
