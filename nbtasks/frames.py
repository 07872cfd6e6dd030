"""Frames: header, pickles and buffers of one call or outcome, as signed bytes and files.

A file is::

    {"nbtasks":1,"kind":"call","queue":UUID,"id":ID,"spec":{…},"parts":[…]}\\n      line 1, the header
    64 hexadecimal characters\\n                                                    line 2, its signature
    pickles, one after another                                                     lengths in the header
    buffers, each from a multiple of 4096 bytes on                                 lengths and places in the header

Line 1 is JSON without line breaks; an outcome has ``"kind":"outcome"``, ``"delivery":D`` and
``"outcome":{…}`` instead of ``"spec"``. Line 2 is the HMAC-SHA256 of line 1 (without its line break) with
a key derived for queue and kind. A part is ``{"name":NAME,"pickle":LENGTH,"sha256":HASH,"buffers":[…]}``,
and a buffer either ``{"size":N,"at":OFFSET,"crc":CRC32}``, whose offset counts from the first multiple of
4096 at or after the end of the last pickle, or ``{"size":N,"blob":HASH}``. What lies between is zero, and the
file ends with its last pickle or buffer.

So the signature covers everything: pickles by their hash, buffers by length and checksum. Code can only hide in
a pickle; buffers of large files are mapped and not read through. What was verified and what is unpickled are
the same bytes in memory.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from nbtasks import headers
from nbtasks.blobs import Blobs, Maps, flat, is_real, map_file, open_regular, read_into
from nbtasks.durable import Bytes, Disk
from nbtasks.headers import BufferInfo, Header, PartInfo, damaged
from nbtasks.spool import Spool

__all__ = ["Blobs", "Frame", "Part", "from_bytes", "read_frame", "read_header", "to_bytes", "write_frame"]

PAGE = 4096
BLOB_SIZE = 1 << 20  # buffers of this many bytes and more become blobs
SMALL = 256 << 10  # a file up to this size is read whole; of a larger one the buffers are mapped
_FIRST_READ = 16 << 10  # holds nearly every header


class Part:
    """One named object of a frame as bytes: its pickle and the large buffers beside it. May go into many frames.

    `buffers` are views of the object itself when `payload.dump` made them: what is written is what they
    hold at that time. `references` are the ids of the tasks among the arguments, in order.
    """

    __slots__ = ("_stored", "buffers", "name", "pickle", "references", "sha256")

    def __init__(
        self,
        name: str,
        pickle: bytes | bytearray | Spool,
        buffers: tuple[memoryview, ...] = (),
        references: tuple[str, ...] = (),
        sha256: str = "",
    ) -> None:
        self.name = name
        self.pickle = pickle
        self.buffers = buffers
        self.references = references
        self.sha256 = sha256 or hashlib.sha256(self.view()).hexdigest()
        self._stored: dict[str, list[str]] = {}  # folder of blobs: hash of each large buffer, for the next frame

    def view(self) -> bytes | bytearray | memoryview:
        """The pickle as bytes, in memory or mapped."""
        return self.pickle.view() if isinstance(self.pickle, Spool) else self.pickle

    @property
    def size(self) -> int:
        """Bytes of pickle and buffers together."""
        return len(self.view()) + sum(buffer.nbytes for buffer in self.buffers)

    def renamed(self, name: str) -> Part:
        """The same under another name."""
        part = Part(name, self.pickle, self.buffers, self.references, self.sha256)
        part._stored = self._stored
        return part

    def stored_in(self, folder: str) -> list[str]:
        """The hash of each buffer that is known to be a blob of that folder, "" for the others."""
        return self._stored.get(folder) or [""] * len(self.buffers)

    def store(self, blobs: Blobs, *, flush: bool = False) -> list[str]:
        """The hash of each buffer that is a blob, "" for the others; stored when first asked for."""
        if not self.buffers:
            return []
        stored = self._stored.get(blobs.folder)
        if stored is None:
            stored = self._stored[blobs.folder] = [
                blobs.put(buffer, flush=flush) if buffer.nbytes >= BLOB_SIZE else "" for buffer in self.buffers
            ]
        return stored


@dataclass(slots=True)
class Frame:
    """One call or outcome: whose it is, its record as JSON (a Spec or an Outcome), its parts by name."""

    kind: str  # "call" | "outcome"
    queue: str
    id: str
    delivery: int
    body: bytes
    parts: dict[str, Part] = field(default_factory=dict)


# Writing.


def write_frame(disk: Disk, path: str, frame: Frame, key: bytes, blobs: Blobs, *, flush: bool = False) -> int:
    """Write a frame to the new file `path`, its large buffers to blobs; how many bytes the file has.

    `key` is the user's key. ``flush=True``: file and blobs survive a power cut. Raises OSError
    (FileExistsError, no space); then there is no file.
    """
    chunks = _pack(frame, key, lambda part: part.store(blobs, flush=flush))
    size = sum(map(len, chunks))
    disk.create(path, (b"".join(chunks),) if size <= SMALL else chunks, flush=flush)
    return size


def to_bytes(frame: Frame, key: bytes, stored: Callable[[Part], list[str]] | None = None) -> list[memoryview]:
    """The same bytes with every buffer in them, for a wire. Join them, or send one after another.

    `stored` gives for each buffer of a part the hash under which the other end finds it, or "": then it is in the bytes.
    """
    return [memoryview(chunk) for chunk in _pack(frame, key, stored or (lambda part: [""] * len(part.buffers)))]


def _pack(frame: Frame, key: bytes, store: Callable[[Part], list[str]]) -> list[Bytes]:
    header = Header(headers.FORMAT, frame.kind, frame.queue, frame.id, frame.delivery)
    pickles: list[Bytes] = []
    buffers: list[memoryview] = []
    end = 0
    for part in frame.parts.values():
        pickle = part.view()
        pickles.append(pickle)
        info = PartInfo(part.name, len(pickle), part.sha256)
        header.parts.append(info)
        for buffer, hash in zip(part.buffers, store(part), strict=True):
            if hash:
                info.buffers.append(BufferInfo(buffer.nbytes, blob=hash))
                continue
            at = _aligned(end)
            info.buffers.append(BufferInfo(buffer.nbytes, at, zlib.crc32(buffer)))
            buffers.append(flat(buffer))
            end = at + buffer.nbytes
    chunks: list[Bytes] = [headers.encode(header, frame.body, key), *pickles]
    if buffers:
        size = sum(map(len, chunks))
        for buffer in buffers:
            chunks += [bytes(_aligned(size) - size), buffer]
            size = _aligned(size) + buffer.nbytes
    return chunks


def _aligned(offset: int) -> int:
    return -(-offset // PAGE) * PAGE


# Reading.


def read_frame(
    path: str, key: bytes, blobs: Blobs, *, kind: str, queue: str, id: str, delivery: int | None = None
) -> Frame:
    """The frame in a file, verified as the one of that kind, queue, task and delivery; nothing is unpickled.

    Raises FrameDamaged, FrameForged or FrameNewer, naming the path and what to do; FileNotFoundError
    when there is none.
    """
    if not is_real(blobs.disk):
        source = _Source(path, blobs.disk.read(path))
        return _read(source, key, blobs, kind=kind, queue=queue, id=id, delivery=delivery)
    fd, size = open_regular(path)
    try:
        source = _Source(path, _read_head(fd, size, path) if size > SMALL else os.read(fd, size), fd, size)
        return _read(source, key, blobs, kind=kind, queue=queue, id=id, delivery=delivery)
    finally:
        os.close(fd)


def read_header(path: str, key: bytes, *, kind: str, queue: str, id: str, delivery: int | None = None) -> bytes:
    """The record (JSON of a Spec or Outcome) of a frame, verified; reads no more than the first two lines.

    Raises as `read_frame` does.
    """
    fd, size = open_regular(path)
    try:
        head = _read_head(fd, size, path)
    finally:
        os.close(fd)
    return headers.decode(path, head, key, kind=kind, queue=queue, id=id, delivery=delivery)[0].body


def from_bytes(
    data: Bytes, key: bytes, *, kind: str, queue: str, id: str, delivery: int | None = None,
    origin: str = "the frame received", blobs: Maps | None = None,
) -> Frame:  # fmt: skip
    """The frame in `data` as `to_bytes` made it, verified with every checksum; `blobs` has the buffers that are not in it.

    Raises as `read_frame` does.
    """
    source = _Source(origin, bytes(data))
    return _read(source, key, blobs, kind=kind, queue=queue, id=id, delivery=delivery)


class _Source:
    """A frame's bytes: `head` holds the first of them or all; the rest comes from `fd`."""

    __slots__ = ("fd", "head", "is_whole", "path", "size")

    def __init__(self, path: str, head: bytes, fd: int = -1, size: int = -1) -> None:
        self.path = path
        self.head = head
        self.fd = fd
        self.size = size if size >= 0 else len(head)
        self.is_whole = len(head) == self.size

    def get(self, start: int, size: int) -> bytes | bytearray:
        if self.is_whole or start + size <= len(self.head):
            return self.head[start : start + size]
        return read_into(self.fd, size, start)


