"""Objects and their bytes: what travels, where it arrives, and what an error says about what cannot."""

from __future__ import annotations

import collections
import functools
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbtasks import payload, pickling, spool
from nbtasks.errors import NbtasksError, PayloadError, UpstreamFailed

MODULE_LOCK = threading.Lock()


def again(obj: Any, **options: Any) -> Any:
    return payload.load(payload.dump("value", obj, **options))


def in_another_process(code: str, *arguments: str, folder: Path | None = None) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True, text=True, timeout=60, cwd=folder,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


class Handle:
    """Stands for a task: its value is what a call gets."""

    def __init__(self, id: str) -> None:
        self.id = id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


@pytest.fixture
def handles() -> Iterator[None]:
    payload.register_reference(Handle, lambda handle: handle.id)
    yield
    pickling._referenced.pop(Handle)


# Values.


@pytest.mark.parametrize(
    "value",
    [None, 0, "é\0\ud800", b"\xff" * 100, [1, (2, {3})], {"a": float("inf")}, collections.OrderedDict(a=1), ..., int],
    ids=repr,
)
def test_values_come_back(value: object) -> None:
    assert again(value) == value


def test_arrays_come_back_writable_and_without_a_copy() -> None:
    for array in (np.arange(100_000), np.asfortranarray(np.ones((300, 400))), np.arange(10), np.arange(90_000)[::3]):
        got = again(array)
        assert np.array_equal(got, array)
        assert got.flags.writeable
        assert got.flags.f_contiguous == array.flags.f_contiguous or not array.flags.contiguous
    big = np.arange(100_000)
    part = payload.dump("value", big)
    assert len(part.view()) < 300
    assert np.shares_memory(np.frombuffer(part.buffers[0], big.dtype), big)
    assert np.shares_memory(payload.load(part), big)


def test_small_buffers_stay_in_the_pickle() -> None:
    assert payload.dump("value", np.zeros(2047)).buffers == ()
    assert len(payload.dump("value", [np.zeros(2048)] * 3).buffers) == 1


def test_a_read_only_array_stays_one() -> None:
    array = np.arange(100_000)
    array.flags.writeable = False
    assert not again(array).flags.writeable


def test_frames_of_pandas_come_back() -> None:
    frame = pd.DataFrame({"a": np.arange(50_000), "b": np.linspace(0, 1, 50_000), "c": ["x", "y"] * 25_000})
    pd.testing.assert_frame_equal(again(frame), frame)


def test_a_large_pickle_is_spooled_and_not_held() -> None:
    value = [b"a" * (1 << 20) + bytes([index]) for index in range(40)]
    part = payload.dump("value", value)
    assert isinstance(part.pickle, spool.Spool)
    assert part.size > 40 << 20
    assert payload.load(part) == value
    small = payload.dump("value", value[:2])
    assert type(small.pickle) is bytes


def test_one_part_gives_a_fresh_object_each_time() -> None:
    part = payload.dump("value", {"a": [1]})
    payload.load(part)["a"].append(2)
    assert payload.load(part) == {"a": [1]}


# References to tasks.


@pytest.mark.usefixtures("handles")
def test_tasks_among_the_arguments_become_values() -> None:
    one, two = Handle("one"), Handle("two")
    arguments = ((two, [one, {"deep": (two,)}]), {"key": one})
    part = payload.dump("arguments", arguments, references=True)
    assert part.references == ("two", "one")
    assert payload.load(part, str.upper) == (("TWO", ["ONE", {"deep": ("TWO",)}]), {"key": "ONE"})
    assert payload.load(payload.dump("cell", arguments)) == arguments
    with pytest.raises(PayloadError, match="two"):
        payload.load(part)


@pytest.mark.usefixtures("handles")
def test_tasks_in_closures_stay_handles() -> None:
    task = Handle("one")

    def ask() -> object:
        return task

    (loaded, value), _ = payload.load(payload.dump("arguments", ((ask, task), {}), references=True), lambda id: id)
    assert value == "one"
    assert loaded() == task


