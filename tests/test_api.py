"""submit, map, task, using, get, tasks, wait, as_completed, gather: from the arguments to the values."""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from pathlib import Path

import pytest

import nbtasks
from nbtasks import OptionError, PayloadError, Status, TaskList, TaskNotFound
from nbtasks.queue.directory import Queue
from tests.test_handle import double, fail, python, wait_for


def keywords(*args: object, **kwargs: object) -> tuple[object, object]:
    return args, kwargs


def nested(depth: int) -> list[int]:
    """Submits from inside a task."""
    if depth == 0:
        return [0]
    return [depth, *nbtasks.submit(nested, depth - 1).result(60)]


def sum_in_background(numbers: list[int]) -> int:
    return sum(nbtasks.gather(nbtasks.map(double, numbers)))


def who() -> tuple[str, str, int]:
    task = nbtasks.current_task()
    assert task is not None
    return task.id, task.name, task.attempt


def count(path: str) -> int:
    """Fails until it was called three times."""
    with open(path, "a") as file:
        file.write("x")
    if os.path.getsize(path) < 3:
        raise RuntimeError("not yet")
    return os.path.getsize(path)


@nbtasks.task(retries=1, name="squaring")
def square(x: int) -> int:
    """Square a number."""
    return x * x


class Adder:
    def __init__(self, start: int) -> None:
        self.start = start

    @nbtasks.task
    def add(self, x: int) -> int:
        return self.start + x


@pytest.fixture
def quiet(queue: Queue) -> Queue:
    """A queue for which no worker starts."""
    nbtasks.configure(autostart=False)
    return queue


# Submitting.


def test_options_never_take_the_functions_own_arguments(queue: Queue) -> None:
    task = nbtasks.using(name="mine", priority=9).submit(
        keywords, 1, name="yours", priority="high", function=2, timeout=3
    )
    assert task.result(30) == ((1,), {"name": "yours", "priority": "high", "function": 2, "timeout": 3})
    assert task.name == "mine"
    assert task.spec.priority == 9
    assert task.spec.summary == "keywords(1, name='yours', priority='high', function=2, timeout=3)"


@pytest.mark.parametrize(
    "function", [math.sqrt, lambda x: x**0.5, type("Root", (), {"__call__": lambda self, x: x**0.5})()]
)
def test_all_kinds_of_functions(queue: Queue, function: object) -> None:
    task = nbtasks.submit(function, 16)  # type: ignore[arg-type]
    assert task.result(30) == 4
    assert task.name in ("sqrt", "lambda", "Root")


def test_what_is_no_function_is_refused(quiet: Queue) -> None:
    with pytest.raises(OptionError, match=r"submit\(train, x\)"):
        nbtasks.submit(double(2))  # type: ignore[arg-type]


def test_an_argument_that_cannot_be_pickled_is_named_and_nothing_is_queued(quiet: Queue) -> None:
    with pytest.raises(PayloadError, match="lock"):
        nbtasks.submit(keywords, 1, db={"lock": threading.Lock()})
    with pytest.raises(PayloadError, match="lock"):
        nbtasks.map(keywords, [1, 2, threading.Lock()])
    assert list(nbtasks.tasks()) == []


def test_names_of_the_script_are_sent_as_they_are_now(queue: Queue) -> None:
    done = python("""
        import nbtasks
        factor = 2
        def scale(x):
            return factor * x
        a = nbtasks.submit(scale, 10)
        factor = 3
        b = nbtasks.submit(scale, 10)
        c = nbtasks.map(scale, [1, 2])
        print(a.result(30), b.result(30), nbtasks.gather(c))
    """)
    assert done.stdout == "20 30 [3, 6]\n", done.stderr


def test_submitting_from_inside_a_task(queue: Queue) -> None:
    assert nbtasks.submit(sum_in_background, [1, 2, 3]).result(60) == 12


def test_tasks_that_wait_for_tasks_cannot_block_each_other(queue: Queue) -> None:
    nbtasks.configure(slots=1)
    assert nbtasks.submit(nested, 4).result(60) == [4, 3, 2, 1, 0]


def test_current_task(queue: Queue) -> None:
    task = nbtasks.submit(who)
    assert task.result(30) == (task.id, "who", 1)
    assert nbtasks.current_task() is None


