"""The waist: a call goes in, an outcome comes out, whatever the user's code does."""

from __future__ import annotations

import ast
import errno
import os
import pickle
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

import nbtasks
from nbtasks import run
from nbtasks.errors import PayloadError
from nbtasks.frames import Frame, Part
from nbtasks.outcome import Outcome
from nbtasks.payload import dump, load
from nbtasks.queue.tickets import Ticket
from nbtasks.run import Ended
from nbtasks.spec import Spec
from nbtasks.status import Status

ID = "20261120-220611-482913-k7q2"


class NoValues:
    """A call that refers to nothing."""

    def value(self, id: str) -> object:
        raise AssertionError(id)

    def blob(self, hash: str) -> bytes:
        raise AssertionError(hash)


def call_of(function: Any, *args: Any, **fields: Any) -> Frame:
    parts = [dump("function", function), dump("arguments", (args, {}))]
    return frame_of(parts, **fields)


def frame_of(parts: list[Part], **fields: Any) -> Frame:
    body = msgspec.json.encode(Spec(id=ID, name="f", **fields))
    return Frame("call", "queue", ID, 0, body, {part.name: part for part in parts})


def go(function: Any, *args: Any, emit: run.Emit = lambda kind, data: True) -> Ended:
    return run.execute(call_of(function, *args), Ticket(ID, 3, 1), NoValues(), emit)


def value_of(ended: Ended) -> Any:
    return next(load(part) for part in ended.parts if part.name == "value")


def fail(message: str) -> None:
    raise ValueError(message)


def test_a_value_and_what_is_known_of_its_run() -> None:
    ended = go(divmod, 7, 2)
    assert value_of(ended) == (3, 1)
    outcome = ended.outcome
    assert (outcome.status, outcome.has_value, outcome.preview) == (Status.SUCCEEDED, True, "tuple, 2 items")
    assert (outcome.id, outcome.delivery, outcome.attempt, outcome.pid) == (ID, 3, 2, os.getpid())
    assert 0 < outcome.started <= outcome.ended


def test_none_is_a_value() -> None:
    ended = go(print)
    assert ended.outcome.has_value
    assert value_of(ended) is None


def test_the_task_knows_itself_while_it_runs() -> None:
    assert value_of(go(lambda: nbtasks.current_task().id)) == ID  # type: ignore[union-attr]
    assert nbtasks.current_task() is None


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit("x"), KeyboardInterrupt("x"), GeneratorExit("x")])
def test_whatever_is_raised_is_the_outcome(error: BaseException) -> None:
    def throw() -> None:
        raise error

    ended = go(throw)
    assert ended.outcome.status is Status.FAILED
    assert ended.outcome.failure is not None
    assert (ended.outcome.failure.type, ended.outcome.failure.message) == (type(error).__name__, "x")
    assert type(load(ended.parts[0])) is type(error)


def test_a_traceback_begins_in_the_users_code() -> None:
    failure = go(fail, "no good").outcome.failure
    assert failure is not None
    assert failure.traceback.splitlines()[1].endswith("in fail")
    assert failure.traceback.endswith("ValueError: no good\n")
    assert run.__file__ not in failure.traceback
    assert failure.where.startswith("test_run.py, line ")