@pytest.mark.usefixtures("handles")
def test_a_value_may_be_loaded_while_another_is() -> None:
    inner = payload.dump("value", [1])
    part = payload.dump("arguments", ((Handle("a"), Handle("b")), {}), references=True)
    assert payload.load(part, lambda id: payload.load(inner)) == (([1], [1]), {})


@pytest.mark.usefixtures("handles")
def test_what_finding_a_value_raises_comes_through() -> None:
    def fail(id: str) -> object:
        raise UpstreamFailed("the parent failed", parent=id)

    with pytest.raises(UpstreamFailed, match="the parent failed"):
        payload.load(payload.dump("arguments", ((Handle("a"),), {}), references=True), fail)


# What cannot be pickled.


class Database:
    def __init__(self, connection: object) -> None:
        self.name = "sales"
        self.connection = connection


class Refuses:
    def __reduce__(self) -> str:
        raise ValueError("not me")


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


def endless() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


def closing_over(connection: object) -> Callable[[], object]:
    def train() -> object:
        return connection

    return train


def uses_lock() -> object:
    return MODULE_LOCK


uses_lock.__module__ = "__main__"

ARGUMENTS: list[tuple[Callable[[], object], str, str]] = [
    (
        lambda: {"db": Database(sqlite3.connect(":memory:"))},
        r"argument 2 of train\['db'\]\.connection ",
        "sqlite3.Connection",
    ),
    (lambda: [1, (2, threading.Lock())], r"argument 2 of train\[1\]\[1\] ", "_thread.lock"),
    (lambda: (number for number in [1]), "argument 2 of train ", "generator"),
    (lambda: functools.partial(print, file=sys.__stdout__.buffer), r"\.keywords\['file'\]", "_io.FileIO"),
    (
        lambda: closing_over(threading.Lock()),
        "closure variable 'connection' of closing_over.<locals>.train ",
        "_thread.lock",
    ),
    (lambda: uses_lock, "global variable 'MODULE_LOCK' of uses_lock ", "_thread.lock"),
    (Refuses, "argument 2 of train ", "Refuses"),
    (Slotted, r"argument 2 of train\.lock ", "_thread.lock"),
    (lambda: Database(threading.Lock()).__init__, r"argument 2 of train\.__self__\.connection ", "_thread.lock"),
]


@pytest.mark.parametrize(("make", "place", "kind"), ARGUMENTS, ids=[place for _, place, _ in ARGUMENTS])
def test_what_cannot_be_pickled_is_named_with_its_place_and_cure(
    make: Callable[[], object], place: str, kind: str
) -> None:
    with pytest.raises(PayloadError, match=place) as caught:
        payload.dump("arguments", ((1, make()), {"x": 1}), references=True, where="train")
    assert f"of type {kind} " in str(caught.value) or f".{kind} " in str(caught.value)
    assert "To mend it: " in str(caught.value)


def test_keywords_are_named_by_their_names() -> None:
    with pytest.raises(PayloadError, match=r"argument 'log' cannot be pickled.*make it inside the task"):
        payload.dump("arguments", ((), {"log": threading.Lock()}))


def test_variables_of_a_cell_are_named_by_their_names() -> None:
    class Cell:
        def __init__(self) -> None:
            self.inputs = {"df": 1, "conn": [sqlite3.connect(":memory:")]}

    with pytest.raises(PayloadError, match=r"variable 'conn'\[0\] cannot be pickled.*open it inside the task"):
        payload.dump("cell", Cell(), where="the cell")


def test_a_value_is_called_what_the_caller_calls_it() -> None:
    with pytest.raises(PayloadError, match=r"^the value that the task returned cannot be pickled.*list"):
        payload.dump("value", iter(x for x in [1]), where="the value that the task returned")


def test_what_is_nested_too_deeply_says_so() -> None:
    with pytest.raises(PayloadError, match="setrecursionlimit"):
        payload.dump("value", endless())


def test_something_that_contains_itself_does_not_hang() -> None:
    around: list[Any] = [threading.Lock()]
    around.insert(0, around)
    with pytest.raises(PayloadError, match=r"\[1\] cannot be pickled.*_thread.lock"):
        payload.dump("value", around)