def test_in_place(quiet: Queue) -> None:
    nbtasks.configure(engine="inline")
    task = nbtasks.submit(os.getpid)
    assert task.done()
    assert task.result() == os.getpid()
    with pytest.raises(ValueError, match="here"):
        nbtasks.submit(fail, "here").result(0)
    assert nbtasks.submit(double, nbtasks.submit(double, 2)).result(0) == 8


def test_retries_in_place(quiet: Queue, tmp_path: Path) -> None:
    nbtasks.configure(engine="inline")
    assert nbtasks.using(retries=2, retry_delay="1h").submit(count, str(tmp_path / "calls")).result(0) == 3


# Options.


def test_retries(queue: Queue, tmp_path: Path) -> None:
    task = nbtasks.using(retries=2, retry_delay=0.01).submit(count, str(tmp_path / "calls"))
    assert task.result(30) == 3
    assert task.attempt == 3


def test_after_is_order_without_a_value(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = nbtasks.submit(wait_for, str(gate))
    second = nbtasks.using(after=[first]).submit(double, 1)
    third = nbtasks.using(after=first.short).submit(double, 2)
    assert second.status is Status.WAITING
    assert "wait_for" in second.reason
    gate.touch()
    assert (second.result(30), third.result(30)) == (2, 4)
    assert second.started is not None
    assert first.ended is not None
    assert second.started >= first.ended


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retires": 3}, "did you mean 'retries'"),
        ({"nonsense": 3}, "there are name, lane"),
        ({"priority": 10}, "0 to 9"),
        ({"priority": True}, "whole number"),
        ({"priority": "high"}, "0 to 9"),
        ({"retries": -1}, "retries=-1"),
        ({"timeout": "soon"}, "'10m'"),
        ({"timeout": 0}, "above zero"),
        ({"retry_delay": -1}, "retry_delay=-1"),
        ({"lane": "GPU lane"}, "lane 'GPU lane'"),
        ({"name": "two\x00lines"}, "one line"),
        ({"name": ""}, "one line"),
        ({"at_most_once": "yes"}, "True or False"),
        ({"after": 5}, "give a task"),
    ],
)
def test_options_that_cannot_be(quiet: Queue, options: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        nbtasks.using(**options)
    assert list(nbtasks.tasks()) == []


def test_durations_may_be_text(quiet: Queue) -> None:
    task = nbtasks.using(timeout="2h", retry_delay="10s", retries=1, grace="1m", at_most_once=True).submit(double, 1)
    spec = task.spec
    assert (spec.timeout, spec.retry_delay, spec.grace, spec.at_most_once) == (7200, 10, 60, True)


def test_a_parent_of_another_queue_is_refused(quiet: Queue, tmp_path: Path) -> None:
    task = nbtasks.submit(double, 1)
    nbtasks.configure(queue=tmp_path / "other")
    with pytest.raises(OptionError, match="its own queue"):
        nbtasks.submit(double, task)
    with pytest.raises(OptionError, match="its own queue"):
        nbtasks.using(after=task).submit(double, 1)
    for cache in (False, True):
        with pytest.raises(OptionError, match="argument 1 holds the task"):
            nbtasks.using(cache=cache).map(double, [1, [task]])
    with pytest.raises(OptionError, match="argument 2 holds the task"):
        nbtasks.map(double, [1], task)
    assert list(nbtasks.tasks()) == []


@pytest.mark.parametrize("cache", [False, True])
def test_of_a_map_with_an_item_that_cannot_travel_nothing_is_stored(quiet: Queue, cache: bool) -> None:
    with pytest.raises(PayloadError, match="an open file"), open(os.devnull) as file:
        nbtasks.using(cache=cache).map(double, [1, 2, file])
    assert list(nbtasks.tasks()) == []


# Dependencies.


def test_tasks_among_the_arguments_become_their_values(queue: Queue) -> None:
    one, two = nbtasks.submit(double, 1), nbtasks.submit(double, 2)
    task = nbtasks.submit(keywords, one, [two, {"deep": (one,)}], key=two)
    assert task.result(30) == ((2, [4, {"deep": (2,)}]), {"key": 4})
    assert set(task.spec.parents) == {one.id, two.id}


def test_a_task_list_as_an_argument_is_a_list_of_values(queue: Queue) -> None:
    assert nbtasks.submit(sum, nbtasks.map(double, range(5))).result(30) == 20


def test_a_handle_in_a_closure_stays_a_handle(queue: Queue) -> None:
    first = nbtasks.submit(double, 4)

    def later() -> object:
        return first.id, first.result(30)

    assert nbtasks.submit(later).result(60) == (first.id, 8)


# Many.


def test_map_is_a_list_of_tasks(queue: Queue) -> None:
    tasks = nbtasks.map(double, range(5))
    assert len(tasks) == 5
    assert tasks.results(30) == [0, 2, 4, 6, 8]
    assert tasks[1].result() == 2
    assert tasks[-1] is tasks[4]
    assert tasks[1:3].results() == [2, 4]
    assert tasks[[0, 4]].results() == [0, 8]
    assert tasks[[True, False, False, False, True]].results() == [0, 8]
    assert tasks[1] in tasks
    assert tasks.statuses == {Status.SUCCEEDED: 5}
    assert repr(tasks) == "<TaskList of 5, double: 5 succeeded>"
    assert "double" in tasks._repr_mimebundle_()["text/plain"]
    assert [task.result() for task in tasks] == [0, 2, 4, 6, 8]


def test_map_of_several_iterables(queue: Queue) -> None:
    assert nbtasks.gather(nbtasks.map(pow, [2, 3, 4], [3, 2])) == [8, 9]
    assert list(nbtasks.map(double, [])) == []
    with pytest.raises(OptionError, match="items"):
        nbtasks.map(double)


def test_one_failure_of_many_does_not_hide_the_others(queue: Queue) -> None:
    tasks = nbtasks.map(math.sqrt, [1, -1, 4])
    values = tasks.results(30, errors="return")
    assert values[::2] == [1, 2]
    assert isinstance(values[1], ValueError)
    with pytest.raises(ValueError, match="math domain"):
        tasks.results()
    assert nbtasks.gather(tasks, return_exceptions=True)[0] == 1
    bad = tasks[[task.status is Status.FAILED for task in tasks]]
    assert len(bad) == 1
    with pytest.raises(OptionError, match="errors"):
        tasks.results(errors="ignore")  # type: ignore[arg-type]


def test_cancel_and_retry_of_many(quiet: Queue) -> None:
    tasks = nbtasks.map(double, range(4))
    assert tasks.cancel() == 4
    assert tasks.statuses == {Status.CANCELLED: 4}
    assert tasks.cancel() == 0
    again = tasks.retry()
    assert again.statuses == {Status.QUEUED: 4}
    nbtasks.configure(autostart=True)
    assert again.results(30) == [0, 2, 4, 6]


def test_results_of_many_may_time_out(quiet: Queue) -> None:
    tasks = nbtasks.map(double, range(3))
    with pytest.raises(TimeoutError):
        tasks.results(0.05, errors="return")
    nbtasks.configure(autostart=True)
    assert tasks.results(30) == [0, 2, 4]


def test_a_frame_of_many(queue: Queue) -> None:
    tasks = nbtasks.map(math.sqrt, [4, -1])
    nbtasks.wait(tasks, 30)
    frame = tasks.frame()
    assert list(frame["status"]) == ["succeeded", "failed"]
    assert list(frame["call"]) == ["sqrt(4)", "sqrt(-1)"]
    assert list(frame["value"]) == ["2.0", ""]


def test_gather_keeps_the_shape(queue: Queue) -> None:
    one, many = nbtasks.submit(double, 1), nbtasks.map(double, [2, 3])
    assert nbtasks.gather(one, many) == [2, [4, 6]]
    assert nbtasks.gather(one, one) == [2, 2]
    assert nbtasks.gather([one, *many]) == [2, 4, 6]
    assert nbtasks.gather() == []


# Waiting.


def test_wait_for_some_and_for_all_of_mine(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow, quick = nbtasks.submit(wait_for, str(gate)), nbtasks.submit(double, 1)
    done, pending = nbtasks.wait([slow, quick], return_when="FIRST_COMPLETED")
    assert (done, pending) == ({quick}, {slow})
    assert nbtasks.wait(slow, timeout=0.01).not_done == {slow}
    assert nbtasks.wait(timeout="10ms").not_done == {slow}
    gate.touch()
    assert nbtasks.wait().done <= {slow}  # it may have ended before the look for what lives
    assert slow.done()
    assert nbtasks.wait() == (set(), set())
    with pytest.raises(OptionError, match="no task"):
        nbtasks.wait([1])  # type: ignore[list-item]


def test_as_completed(queue: Queue, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow, quick = nbtasks.submit(wait_for, str(gate)), nbtasks.submit(double, 1)
    order = []
    for task in nbtasks.as_completed([slow, quick], timeout=30):
        order.append(task)
        gate.touch()
    assert order == [quick, slow]
    with pytest.raises(TimeoutError):
        next(nbtasks.as_completed([nbtasks.submit(wait_for, str(tmp_path / "never"))], timeout=0.01))


# Finding.


def test_finding_tasks(quiet: Queue) -> None:
    one = nbtasks.submit(double, 1)
    two = nbtasks.using(lane="gpu", name="other").submit(double, 2)
    assert list(nbtasks.tasks()) == [two, one]
    assert list(nbtasks.tasks(lane="gpu")) == [two]
    assert list(nbtasks.tasks(name="double")) == [one]
    assert list(nbtasks.tasks("succeeded")) == []
    assert list(nbtasks.tasks(Status.QUEUED, limit=1)) == [two]
    assert isinstance(nbtasks.tasks(), TaskList)
    with pytest.raises(OptionError, match="waiting, queued"):
        nbtasks.tasks("done")


def test_an_id_that_is_not_there(quiet: Queue) -> None:
    task = nbtasks.submit(double, 1)
    with pytest.raises(TaskNotFound) as caught:
        nbtasks.get(task.short[:-1] + "_")
    assert "nbtasks status" in str(caught.value)
    nbtasks.submit(double, 2)
    with pytest.raises(TaskNotFound) as many:
        nbtasks.get(task.id[:8])
    assert len(many.value.matches) == 2
    with pytest.raises(OptionError, match="k7q2"):
        nbtasks.get(5)  # type: ignore[arg-type]


# The decorator.


def test_a_decorated_function(queue: Queue) -> None:
    assert square(3) == 9
    assert square.__doc__ == "Square a number."
    task = square.submit(4)
    assert task.result(30) == 16
    assert task.name == "squaring"
    assert task.spec.retries == 1
    assert square.map([1, 2]).results(30) == [1, 4]
    other = square.using(priority=9, retries=0)
    assert other.submit(5).result(30) == 25
    assert (other.submit(1).spec.priority, other.submit(1).spec.retries) == (9, 0)
    assert nbtasks.submit(square, 6).spec.retries == 1
    assert nbtasks.using(retries=7).submit(square, 6).spec.retries == 7
    with pytest.raises(OptionError, match="did you mean 'retries'"):
        nbtasks.task(retrys=1)


def test_a_decorated_method(queue: Queue) -> None:
    adder = Adder(10)
    assert adder.add(1) == 11
    assert adder.add.submit(2).result(30) == 12


def test_decorated_functions_of_the_script(queue: Queue) -> None:
    done = python("""
        import nbtasks
        @nbtasks.task
        def factorial(n):
            return 1 if n <= 1 else n * factorial(n - 1)
        @nbtasks.using(priority=7).task
        def helper(n):
            return factorial(n) + 1
        print(factorial(5), factorial.submit(5).result(30), helper.submit(3).result(30), helper.submit(3).spec.priority)
    """)
    assert done.stdout == "120 120 7 7\n", done.stderr


def test_importing_is_light_and_names_are_there() -> None:
    done = python("""
        import sys, nbtasks
        assert "cloudpickle" not in sys.modules and "asyncio" not in sys.modules
        for name in nbtasks.__all__:
            assert getattr(nbtasks, name) is getattr(nbtasks, name)
        assert set(nbtasks.__all__) <= set(dir(nbtasks))
        try:
            nbtasks.nonsense
        except AttributeError as error:
            print(error)
    """)
    assert done.stdout == "module 'nbtasks' has no attribute 'nonsense'\n", done.stderr


def test_a_submitting_thread_is_not_slowed_by_waiting(queue: Queue) -> None:
    told = threading.Semaphore(0)
    for x in range(200):
        nbtasks.submit(double, x).add_done_callback(lambda _: told.release())
    deadline = time.monotonic() + 60
    for _ in range(200):
        assert told.acquire(timeout=max(0, deadline - time.monotonic()))


def test_the_queue_stays_the_same_whatever_the_working_directory(quiet: Queue, tmp_path: Path) -> None:
    task = nbtasks.submit(double, 1)
    (tmp_path / "elsewhere").mkdir()
    before = os.getcwd()
    os.chdir(tmp_path / "elsewhere")
    try:
        assert nbtasks.submit(double, 2).queue is task.queue
    finally:
        os.chdir(before)
    assert sys.modules["nbtasks"] is nbtasks