def _read_head(fd: int, size: int, path: str) -> bytes:
    """The first bytes of a file, with all of its first two lines."""
    head = os.read(fd, min(size, _FIRST_READ))
    while len(head) < size and not 0 <= head.find(b"\n") < len(head) - headers.SIGNATURE:
        if len(head) > headers.LIMIT:
            raise damaged(path, f"its header is longer than {headers.LIMIT >> 20} MiB")
        more = os.read(fd, min(size - len(head), len(head)))
        if not more:
            break
        head += more
    return head


def _read(
    source: _Source, key: bytes, blobs: Maps | None, *, kind: str, queue: str, id: str, delivery: int | None
) -> Frame:
    header, start = headers.decode(source.path, source.head, key, kind=kind, queue=queue, id=id, delivery=delivery)
    region = _Region(source, header, start, blobs)
    parts: dict[str, Part] = {}
    for info in header.parts:
        pickle = source.get(start, info.pickle)
        start += info.pickle
        if hashlib.sha256(pickle).hexdigest() != info.sha256:
            raise damaged(source.path, f"its part {info.name!r} was altered")
        buffers = tuple(map(region.buffer, info.buffers)) if info.buffers else ()
        part = parts[info.name] = Part(info.name, pickle, buffers, sha256=info.sha256)
        if buffers and blobs is not None:
            part._stored[blobs.folder] = [one.blob for one in info.buffers]
    return Frame(header.kind, header.queue, header.id, header.delivery, header.body, parts)


