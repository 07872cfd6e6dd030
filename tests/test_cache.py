"""``cache=True``: what has run before is not run again, in any process; and of several at once, one runs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pytest

import nbtasks
from nbtasks import OptionError, Status
from nbtasks.cli import run
from nbtasks.queue import cache
from nbtasks.queue.directory import Queue

HERE = Path(__file__).parent.parent


@nbtasks.task(cache=True)
def squared(x: int, log: str) -> int:
    """The square; leaves a mark in a file for each time that it runs."""
    with open(log, "a") as file:
        file.write("x")
    return x * x


def gated(gate: str, log: str) -> str:
    with open(log, "a") as file:
        file.write("x")
    while not os.path.exists(gate):
        time.sleep(0.01)
    if os.path.getsize(gate):
        raise ValueError("the gate says no")
    return "through"


def total(numbers: list[int], log: str) -> int:
    with open(log, "a") as file:
        file.write("x")
    return sum(numbers)


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "ran")


def runs(log: str) -> int:
    """How often a function ran."""
    return os.path.getsize(log) if os.path.exists(log) else 0


def until(condition: object, what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def test_the_same_call_gives_the_task_that_has_run(queue: Queue, log: str) -> None:
    first = squared.submit(3, log)
    assert first.result(60) == 9
    assert not first.cached
    again = squared.submit(x=3, log=log)
    assert (again.id, again.result(60), again.cached) == (first.id, 9, True)
    assert "cached: it succeeded 20" in again._repr_mimebundle_()["text/plain"]
    assert squared.submit(4, log).result(60) == 16
    assert squared.using(cache=False).submit(3, log).result(60) == 9
    assert runs(log) == 3
    assert again.invalidate()
    assert not again.invalidate(), "it was forgotten already"
    anew = squared.submit(3, log)
    assert anew.id != first.id
    assert anew.result(60) == first.result(60) == 9, "the forgotten one keeps its value"
    assert squared.submit(3, log).id == anew.id


def test_a_result_may_be_too_old(queue: Queue, log: str) -> None:
    first = squared.submit(3, log)
    first.result(60)
    until(lambda: time.time() - first.ended.timestamp() > 0.3, "time to pass")  # type: ignore[union-attr]
    assert squared.using(cache=timedelta(seconds=0.3)).submit(3, log).id != first.id
    newest = squared.using(cache="7d").submit(3, log)
    assert newest.id != first.id, "the newest one counts"
    newest.result(60)
    assert squared.submit(3, log).id == newest.id


def test_a_call_that_runs_is_attached_to_and_one_that_failed_runs_again(queue: Queue, log: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    submit = nbtasks.using(cache=True).submit
    first = submit(gated, str(gate), log)
    until(lambda: runs(log) == 1, "it to run")
    second = submit(gated, str(gate), log)
    assert second.id == first.id
    assert "attached: the same call is running already" in second._repr_mimebundle_()["text/plain"]
    gate.write_text("no")
    assert isinstance(first.exception(60), ValueError)
    gate.write_text("")
    third = submit(gated, str(gate), log)
    assert third.id != first.id
    assert third.result(60) == "through"
    assert runs(log) == 2


def test_one_that_is_being_cancelled_is_not_attached_to(queue: Queue, log: str, tmp_path: Path) -> None:
    submit = nbtasks.using(cache=True, grace="1m").submit
    first = submit(gated, str(tmp_path / "gate"), log)
    until(first.running, "it to run")
    first.cancel()
    second = submit(gated, str(tmp_path / "gate"), log)
    assert second.id != first.id
    second.cancel()


def test_one_that_is_to_run_later_is_not_waited_for(queue: Queue, log: str) -> None:
    later = squared.using(delay="1h").submit(3, log)
    assert squared.submit(3, log).result(60) == 9
    later.cancel()


def test_map_and_chains_are_cached_item_by_item(queue: Queue, log: str) -> None:
    tasks = squared.map([1, 2, 1], [log] * 3)
    assert tasks.ids[0] == tasks.ids[2] != tasks.ids[1]
    use = nbtasks.using(cache=True)
    chained = use.submit(total, [tasks[0], tasks[1]], log)
    assert chained.result(60) == 5
    assert runs(log) == 3
    again = squared.map([2, 1], [log] * 2)
    assert again.ids == [tasks.ids[1], tasks.ids[0]]
    assert use.submit(total, [again[1], again[0]], log).id == chained.id, "what it waits for is the same"
    tasks[0].invalidate()
    assert use.submit(total, [squared.submit(1, log), tasks[1]], log).id != chained.id


SUBMIT = """
import sys, time
import nbtasks
def slow(x, log):
    with open(log, "a") as file:
        file.write("x")
    return {value}
