"""``nbtasks clean``: what the queue need not keep."""

from __future__ import annotations

import time

import click

from nbtasks.errors import OptionError
from nbtasks.queue import cache
from nbtasks.queue.directory import Queue
from nbtasks.queue.records import Record
from nbtasks.spec import seconds


@click.command()
@click.option("--cache", "cached", is_flag=True, help="Forget which calls need not run again; results stay.")
@click.option("-n", "--name", help="Only tasks of this name.")
@click.option("--older-than", metavar="TIME", help="Only what ended so long ago: 12h, 7d.")
def clean(cached: bool, name: str | None, older_than: str | None) -> int:
    """Forget what is in the cache: the next submit of such a call runs it. What runs now stays."""
    if not cached:
        raise OptionError("say what to clean: nbtasks clean --cache")
    before = time.time() - (seconds("--older-than", older_than) or 0.0)

    def wanted(record: Record) -> bool:
        return (name is None or record.name == name) and (record.ended or 0.0) <= before

    count = cache.clean(Queue.open(create=False), wanted)
    print(f"{count:,} {'call' if count == 1 else 'calls'} forgotten; the results stay with their tasks")
    return 0
