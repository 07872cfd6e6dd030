"""The first two lines of a frame: a header as JSON, and its signature. `frames` says how the rest looks."""

from __future__ import annotations

import functools
import hmac
import re
from typing import NoReturn

import msgspec

from nbtasks import keys
from nbtasks.errors import FrameDamaged, FrameForged, FrameNewer

FORMAT = 1
LIMIT = 16 << 20  # of line 1, in bytes
SIGNATURE = 65  # bytes of line 2, with its line break
_SIGNATURE = re.compile(rb"[0-9a-f]{64}\n")


class BufferInfo(msgspec.Struct, omit_defaults=True, gc=False):
    """Where one buffer lies: in the file (`at`, `crc`) or in a blob."""

    size: int
    at: int = -1  # from the beginning of the region of buffers
    crc: int = 0
    blob: str = ""


class PartInfo(msgspec.Struct, omit_defaults=True):
    """One part: the length and hash of its pickle, and its buffers."""

    name: str
    pickle: int
    sha256: str
    buffers: list[BufferInfo] = []


class Header(msgspec.Struct, omit_defaults=True):
    """Line 1. A call has ``spec``, an outcome ``outcome`` and ``delivery``."""

    nbtasks: int
    kind: str
    queue: str
    id: str
    delivery: int = 0
    spec: msgspec.Raw = msgspec.Raw(b"")
    outcome: msgspec.Raw = msgspec.Raw(b"")
    parts: list[PartInfo] = []

    @property
    def body(self) -> bytes:
        """The JSON of the spec or outcome."""
        return bytes(self.spec if self.kind == "call" else self.outcome)


class _Version(msgspec.Struct):
    nbtasks: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Header).decode
_decode_version = msgspec.json.Decoder(_Version).decode


def encode(header: Header, body: bytes, key: bytes) -> bytes:
    """Both lines for `header` and the JSON `body` of its spec or outcome, signed with the user's `key`."""
    raw = msgspec.Raw(msgspec.json.format(body, indent=-1) if b"\n" in body else body)
    if header.kind == "call":
        header.spec = raw
    else:
        header.outcome = raw
    line = _encode(header)
    return b"%b\n%b\n" % (line, _sign(key, header.queue, header.kind, line))


def decode(
    path: str, head: bytes, key: bytes, *, kind: str, queue: str, id: str, delivery: int | None
) -> tuple[Header, int]:
    """The verified header at the beginning of `head`, and where what follows it begins.

    Raises FrameForged when line 2 is not the signature of line 1, or when the header belongs to
    another kind, queue, task or delivery; FrameNewer for a newer format; FrameDamaged otherwise. `path` is
    for the message.
    """
    end = head.find(b"\n")
    if end < 0:
        raise damaged(path, "its first line has no end")
    line = head[:end]
    start = end + 1 + SIGNATURE
    signature = head[end + 1 : start]
    if not hmac.compare_digest(signature, _sign(key, queue, kind, line) + b"\n"):
        _refuse(path, line, signature)
    try:
        header = _decode(line)
    except (ValueError, RecursionError) as error:
        _refuse_format(path, line)
        raise damaged(path, f"its header cannot be read ({error})") from error
    if header.nbtasks > FORMAT:
        _refuse_format(path, line)
    if (header.kind, header.queue, header.id) != (kind, queue, id) or delivery not in (None, header.delivery):
        what = f"{header.kind} of task {header.id}, delivery {header.delivery}, queue {header.queue}"
        raise FrameForged(f"{path} is not what its name says: it was made as the {what}; remove it", path=path)
    return header, start


def damaged(path: str, why: str) -> FrameDamaged:
    """The error for a frame that was cut short or altered."""
    return FrameDamaged(f"{path} is damaged: {why}. It was cut short or altered; submit the task again", path=path)


@functools.lru_cache(maxsize=64)
def _signer(key: bytes, queue: str, kind: str) -> hmac.HMAC:
    return hmac.new(keys.derive(key, queue, kind), digestmod="sha256")


def _sign(key: bytes, queue: str, kind: str, line: bytes) -> bytes:
    signer = _signer(key, queue, kind).copy()
    signer.update(line)
    return signer.hexdigest().encode()


def _refuse(path: str, line: bytes, signature: bytes) -> NoReturn:
    """Raise the error that says best why the signature is not that of the line. Nothing here is trusted."""
    _refuse_format(path, line)
    try:
        _decode(line)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header cannot be read ({error})") from error
    if not _SIGNATURE.fullmatch(signature):
        raise damaged(path, "its second line is no signature")
    raise FrameForged(
        f"{path} was not signed with your key, or was altered since; it was not unpickled. If it comes from another "
        f"machine of yours, let NBTASKS_KEY_FILE name that machine's key; else remove it",
        path=path,
    )


def _refuse_format(path: str, line: bytes) -> None:
    try:
        version = _decode_version(line).nbtasks
    except (ValueError, RecursionError):
        return
    if version > FORMAT:
        raise FrameNewer(
            f"{path} has format {version}, this nbtasks reads up to {FORMAT}: pip install -U nbtasks", path=path
        )