class Slow:
    def __reduce__(self) -> tuple[Any, ...]:
        time.sleep(0.02)
        return Slow, ()


def test_looking_for_the_culprit_ends_in_time() -> None:
    start = time.monotonic()
    with pytest.raises(PayloadError, match="lock"):
        payload.dump("value", [[Slow() for _ in range(30)], [Slow() for _ in range(90)], threading.Lock()])
    assert time.monotonic() - start < 10


def test_no_room_for_a_large_pickle_is_an_error_of_the_disk() -> None:
    code = """
        import resource, signal
        from nbtasks import payload
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30 << 20, 30 << 20))
        try:
            payload.dump("value", [b"a" * (1 << 20) + bytes([index]) for index in range(40)])
        except OSError as error:
            print(error.strerror)
    """
    assert in_another_process(code) == "File too large\n"


# What cannot be unpickled.


def test_a_missing_module_says_what_to_install() -> None:
    part = payload.Part("function", b"cnot_here.sub\nf\n.")
    with pytest.raises(PayloadError, match=r"'not_here', which the Python in .* pip install not_here"):
        payload.load(part)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"cos\nno_such_name\n.", "another version"),
        (b"cbuiltins\nint\n(S'x'\ntR.", "ValueError"),
        (b"", "EOFError"),
        (b"\x80\x05\x97.", "UnpicklingError"),
        (b"\x80\x63.", "unsupported pickle protocol"),
        (b"cbuiltins\nexit\n.", None),
    ],
)
def test_whatever_loading_raises_is_a_payload_error(data: bytes, words: str | None) -> None:
    part = payload.Part("value", data)
    if words is None:
        assert payload.load(part) is exit
        return
    with pytest.raises(PayloadError, match=words):
        payload.load(part)


