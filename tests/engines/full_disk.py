"""A worker on a small disk that gets full. Run by a test in a mount namespace of its own, as ``unshare -m``."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path

import nbtasks
from nbtasks.queue.directory import Queue
from tests.engines.calls import give_after
from tests.worker.tools import Worker, until

SIZE = 6 << 20


def fill(path: Path) -> None:
    """Take the last byte."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    while os.statvfs(path).f_bavail:
        with open(path, "ab", buffering=0) as file:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def main(folder: Path) -> None:
    disk, filler, gate = folder / "disk", folder / "disk" / "filler", folder / "gate"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "small", str(disk)], check=True)
    os.environ |= {"NBTASKS_QUEUE": str(disk / ".nbtasks"), "NBTASKS_AUTOSTART": "0"}
    queue = Queue.open(str(disk / ".nbtasks"))
    log = folder / "queue"
    log.mkdir()
    worker = Worker(queue, "-w", "2", log=str(log / "worker.log"))
    kept, dropped, silent = (nbtasks.submit(give_after, str(gate), size) for size in (SIZE, SIZE, 0))
    until(lambda: all(task.status == "running" for task in (kept, dropped)))
    fill(filler)
    gate.touch()
    until(lambda: worker.log.count("the disk is full") == 2)
    print("said:", next(line for line in worker.log.splitlines() if "the disk is full" in line))
    assert not kept.done()
    until(lambda: "the disk is full" in kept.reason)
    print("card:", kept._repr_mimebundle_()["text/plain"].split("\n")[1].strip())
    assert dropped.cancel()
    try:
        dropped.result(10)
        raise AssertionError("it was cancelled")
    except CancelledError:
        assert dropped.value is None
    assert not kept.done()
    filler.unlink()
    assert len(kept.result(20)) == SIZE
    assert silent.result(20) == b""
    worker.stop()
    print("all as promised")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
