"""Changes in place are seen; reading is none."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbtasks import payload
from nbtasks.errors import PayloadError

DATA = np.random.default_rng(1).normal(size=(150, 4))
LABELS = (DATA @ [1.0, 2.0, 0.0, -1.0] > 0).astype(int) + (DATA[:, 1] > 1)


class Point:
    def __init__(self) -> None:
        self.x = 1
        self.seen: set[str] = {"a", "b"}
        self.parts = [1, 2]

    @functools.cached_property
    def total(self) -> int:
        return sum(self.parts)


def frame() -> pd.DataFrame:
    made = pd.DataFrame({"a": np.arange(6_000), "b": np.linspace(0, 1, 6_000), "c": ["x", "y"] * 3_000})
    made["d"] = made["a"] * 2.0  # a block of its own
    made["e"] = pd.Categorical(made["c"])
    return made


# scikit-learn and scipy take seconds to load, which every process that collects this file would spend.


def logistic(**options: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(**options)


def fitted() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), logistic()).fit(DATA, LABELS)


def forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(5).fit(DATA, LABELS)


def neighbours() -> Any:
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier().fit(DATA, LABELS)


def sparse() -> Any:
    import scipy.sparse

    return scipy.sparse.random(90, 90, 0.1, "csr")


def same(obj: Any, use: Callable[[Any], object]) -> bool:
    before = payload.digest(obj)
    use(obj)
    return payload.digest(obj) == before


def again(obj: Any) -> Any:
    return payload.load(payload.dump("value", obj))


READING: list[tuple[str, Callable[[], Any], Callable[[Any], object]]] = [
    ("array", lambda: np.arange(50_000.0), lambda a: (a.sum(), a[::2], a.T, np.sort(a), repr(a))),
    ("matrix", lambda: np.ones((300, 300)), lambda a: (a @ a, a.T.copy(), np.linalg.norm(a), a.ravel())),
    ("frame", frame, lambda df: (df.sum(numeric_only=True), df["a"].mean(), df.values, repr(df))),
    ("frame, grouped", frame, lambda df: (df.groupby("c", observed=True)["b"].mean(), df.describe(), df.T)),
    ("frame, looked up", frame, lambda df: (df.loc[3:40], df.set_index("a").loc[4], df.query("a > 3"), df.a)),
    ("frame, indexed", lambda: frame().set_index("a"), lambda df: (df.loc[4], df.index.is_unique, df.sort_index())),
    ("frame, merged", frame, lambda df: (df.merge(df, on="a"), df.isna().any(), df.memory_usage(), df.plot)),
    ("frame, to numpy", frame, lambda df: (df[["a", "b", "d"]].to_numpy(), df.corr(numeric_only=True), df.copy())),
    ("series", lambda: frame()["b"], lambda s: (s.mean(), s.index, s.rolling(3).sum(), s.to_numpy(), s.value_counts())),
    ("text", lambda: frame()["c"], lambda s: (s.unique(), s.str.upper(), s == "x", s.astype("category"))),
    ("dates", lambda: pd.Series(pd.date_range("2026", periods=99)), lambda s: (s.dt.month, s.dt.year, s.max(), repr(s))),
    ("model", fitted, lambda m: (m.predict(DATA), m.score(DATA, LABELS), repr(m), m.get_params())),
    ("forest", forest, lambda m: (m.predict(DATA), m.feature_importances_)),
    ("neighbours", neighbours, lambda m: m.predict_proba(DATA)),
    ("sparse", sparse, lambda m: (m.sum(), m @ m, m.T, m.has_sorted_indices, m[3])),
    ("list", lambda: [3, "a", [1.5, None]], lambda x: (sorted(map(str, x)), x[::-1], len(x), x.index("a"))),
    ("dict", lambda: {"b": 1, "a": {2, 3}}, lambda x: (x["a"] | {4}, sorted(x), x.get("z"), dict(x))),
    ("set", lambda: {"b", "a", "c"}, lambda x: ("a" in x, x | {"d"}, sorted(x))),
    ("object", Point, lambda p: (p.x, p.total, [*p.parts, 1], vars(p), hasattr(p, "y"))),
    ("generator", lambda: np.random.default_rng(1), lambda g: (repr(g), g.bit_generator)),
    ("function", lambda: lambda x: DATA, lambda f: f(1)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "use"), [case[1:] for case in READING], ids=[case[0] for case in READING])
def test_reading_is_no_change(make: Callable[[], Any], use: Callable[[Any], object]) -> None:
    assert same(make(), use)
    assert same(again(make()), use), "in the slot, where it was loaded from a pickle"


def put(obj: Any, key: Any, value: Any) -> None:
    obj[key] = value


CHANGING: list[tuple[str, Callable[[], Any], Callable[[Any], object]]] = [
    ("array, one item", lambda: np.arange(5_000_000.0), lambda a: put(a, 4_999_999, -1)),
    ("array, sorted", lambda: np.arange(50_000)[::-1].copy(), lambda a: a.sort()),
    ("array, shuffled", lambda: np.arange(50_000), lambda a: np.random.default_rng(1).shuffle(a)),
    ("array, two swapped", lambda: np.arange(99), lambda a: put(a, [3, 4], [4, 3])),
    ("array, reshaped", lambda: np.arange(10_000), lambda a: a.resize((100, 100), refcheck=False)),
    ("frame, new column", frame, lambda df: put(df, "z", 1)),
    ("frame, one cell", frame, lambda df: put(df.loc, (5, "b"), 9.0)),
    ("frame, text", frame, lambda df: put(df.loc, (5, "c"), "z")),
    ("frame, dropped", frame, lambda df: df.pop("a")),
    ("frame, renamed", frame, lambda df: setattr(df, "columns", list("Abcde"))),
    ("frame, turned", frame, lambda df: put(df, "b", df["b"].to_numpy()[::-1])),
    ("frame, index", frame, lambda df: setattr(df, "index", df["a"])),
    ("frame, type", frame, lambda df: put(df, "a", df["a"].astype("int32"))),
    ("frame, attributes", frame, lambda df: put(df.attrs, "unit", "m")),
    ("series", lambda: frame()["b"], lambda s: put(s, 3, 7.5)),
    ("model", lambda: logistic(max_iter=1000), lambda m: m.fit(DATA, LABELS)),
    ("model, again", fitted, lambda m: m.fit(DATA[:100], LABELS[:100])),
    ("model, option", fitted, lambda m: m.set_params(logisticregression__C=3.0)),
    ("sparse", sparse, lambda m: m.data.__imul__(2)),
    ("list, grown", lambda: [1], lambda x: x.append(1)),
    ("list, sorted", lambda: [3, 1, 2], lambda x: x.sort()),
    ("list, deep", lambda: [[[{"a": []}]]], lambda x: x[0][0][0]["a"].append(None)),
    ("dict", lambda: {"a": 1}, lambda x: x.update(a=1.0)),
    ("dict, order", lambda: {"a": 1, "b": 2}, lambda x: put(x, "a", x.pop("a"))),
    ("set", lambda: {"a"}, lambda x: x.add("b")),
    ("object", Point, lambda p: setattr(p, "x", 2)),
    ("object, deep", Point, lambda p: p.seen.discard("a")),
    ("object, new attribute", Point, lambda p: setattr(p, "y", 2)),
    ("generator", lambda: np.random.default_rng(1), lambda g: g.random()),
    ("bytes", lambda: bytearray(50_000), lambda b: put(b, 49_999, 1)),
]


@pytest.mark.parametrize(("make", "use"), [case[1:] for case in CHANGING], ids=[case[0] for case in CHANGING])
def test_a_change_in_place_is_seen(make: Callable[[], Any], use: Callable[[Any], object]) -> None:
    assert not same(make(), use)
    assert not same(again(make()), use), "in the slot, where it was loaded from a pickle"


def test_a_closure_that_counts_is_changed_by_counting() -> None:
    def make() -> Callable[[], int]:
        calls: list[int] = []

        def count() -> int:
            calls.append(1)
            return len(calls)

        return count

    assert not same(make(), lambda count: count())


def test_what_an_objects_class_refers_to_is_not_part_of_it() -> None:
    notes: list[int] = []

    class Writer:
        def write(self) -> None:
            notes.append(1)

    assert same(Writer(), lambda writer: writer.write())
    assert same([Writer], lambda classes: setattr(classes[0], "colour", "red"))


def test_large_arrays_are_summed_in_pieces() -> None:
    array = np.zeros(100 << 20, np.uint8)
    before = payload.digest(array)
    for at in (0, 16 << 20, (50 << 20) + 1, (100 << 20) - 1):
        array[at] = 1
        assert payload.digest(array) != before
        array[at] = 0
    assert payload.digest(array) == before


def test_what_cannot_be_pickled_is_a_payload_error() -> None:
    with pytest.raises(PayloadError, match=r"\['a'\] cannot be pickled: it is of type _thread.lock"):
        payload.digest({"a": threading.Lock()})


NOTEBOOK = """
import functools, numpy as np
def add(x, y=1):
    "Add."
    return x + y if x in {"p", "q", "r"} else (lambda z: z - y)(x)