class _Region:
    """The buffers of a frame, in the file and in blobs. Making it checks the size of the file."""

    __slots__ = ("_base", "_blobs", "_map", "_source")

    def __init__(self, source: _Source, header: Header, start: int, blobs: Maps | None) -> None:
        end = start + sum([info.pickle for info in header.parts])
        self._base = _aligned(end)
        self._source = source
        self._blobs = blobs
        self._map: memoryview | None = None
        for info in header.parts:
            for buffer in info.buffers:
                if buffer.at >= 0:
                    at = self._base + buffer.at
                    if source.is_whole and any(source.head[end:at]):
                        raise damaged(source.path, "there is something between its buffers")
                    end = at + buffer.size
        if end != source.size:
            raise damaged(source.path, f"it has {source.size} bytes instead of {end}")

    def buffer(self, info: BufferInfo) -> memoryview:
        """One buffer, writable. What is in memory anyway is compared with its checksum."""
        source = self._source
        if info.at < 0:
            if self._blobs is None:
                raise damaged(source.path, f"it came without its blob {info.blob}")
            return self._blobs.map(info.blob, info.size)
        at = self._base + info.at
        if source.is_whole:
            data = bytearray(source.head[at : at + info.size])
            if zlib.crc32(data) != info.crc:
                raise damaged(source.path, "one of its buffers was altered")
            return memoryview(data)
        if self._map is None:
            self._map = map_file(source.fd, source.size)
        return self._map[at : at + info.size]
