"""What a Task promises: a future of the standard library, whose truth lies in the directory."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError
from pathlib import Path

import pytest

import nbtasks
from nbtasks import NbtasksError, OptionError, Status, Task, TaskFailed, TaskLost, TaskTimedOut, UpstreamFailed
from nbtasks import handle as handles
from nbtasks.queue.directory import Queue


def double(x: int) -> int:
    print("doubling", x)
    return 2 * x


def wait_for(path: str) -> str:
    """Runs until the file is there."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return path


def fail(message: str) -> None:
    raise ValueError(message)


class Refuses(Exception):
    """Can be pickled, but not unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")

    def __reduce__(self) -> tuple[object, ...]:
        return Refuses, (1,)


class Closed(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("no way")
        self.lock = threading.Lock()


def raise_refusing() -> None:
    raise Refuses(1, 2)


def raise_closed() -> None:
    raise Closed


def leave(code: int) -> None:
    sys.exit(code)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run code in another process on the same queue."""
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What `wait_for` tasks wait for: `gate.touch()` lets them end."""
    return tmp_path / "gate"


def test_result_and_what_is_known_of_it(queue: Queue) -> None:
    task = nbtasks.submit(double, 21)
    assert task.result(timeout=30) == 42
    assert task.done()
    assert not task.running()
    assert not task.cancelled()
    assert task.exception() is None
    assert task.name == "double"
    assert task.status is Status.SUCCEEDED
    assert task.log == "doubling 21\n"
    assert task.outputs == [{"output_type": "stream", "name": "stdout", "text": "doubling 21\n"}]
    assert task.attempt == 1
    assert task.traceback == ""
    assert task.vars == {}
    assert task.value == 42
    assert task.started is not None
    assert task.ended is not None
    assert task.submitted <= task.started <= task.ended
    assert repr(task) == f"<Task double {task.short} succeeded>"
    assert task.short in task._repr_mimebundle_()["text/plain"]


def test_none_is_a_result_like_any_other(queue: Queue) -> None:
    task = nbtasks.submit(print, "x")
    assert task.result(30) is None
    assert task.done()
    assert task.exception() is None


def test_a_result_read_twice_is_the_same_object(queue: Queue) -> None:
    task = nbtasks.submit(list, (1, 2))
    first = task.result(30)
    assert first == [1, 2]
    assert task.result() is first


def test_waits_again_after_a_timeout(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    with pytest.raises(TimeoutError, match="it goes on"):
        task.result(timeout=0.05)
    with pytest.raises(TimeoutError):
        task.exception(timeout="10ms")
    assert not task.done()
    gate.touch()
    assert task.result(timeout=30) == str(gate)


def test_running_is_seen(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    while task.status is Status.QUEUED:
        time.sleep(0.001)
    assert task.status is Status.RUNNING
    assert task.running()
    assert task.value is None
    assert task.ended is None
    gate.touch()
    assert task.result(30)
    assert not task.running()


# Failures.


def test_a_failure_raises_the_original_type_with_the_remote_traceback(queue: Queue) -> None:
    task = nbtasks.submit(fail, "no good")
    with pytest.raises(ValueError, match=r"^no good$") as caught:
        task.result(30)
    cause = caught.value.__cause__
    assert isinstance(cause, TaskFailed)
    assert cause.id == task.id
    assert "raise ValueError(message)" in str(cause)
    assert "raise ValueError(message)" in cause.remote_traceback
    assert "raise ValueError(message)" in task.traceback
    assert isinstance(task.exception(), ValueError)
    with pytest.raises(ValueError, match="no good"):
        task.result()


def test_the_remote_traceback_is_printed(queue: Queue) -> None:
    done = python("""
        import nbtasks
        def divide(x):
            return 1 / x
        nbtasks.submit(divide, 0).result(30)
    """)
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "in the task divide" in done.stderr
    assert "direct cause of the following exception" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("function", [raise_refusing, raise_closed])
def test_an_exception_that_cannot_travel_comes_as_its_text(queue: Queue, function: object) -> None:
    task = nbtasks.submit(function)  # type: ignore[arg-type]
    with pytest.raises(TaskFailed) as caught:
        task.result(30)
    name = {"raise_refusing": "Refuses: 1 and 2", "raise_closed": "Closed: no way"}[task.name]
    assert name in str(caught.value)
    assert f"in {task.name}" in caught.value.remote_traceback


def test_a_task_that_exits_does_not_end_who_asks(queue: Queue) -> None:
    with pytest.raises(TaskFailed, match="SystemExit: 3"):
        nbtasks.submit(leave, 3).result(30)


def test_a_dead_process_is_a_lost_task(queue: Queue) -> None:
    task = nbtasks.submit(die)
    with pytest.raises(TaskLost, match="signal 9"):
        task.result(30)
    assert nbtasks.submit(double, 1).result(30) == 2


def test_a_time_limit_is_a_timed_out_task(queue: Queue, gate: Path) -> None:
    task = nbtasks.using(timeout=0.2, grace=1).submit(wait_for, str(gate))
    with pytest.raises(TaskTimedOut):
        task.result(30)
    assert task.status is Status.FAILED


def test_a_failed_parent_is_named(queue: Queue) -> None:
    parent = nbtasks.submit(fail, "bad start")
    child = nbtasks.submit(double, parent)
    with pytest.raises(UpstreamFailed, match=parent.short) as caught:
        child.result(30)
    assert caught.value.parent == parent.id


# Cancelling.


def test_cancel_before_it_starts(queue: Queue) -> None:
    nbtasks.configure(autostart=False)
    task = nbtasks.submit(double, 1)
    assert task.cancel()
    assert task.cancelled()
    assert task.done()
    assert task.cancel()
    assert task.value is None
    with pytest.raises(CancelledError, match="was cancelled"):
        task.result()
    with pytest.raises(CancelledError):
        task.exception()


def test_cancel_while_it_runs(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    while not task.running():
        time.sleep(0.001)
    assert task.cancel()
    with pytest.raises(CancelledError):
        task.result(30)
    assert task.status is Status.CANCELLED


def test_cancelled_code_that_returns_all_the_same_keeps_its_value(queue: Queue, tmp_path: Path) -> None:
    def patient(path: str) -> str:
        try:
            with open(path, "w"):
                pass
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            return "half done"

    started = tmp_path / "started"
    task = nbtasks.submit(patient, str(started))
    wait_for(str(started))
    task.cancel()
    with pytest.raises(CancelledError):
        task.result(30)
    assert task.value == "half done"


def test_terminate(queue: Queue, tmp_path: Path) -> None:
    def stubborn(path: str) -> None:
        while True:
            try:
                while True:
                    with open(path, "w"):
                        time.sleep(0.01)
            except KeyboardInterrupt:
                pass

    task = nbtasks.using(grace=60).submit(stubborn, str(tmp_path / "started"))
    wait_for(str(tmp_path / "started"))
    assert task.terminate()
    with pytest.raises(CancelledError):
        task.result(30)


def test_what_has_ended_cannot_be_cancelled(queue: Queue) -> None:
    task = nbtasks.submit(double, 1)
    task.result(30)
    assert not task.cancel()
    assert not task.terminate()
    assert not task.cancelled()


def test_interrupting_the_wait_leaves_the_task_alone(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    while not task.running():
        time.sleep(0.001)
    threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        task.result(30)
    assert task.running()
    gate.touch()
    assert task.result(30) == str(gate)


# Retrying.


def test_retry_gives_a_new_handle(queue: Queue, gate: Path) -> None:
    def once(path: str) -> str:
        if not os.path.exists(path):
            raise FileNotFoundError(path)
        return "there"

    task = nbtasks.submit(once, str(gate))
    with pytest.raises(FileNotFoundError):
        task.result(30)
    gate.touch()
    again = task.retry()
    assert again.id == task.id
    assert again != task
    assert again.result(30) == "there"
    assert nbtasks.get(task.id) is again
    with pytest.raises(FileNotFoundError):
        task.result()
    with pytest.raises(OptionError, match="succeeded"):
        again.retry()


def test_a_retry_from_elsewhere_is_seen(queue: Queue, gate: Path) -> None:
    def once(path: str) -> str:
        return open(path).read()

    task = nbtasks.submit(once, str(gate))
    assert isinstance(task.exception(30), FileNotFoundError)
    gate.write_text("now")
    done = python("import nbtasks, sys; print(nbtasks.get(sys.argv[1]).retry().result(30))", task.id)
    assert done.stdout == "now\n", done.stderr
    assert nbtasks.get(task.id).result(30) == "now"
    assert isinstance(task.exception(), FileNotFoundError)


# The standard library.


def test_wait_of_the_standard_library(queue: Queue, gate: Path) -> None:
    slow = nbtasks.submit(wait_for, str(gate))
    quick = [nbtasks.submit(double, x) for x in range(3)]
    done, pending = concurrent.futures.wait([slow, *quick], return_when=FIRST_COMPLETED, timeout=30)
    assert done
    assert slow in pending
    done, pending = concurrent.futures.wait([slow, *quick], timeout=0.3)
    assert done == set(quick)
    assert pending == {slow}
    gate.touch()
    done, pending = concurrent.futures.wait([slow, *quick], timeout=30)
    assert len(done) == 4
    assert not pending


def test_wait_sees_what_ended_before(queue: Queue) -> None:
    task = nbtasks.submit(double, 1)
    python("import nbtasks, sys; nbtasks.get(sys.argv[1]).result(30)", task.id)
    done, _ = concurrent.futures.wait([task], timeout=0)
    assert done == {task}


def test_wait_for_the_first_exception(queue: Queue, gate: Path) -> None:
    slow, bad = nbtasks.submit(wait_for, str(gate)), nbtasks.submit(fail, "early")
    done, pending = concurrent.futures.wait([slow, bad], return_when=FIRST_EXCEPTION, timeout=30)
    assert done == {bad}
    assert pending == {slow}
    gate.touch()
    slow.result(30)


def test_as_completed_of_the_standard_library(queue: Queue, gate: Path) -> None:
    slow, cancelled = nbtasks.submit(wait_for, str(gate)), nbtasks.submit(wait_for, str(gate))
    quick = nbtasks.submit(double, 2)
    cancelled.cancel()
    order = []
    for task in concurrent.futures.as_completed([slow, cancelled, quick], timeout=30):
        order.append(task)
        if len(order) == 2:
            gate.touch()
    assert set(order) == {slow, cancelled, quick}
    assert order[2] is slow


def test_callbacks(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    called = threading.Event()
    seen: list[object] = []
    task.add_done_callback(lambda one: (seen.append(one), called.set()))
    assert not called.wait(0.05)
    gate.touch()
    assert called.wait(30)
    task.add_done_callback(seen.append)
    assert seen == [task, task]


def test_threads_may_wait_together(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        waits = [pool.submit(task.result, 30) for _ in range(4)]
        short = pool.submit(task.result, 0.01)
        with pytest.raises(TimeoutError):
            short.result()
        gate.touch()
        assert {one.result() for one in waits} == {str(gate)}


def test_the_first_of_two_waiters_may_give_up(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    results: list[str] = []
    waiting = threading.Thread(target=lambda: results.append(task.result(30)))

    def give_up() -> None:
        with pytest.raises(TimeoutError):
            task.result(0.2)

    first = threading.Thread(target=give_up)
    first.start()
    waiting.start()
    first.join()
    gate.touch()
    waiting.join(30)
    assert results == [str(gate)]


# Event loops.


def test_await(queue: Queue) -> None:
    async def main() -> list[int]:
        return await asyncio.gather(*[nbtasks.submit(double, x) for x in range(3)])

    assert asyncio.run(main()) == [0, 2, 4]


def test_await_raises_what_the_task_raised(queue: Queue) -> None:
    async def main() -> None:
        await nbtasks.submit(fail, "awaited")

    with pytest.raises(ValueError, match="awaited"):
        asyncio.run(main())


def test_an_await_that_times_out_leaves_the_task_alone(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))

    async def main() -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.05)
        gate.touch()
        return await asyncio.wait_for(asyncio.wrap_future(task), 30)

    assert asyncio.run(main()) == str(gate)


# Handles.


def test_one_handle_for_a_task(queue: Queue) -> None:
    nbtasks.configure(autostart=False)
    task = nbtasks.submit(double, 1)
    assert nbtasks.get(task.short) is task
    assert nbtasks.get(task) is task
    assert pickle.loads(pickle.dumps(task)) is task
    assert {task: 1}[nbtasks.get(task.id)] == 1


def test_a_handle_pickled_to_another_process(queue: Queue, tmp_path: Path, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    path = tmp_path / "handle"
    path.write_bytes(pickle.dumps(task))
    code = """
        import os, pickle, sys, pathlib
        os.environ.pop("NBTASKS_QUEUE")
        task = pickle.load(open(sys.argv[1], "rb"))
        try:
            task.result(0.01)
        except TimeoutError:
            pathlib.Path(sys.argv[2]).touch()
        print(task.result(30))
    """
    done = python(code, str(path), str(gate))
    assert done.stdout == f"{gate}\n", done.stderr
    assert task.result(30) == str(gate)


def test_another_process_by_id(queue: Queue) -> None:
    task = nbtasks.submit(double, 4)
    assert task.result(30) == 8
    done = python("import nbtasks, sys; t = nbtasks.get(sys.argv[1]); print(t.result(), t.done())", task.short)
    assert done.stdout == "8 True\n", done.stderr


def test_the_end_of_a_task_of_another_process_is_told_by_a_bell(queue: Queue, gate: Path) -> None:
    done = python(
        "import nbtasks, sys; from tests.test_handle import wait_for; print(nbtasks.submit(wait_for, sys.argv[1]).id)",
        str(gate),
    )
    task = nbtasks.get(done.stdout.strip())
    called = threading.Event()
    task.add_done_callback(lambda _: called.set())
    gate.touch()
    assert called.wait(30)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_by_itself(queue: Queue, gate: Path) -> None:
    task = nbtasks.submit(wait_for, str(gate))
    told: list[object] = []
    task.add_done_callback(told.append)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if task.result(30) == str(gate) and nbtasks.submit(double, 2).result(30) == 4 else 2
        finally:
            os._exit(code)
    gate.touch()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert task.result(30) == str(gate)
    assert nbtasks.submit(double, 3).result(30) == 6


def test_a_worker_is_started_for_who_waits(queue: Queue) -> None:
    nbtasks.configure(autostart=False)
    task = nbtasks.submit(double, 5)
    nbtasks.configure(autostart=True)
    assert task.result(30) == 10


def test_hooks_are_called_around_a_wait(queue: Queue, gate: Path) -> None:
    class Lend:
        def __enter__(self) -> None:
            events.append("lent")
            gate.touch()

        def __exit__(self, *_: object) -> None:
            events.append("taken back")

    events: list[str] = []
    handles.before_wait.append(Lend)
    handles.binding_hooks.append(lambda: events.append("bound"))
    try:
        assert nbtasks.submit(wait_for, str(gate)).result(30)
        assert events == ["lent", "taken back", "bound"]
        thread = threading.Thread(target=nbtasks.submit(double, 1).result)
        thread.start()
        thread.join(30)
        assert events.count("bound") == 1
    finally:
        handles.before_wait.clear()
        handles.binding_hooks.clear()


def test_a_task_that_is_gone(queue: Queue) -> None:
    nbtasks.configure(autostart=False)
    task = nbtasks.submit(double, 1)
    os.remove(queue.layout.call(task.id))
    with pytest.raises(NbtasksError):
        nbtasks.get(task.id)
    assert isinstance(task, Task)