class Fussy(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__("only one thing")


def test_an_exception_comes_back_whatever_its_init_asks_for() -> None:
    error = again(Fussy(1, 2))
    assert type(error) is Fussy
    assert error.args == ("only one thing",)


def _refuse() -> Exception:
    raise ValueError("not here")


class Unmade(Fussy):
    def __reduce__(self) -> tuple[object, ...]:
        return _refuse, ()


def test_an_exception_that_cannot_be_made_again_is_a_payload_error() -> None:
    part = payload.dump("exception", Unmade(1, 2))
    with pytest.raises(PayloadError, match=r"the exception could not be unpickled"):
        payload.load(part)


def test_errors_of_ours_keep_their_facts() -> None:
    error = again(UpstreamFailed("it failed", parent="k7q2", remote_traceback="text"))
    assert isinstance(error, NbtasksError)
    assert (str(error), error.parent, error.remote_traceback) == ("it failed", "k7q2", "text")


# The notebook's names.

NOTEBOOK = """
    import enum, functools, sys
    from nbtasks import payload
    import pickle

    SCALE = 3
    notes = ["as submitted"]

    def double(x):
        return 2 * x

    def scaled(x):
        return double(x) * SCALE

    class Base:
        made = 0
        def __init__(self, x):
            self.x = x
        def scaled(self):
            return scaled(self.x)

    class Model(Base):
        def __init__(self, x):
            super().__init__(x)
        def __eq__(self, other):
            return type(other) is Model and other.x == self.x

    class Colour(enum.Enum):
        RED = 1

    @functools.lru_cache(maxsize=64)
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    def everything():
        return notes

    model = Model(4)

    def send(path, *objects):
        with open(path, "wb") as file:
            for obj in objects:
                file.write(pickle.dumps(bytes(payload.dump("function", obj).view())))

    def receive(path, **options):
        with open(path, "rb") as file:
            while file.peek(1):
                yield payload.load(payload.Part("function", pickle.load(file)), **options)
"""
SLOT = """
    import multiprocessing, pickle, sys
    from nbtasks import payload

    def receive(path):
        with open(path, "rb") as file:
            while file.peek(1):
                yield payload.load(payload.Part("function", pickle.load(file)), home=True)

    main = payload.make_home()
    scaled, Model, model, Colour, red, fibonacci = receive(sys.argv[1])
"""


@pytest.fixture
def sent(tmp_path: Path) -> str:
    path = str(tmp_path / "sent")
    code = textwrap.dedent(NOTEBOOK) + "send(sys.argv[1], scaled, Model, model, Colour, Colour.RED, fibonacci)"
    in_another_process(code, path)
    return path


def in_slot(sent: str, code: str) -> list[str]:
    return in_another_process(textwrap.dedent(SLOT) + textwrap.dedent(code), sent).split()


def test_names_of_the_notebook_live_in_main(sent: str) -> None:
    assert in_slot(sent, """
        import __main__
        print(scaled(2), __main__.scaled is scaled, __main__.SCALE, scaled.__globals__ is vars(__main__))
        print(type(model) is Model is __main__.Model, model.scaled(), Colour.RED is red is __main__.Colour.RED)
        print(__main__.__builtins__ is __import__("builtins"))
    """) == "12 True 3 True True 24 True True".split()  # fmt: skip


def test_pickle_itself_works_on_them(sent: str) -> None:
    assert in_slot(sent, """
        for obj in (scaled, Model, model, Colour, red, fibonacci):
            print(pickle.loads(pickle.dumps(obj)) == obj)
        print(fibonacci(50), fibonacci.cache_parameters()["maxsize"])
    """) == ["True"] * 6 + ["12586269025", "64"]  # fmt: skip


def test_a_pool_works_on_them(sent: str) -> None:
    assert in_slot(sent, """
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(*pool.map(scaled, [1, 2, 3]), *[made.x for made in pool.map(Model, [5])])
    """) == "6 12 18 5".split()  # fmt: skip


def test_joblib_and_a_process_pool_work_on_them(sent: str) -> None:
    assert in_slot(sent, """
        import io, joblib
        from concurrent.futures import ProcessPoolExecutor
        file = io.BytesIO()
        joblib.dump([model, scaled], file)
        file.seek(0)
        print(joblib.load(file)[0] == model)
        with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
            print(pool.submit(scaled, 1).result())
        print(*joblib.Parallel(n_jobs=2)(joblib.delayed(scaled)(x) for x in (1, 2)))
    """) == "True 6 6 12".split()  # fmt: skip


def test_a_name_used_globally_is_the_same_for_all_that_use_it(sent: str) -> None:
    assert in_slot(sent, """
        main.SCALE = 100
        print(scaled(1), model.scaled())
    """) == ["200", "800"]  # fmt: skip


def test_each_home_is_empty(sent: str) -> None:
    assert in_slot(sent, """
        payload.make_home()
        print([name for name in vars(sys.modules["__main__"]) if not name.startswith("__")], scaled(1))
    """) == ["[]", "6"]  # fmt: skip


def test_what_comes_back_changes_no_name_of_the_notebook(tmp_path: Path) -> None:
    """The value holds functions and classes that used other values when the task was submitted."""
    code = textwrap.dedent(NOTEBOOK) + textwrap.dedent("""
        path = sys.argv[1]
        send(path, everything, model, Model, fibonacci)
        notes = ["changed since"]
        SCALE = 1000
        Model.made = 7
        kept = dict(globals())
        back, other, cls, cached = receive(path)
        home = list(receive(path, home=True))
        now = dict(globals())
        print(all(now[name] is kept[name] for name in kept))
        print(back(), back is everything is home[0], cls is Model, type(other) is Model, Model.made, model.scaled())
    """)
    assert in_another_process(code, str(tmp_path / "sent")).splitlines() == [
        "True",
        "['changed since'] True True True 7 8000",
    ]


def test_a_class_that_a_restarted_kernel_does_not_know_comes_whole(sent: str) -> None:
    code = """
        import pickle, sys
        from nbtasks import payload
        with open(sys.argv[1], "rb") as file:
            parts = [payload.Part("value", pickle.load(file)) for _ in range(6)]
        names = set(globals())
        for _ in range(2):
            loaded = [payload.load(part) for part in parts]
            print(loaded[0](2), loaded[2].scaled(), type(loaded[2]) is loaded[1], loaded[5](10))
        print(set(globals()) - names - {"names", "loaded", "_"})
    """
    assert in_another_process(code, sent).splitlines() == ["12 24 True 55", "12 24 True 55", "set()"]


def test_a_slot_takes_the_latest_of_a_class(tmp_path: Path) -> None:
    """A method was replaced between two submits; the slot is warm."""
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    in_another_process(
        textwrap.dedent(NOTEBOOK)
        + textwrap.dedent("""
        send(sys.argv[1], model)
        Model.scaled = lambda self: "new"
        SCALE = 5
        send(sys.argv[2], model)
        """),
        first,
        second,
    )
    code = """
        import pickle, sys
        from nbtasks import payload
        for path in sys.argv[1:]:
            with open(path, "rb") as file:
                model = payload.load(payload.Part("function", pickle.load(file)), home=payload.make_home() is not None)
            print(model.scaled())
    """
    assert in_another_process(code, first, second).split() == ["24", "new"]


def test_a_function_changed_since_is_pickled_anew() -> None:
    """Plain functions are pickled once; whatever they depend on must undo that."""
    code = """
        import math, sys
        from nbtasks import payload
        def bytes_of(f):
            return bytes(payload.dump("function", f).view())
        def f(x):
            return later(x) if x else math.pi
        def call(f, x):
            return payload.load(payload.dump("function", f))(x)
        one = bytes_of(f)
        print(payload.dump("function", f) is payload.dump("function", f), call(f, 0) == math.pi)
        later = lambda x: x + 1
        print(call(f, 1))
        later = lambda x: x + 2
        print(call(f, 1))
        del later
        f.__code__ = (lambda x: x * 10).__code__
        print(call(f, 1))
        f.__defaults__ = (4,)
        print(payload.load(payload.dump("function", f))())
        f.__defaults__ = None
        def g(): return math
        call_g = lambda: payload.load(payload.dump("function", g))()
        print(call_g().__name__)
        import cmath as math
        print(call_g().__name__)
        math = 3
        print(call_g())
    """
    assert in_another_process(code).split() == "True True 2 3 10 40 math cmath 3".split()


def test_functions_of_modules_travel_by_reference() -> None:
    assert b"path" in payload.dump("function", os.path.join).view()
    assert len(payload.dump("function", os.path.join).view()) < 100
    assert again(os.path.join) is os.path.join
    assert again(Handle) is Handle


def test_local_functions_and_classes_travel_by_value() -> None:
    def outer(n: int) -> Callable[[int], int]:
        def inner(x: int) -> int:
            return inner(x - 1) + n if x else 0

        return inner

    class Local:
        def value(self) -> int:
            return outer(2)(3)

    assert again(outer)(3)(4) == 12
    assert again(Local()).value() == 6


GUEST = """
import sys
from nbtasks import payload
from nbtasks.frames import Part

scale = 10  # the notebook's own, which must stay
{call}
assert scale == 10
print(back(2))
scale = 100  # and later changes are seen, as those of any function of the notebook
print(back(2), offset)
"""


def test_a_function_that_comes_back_sees_the_names_of_the_notebook(tmp_path: Path) -> None:
    made = f"""
from nbtasks import payload
scale, offset = 3, 1
def back(x):
    return x * scale + offset
part = payload.dump("cell", back)
open({str(tmp_path / "part")!r}, "wb").write(part.view())
"""
    run = [sys.executable, "-c"]
    subprocess.run([*run, made], check=True)
    call = f"back = payload.load(Part('cell', open({str(tmp_path / 'part')!r}, 'rb').read()), guest=True)"
    shown = subprocess.run([*run, GUEST.format(call=call)], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["21", "201", "1"]


def test_a_file_open_for_reading_is_refused_not_replaced_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "big.csv").write_text("1,2")
    with (tmp_path / "big.csv").open() as file, pytest.raises(PayloadError, match="open file"):
        payload.dump("arguments", ([file],))
