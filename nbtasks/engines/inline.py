"""The inline engine: tasks run at once and in place, in the process that submits them. For tests and debugging."""

from __future__ import annotations

import os
import time

from nbtasks import processes
from nbtasks.engines.base import Delivery, NoSink
from nbtasks.queue import lookup, members, recovery
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.queue.tickets import parse_until
from nbtasks.spec import Spec
from nbtasks.status import Status

_names: dict[tuple[str, int], str] = {}


def run_inline(queue: Queue, spec: Spec) -> None:
    """Run a task that was just put to its end, in place. It stays where it is when it waits for others that live."""
    name = _member(queue)
    queue.disk.make_folder(queue.layout.running_folder(name))
    while (place := lookup.locate(queue, spec)) is not None:
        if place.status is Status.QUEUED:
            if not queue.disk.move(place.path, f"{queue.layout.running_folder(name)}/{place.ticket}"):
                return  # a worker was faster
            Delivery(queue, name, NoSink(), lambda ticket: None).deliver(place.ticket)
        elif due := parse_until(place.path.rpartition("/")[2]):
            time.sleep(max(0.0, due[0] - time.time()))  # its retry
            recovery.release_due(queue, name)
        else:
            if place.status is Status.WAITING:
                queue.fail_upstream(spec.id, name)  # no worker need live here to say that what it needs has failed
            return


def _member(queue: Queue) -> str:
    """This process as a claimer: recovery finds it dead when it dies in mid-task."""
    key = queue.root, os.getpid()
    if key not in _names:
        name = members.new_name("i")
        members.register(queue, Member(name=name, process=processes.identify(), started=time.time(), engine="inline"))
        _names[key] = name
    return _names[key]