class BadText(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class Closed(Exception):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("closed")
        self.lock = threading.Lock()


class Refuses(Exception):
    """Can be pickled, but not unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("raise ZeroDivisionError",)


def throw(kind: type[Exception], *args: Any) -> None:
    raise kind(*args)


def test_exceptions_that_cannot_travel_leave_their_text() -> None:
    closed = go(throw, Closed)
    assert closed.parts == []
    assert closed.outcome.failure is not None
    assert "test_run.Closed: closed" in closed.outcome.failure.traceback
    refuses = go(throw, Refuses, "no way back")
    assert refuses.outcome.failure is not None
    assert refuses.outcome.failure.message == "no way back"
    with pytest.raises(PayloadError):
        load(refuses.parts[0])
    bad = go(throw, BadText).outcome.failure
    assert bad is not None
    assert bad.message == "(its text cannot be shown: ZeroDivisionError)"


def test_a_value_that_cannot_travel_fails_and_is_named() -> None:
    outcome = go(threading.Lock).outcome
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert "the value that the task returned" in outcome.failure.message
    assert "lock" in outcome.failure.message


class Greedy:
    def __reduce__(self) -> Any:
        raise MemoryError("too large")


def test_a_value_that_finds_no_memory_fails_its_task() -> None:
    outcome = go(Greedy).outcome
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert outcome.failure.type == "MemoryError"


class Fussy:
    """Finds no room on the disk at first."""

    tries = 0

    def __reduce__(self) -> Any:
        Fussy.tries += 1
        if Fussy.tries < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int, (7,)


def test_a_value_for_which_there_is_no_room_is_kept_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a large pickle is spooled, dump lets the error of the disk through; here it comes from the pickling.
    monkeypatch.setattr(run.payload, "dump", lambda name, value, **_: Part(name, pickle.dumps(value)))
    seen: list[str] = []

    def emit(kind: str, data: dict[str, Any]) -> bool:
        seen.append(kind)
        return True

    ended = go(Fussy, emit=emit)
    assert seen == ["start", "ended", "full", "full"]
    assert value_of(ended) == 7
    Fussy.tries = 0
    assert go(Fussy, emit=lambda kind, data: kind != "full").outcome.status is Status.CANCELLED


def test_a_call_that_cannot_be_loaded_fails() -> None:
    class Gone:
        def __reduce__(self) -> Any:
            return exec, ("raise ModuleNotFoundError('no gone', name='gone')",)

    outcome = go(Gone()).outcome
    assert outcome.failure is not None
    assert "pip install gone" in outcome.failure.message
    missing = run.execute(frame_of([]), Ticket(ID), NoValues(), lambda kind, data: True).outcome
    assert missing.status is Status.FAILED


def test_a_parent_whose_value_is_gone_fails_the_child() -> None:
    class Values(NoValues):
        def value(self, id: str) -> object:
            raise FileNotFoundError(id)

    task = nbtasks.Task.__new__(nbtasks.Task)
    task.id, task.generation = ID, 1
    parts = [dump("function", abs), dump("arguments", ((task,), {}), references=True)]
    outcome = run.execute(frame_of(parts), Ticket(ID), Values(), lambda kind, data: True).outcome
    assert outcome.status is Status.FAILED


# Stopping.


def test_stopped_before_it_began() -> None:
    ran: list[int] = []
    ended = go(ran.append, 1, emit=lambda kind, data: kind != "start" and kind != "ended")
    assert ended.outcome.status is Status.CANCELLED
    assert (ran, ended.parts) == ([], [])


def test_what_is_returned_although_it_was_stopped_is_kept() -> None:
    ended = go(abs, -1, emit=lambda kind, data: kind != "ended")
    assert ended.outcome.status is Status.CANCELLED
    assert ended.outcome.has_value
    assert value_of(ended) == 1


def test_an_error_after_a_stop_is_an_error() -> None:
    assert go(fail, "x", emit=lambda kind, data: kind != "ended").outcome.status is Status.FAILED


class InterruptAt:
    """Interrupts at the n-th instruction of the waist around the user's code, as the handler of a slot does."""

    def __init__(self, number: int) -> None:
        self.left, self.raised = number, False

    def trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code is not run._run_user_code.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left <= 0 and run.try_interrupt():
                self.raised = True
                raise KeyboardInterrupt
        return self.trace


def interrupted(number: int, function: Any, *args: Any) -> tuple[Ended, bool]:
    """What comes of a call that is interrupted there, and whether there was such an instruction."""
    interrupt = InterruptAt(number)
    before = sys.gettrace()
    sys.settrace(interrupt.trace)
    try:
        ended = go(function, *args, emit=lambda kind, data: kind != "ended" or not interrupt.raised)
    finally:
        sys.settrace(before)
    assert not run.in_user_code()
    assert not run.try_interrupt()
    return ended, interrupt.raised


def test_an_interrupt_at_any_instruction_leaves_one_outcome() -> None:
    lost = kept = 0
    for number in range(1, 1000):
        ran: list[int] = []
        ended, was_interrupted = interrupted(number, lambda: ran.append(1) or len(ran))  # noqa: B023
        if not was_interrupted:
            break
        assert ended.outcome.status is Status.CANCELLED
        kept += ended.outcome.has_value
        lost += bool(ran) and not ended.outcome.has_value
    assert number > 15
    assert kept > 2, "behind the code, what it returned is kept"
    assert lost <= 1, "but for the one instruction that takes it"


def test_an_interrupt_behind_an_error_leaves_one_outcome() -> None:
    for number in range(1, 1000):
        ended, was_interrupted = interrupted(number, fail, "x")
        assert ended.outcome.status in (Status.CANCELLED, Status.FAILED)
        if not was_interrupted:
            break
    assert ended.outcome.status is Status.FAILED


# Cells.


def cell_of(source: str, folder: Path, **inputs: Any) -> tuple[Outcome, list[Part]]:
    """Run a cell in a child, as a slot does: IPython stays in the process."""
    from nbtasks.cells import Cell
    from nbtasks.payload import make_home

    call = frame_of([dump("cell", Cell(source, inputs, number=12))], kind="cell", need="c")
    path = folder / "ended"
    pid = os.fork()
    if pid == 0:
        make_home()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        ended = run.execute(call, Ticket(ID), NoValues(), lambda kind, data: True)
        path.write_bytes(pickle.dumps((ended.outcome, [(part.name, bytes(part.view())) for part in ended.parts])))
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    outcome, parts = pickle.loads(path.read_bytes())
    return outcome, [Part(*part) for part in parts]


def test_a_cell_gives_value_and_names(tmp_path: Path) -> None:
    outcome, parts = cell_of("y = x + 1\nseen.append(y)\ny * 2", tmp_path, x=1, seen=[])
    assert outcome.status is Status.SUCCEEDED
    assert load(parts[0]) == (4, {"y": 2, "seen": [2]})
    assert [(v.name, v.changed) for v in outcome.variables] == [("y", False), ("seen", True)]


def test_a_cell_that_fails_keeps_what_it_had_assigned(tmp_path: Path) -> None:
    outcome, parts = cell_of("y = 1\n1 / 0", tmp_path)
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert (outcome.failure.type, outcome.failure.where) == ("ZeroDivisionError", "cell [12], line 2")
    assert {part.name: load(part) for part in parts}["cell"] == (None, {"y": 1})


def test_the_waist_knows_nothing_of_directories_and_engines() -> None:
    with open(run.__file__) as file:
        tree = ast.parse(file.read())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in names if name and ("engines" in name or "directory" in name or "worker" in name)}
