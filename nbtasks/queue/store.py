"""A queue directory opened: checked as ssh checks its keys, made when it is missing."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid as uuids

import msgspec

from nbtasks import durable, keys
from nbtasks.errors import QueueError, QueueNewer, QueueUnsafe
from nbtasks.frames import Blobs
from nbtasks.queue import layout as names
from nbtasks.queue.layout import Layout

_README = """This folder is a queue of nbtasks: background tasks of the notebooks around it.
`nbtasks status` in the folder above lists them; `nbtasks doctor` checks the folder.
It may be deleted when nothing in it is needed any more: tasks, logs and results go with it.
"""


class Mark(msgspec.Struct, frozen=True):
    """What ``nbtasks-queue.json`` says: the format, who may read and write it, and the queue's uuid."""

    format: int
    read: int
    write: int
    queue: str


class Store:
    """What every part of the queue needs to read and write it: paths, disk, blobs, key and uuid."""

    def __init__(self, root: str, *, create: bool = True, disk: durable.Disk | None = None) -> None:
        self.disk = disk or durable.open_disk()
        self.layout = Layout(os.path.realpath(root))
        self.root = self.layout.root
        if not os.path.lexists(self.layout.mark):
            if not create:
                raise QueueError(f"{self.root} is no queue (it has no {names.MARK}); the first submit makes one")
            _make(self.layout, self.disk)
        check_safe(self.root)
        self.uuid = _read_mark(self.layout, self.disk).queue
        self.key = keys.load_key()
        self.blobs = Blobs(self.disk, self.layout.blobs)

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted; none when it is missing, or a stray file where a folder should be."""
        return sorted(self.disk.list(folder))

    def find_mark(self) -> tuple[int, int] | None:
        """By which a queue is told from another one that was put in its place; None when there is none any more."""
        try:
            info = os.stat(self.layout.mark)
        except OSError:
            return None
        return info.st_dev, info.st_ino


def check_safe(root: str) -> None:
    """Raise QueueUnsafe unless the folder is ours and nobody else may write to it."""
    info = os.lstat(root)
    if not stat.S_ISDIR(info.st_mode):
        raise QueueUnsafe(f"{root} is not a folder: move it away, or name another queue with NBTASKS_QUEUE")
    if hasattr(os, "geteuid"):
        if info.st_uid != os.geteuid():
            raise QueueUnsafe(
                f"{root} belongs to user {info.st_uid}, not to you: whoever may write to a queue can run code as its "
                f"owner. Use a queue of your own: export NBTASKS_QUEUE=~/{names.FOLDER}"
            )
        if info.st_mode & 0o022:
            raise QueueUnsafe(
                f"{root} can be written to by others (mode {stat.S_IMODE(info.st_mode):04o}), who could then run code "
                f"as you. Mend it with: chmod go-w {root}"
            )


def _make(layout: Layout, disk: durable.Disk) -> None:
    with contextlib.suppress(FileExistsError):  # a file in its place: the check says so
        os.makedirs(layout.root, 0o700, exist_ok=True)
    check_safe(layout.root)
    for folder in names.FOLDERS:
        disk.make_folder(f"{layout.root}/{folder}")
    for path, text in ((layout.readme, _README), (layout.gitignore, "*\n")):
        with contextlib.suppress(FileExistsError):
            disk.create(path, [text.encode()])
    mark = Mark(names.FORMAT, names.FORMAT, names.FORMAT, uuids.uuid4().hex)
    with contextlib.suppress(FileExistsError):  # two may make it at once: the first one's uuid counts
        hidden = f"{layout.root}/.{mark.queue}"
        disk.create(hidden, [msgspec.json.encode(mark) + b"\n"], flush=True)
        try:
            os.link(hidden, layout.mark)  # appears whole or not at all, and never over another
        except OSError:
            if not os.path.lexists(layout.mark):  # a file system without links
                disk.create(layout.mark, [msgspec.json.encode(mark) + b"\n"], flush=True)
        finally:
            disk.remove(hidden)


def _read_mark(layout: Layout, disk: durable.Disk) -> Mark:
    try:
        mark = msgspec.json.decode(disk.read(layout.mark, 4096), type=Mark)
    except (msgspec.DecodeError, OSError) as error:
        raise QueueError(
            f"{layout.mark} cannot be read ({error}): restore it from a backup, or move the folder away to begin anew"
        ) from error
    if max(mark.read, mark.write) > names.FORMAT:
        what = "reads" if mark.read > names.FORMAT else "writes"
        raise QueueNewer(
            f"{layout.root} has format {mark.format}, this nbtasks {what} up to {names.FORMAT}: pip install -U nbtasks"
        )
    return mark
