"""The verbs about workers: ``nbtasks worker``, ``workers``, ``stop`` and ``doctor``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

import click

from nbtasks import cli_doctor, cli_show, config, processes
from nbtasks.errors import OptionError, QueueError
from nbtasks.jupyter import words
from nbtasks.queue import doorbells, members
from nbtasks.queue.check import Finding
from nbtasks.queue.directory import Queue
from nbtasks.queue.members import Member
from nbtasks.spec import check_name, seconds

_ALIKE = 10  # findings of one kind that are printed
_LOOK = 0.1  # seconds between two looks whether a process is gone
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.command()
@click.option("-w", "--slots", type=click.IntRange(1), help="Run so many tasks at once (default: one per usable core).")
@click.option("-l", "--lane", "lanes", multiple=True, help="Serve this lane; may be repeated (default: the usual one).")
@click.option(
    "-e", "--engine", "engines", multiple=True, metavar="URL",
    help="Run them there: processes, rq+redis://HOST …; of several the first that answers (default: the setting).",
)  # fmt: skip
@click.option("--capacity", type=click.IntRange(1), metavar="N", help="Tasks that such an engine is given at once.")
@click.option("--idle-exit", metavar="TIME", help="Leave after being idle for 90, 10m, 2h (default: never).")
@click.option("--burst", is_flag=True, help="Leave when nothing is queued any more.")
@click.option("--max-tasks-per-slot", type=click.IntRange(1), metavar="N", help="Renew a slot after N tasks.")
@click.option("--grace", metavar="TIME", help="When stopped, end what still runs after 90, 10m, 2h.")
@click.option("--no-periodic", is_flag=True, help="Leave schedules to other workers.")
@click.option("--auto", is_flag=True, hidden=True)
def worker(
    slots: int | None, lanes: tuple[str, ...], idle_exit: str | None, burst: bool, max_tasks_per_slot: int | None,
    grace: str | None, no_periodic: bool, auto: bool, engines: tuple[str, ...], capacity: int | None,
) -> int:  # fmt: skip
    """Run tasks until stopped.

    Ctrl-C: end what runs, claim nothing more, then leave. Twice: leave now.
    """
    processes.restart_with_room()
    # Not at the top: only this verb needs what a supervisor needs.
    from nbtasks.worker import supervisor

    served = [check_name("lane", lane) for lane in lanes] or [config.settings().lane]
    return supervisor.run_worker(
        config.find_queue_root(), lanes=served, slots=slots, idle_exit=seconds("--idle-exit", idle_exit), burst=burst,
        auto=auto, max_tasks_per_slot=max_tasks_per_slot, grace=seconds("--grace", grace),
        periodic=not no_periodic, engines=engines, capacity=capacity,
    )  # fmt: skip


@click.command()
@_json
def workers(as_json: bool) -> int:
    """List the workers that live, and what they run."""
    queue = Queue.open(create=False)
    found = list(members.list_workers(queue))
    slots = [slot for slot in members.list_slots(queue) if processes.is_alive(slot.process)]
    if as_json:
        cli_show.print_json([_as_json(queue, member, slots) for member in found])
    elif not found:
        print(f"no worker lives for {queue.root}; the next submit starts one, or: nbtasks worker")
    else:
        table = cli_show.grid("worker", "pid", "up", "engine", "lanes", "busy", "runs")
        for member in found:
            facts = _as_json(queue, member, slots)
            busy = f"{len(facts['runs'])}{'' if members.is_foreign(member) else f' of {member.slots}'}"
            table.add_row(
                member.name, str(member.process.pid), words.clock(time.time() - member.started), member.engine,
                ", ".join(member.lanes), busy, ", ".join(f"{id.rpartition('-')[2]}" for id in facts["runs"]),
            )  # fmt: skip
        cli_show.print_rich(table)
    return 0


def _as_json(queue: Queue, member: Member, slots: list[Member]) -> dict[str, Any]:
    own = [slot for slot in slots if slot.worker == member.name]
    runs = [name.partition(".")[0] for slot in own for name in queue.disk.list(queue.layout.running_folder(slot.name))]
    return {
        "name": member.name, "pid": member.process.pid, "host": member.process.host, "started": member.started,
        "lanes": member.lanes, "env": member.env, "slots": member.slots, "auto": member.auto, "engine": member.engine,
        "version": member.version, "slot_pids": [slot.process.pid for slot in own], "runs": sorted(runs),
    }  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, metavar="[WORKER...]")
@click.option("--now", is_flag=True, help="Put back or end what runs, instead of waiting for it.")
@click.option("--wait", "waiting", is_flag=True, help="Return when they are gone.")
@click.option("--timeout", metavar="TIME", help="With --wait: give up after 90, 10m, 2h (exit code 124).")
def stop(names: tuple[str, ...], now: bool, waiting: bool, timeout: str | None) -> int:
    """Stop workers.

    Without WORKER: all of this queue. They claim nothing more and leave when their tasks have ended.
    """
    limit = seconds("--timeout", timeout)
    queue = Queue.open(create=False)
    chosen = _chosen(list(members.list_workers(queue)), names)
    if not chosen:
        print(f"no worker lives for {queue.root}")
        return 0
    for member in chosen:
        if now:
            _signal_twice(member)
        else:
            doorbells.ring(f"{queue.layout.bells_of(queue.boot, 'workers')}/{member.name}", "drain")
        how = "stops now" if now else "claims nothing more and stops when its tasks have ended"
        print(f"{member.name} (pid {member.process.pid}) {how}")
    return _wait_gone(chosen, limit) if waiting else 0


def _chosen(found: list[Member], names: tuple[str, ...]) -> list[Member]:
    if not names:
        return found
    by_name = {member.name: member for member in found} | {str(member.process.pid): member for member in found}
    for name in names:
        if name not in by_name:
            there = ", ".join(member.name for member in found) or "none lives"
            raise OptionError(f"no worker {name!r} here: {there}")
    return list({by_name[name].name: by_name[name] for name in names}.values())


def _signal_twice(member: Member) -> None:
    # By pidfd where there is one: between the look and the kill a pid may come to belong to another process.
    handle = processes.open_pidfd(member.process.pid)
    try:
        if not processes.is_alive(member.process):
            return
        with contextlib.suppress(ProcessLookupError):
            for _ in range(2):
                if handle is None:
                    os.kill(member.process.pid, signal.SIGTERM)
                else:
                    signal.pidfd_send_signal(handle, signal.SIGTERM)
                time.sleep(_LOOK)  # two signals at once would be one
    finally:
        if handle is not None:
            os.close(handle)


def _wait_gone(chosen: list[Member], limit: float | None) -> int:
    until = None if limit is None else time.monotonic() + limit
    while alive := [member for member in chosen if processes.is_alive(member.process)]:
        if until is not None and time.monotonic() > until:
            names = ", ".join(member.name for member in alive)
            print(f"the time is up; still there: {names}", file=sys.stderr)
            return 124
        time.sleep(_LOOK)
    return 0


@click.command()
@click.option("--full", is_flag=True, help="Also read every value and blob through and compare checksums.")
@_json
def doctor(full: bool, as_json: bool) -> int:
    """Check the queue and say what to do.

    Safety, key, files, tickets, workers, disk. Exit code 1 when something is wrong.
    """
    root = config.find_queue_root()
    if not os.path.exists(root):
        raise QueueError(f"there is no queue to check: {root} does not exist; -q FOLDER names another")
    findings = cli_doctor.examine(root, full=full)
    if as_json:
        cli_show.print_json({"queue": root, "findings": [finding._asdict() for finding in findings]})
    else:
        _print_findings(findings)
        depth = "" if full else " (`--full` also reads all values)"
        if not findings:
            print(f"{root}: nothing is wrong{depth}")
    return 1 if findings else 0


def _print_findings(findings: list[Finding]) -> None:
    seen: Counter[str] = Counter()
    for finding in findings:
        seen[finding.kind] += 1
        if seen[finding.kind] <= _ALIKE:
            print(f"{finding.kind}: {finding.sentence}")
            if finding.cure:
                print(f"    {finding.cure}")
    for kind, count in seen.items():
        if count > _ALIKE:
            print(f"{kind}: {count - _ALIKE:,} more; --json lists all")
