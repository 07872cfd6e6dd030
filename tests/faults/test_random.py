"""kill -9 at random moments, of slots, supervisors and submitters, while tasks run, fail, wait for others and are cancelled."""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

import nbtasks
from nbtasks.queue import lookup, records
from nbtasks.queue.directory import Queue
from tests.faults import calls
from tests.faults.roles import Role, acknowledged, assert_sound, settle, worker
from tests.worker.calls import note
from tests.worker.tools import kill, lines, live_slots, until

WORKERS, SUBMITTERS = 2, 2
CROWD = 60  # live tasks at which submitters pause


class Storm:
    """Two workers and two submitters at work on one queue, and who kills them."""

    def __init__(self, queue: Queue, seed: int) -> None:
        self.queue, self.seed, self.chance = queue, seed, random.Random(seed)
        self.folder = os.path.dirname(queue.root)
        self.acks, self.ran, self.asked, self.over = (
            f"{self.folder}/{name}" for name in ("acknowledged", "ran", "asked", "over")
        )
        self.workers = [self.new_worker() for _ in range(WORKERS)]
        self.submitters = [self.new_submitter() for _ in range(SUBMITTERS)]
        self.kills: Counter[str] = Counter()
        self.dying: dict[str, float] = {}  # ticket of a killed slot: when
        self.took: list[float] = []

    def new_worker(self) -> Role:
        return worker(self.queue, f"{self.folder}/worker.log")

    def new_submitter(self) -> Role:
        chance = random.Random(self.chance.random())
        return Role(lambda: self.submit(chance), f"{self.folder}/submitter.log")

    def submit(self, chance: random.Random) -> None:
        """Submit a little of everything until it is over."""
        mine: list[nbtasks.Task[object]] = []
        while not os.path.exists(self.over):
            if self.is_crowded():
                time.sleep(0.02)
                continue
            options, call = self.choose(chance, mine)
            task = nbtasks.using(**options).submit(*call)  # type: ignore[arg-type]
            note(self.acks, task.id)
            mine.append(task)
            if chance.random() < 0.1:
                chance.choice(mine).cancel()
            if chance.random() < 0.05:
                again = chance.choice(mine)
                if again.done() and again.status != "succeeded":
                    note(self.asked, again.id)
                    again.retry()
            time.sleep(chance.uniform(0, 0.06))

    def is_crowded(self) -> bool:
        """Whether the workers do not keep up."""
        return sum(1 for _ in itertools.islice(lookup.live_tickets(self.queue), CROWD)) == CROWD

    def choose(
        self, chance: random.Random, mine: list[nbtasks.Task[object]]
    ) -> tuple[dict[str, object], tuple[object, ...]]:
        ran, nap = self.ran, chance.uniform(0, 0.2)
        parents = [chance.choice(mine[-20:])] if mine else []
        return chance.choices(
            [
                ({}, (calls.work, ran, nap)),
                ({"at_most_once": True}, (calls.work, ran, nap)),
                ({"retries": 2, "retry_delay": nap / 2}, (calls.fail_at_first, ran)),
                ({}, (calls.work, ran, nap, *parents)),
                ({"after": parents}, (calls.work, ran, 0.0)),
                ({"at_most_once": True}, (calls.die, ran)),
                ({"timeout": 0.05, "grace": 0.05}, (calls.stay, ran)),
            ],
            [8, 6, 3, 3, 2, 1, 1],
        )[0]

    # Killing.

    def strike(self, role: str) -> None:
        if role == "slot":
            if not self.kill_slot():
                return
        elif role == "supervisor":
            place = self.chance.randrange(WORKERS)
            self.workers[place].kill()
            self.workers[place] = self.new_worker()
        else:
            place = self.chance.randrange(SUBMITTERS)
            self.submitters[place].kill()
            self.submitters[place] = self.new_submitter()
        self.kills[role] += 1

    def kill_slot(self) -> bool:
        slots = live_slots(self.queue)
        if not slots:
            return False
        slot = self.chance.choice(slots)
        folder = self.queue.layout.running_folder(slot.name)
        kill(slot.process.pid)
        now = time.monotonic()
        self.dying |= {f"{folder}/{name}": now for name in self.queue.disk.list(folder)}
        return True

    def watch(self, seconds: float) -> None:
        """Let them work for a while; note how soon deaths are seen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for path, killed in list(self.dying.items()):
                if not os.path.exists(path):
                    del self.dying[path]
                    self.took.append(time.monotonic() - killed)
            time.sleep(0.005)

    def rage(self, times: int) -> None:
        left = ["slot", "supervisor", "submitter"] * times
        self.chance.shuffle(left)
        while left:
            self.watch(self.chance.uniform(0, 0.15))
            before = self.kills.total()
            self.strike(left[-1])
            if self.kills.total() > before:
                left.pop()

    # Afterwards.

    def calm(self) -> Counter[str]:
        Path(self.over).touch()
        for role in self.submitters:
            role.end()
        for role in self.workers:
            role.kill()
        settle(self.queue, f"{self.folder}/clean.log", ["default"], 60)
        specs = [records.read_spec(self.queue, place.ticket.id) for place in lookup.ended_tickets(self.queue)]
        once = {spec.id for spec in specs if spec.at_most_once}
        counts = assert_sound(self.queue, acknowledged(self.acks), once, lines(self.ran), acknowledged(self.asked))
        until(lambda: not live_slots(self.queue), 10, "the end of all slots")
        return counts


def storm(queue: Queue, times: int) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"seed {seed} (SEED={seed} repeats the choices)")
    one = Storm(queue, seed)
    one.rage(times)
    counts = one.calm()
    ran, acked = Counter(lines(one.ran)), len(acknowledged(one.acks))
    print(f"kills {dict(one.kills)}, tasks {counts.total()} ({acked} acknowledged), ended {dict(counts)}")
    print(f"lost 0, ran again {sum(count > 1 for count in ran.values())}")
    if one.took:
        slowest, usual = max(one.took), statistics.median(one.took)
        print(f"deaths of busy slots seen after {usual * 1000:.0f} ms (median), {slowest * 1000:.0f} ms (slowest)")


@pytest.fixture
def alone(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    nbtasks.config.reset()
    return queue


def test_fifty_kills_of_each(alone: Queue) -> None:
    storm(alone, 50)


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_a_thousand_kills_of_each(alone: Queue) -> None:
    storm(alone, 1000)