class Net:
    layers = 3
    def fit(self, x): return add(x)
    @property
    def width(self): return 1
    @staticmethod
    def make(): return Net()
class Deep(Net):
    def fit(self, x): return super().fit(x)
@functools.lru_cache
def cached(x): return x
net = Deep(); net.w = [1, "x"]
"""
VALUES = "add, Net, Deep, net, cached, {'p', 'q', 'zz'}, {'net': net}, np.arange(9), np, functools.partial(add, 1), int"


def prints(source: str, seed: int) -> list[str]:
    """Fingerprints of the values of a notebook in another process."""
    code = f"{source}\nfrom nbtasks import payload\nfor value in ({VALUES}): print(payload.fingerprint(value))"
    run = [sys.executable, "-c", f"exec(compile({code!r}, '/tmp/ipykernel_{seed}/1.py', 'exec'))"]
    env = {**os.environ, "PYTHONHASHSEED": str(seed)}
    return subprocess.run(run, env=env, check=True, capture_output=True, text=True).stdout.split()


def test_fingerprints_are_the_same_in_every_process_and_tell_code_apart() -> None:
    first, second = prints(NOTEBOOK, 1), prints("# moved\n\n" + NOTEBOOK, 2)
    assert first == second
    assert len(set(first)) == len(first)
    other = prints(NOTEBOOK.replace("return x + y", "return x - y"), 3)
    assert [at for at, (one, two) in enumerate(zip(first, other, strict=True)) if one != two] == [0, 9], (
        "add, and what holds it"
    )
    class_changed = prints(NOTEBOOK.replace("layers = 3", "layers = 4"), 3)
    assert [at for at, (one, two) in enumerate(zip(first, class_changed, strict=True)) if one != two] == [1, 2, 3, 6]


def test_both_are_had_by_reading_once_where_they_are_the_same() -> None:
    array = {"values": np.arange(100_000)}
    digest, fingerprint = payload.digest_and_fingerprint(array)
    assert digest == fingerprint == payload.digest(array)
    array["values"][0] = 1
    assert payload.digest_and_fingerprint(array)[1] != fingerprint
