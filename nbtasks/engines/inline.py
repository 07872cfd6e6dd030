"""The inline engine: tasks run at once and in place, in the process that submits them. For tests and debugging."""

from __future__ import annotations

import os
import threading
import time

from nbtasks import processes
from nbtasks.engines.base import Delivery, NoSink
from nbtasks.errors import OptionError
from nbtasks.needs import Needs, of_fields
from nbtasks.queue import lookup, members, recovery, shortage, tokens
from nbtasks.queue.directory import Queue
from nbtasks.queue.lookup import Place
from nbtasks.queue.members import Member
from nbtasks.queue.tickets import Ticket, parse_until
from nbtasks.queue.tokens import Taken
from nbtasks.spec import Spec
from nbtasks.status import Status

_LOOK = 0.25  # seconds between looks that make good a lost ring, as when the holder of a token was killed
_names: dict[tuple[str, int], str] = {}
_threads = threading.local()


def run_inline(queue: Queue, spec: Spec) -> None:
    """Run a task that was just put to its end, in place. It stays where it is when it waits for others that live."""
    name = _member(queue)
    queue.disk.make_folder(queue.layout.running_folder(name))
    while (place := lookup.locate(queue, spec)) is not None:
        if place.status is Status.QUEUED:
            claimed, taken = _claim(queue, spec, place, name)
            if not claimed:
                return  # a worker was faster
            _deliver(queue, name, place.ticket, taken)
        elif due := parse_until(place.path.rpartition("/")[2]):
            time.sleep(max(0.0, due[0] - time.time()))  # its retry
            recovery.release_due(queue, name)
        else:
            if place.status is Status.WAITING:
                queue.fail_upstream(spec.id, name)  # no worker need live here to say that what it needs has failed
            return


def _claim(queue: Queue, spec: Spec, place: Place, name: str) -> tuple[bool, Taken | None]:
    """Claim the task, together with the tokens that it needs, as soon as they are free. False: another has claimed it."""
    target = f"{queue.layout.running_folder(name)}/{place.ticket}"
    needs = of_fields(spec.needs, spec.need) if spec.needs else None
    if needs is None:
        return queue.disk.move(place.path, target), None
    bells = queue.token_bells(members.new_name("i"))
    try:
        while queue.disk.exists(place.path):
            taken = tokens.try_take(queue, needs, lambda: place.ticket if queue.disk.move(place.path, target) else None)
            if taken is not None:
                return True, taken
            _refuse_itself(queue, spec, needs)
            bells[0].wait(min(tokens.look(queue, needs), _LOOK), bells[1].fd)
            for bell in bells:
                bell.drain()
    finally:
        for bell in bells:
            bell.close()
    return False, None


def _refuse_itself(queue: Queue, spec: Spec, needs: Needs) -> None:
    """Raise OptionError when only tasks within which this one was submitted hold what it needs."""
    blocking = shortage.blocking(queue, needs)
    if blocking and all(holder.ticket in _under_way() for holder in blocking):
        why = shortage.of_needs(queue, spec.need, spec.needs)
        queue.cancel(spec.id)
        raise OptionError(
            f"{spec.name} {spec.short} would wait for ever {why}: a task that runs in place cannot wait for the one that submits it"
        )


def _deliver(queue: Queue, name: str, ticket: Ticket, taken: Taken | None) -> None:
    _under_way().append(str(ticket))
    try:
        Delivery(queue, name, NoSink(), lambda ticket: None).deliver(ticket, taken)
    finally:
        _under_way().pop()
        if taken is not None:
            taken.release()


def _under_way() -> list[str]:
    """The tickets that this thread runs, one within another."""
    if not hasattr(_threads, "tickets"):
        _threads.tickets = []
    found: list[str] = _threads.tickets
    return found


def _member(queue: Queue) -> str:
    """This process as a claimer: recovery finds it dead when it dies in mid-task."""
    key = queue.root, os.getpid()
    if key not in _names:
        name = members.new_name("i")
        members.register(queue, Member(name=name, process=processes.identify(), started=time.time(), engine="inline"))
        _names[key] = name
    return _names[key]
