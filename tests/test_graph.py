"""Tasks that feed each other: values in the place of tasks, pipelines as one, maps over what is not known yet."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import nbtasks
from nbtasks import submitting
from nbtasks.jupyter import graph_html, graph_shape
from nbtasks.queue import groups
from nbtasks.queue.check import check
from nbtasks.queue.directory import Queue
from nbtasks.queue.layout import PLAN
from nbtasks.spec import Spec
from nbtasks.status import Status
from nbtasks.submitting import put


def one() -> int:
    return 1


def add(*numbers: int) -> int:
    return sum(numbers)


def total(numbers: list[int]) -> int:
    return sum(numbers)


def square(number: int) -> int:
    return number * number


def same(value: Any) -> Any:
    return value


def fail() -> None:
    raise ValueError("no data today")


def unless(path: str, value: int = 1) -> int:
    """Fail while there is no such file."""
    if not os.path.exists(path):
        raise ValueError(f"{path} is not there")
    return value


def unless_two(path: str, value: int) -> int:
    return value if value != 2 else unless(path, value)


def stay(path: str) -> int:
    while not os.path.exists(path):
        time.sleep(0.01)
    return 1


def numbers(count: int) -> list[int]:
    return list(range(count))


@dataclasses.dataclass
class Inputs:
    rows: Any
    more: dict[str, Any]


# Tasks as arguments.


def test_a_task_is_its_value_wherever_it_stands(queue: Queue) -> None:
    task = nbtasks.submit(one)
    for given, expected in [
        (task, 1),
        ([task, (task, {"deep": [task]})], [1, (1, {"deep": [1]})]),
        ({task}, {1}),
        (frozenset({task, 5}), frozenset({1, 5})),
        ({task: "key"}, {1: "key"}),
        (Inputs(task, {"x": [task]}), Inputs(1, {"x": [1]})),
        (nbtasks.map(square, range(3)), [0, 1, 4]),
    ]:
        assert nbtasks.submit(same, given).result(timeout=20) == expected


def where(array: np.ndarray[Any, Any]) -> tuple[str, bool, float]:
    """In which file the array lies in memory, whether it can be written to, and its sum."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, _, end = line.split()[0].partition("-")
        if int(begin, 16) <= address < int(end, 16):
            array[0] = 7.0
            return line.split(maxsplit=5)[5] if len(line.split()) > 5 else "", array.flags.writeable, float(array.sum())
    return "", False, 0.0


def ones(count: int) -> np.ndarray[Any, Any]:
    return np.ones(count)


def test_a_large_array_is_mapped_from_the_queue_and_not_copied(queue: Queue) -> None:
    made = nbtasks.submit(ones, 1_000_000)
    file, writeable, value = nbtasks.submit(where, made).result(timeout=20)
    assert file.startswith(queue.root)
    assert writeable
    assert value == 1_000_006.0
    assert made.result().sum() == 1_000_000.0, "what the child wrote is its own"


def test_after_is_for_order_alone(queue: Queue) -> None:
    first = nbtasks.submit(one)
    assert nbtasks.using(after=first).submit(add, 2, 3).result(timeout=20) == 5
    failed = nbtasks.submit(fail)
    with pytest.raises(nbtasks.UpstreamFailed, match=f"fail .{failed.short}., which it needs, failed"):
        nbtasks.using(after=[first, failed]).submit(one).result(timeout=20)


def test_a_task_of_another_queue_is_named_with_the_cure(queue: Queue, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "other" / ".nbtasks")
    nbtasks.configure(queue=elsewhere, engine="inline")
    foreign = nbtasks.submit(one)
    nbtasks.configure(queue=queue.root, engine="processes")
    before = queue.disk.list(queue.layout.tasks)
    with pytest.raises(nbtasks.OptionError) as caught:
        nbtasks.submit(add, 1, [foreign])
    said = str(caught.value)
    assert said.startswith(f"argument 2 holds the task {foreign.id}")
    assert elsewhere in said
    assert "Give its value instead: .result()" in said
    with pytest.raises(nbtasks.OptionError, match=r"argument 'extra' holds the task .* \.result\(\)"):
        nbtasks.submit(same, value=1, extra={"deep": foreign})
    assert queue.disk.list(queue.layout.tasks) == before, "nothing is half submitted"


