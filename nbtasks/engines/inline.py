"""The inline engine: tasks run at once and in place, in the process that submits them. For tests and debugging."""

from __future__ import annotations

import os
import time

from nbtasks import processes
from nbtasks.engines.base import Delivery, NoSink
from nbtasks.queue import lookup, members
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec

_names: dict[tuple[str, int], str] = {}


def run_inline(queue: Queue, spec: Spec, ticket: Ticket) -> bool:
    """Claim and run a task that was just put, in place. False when it waits for others or somebody else took it."""
    name = _member(queue)
    queue.disk.make_folder(queue.layout.running_folder(name))
    source = queue.layout.queued_folder(lookup.line_of(spec), spec.priority, spec.id)
    if not queue.disk.move(f"{source}/{ticket}", f"{queue.layout.running_folder(name)}/{ticket}"):
        queue.fail_upstream(spec.id, name)  # no worker need live here to say that what it needs has failed
        return False
    Delivery(queue, name, NoSink(), lambda ticket: None).deliver(ticket)
    return True


def _member(queue: Queue) -> str:
    """This process as a claimer: recovery finds it dead when it dies in mid-task."""
    key = queue.root, os.getpid()
    if key not in _names:
        name = members.new_name("i")
        members.register(queue, Member(name=name, process=processes.identify(), started=time.time(), engine="inline"))
        _names[key] = name
    return _names[key]
