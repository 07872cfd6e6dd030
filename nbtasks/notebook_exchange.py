"""Between the kernel of a notebook task and its slot: a folder, made for one run, with signed frames in it."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from typing import Any

import msgspec

from nbtasks import frames, processes
from nbtasks.blobs import Blobs
from nbtasks.durable import RealDisk
from nbtasks.frames import Frame, Part
from nbtasks.notebook_lending import VARIABLE
from nbtasks.outcome import Outcome
from nbtasks.status import Status

_PREFIX, _OWNER = "nbtasks-notebook-", "owner"
GIVEN, KEPT, EARLIER = "given", "kept", "earlier"  # files: of `return_`, of a cell that failed, of an earlier run


def make_folder() -> str:
    """A folder for one run, readable by its user alone. Those of runs whose slot was killed are removed."""
    for old in glob.glob(os.path.join(tempfile.gettempdir(), f"{_PREFIX}*", _OWNER)):
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if os.stat(old).st_uid == os.getuid() and processes.is_alive(_read(old)) is False:
                shutil.rmtree(os.path.dirname(old), ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    with open(os.path.join(folder, _OWNER), "wb") as file:
        file.write(msgspec.json.encode(processes.identify()))
    return folder


def _read(path: str) -> processes.Identity:
    with open(path, "rb") as file:
        return msgspec.json.decode(file.read(), type=processes.Identity)


class Exchange(msgspec.Struct, frozen=True):
    """Where kernel and slot of one run lay down what is for the other, and the key with which they sign it."""

    folder: str
    key: str  # hexadecimal; of this run alone
    id: str
    delivery: int
    limit: int = 1 << 30  # bytes of variables that are kept unasked

    def environment(self) -> dict[str, str]:
        """What the kernel's environment gets."""
        return {VARIABLE: msgspec.json.encode(self).decode()}

    def write(self, name: str, parts: list[Part], outcome: Outcome) -> None:
        """Lay down parts; what was there under that name is replaced. Raises OSError."""
        disk = RealDisk()
        path = f"{self.folder}/{name}"
        hidden = f"{path}.{os.getpid()}~"
        frame = Frame(
            "outcome",
            self.id,
            self.id,
            self.delivery,
            msgspec.json.encode(outcome),
            {part.name: part for part in parts},
        )
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hidden)
        frames.write_frame(disk, hidden, frame, bytes.fromhex(self.key), Blobs(disk, self.folder))
        os.replace(hidden, path)

    def find(self, name: str) -> tuple[dict[str, Part], Outcome] | None:
        """What lies there under that name, verified; None when there is nothing. Raises FrameError."""
        blobs = Blobs(RealDisk(), self.folder)
        try:
            frame = frames.read_frame(
                f"{self.folder}/{name}", bytes.fromhex(self.key), blobs,
                kind="outcome", queue=self.id, id=self.id, delivery=self.delivery,
            )  # fmt: skip
        except FileNotFoundError:
            return None
        return frame.parts, msgspec.json.decode(frame.body, type=Outcome)

    def has_given(self) -> bool:
        """Whether `return_` was called."""
        return os.path.exists(f"{self.folder}/{GIVEN}")

    def blank(self, **facts: Any) -> Outcome:
        """A record to lay down parts with."""
        return Outcome(id=self.id, delivery=self.delivery, status=Status.RUNNING, **facts)