def test_a_task_cannot_wait_for_itself(queue: Queue) -> None:
    id = queue.new_id()
    with pytest.raises(nbtasks.OptionError, match="cannot wait for itself"):
        queue.put(Spec(id=id, name="mine", after=(id,)), [])
    assert not os.path.exists(queue.layout.call(id))
    with pytest.raises(nbtasks.OptionError):
        put(queue, Spec(id=id, name="mine", parents=(id,)), [])


def wait_for_myself() -> Any:
    task = nbtasks.current_task()
    assert task is not None
    return nbtasks.get(task.id).result()


def wait_for_my_child(how: str) -> Any:
    task = nbtasks.current_task()
    assert task is not None
    middle = nbtasks.submit(same, nbtasks.get(task.id))
    child = nbtasks.submit(same, middle)
    return child.result() if how == "result" else nbtasks.wait([child])


def test_a_task_that_waits_for_its_own_end_is_refused(queue: Queue) -> None:
    with pytest.raises(nbtasks.OptionError, match="waits for itself"):
        nbtasks.submit(wait_for_myself).result(timeout=20)
    for how in ("result", "wait"):
        with pytest.raises(
            nbtasks.OptionError, match=r"which itself waits for wait_for_my_child .*: neither would ever end"
        ):
            nbtasks.submit(wait_for_my_child, how).result(timeout=20)


def test_a_child_of_many_and_the_children_of_one(queue: Queue) -> None:
    first = nbtasks.submit(one)
    middle = [nbtasks.submit(add, first, number) for number in range(200)]
    assert nbtasks.submit(total, middle).result(timeout=60) == 200 + sum(range(200))


# Maps over what is not known yet.


def test_map_over_a_value_that_is_not_there_yet(queue: Queue, tmp_path: Path) -> None:
    held = nbtasks.submit(stay, str(tmp_path / "go"))
    made = nbtasks.using(after=held).submit(numbers, 5)
    squares = nbtasks.map(square, made)
    sum_of_all = nbtasks.submit(total, squares)
    assert len(squares.tasks) == 0
    (tmp_path / "go").touch()
    assert sum_of_all.result(timeout=20) == 30
    assert squares.result() == [0, 1, 4, 9, 16]
    assert [task.name for task in squares.tasks] == ["square"] * 5
    assert nbtasks.get(squares.id).result() == [0, 1, 4, 9, 16]
    assert nbtasks.map(add, nbtasks.map(square, made), [10, 20, 30]).result(timeout=20) == [10, 21, 34]
    assert nbtasks.map(add, made, itertools.repeat(nbtasks.submit(one))).result(timeout=20) == [1, 2, 3, 4, 5]
    assert nbtasks.map(square, nbtasks.submit(numbers, 0)).result(timeout=20) == []
    assert check(queue) == []


def test_a_map_takes_its_options_to_the_items(queue: Queue) -> None:
    mapped = nbtasks.using(name="sq", retries=2, priority=7).map(square, nbtasks.submit(numbers, 2))
    mapped.result(timeout=20)
    assert [(task.name, task.spec.retries, task.spec.priority) for task in mapped.tasks] == [("sq", 2, 7)] * 2
    assert (mapped.name, mapped.spec.retries, mapped.spec.priority) == ("map sq", 0, 7)