while not __import__("os").path.exists("go"):
    time.sleep(0.001)
print(nbtasks.using(cache=True).submit(slow, [1, "b", {{"c", "d"}}], {log!r}).id)
"""


def test_of_submitters_in_several_processes_at_once_one_runs(queue: Queue, log: str, tmp_path: Path) -> None:
    code = SUBMIT.format(value="x[0]", log=log)

    def start(code: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    several = [start(code) for _ in range(4)]
    (tmp_path / "go").touch()
    ids = {process.communicate(timeout=60)[0].strip() for process in several}
    assert len(ids) == 1
    [id] = ids
    assert nbtasks.get(id).result(60) == 1
    later, changed = start("# again\n" + code), start(SUBMIT.format(value="x[0] + 1", log=log))
    assert later.communicate(timeout=60)[0].strip() == id, "in a new process"
    assert changed.communicate(timeout=60)[0].strip() != id, "with another function"
    nbtasks.wait(timeout=60)
    assert runs(log) == 1 + 1


def test_many_threads_take_one_place(queue: Queue) -> None:
    """The place alone, as often as it goes: of those that found nothing, one gets it."""
    nbtasks.configure(autostart=False)
    key = "0" * 32
    for _ in range(30):
        got: list[str] = []
        barrier = threading.Barrier(4)

        def take(name: str, barrier: threading.Barrier = barrier, got: list[str] = got) -> None:
            found = cache.Found(key, cache.newest(queue, key).number, None)
            barrier.wait()
            try:
                found.claim(queue, f"20261120-220611-482913-{name}")
                got.append(name)
            except cache.Taken:
                pass

        threads = [threading.Thread(target=take, args=(f"abc{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        assert cache.newest(queue, key).id.endswith(got[0])
    assert len(os.listdir(queue.layout.cache_folder(key))) == 1, "old ones are taken away"


def test_a_submitter_that_died_on_the_way_is_passed_over(queue: Queue, log: str) -> None:
    first = squared.submit(3, log)
    first.result(60)
    folder = Path(queue.layout.cache_folder(first.spec.cache_key or ""))
    (folder / "1").write_text("")  # it was about to write
    assert squared.submit(3, log).id != first.id
    [entry] = folder.iterdir()
    second = entry.read_text().split(".")[0]
    (folder / "9").write_text("20261120-220611-482913-zzzz.1\n")  # its call was removed since
    third = squared.submit(3, log)
    assert third.id not in (first.id, second)
    stranger = nbtasks.submit(math.sqrt, 4)
    stranger.result(60)
    (folder / "11").write_text(f"{stranger.id}.1\n")
    assert squared.submit(3, log).result(60) == 9, "an entry is not signed, so it is not believed"


def test_what_cannot_be_compared_runs_and_says_why(queue: Queue, tmp_path: Path) -> None:
    code = """
