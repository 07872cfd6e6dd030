"""Who holds a token or a named lock: written into its file by the holder, for those who wait and those who look.

The lock alone decides; what is written says whom it is about. It is wiped when the token is given back, so what is still
there when the lock is free was left by a holder that died.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time

import msgspec

from nbtasks import processes
from nbtasks.processes import Identity
from nbtasks.queue.layout import Layout
from nbtasks.queue.tickets import parse_ticket

_LARGEST = 65536


class Holder(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task that runs, or a script or notebook that holds a named lock."""

    what: str  # the limit, resource or lock, by the name that people gave it
    name: str
    since: float  # seconds since 1970
    process: Identity
    queue: str = ""
    id: str = ""
    ticket: str = ""
    slot: str = ""

    @property
    def short(self) -> str:
        """What people type; "" for what is no task."""
        return self.id.rpartition("-")[2]

    @property
    def is_at_it(self) -> bool:
        """Whether its process lives, and its task is still claimed by it.

        What a bridge has claimed runs elsewhere, also when the bridge is dead: until that is settled it is claimed by one.
        """
        if self.slot[:1] == "b":
            return self._is_elsewhere()
        if processes.is_alive(self.process) is False:
            return False
        return not self.slot or os.path.exists(f"{Layout(self.queue).running_folder(self.slot)}/{self.ticket}")

    def _is_elsewhere(self) -> bool:
        layout = Layout(self.queue)
        if os.path.exists(f"{layout.running_folder(self.slot)}/{self.ticket}"):
            return True
        with contextlib.suppress(OSError):
            bridges = [name for name in os.listdir(layout.running) if name[:1] == "b"]
            names = itertools.chain.from_iterable(os.listdir(layout.running_folder(name)) for name in bridges)
            return any(ticket.id == self.id for name in names if (ticket := parse_ticket(name)))
        return False

    def words(self) -> str:
        """``k7q2 (train, 01:12)``."""
        held = _clock(time.time() - self.since)
        return f"{self.short} ({self.name}, {held})" if self.id else f"{self.name} ({held})"


_decoder = msgspec.json.Decoder(Holder)


def read(path: str) -> Holder | None:
    """Who was written there last, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _decoder.decode(os.read(fd, _LARGEST).partition(b"\n")[0])
    except (OSError, msgspec.DecodeError):
        return None
    finally:
        os.close(fd)


def write(path: str, holder: Holder | None) -> None:
    """Say who holds it; None: nobody any more. By the holder only; in place, for the file is the lock. Never raises."""
    # That it cannot be said, on a full disk, takes nothing from the lock.
    with contextlib.suppress(OSError):
        # The first line counts. Not cut to nothing first: for that ext4 goes to the disk, which takes milliseconds.
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fd, (b"" if holder is None else msgspec.json.encode(holder)) + b"\n")
        finally:
            os.close(fd)


def listed(found: list[Holder]) -> str:
    """``k7q2 (train, 01:12) and m3x9 (fit, 00:07)``; of many the first three."""
    words = [holder.words() for holder in sorted(found, key=lambda holder: holder.since)]
    if len(words) > 3:
        return f"{', '.join(words[:3])} and {len(words) - 3} more"
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _clock(seconds: float) -> str:
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60:02d}:{rest % 60:02d}"
