"""What both ends of the Celery engine agree on: names of queues, and the message of a task as Celery's protocol 2 has it.

The arguments of a message are the queue's uuid, the key (of a batch all, with spaces between), and the bundle in base64; or None, and in how many pieces it lies
with the broker.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from nbtasks.engines.foreign import Shipment

TASK = "nbtasks.run"
INLINE = 16 << 10  # bytes of a bundle that go into the message itself
JSON, UTF8 = "application/json", "utf-8"
_EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def workers(count: int, shown: str) -> str:
    """How many of Celery's workers there are; when there is none, how one is started for the engine of that URL."""
    if not count:
        return f"no Celery worker yet: NBTASKS_ENGINE={shown} celery -A nbtasks.engines.celery worker"
    return f"{count} Celery worker{'s' * (count != 1)}"


def queue_name(lane: str) -> str:
    """Celery's queue for a lane."""
    return "nbtasks" if lane == "default" else f"nbtasks-{lane}"


def headers(one: Shipment) -> dict[str, Any]:
    """The headers of its message. What Celery shows of arguments is nothing: they are bytes."""
    id = f"{one.key}+{len(one.keys)}" if one.others else one.key
    return {
        "lang": "py", "task": TASK, "id": id, "nbtasks_keys": " ".join(one.keys), "root_id": id, "parent_id": None, "group": None, "group_index": None,
        "shadow": one.name, "eta": None, "expires": None, "retries": 0, "timelimit": [None, None], "origin": "nbtasks",
        "argsrepr": "()", "kwargsrepr": "{}", "ignore_result": True, "replaced_task_nesting": 0, "stamped_headers": None,
        "stamps": {},
    }  # fmt: skip


def body(queue: str, one: Shipment, pieces: int) -> str:
    """The body of its message; with `pieces`, the bundle is not in it."""
    bundle = None if pieces else base64.b64encode(one.bundle).decode()
    return msgspec.json.encode([[queue, " ".join(one.keys), bundle, pieces], {}, _EMBED]).decode()


def unwrap(bundle: str) -> bytes:
    """The bundle of a message that has it."""
    return base64.b64decode(bundle)