def test_an_item_that_fails_fails_the_map_and_is_retried_alone(queue: Queue, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    mapped = nbtasks.map(unless_two, [go] * 4, nbtasks.submit(numbers, 4))
    child = nbtasks.submit(total, mapped)
    with pytest.raises(nbtasks.UpstreamFailed):
        child.result(timeout=20)
    bad = [task for task in mapped.tasks if task.status == "failed"]
    assert len(bad) == 1
    Path(go).touch()
    bad[0].retry()
    assert nbtasks.get(child.id).result(timeout=20) == 6
    assert len(mapped.tasks) == 4, "no item was submitted twice"


def test_a_map_whose_slot_died_goes_on_by_its_plan(queue: Queue) -> None:
    queue.disk.replace(queue.layout.paused, b"")
    mapped = nbtasks.map(square, nbtasks.submit(numbers, 3))
    ids = [queue.new_id() for _ in range(3)]  # as a delivery leaves it: the plan, one item put, one call half written
    queue.disk.create(queue.layout.spread(mapped.id, PLAN), [msgspec.json.encode(ids)])
    call = submitting.pack(submitting.parts_of(square), "square", (0,), {})
    spec = submitting.make_spec(submitting.here(), call, "square", {})
    queue.put(msgspec.structs.replace(spec, id=ids[0]), call.parts)
    queue.disk.create(queue.layout.call(ids[1]), [b'{"nbtasks":1,"ki'])
    queue.disk.remove(queue.layout.paused)
    queue.wake(mapped.spec)
    assert mapped.result(timeout=20) == [0, 1, 4]
    assert mapped.tasks.ids == ids
    assert len([task for task in nbtasks.tasks() if task.name == "square"]) == 3, "none was submitted twice"
    assert check(queue) == []


def test_a_map_in_place(queue: Queue) -> None:
    nbtasks.configure(engine="inline")
    assert nbtasks.submit(total, nbtasks.map(square, nbtasks.submit(numbers, 4))).result(timeout=0) == 14


# Pipelines.


def test_a_pipeline_is_one(queue: Queue) -> None:
    with nbtasks.pipeline("nightly") as p:
        rows = nbtasks.submit(numbers, 4)
        report = nbtasks.submit(total, nbtasks.map(square, rows))
    outside = nbtasks.submit(one)
    assert p.result(timeout=20) == 14
    assert [task.name for task in p.tasks] == ["numbers", "map square", "total", *["square"] * 4]
    assert outside.id not in p.tasks.ids
    assert report.id in p.tasks.ids
    assert (p.status, p.counts) == (Status.SUCCEEDED, {Status.SUCCEEDED: 7})
    again = nbtasks.get_pipeline("nightly")
    assert again == p
    assert again.result() == 14
    assert repr(p) == "<Pipeline nightly succeeded: 7 succeeded>"


def test_several_last_tasks_give_a_list(queue: Queue) -> None:
    with nbtasks.pipeline("two") as p:
        rows = nbtasks.submit(numbers, 3)
        nbtasks.submit(total, rows)
        nbtasks.submit(len, rows)
    assert p.result(timeout=20) == [3, 3]


def submit_another() -> str:
    return nbtasks.submit(one).id


def test_what_its_tasks_submit_belongs_to_it(queue: Queue) -> None:
    with nbtasks.pipeline("nested") as p:
        maker = nbtasks.submit(submit_another)
    p.wait(timeout=20)
    assert p.tasks.ids == [maker.id, maker.result()]


def test_a_failure_is_told_once_and_retried_with_what_hangs_on_it(queue: Queue, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    with nbtasks.pipeline("etl") as p:
        good = nbtasks.submit(one)
        bad = nbtasks.submit(unless, go)
        middle = nbtasks.submit(add, good, bad)
        last = nbtasks.submit(add, middle, 10)
    with pytest.raises(ValueError, match="is not there"):
        p.result(timeout=20)
    assert p.counts == {Status.SUCCEEDED: 1, Status.FAILED: 3}
    with pytest.raises(nbtasks.UpstreamFailed, match="add"):
        last.result()
    Path(go).touch()
    assert nbtasks.get_pipeline("etl").retry().result(timeout=20) == 12
    assert [task.attempt for task in p.tasks] == [1, 1, 1, 1] or p.status == "succeeded"
    assert queue.record(good.id).ticket.delivery == 1, "what succeeded stays"


def test_cancelled_and_taken_up_again(queue: Queue, tmp_path: Path) -> None:
    go = str(tmp_path / "go")
    with nbtasks.pipeline("long") as p:
        first = nbtasks.submit(stay, go)
        nbtasks.submit(add, first, 1)
    assert p.cancel() == 2
    assert p.wait(timeout=20)
    with pytest.raises(CancelledError):
        p.result()
    assert p.status is Status.CANCELLED
    Path(go).touch()
    assert p.retry().result(timeout=20) == 2


def test_a_name_in_use_says_what_to_do(queue: Queue, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with nbtasks.pipeline("busy") as p:
        nbtasks.submit(stay, str(go))
    with pytest.raises(nbtasks.OptionError, match=r"'busy' is in use: 1 of its tasks lives.*get_pipeline\('busy'\)"):
        nbtasks.pipeline("busy")
    go.touch()
    p.wait(timeout=20)
    with nbtasks.pipeline("busy") as second:
        nbtasks.submit(one)
    assert second != p
    assert nbtasks.get_pipeline("busy") == second
    assert len(groups.runs_of(queue, "busy")) == 2
    with pytest.raises(nbtasks.OptionError, match=r"no pipeline 'nope' .*there are 'busy'"):
        nbtasks.get_pipeline("nope")
    with pytest.raises(nbtasks.OptionError, match="pipeline 'Not so' cannot be"):
        nbtasks.pipeline("Not so")


def test_a_block_that_breaks_cancels_what_it_submitted(queue: Queue, tmp_path: Path) -> None:
    p = nbtasks.pipeline("half")

    def submit_half() -> None:
        with p:
            first = nbtasks.submit(stay, str(tmp_path / "never"))
            nbtasks.submit(add, first, (number for number in "ab"))

    with pytest.raises(nbtasks.PayloadError):
        submit_half()
    p.wait(timeout=20)
    assert p.status is Status.CANCELLED


# Its picture.


def members(queue: Queue, count: int, names: int = 3, layers: int = 4) -> nbtasks.Pipeline:
    """A pipeline of so many tasks that nobody runs."""
    queue.disk.replace(queue.layout.paused, b"")
    group = groups.new_group("drawn")
    before: list[str] = []
    # As if a worker flushed: else each submit would, by itself.
    with contextlib.closing(queue.bell("flush", "f-test")):
        for layer in range(layers):
            ids = [queue.new_id() for _ in range(count // layers)]
            for at, id in enumerate(ids):
                name = f"step{layer}-{at % names}<&>"
                queue.put(Spec(id=id, name=name, env="nobody", group=group, after=tuple(before[at : at + 2])), [])
            before = ids
    return nbtasks.Pipeline(queue, group)


def test_few_tasks_are_a_box_each(queue: Queue) -> None:
    p = members(queue, 12)
    found = p.look()
    steps = graph_shape.steps_of(found)
    assert len(steps) == 12
    assert [step.layer for step in steps] == sorted(step.layer for step in steps)
    assert all(steps[parent].layer < step.layer for step in steps for parent in step.parents)
    laid = graph_shape.plan(steps)
    boxes = [(x, y, x + graph_shape.BOX[0], y + graph_shape.BOX[1]) for x, y in laid.boxes]
    for at, (x, y, u, v) in enumerate(boxes):
        assert 0 <= x < u <= laid.width
        assert 0 <= y < v <= laid.height
        assert not any(x < c and a < u and y < d and b < v for a, b, c, d in boxes[at + 1 :]), "no box covers another"
    bundle = graph_html.bundle(p)
    assert bundle["text/html"].count("position:absolute") == 13
    assert "<svg" not in bundle["text/html"], "an untrusted viewer would drop it"
    assert "data:image/svg+xml;base64," in bundle["text/html"]
    assert "step0-1&lt;&amp;&gt;" in bundle["text/html"]
    assert "<&>" not in bundle["text/html"]
    assert bundle["text/plain"].startswith("(.) pipeline drawn  queued  0 of 12 tasks ended")
    assert "<- step0-0<&>" in bundle["text/plain"]


def test_thousands_of_tasks_are_put_together_by_name(queue: Queue) -> None:
    p = members(queue, 2000, names=5)
    bundle = graph_html.bundle(p)
    assert "2,000 tasks in 20 steps" in bundle["text/html"]
    assert "× 100" in bundle["text/html"]
    assert len(bundle["text/html"]) < 60_000
    many = members(queue, 200, names=50, layers=1)
    assert len(graph_shape.steps_of(many.look())) == graph_shape.MOST
    assert graph_shape.REST in bundle["text/html"] or graph_shape.REST in graph_html.bundle(many)["text/plain"]
