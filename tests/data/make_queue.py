"""Makes queue-format-1.tar.gz, the queue that tests/test_format.py reads: run once per format, and the result kept.

    python -m tests.data.make_queue tests/data/queue-format-1.tar.gz

Later versions must read what this one wrote, so an existing archive is never overwritten. A tar because git loses FIFOs,
empty folders and modes. Its key signs nothing else.
"""

from __future__ import annotations

import os
import secrets
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from nbtasks import config, payload
from nbtasks.cells import Cell
from nbtasks.context import Context
from nbtasks.frames import Part
from nbtasks.outcome import Failure, Outcome, Variable
from nbtasks.queue.claims import Claimer
from nbtasks.queue.directory import Queue
from nbtasks.queue.doorbells import Bell
from nbtasks.queue.layout import EVENTS, LOG, STARTED
from nbtasks.queue.tickets import Ticket
from nbtasks.spec import Spec
from nbtasks.status import Status

ENV = "env"


class Parent:
    """Stands among arguments for the value of a task."""

    def __init__(self, id: str) -> None:
        self.id = id


def put(queue: Queue, name: str, parts: list[Part] | None = None, **fields: Any) -> Spec:
    spec = Spec(id=queue.new_id(), name=name, env=ENV, host="example", pid=1, summary=f"{name}()", **fields)
    queue.put(spec, parts or [payload.dump("function", sum), payload.dump("arguments", (([1, 2],), {}))])
    return spec


def run(queue: Queue, spec: Spec, parts: list[Part], **facts: Any) -> Ticket:
    """Claim the task, which is the next in its line, and commit it."""
    ticket = Claimer(queue, "s-old", [f"{spec.lane}@{spec.env}@{spec.need}"]).try_claim()
    assert ticket is not None
    assert ticket.id == spec.id
    now = time.time()
    known = {"status": Status.SUCCEEDED, "has_value": bool(parts), "host": "example", "slot": "s-old", **facts}
    outcome = Outcome(id=spec.id, delivery=ticket.delivery, started=now, ended=now, attempt=ticket.attempt, **known)
    assert queue.finish(spec, ticket, "s-old", outcome, parts)
    return ticket


def write(queue: Queue, ticket: Ticket, kind: str, text: str) -> None:
    queue.disk.create(queue.layout.file(ticket.id, ticket.delivery, kind), [text.encode()])


def fill(queue: Queue) -> None:
    """Tasks of all statuses but running."""
    run(queue, put(queue, "none"), [payload.dump("value", None)])
    array = np.tile(np.arange(500), (400, 1))
    run(queue, put(queue, "array"), [payload.dump("value", array)], preview="ndarray (400, 500) int64")
    retried = put(queue, "retried", retries=2)
    failure = Failure(type="ValueError", message="not yet")
    write(queue, run(queue, retried, [], status=Status.FAILED, failure=failure), LOG, "first attempt\n")
    value = {"text": "ünïcode", "numbers": [1, 2.5, 1 + 2j], "nested": {"deep": (None,)}}
    write(queue, run(queue, retried, [payload.dump("value", value)]), LOG, "second attempt\n")
    _put_cell(queue)
    error = ValueError("no such column")
    failure = Failure(
        type="ValueError", message=str(error), traceback="Traceback …\nValueError: no such column", where="a.py, line 1"
    )
    run(queue, put(queue, "failed"), [payload.dump("exception", error)], status=Status.FAILED, failure=failure)
    queue.cancel(put(queue, "cancelled").id)
    later = put(queue, "later", retries=3)
    claimed = Claimer(queue, "s-old", [f"default@{ENV}@f"]).try_claim()
    assert claimed is not None
    queue.put_back(later, claimed.failed(), f"{queue.layout.running_folder('s-old')}/{claimed}", 1e9)
    _put_parent_and_child(queue)


def _put_cell(queue: Queue) -> None:
    cell = Cell("model.fit()", {"model": {"weights": [0, 0, 0]}}, number=12)
    spec = put(
        queue, "cell", [payload.dump("cell", cell)], kind="cell", need="c", at_most_once=True, notebook="a.ipynb"
    )
    value = (0.9731, {"model": {"weights": [1, 2, 3]}, "history": ["a", "b"]})
    variables = (
        Variable(name="model", preview="dict, 1 item", changed=True),
        Variable(name="history", preview="list, 2 items"),
    )
    progress = {"bars": [{"id": 1, "desc": "epoch", "n": 20, "total": 20, "closed": True}]}
    ticket = run(queue, spec, [payload.dump("cell", value)], preview="0.9731", variables=variables, progress=progress)
    write(queue, ticket, STARTED, "")
    write(queue, ticket, LOG, "accuracy 0.9731\n")
    write(queue, ticket, EVENTS, '{"at":0,"time":1.5,"kind":"display","data":{"text/plain":"0.9731"}}\n')


def _put_parent_and_child(queue: Queue) -> None:
    context = queue.blobs.put(msgspec.json.encode(Context(cwd="/nowhere", environ={"COLOUR": "blue"})))
    numbers = payload.dump("arguments", ((list(range(2_001)),), {}))
    queued = put(queue, "queued", [payload.dump("function", sum), numbers], context=context, retries=1)
    payload.register_reference(Parent, lambda parent: parent.id)
    needing = payload.dump("arguments", ((Parent(queued.id), 1), {}), references=True)
    put(queue, "child", [payload.dump("function", max), needing], parents=needing.references)


def nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main(target: str) -> None:
    if os.path.exists(target):
        sys.exit(f"{target} is there, and is never overwritten: it proves that what was written once can be read")
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder, "key")
        key.write_text(secrets.token_hex(32) + "\n")
        key.chmod(0o600)
        config.configure(key_file=str(key), boot="0123456789ab")
        queue = Queue(f"{folder}/.nbtasks")
        fill(queue)
        bell = Bell(queue.layout.bells_of(queue.boot, f"default@{ENV}/idle"), "s-old")  # left by a dead slot
        with tarfile.open(target, "w:gz") as tar:
            for name in ("key", ".nbtasks"):
                tar.add(f"{folder}/{name}", name, filter=nobody)
        bell.close()


if __name__ == "__main__":
    main(sys.argv[1])
