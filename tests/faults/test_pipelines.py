"""A pipeline of a thousand tasks in random layers, with kill -9 of slots and workers, and retries, in the middle."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter
from collections.abc import Sequence

import pytest

import nbtasks
from nbtasks.graph import Member, Pipeline
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from nbtasks.status import Status
from tests.faults import calls
from tests.faults.roles import Role, worker
from tests.worker.tools import kill, lines, live_slots, until

TASKS, LAYERS, MAPS, KILLS = 1000, 12, 5, 12


@pytest.fixture
def alone(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Queue:
    monkeypatch.setenv("NBTASKS_AUTOSTART", "0")
    nbtasks.config.reset()
    return queue


def submit(chance: random.Random, ran: str, sound: str) -> Pipeline:
    """Tasks in layers, each with some of the layers before as arguments or for order; a few maps between them."""
    with nbtasks.pipeline("storm") as pipeline:
        before: list[nbtasks.Task[int]] = []
        for _ in range(LAYERS):
            layer = []
            for _ in range(TASKS // LAYERS):
                needed = chance.sample(before[-200:], min(len(before), chance.randrange(4)))
                after = chance.sample(before, min(len(before), chance.randrange(2)))
                wants = sound if chance.random() < 0.01 else ""
                using = nbtasks.using(after=after, retries=chance.randrange(2))
                layer.append(using.submit(calls.step, ran, chance.uniform(0, 0.01), wants, *needed))
            before += layer
        for _ in range(MAPS):
            made = nbtasks.submit(calls.several, ran, 4, *chance.sample(before, 2))
            nbtasks.submit(calls.step, ran, 0.0, "", nbtasks.map(calls.item, made, [ran] * 4))
    return pipeline


def strike(queue: Queue, chance: random.Random, workers: list[Role], log: str) -> None:
    """kill -9 of a busy slot, or of a supervisor, whose place another takes."""
    if chance.random() < 0.3:
        at = chance.randrange(len(workers))
        workers[at].kill()
        workers[at] = worker(queue, log)
    elif slots := live_slots(queue):
        kill(chance.choice(slots).process.pid)


def test_a_thousand_tasks_in_layers(alone: Queue) -> None:
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print(f"seed {seed} (SEED={seed} repeats the choices)")
    chance, folder = random.Random(seed), os.path.dirname(alone.root)
    ran, sound, log = f"{folder}/ran", f"{folder}/sound", f"{folder}/worker.log"
    begun = time.monotonic()
    pipeline = submit(chance, ran, sound)
    workers = [worker(alone, log) for _ in range(2)]
    for number in range(KILLS):
        until(lambda wanted=number * 60: len(lines(ran)) > wanted or pipeline.wait(0), 20, "more tasks that run")
        strike(alone, chance, workers, log)
        if number == KILLS // 2:
            pipeline.retry()  # what failed meanwhile, while the rest goes on
    assert pipeline.wait(60)
    failed = pipeline.counts.get(Status.FAILED, 0)
    open(sound, "w").close()
    rounds = 0
    while pipeline.status is not Status.SUCCEEDED and (rounds := rounds + 1) < 5:
        pipeline.retry().wait(60)
    print(f"{len(pipeline.look())} tasks, {failed} had failed before the retry, {time.monotonic() - begun:.1f} s")
    assert_in_order(alone, pipeline.look(), lines(ran))
    assert failed, "the storm was none: nothing had to be retried"


def assert_in_order(queue: Queue, members: dict[str, Member], ran: Sequence[str]) -> None:
    """Each task has one outcome, was started as often as it was delivered at most, and after the ends of its parents."""
    assert check(queue) == []
    assert Counter(one.status for one in members.values()) == {Status.SUCCEEDED: len(members)}
    items = MAPS * 4
    assert len(members) == LAYERS * (TASKS // LAYERS) + MAPS * 3 + items, "a map made each of its items once"
    began, ended = Counter(line[2:] for line in ran if line[0] == ">"), {}
    for at, line in enumerate(ran):
        if line[0] == "<":
            ended.setdefault(line[2:], at)
    for id, one in members.items():
        if one.spec.kind != "map":
            assert 1 <= began[id] <= one.place.ticket.delivery, f"{id} began {began[id]} times: {one.place}"
    first = {id: at for at, id in reversed([(at, line[2:]) for at, line in enumerate(ran) if line[0] == ">"])}
    edges = itertools.chain.from_iterable(((parent, id) for parent in one.parents) for id, one in members.items())
    for parent, child in edges:
        if parent in ended and child in first:
            assert ended[parent] < first[child], f"{child} began before {parent} had ended"


@pytest.mark.torture
def test_a_parent_of_thousands_and_a_child_of_thousands(alone: Queue, tmp_path: object) -> None:
    many = 1500
    ran = f"{tmp_path}/ran"
    with nbtasks.pipeline("wide") as pipeline:
        first = nbtasks.submit(calls.step, ran, 0.0, "")
        middle = [nbtasks.submit(calls.step, ran, 0.0, "", first) for _ in range(many)]
        last = nbtasks.submit(calls.step, ran, 0.0, "", middle)
    worker(alone, f"{tmp_path}/worker.log")
    assert last.result(60) == 1
    assert pipeline.wait(10)
    said = lines(ran)
    assert said[:2] == [f"> {first.id}", f"< {first.id}"]
    assert said[-2:] == [f"> {last.id}", f"< {last.id}"]
    assert len(said) == 2 * (many + 2)