import sys, nbtasks
def show(*files): return len(files)
submit = nbtasks.using(cache=True).submit
first = submit(show, 1, {"log": sys.stdout})
print(first.result(60), first.spec.cache_key, first.invalidate(), submit(show, 1, {"log": sys.stdout}).id == first.id)
"""
    file = tmp_path / "script.py"
    file.write_text(code)
    done = subprocess.run([sys.executable, str(file)], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "2 None False False\n", done.stderr
    says = "UserWarning: show is not cached: the argument files[1]['log'] is an open file (TextIOWrapper); whether"
    assert f"{file}:5: {says}" in done.stderr


@pytest.mark.parametrize("value", [0, -1, "soon", timedelta(0), timedelta(days=-1), [1]])
def test_an_age_that_cannot_be_is_refused(value: object) -> None:
    with pytest.raises(OptionError, match=r"cache=.* cannot be: give True, or how old a result may be"):
        nbtasks.using(cache=value)


def test_what_recurs_refuses_a_cache(queue: Queue) -> None:
    nbtasks.configure(autostart=False)
    why = "cache has no meaning for what recurs: .* no run after the first would compute anything. Let it recur less often"
    with pytest.raises(OptionError, match=why):
        nbtasks.using(cache=True).every("1h", squared, 1, "log")
    with pytest.raises(OptionError, match=why):
        nbtasks.using(name="nightly").cron("0 3 * * *", nbtasks.submit_notebook, "report.ipynb", cache="1d")
    assert not nbtasks.tasks()
    assert not nbtasks.schedules()


def test_what_recurs_may_submit_with_a_cache(queue: Queue, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    def nightly(x: int) -> str:
        return squared.submit(x, log).id

    schedule = nbtasks.every("1h", nightly, 3)
    first, second = (schedule.run().result(60) for _ in range(2))
    assert first == second
    nbtasks.get(first).result(60)
    assert runs(log) == 1


def test_a_decorated_function_that_recurs_runs_each_time(
    queue: Queue, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nbtasks.configure(autostart=False)
    schedule = nbtasks.every("1h", squared, 1, log)
    assert schedule.run().id != schedule.run().id


def test_clean_forgets_what_has_ended(queue: Queue, log: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = squared.submit(1, log), squared.submit(2, log)
    nbtasks.wait([first, second], timeout=60)
    assert run(["clean"]) == 2
    assert "say what to clean: nbtasks clean --cache" in capsys.readouterr().err
    assert run(["clean", "--cache", "--older-than", "1h"]) == 0
    assert run(["clean", "--cache", "-n", "other"]) == 0
    assert squared.submit(1, log).id == first.id
    capsys.readouterr()
    assert run(["clean", "--cache"]) == 0
    assert capsys.readouterr().out == "2 calls forgotten; the results stay with their tasks\n"
    assert os.listdir(queue.layout.cache) == []
    assert squared.submit(1, log).id != first.id
    assert first.result(60) == 1


def test_without_cache_nothing_more_is_asked_of_the_system(queue: Queue, tmp_path: Path) -> None:
    """A submit that has nothing to do with the cache does not go near its folder."""
    code = """
import os, sys
import nbtasks
nbtasks.configure(autostart=False)
nbtasks.submit(abs, 1)
seen = []
sys.addaudithook(lambda event, args: seen.append(str(args[0])) if event in ("open", "os.listdir", "os.scandir") else None)
nbtasks.submit(abs, 1)
import json
print(json.dumps([path for path in seen if "/.nbtasks/cache" in path]))
assert any("/.nbtasks/tasks" in path for path in seen)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_inline_uses_the_cache_too(queue: Queue, log: str) -> None:
    nbtasks.configure(engine="inline")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = squared.submit(5, log)
        assert squared.submit(5, log).id == first.id
    assert first.status is Status.SUCCEEDED
    assert runs(log) == 1


def test_what_a_pipeline_takes_from_the_cache_belongs_to_it(queue: Queue, log: str) -> None:
    first = squared.submit(3, log)
    first.result(60)
    with nbtasks.pipeline("nightly") as steps:
        child = nbtasks.submit(total, [squared.submit(3, log), 1], log)
    assert child.result(60) == 10
    assert {task.id for task in steps.tasks} == {first.id, child.id}
