"""Tokens of limits and resources: one held lock each. All that a task needs is taken together with its ticket, or nothing.

Whoever takes tokens holds the gate for that instant: of this queue for limits and rates, of the machine for resources.
So a token that is seen to be taken is held by somebody at work, who rings when it is free again; and two
that need the same two tokens cannot each hold one of them.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec

from nbtasks import config, processes
from nbtasks.errors import NbtasksError, QueueUnsafe
from nbtasks.needs import Needs, of_fields
from nbtasks.queue import holders, members, rates, shortage
from nbtasks.queue.holders import Holder
from nbtasks.queue.layout import HostLayout
from nbtasks.queue.leases import QuickLease
from nbtasks.queue.tickets import Ticket
from nbtasks.queue.waking import Waking
from nbtasks.spec import Spec

_PATIENCE = 1.0  # seconds for the gate; who holds it longer was stopped in the middle
NOW, NEVER = 0.0, math.inf
Held = tuple[str, QuickLease]  # what it is called, and its lock


class Shut(NbtasksError):
    """The gate could not be passed: somebody was stopped while he held it."""


def host_layout() -> HostLayout:
    """The folder that all queues of ours on this machine share. QueueUnsafe unless it is ours alone."""
    root = config.settings().host_dir
    with contextlib.suppress(FileExistsError):
        os.makedirs(root, 0o700)
    info = os.lstat(root)
    theirs = hasattr(os, "geteuid") and info.st_uid != os.geteuid()
    if not stat.S_ISDIR(info.st_mode) or theirs or info.st_mode & 0o022:
        raise QueueUnsafe(
            f"{root}, where the resources of this machine are handed out, is not a folder of yours that only you may "
            f"write to: remove it, or name another one with {config.variable('host_dir')}"
        )
    return HostLayout(root)


class Taken:
    """What one delivery holds, from its claim to its commit."""

    def __init__(self, store: Waking, ticket: Ticket, needs: Needs, held: list[Held], mark: str) -> None:
        self.store, self.ticket, self.needs, self._held, self._mark = store, ticket, needs, held, mark

    def introduce(self, spec: Spec, slot: str) -> None:
        """Say who holds the tokens; and end what a holder that died has left running."""
        me, now = processes.identify(), time.time()
        for what, lease in self._held:
            before = holders.read(lease.path)
            if before is not None and before.slot[:1] in ("s", "t") and processes.is_alive(before.process) is False:
                processes.kill_tree(before.process, mark=members.process_of(before.slot))
            holder = Holder(
                what=what, name=spec.name, since=now, process=me, queue=self.store.root, id=spec.id,
                ticket=str(self.ticket), slot=slot,
            )  # fmt: skip
            holders.write(lease.path, holder)

    def start(self) -> None:
        """The user's code begins now: from here the span of a rate counts. Never raises."""
        if self.needs.rates:
            with contextlib.suppress(OSError, NbtasksError), _gates(self.store, self.needs):
                for key, rate in self.needs.rates.items():
                    rates.add(self.store, key, rate, self._mark)

    def forgo(self) -> None:
        """The user's code did not begin, and will not in this delivery: under a rate it does not count. Never raises."""
        if self.needs.rates:
            with contextlib.suppress(OSError, NbtasksError), _gates(self.store, self.needs):
                for key in self.needs.rates:
                    rates.remove(self.store, key, self._mark)

    def release(self, me: str = "") -> None:
        """Give the tokens back, and tell those who wait, but for the worker `me`."""
        for _, lease in self._held:
            holders.write(lease.path, None)
            lease.release()
        self._held = []
        self.store.ring_token_waiters(me)


def look(store: Waking, needs: Needs) -> float:
    """Seconds until a task with these needs may start: NOW; NEVER while a token is missing, for nobody knows how long."""
    try:
        with _gates(store, needs):
            if wait := _rates_left(store, needs):
                return wait
            held = _take_all(store, needs)
            for _, lease in held or ():
                lease.release()
            return NEVER if held is None else NOW
    except (OSError, NbtasksError):  # a full disk, say: those who wait look again in a while
        return NEVER


def try_take(store: Waking, needs: Needs, claim: Callable[[], Ticket | None]) -> Taken | None:
    """Take all that is needed and then a ticket by `claim`; None when either is not to be had, and nothing is held."""
    mark = secrets.token_hex(4)
    try:
        with _gates(store, needs), ExitStack() as undo:
            if _rates_left(store, needs) or (held := _take_all(store, needs)) is None:
                return None
            for _, lease in held:
                undo.callback(lease.release)
            for key, rate in needs.rates.items():
                rates.add(store, key, rate, mark)  # before the claim: who dies in between has started nothing
                undo.callback(rates.remove, store, key, mark)
            if (ticket := claim()) is None:
                return None
            undo.pop_all()
            return Taken(store, ticket, needs, held, mark)
    except (OSError, NbtasksError):
        return None


def try_inherit(store: Waking, spec: Spec, ticket: Ticket, slot: str) -> Taken | None:
    """Take for the bridge `slot` the tokens of a task that goes on at an engine, whose bridge has died.

    They count as held all the time: see `Holder.is_at_it`. None when it has none, or they cannot be taken just now.
    """
    needs = of_fields(spec.needs, spec.need) if spec.needs else None
    if needs is None:
        return None
    mine = msgspec.structs.replace(needs, rates={})  # it has started
    try:
        with _gates(store, mine):
            paths = [path for _, _, paths in shortage.places_of(store, mine) for path in paths]
            left = [(holder.what, path) for path in paths if (holder := holders.read(path)) and holder.id == spec.id]
            held = [(what, lease) for what, path in left if (lease := QuickLease(path)).try_take()]
    except (OSError, NbtasksError):
        return None
    taken = Taken(store, ticket, mine, held, "")
    taken.introduce(spec, slot)
    return taken


@contextlib.contextmanager
def _gates(store: Waking, needs: Needs) -> Iterator[None]:
    """Keep others from taking tokens meanwhile. Always the queue's first: so nobody waits for each other."""
    with ExitStack() as held:
        paths = [store.layout.gate()] if needs.limits or needs.rates else []
        if needs.resources:
            paths.append(host_layout().gate())
        for path in paths:
            lease = QuickLease(path)
            if not lease.wait(_PATIENCE):
                raise Shut(f"{path} is held by a process that was stopped")
            held.callback(lease.release)
        yield


def _rates_left(store: Waking, needs: Needs) -> float:
    return max((rates.left(store, key, rate) for key, rate in needs.rates.items()), default=NOW)


def _take_all(store: Waking, needs: Needs) -> list[Held] | None:
    with ExitStack() as undo:
        held: list[Held] = []
        for name, wanted, paths in shortage.places_of(store, needs):
            for path in paths:
                if not wanted:
                    break
                if (lease := _try_one(path)) is not None:
                    undo.callback(lease.release)
                    held.append((name, lease))
                    wanted -= 1
            if wanted:
                return None
        undo.pop_all()
        return held


def _try_one(path: str) -> QuickLease | None:
    lease = QuickLease(path)
    if not lease.try_take():
        return None
    # A task that closes all descriptors lets go of its locks, and is at work all the same.
    if (holder := holders.read(path)) is not None and holder.is_at_it:
        lease.release()
        return None
    return lease
