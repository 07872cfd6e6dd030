"""What the tests of threads run."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import sys
import threading
import time

import nbtasks
from tests.worker import calls
from tests.worker.calls import note, wait_for


def meet(folder: str, mine: str, other: str) -> tuple[int, int]:
    """Come to an end only while another task runs; process and thread."""
    print(f"{mine} begins")
    print(f"{mine} says so", file=sys.stderr)
    note(f"{folder}/{mine}", "here")
    for _ in nbtasks.progress(range(3), desc=mine):
        wait_for(f"{folder}/{other}")
    print(f"{mine} ends")
    return os.getpid(), threading.get_ident()


def count_until_stopped(path: str) -> int:
    """Run Python code until it is interrupted, and give what there is."""
    note(path, os.getpid())
    done = 0
    try:
        while True:
            done += 1
    except KeyboardInterrupt:
        return done


def loop(path: str) -> None:
    """Run Python code for ever."""
    note(path, os.getpid())
    while True:
        pass


def brief(turns: int) -> int:
    """Python code for a moment."""
    done = 0
    for _ in range(turns):
        done += 1
    return done


def block(path: str, seconds: float) -> None:
    """Wait within C, where no exception comes."""
    note(path, os.getpid())
    ctypes.CDLL(None).sleep(int(seconds))


def crash(path: str, partner: str) -> None:
    """Crash in C, once there is another task, or none is awaited any more."""
    note(path, os.getpid())
    wait_for(partner)
    ctypes.string_at(0)


def folder_and_variable(name: str) -> tuple[str, str | None]:
    """Where it runs, and with what."""
    return os.getcwd(), os.environ.get(name)


def ask(depth: int) -> int:
    """Wait for another task, which waits for another one."""
    return 0 if depth == 0 else 1 + nbtasks.submit(ask, depth - 1).result(60)


def here() -> str | None:
    """The name of the task that runs in this thread."""
    task = nbtasks.current_task()
    time.sleep(0.01)
    return task.name if task is not None else None


def wait_for_another(path: str, gate: str) -> int:
    """Wait for a task that runs until the gate is there."""
    task = nbtasks.submit(wait_for, gate)
    note(path, os.getpid())
    return task.result(60)


def print_by_others() -> None:
    """Print through logging, and by child processes."""
    handler = logging.StreamHandler()
    logging.getLogger("thread_calls").addHandler(handler)
    logging.getLogger("thread_calls").warning("from logging")
    logging.getLogger("thread_calls").removeHandler(handler)
    subprocess.run(["echo", "from a child"], stdout=sys.stdout, check=True)
    subprocess.run(["echo", "to the worker"], check=True)


def occupy(folder: str) -> int:
    """Take the only place for a moment; the process."""
    calls.occupy(folder, 1, 0.01)
    return os.getpid()


def occupy_locked(folder: str) -> None:
    """The same, by the lock."""
    with nbtasks.lock("db"):
        calls.occupy(folder, 1, 0.01)


def hold(gate: str) -> None:
    """Have the lock until the gate is there."""
    with nbtasks.lock("db"):
        wait_for(gate)


def hold_and_submit(gate: str) -> str | None:
    """Have the lock, and wait meanwhile for a task of another worker, then for one of this process."""
    with nbtasks.lock("db"):
        nbtasks.using(lane="elsewhere").submit(wait_for, gate).result(60)
        return nbtasks.submit(os.environ.get, "COLOUR").result(60)
