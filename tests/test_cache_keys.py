"""What makes two calls the same: keys made in new interpreters, of code and values as they stand in a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nbtasks.queue.directory import Queue

# Defines a notebook's names, then prints the key of `f(*args, **kwargs)` for each piece of code.
_MAKE = """
import json, sys
from nbtasks import caching, context
from nbtasks.cache_finding import NotKeyable
from nbtasks.cache_keys import CallKeys
from nbtasks.decorate import _plain
from nbtasks.queue.directory import Queue

def key_of(names):
    blobs = Queue.open().blobs
    function = names["f"]
    try:
        keys = CallKeys(blobs, context.capture(blobs), function, _plain(function), "f")
        return keys.of(names.get("args", ()), names.get("kwargs", {}))
    except NotKeyable as error:
        return f"not: {error}"

def main(names):
    before = dict(names)
    for code in json.loads(sys.stdin.read()):
        exec(code, names)
        print(json.dumps(key_of(names)))
        for name in set(names) - set(before):
            del names[name]

main(vars(sys.modules["__main__"]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(autouse=True)
def _queue(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBTASKS_QUEUE", str(folder / ".nbtasks"))
    Queue.open(str(folder / ".nbtasks"))


def keys(folder: Path, *codes: str, hashes: str = "random", **environ: str) -> list[str]:
    """The keys that a new interpreter gives."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _MAKE], cwd=folder, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONHASHSEED": hashes, **environ},
        input=json.dumps([textwrap.dedent(code) for code in codes]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


BASE = """
import functools
RATE = 3
class Model:
    "A model."
    depth = 2
    def fit(self, x): return helper(x) * self.depth
def scale(by):
    def wrap(fn):
        @functools.wraps(fn)
        def run(*args, **kwargs): return fn(*args, **kwargs) * by
        return run
    return wrap
def helper(x):
    return x * RATE
@scale(2)
def f(x, y=1):
    return Model().fit(x) + y
args = (1,)
"""
SAME = {
    "comments and empty lines": ("    return x * RATE", "    # scaled\n\n    return x * RATE  # now"),
    "formatting": ("    return x * RATE", "    return (\n        x\n        * RATE\n    )"),
    "a docstring": ("def helper(x):\n", 'def helper(x):\n    """Scale."""\n'),
    "a docstring of a class": ('    "A model."\n', '    "Another text."\n'),
    "a name that is not read": ("RATE = 3", "RATE = 3\nOTHER = 4"),
}
OTHERS = {
    "a constant": ("RATE = 3", "RATE = 4"),
    "its type": ("RATE = 3", "RATE = 3.0"),
    "a helper": ("return x * RATE", "return x + RATE"),
    "a method": ("* self.depth", "- self.depth"),
    "an attribute of a class": ("depth = 2", "depth = 3"),
    "the argument of a decorator": ("@scale(2)", "@scale(3)"),
    "no decorator": ("@scale(2)\n", ""),
    "a default": ("y=1", "y=2"),
    "an argument": ("args = (1,)", "args = (2,)"),
    "the function's own code": ("+ y", "- y"),
}


def test_what_is_written_otherwise_is_the_same_and_what_does_something_else_is_not(folder: Path) -> None:
    base = [BASE, *(BASE.replace(*change) for change in SAME.values())]
    found = dict(zip(["", *SAME], keys(folder, *base), strict=True))
    assert found == dict.fromkeys(["", *SAME], found[""])
    assert keys(folder, BASE, hashes="1") == [found[""]], "in a restarted kernel"
    others = dict(zip(OTHERS, keys(folder, *(BASE.replace(*change) for change in OTHERS.values())), strict=True))
    plain = "def f(x, y=1, *, z=2, **more): return x"
    calls = ("args = (5,)", "kwargs = {'x': 5}", "args = (5, 1)", "kwargs = {'z': 2, 'y': 1, 'x': 5}")
    assert len(set(keys(folder, *(f"{plain}\n{call}" for call in calls)))) == 1, "however the arguments were passed"
    assert all(len(key) == 32 for key in others.values()), others
    assert len({found[""], *others.values()}) == 1 + len(OTHERS), "all differ"


VALUES = """
import dataclasses, datetime, decimal, enum, fractions, functools, pathlib, re, uuid
import collections
import numpy as np, pandas as pd
@dataclasses.dataclass
class Point:
    x: int
    tags: set = dataclasses.field(default_factory=set)
class Colour(enum.Enum):
    RED = 1
    BLUE = 2
class Node:
    def __init__(self): self.me = self
Pair = collections.namedtuple("Pair", "a b")
def f(x): return x
rng = np.random.default_rng(0)
wide = np.arange(12.0).reshape(4, 3)
frame = pd.DataFrame({"a": [1, 2, 3], "s": ["x", "y", None], "c": pd.Categorical(list("uvu")),
                      "t": pd.date_range("2020", periods=3), "f": [0.5, None, 1]})
"""
DIFFERENT = """
None | 0 | False | 0.0 | -0.0 | "" | b"" | [] | () | {} | set() | frozenset() | "a" | b"a" | 1 | True | 1.0 | 1j | "1"
[1, 2] | [2, 1] | (1, 2) | [[1], 2] | [[1, 2]] | {1: 2} | {"a": 1, "b": [2]} | {"b": [2], "a": 1} | {"x", "y"} | {"x", "z"}
{("a", 1), ("b", 2)} | [range(3)] | [range(4)] | 10**30 | "é" * 70000 | "é" * 70001 | bytearray(b"a") | slice(1, 2)
wide | wide.T | wide[:, :2] | wide.astype("f4") | wide.reshape(3, 4) | wide[0, 0] | np.array([1, None, "a"], object)
np.array(["2020"], "M8[D]") | np.array(["a", "bc"]) | np.zeros((0, 3)) | np.ma.masked_array([1, 2], [0, 1]) | np.float32(1)
frame | frame[["s", "a"]] | frame.iloc[:2] | frame.rename(columns={"a": "b"}) | frame.set_index("a") | frame["f"] | frame["s"]
frame.astype({"a": "int8"}) | pd.MultiIndex.from_product([[1, 2], ["a"]]) | pd.Timestamp("2020") | pd.NA | pd.Index([1, 2])
Point(1) | Point(2) | Point(1, {"t"}) | Colour.RED | Colour.BLUE | Node() | Pair(1, 2) | Pair(1, 3) | Point | Colour
datetime.date(2020, 1, 1) | decimal.Decimal("1.0") | fractions.Fraction(1, 3) | pathlib.Path("a") | re.compile("a") | uuid.UUID(int=1)
lambda x: x | lambda x: x + 1 | functools.partial(f, 1) | functools.partial(f, 2) | np.sum | len | [].append | rng | np.dtype("f8")
collections.OrderedDict(a=1) | collections.Counter("aab") | collections.deque([1]) | collections.defaultdict(list, a=[1])
""".replace("\n", " | ").strip(" |").split(" | ")  # fmt: skip


def test_values_count_by_their_content_in_every_process(folder: Path) -> None:
    codes = [f"{VALUES}\nargs = ({value},)" for value in DIFFERENT]
    found = keys(folder, *codes, hashes="1")
    assert [code for code, key in zip(DIFFERENT, found, strict=True) if key.startswith("not")] == []
    equal = [
        (one, other)
        for at, one in enumerate(DIFFERENT)
        for to, other in enumerate(DIFFERENT[:at])
        if found[at] == found[to]
    ]
    assert equal == []
    again = keys(folder, *codes, hashes="2")
    assert [code for at, code in enumerate(DIFFERENT) if found[at] != again[at]] == []


def test_equal_values_that_were_made_otherwise_are_the_same(folder: Path) -> None:
    pairs = [
        ('{"a", "b", "c"}', '{"c", "b", "a"}'),
        ('["ab", "ab"]', '["".join(["a", "b"]), "".join(["a", "b"])]'),
        ("np.arange(6.0)", "np.arange(12.0)[::2] / 2"),
        ("np.arange(12.0)[::2]", "np.arange(12.0)[::2].copy()"),
        ("np.arange(3e6).reshape(3000, 1000)[1:, 1:]", "np.arange(3e6).reshape(3000, 1000)[1:, 1:].copy()"),
        ("np.arange(3e6).reshape(3, -1, 10)[:2, :, 1:]", "np.arange(3e6).reshape(3, -1, 10)[:2, :, 1:].copy()"),
        ("frame", "frame[list('asctf')].copy()"),
        ("frame", "(frame.describe(), frame.isna().sum(), frame)[-1]"),
        ("wide", "wide.copy()"),
    ]
    found = keys(folder, *(f"{VALUES}\nargs = ({value},)" for pair in pairs for value in pair))
    assert [pair for at, pair in enumerate(pairs) if found[2 * at] != found[2 * at + 1]] == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def f(x): pass\nargs = ([1, {'log': open(os.devnull)}],)", "not: the argument x[1]['log'] is an open file (TextIOWrapper)"),
        ("def f(x): pass\nargs = ((i for i in 'ab'),)", "not: the argument x is a generator"),
        ("import threading\nlock = threading.Lock()\ndef g(): return lock\ndef f(): return g()",
         "not: the function f, the global g, the global lock is of type lock, whose content cannot be told"),
        ("import itertools\ndef f(n=itertools.count()): return n", "not: the function f, the default of n is an iterator (count)"),
        ("def f(x): pass\nargs = ([],)\nfor _ in range(100000): args = ([args],)", "not: nested too deeply"),
    ],
)  # fmt: skip
def test_what_goes_on_or_is_held_open_has_no_key_and_is_named(folder: Path, code: str, says: str) -> None:
    assert keys(folder, f"import os\n{code}")[0].startswith(says)


def test_the_projects_modules_count_by_their_sources_and_installed_ones_by_their_versions(folder: Path) -> None:
    (folder / "pack").mkdir(exist_ok=True)
    files = {
        "pack/__init__.py": "",
        "pack/deep.py": "LIMIT = 10\n",
        "pack/steps.py": "from .deep import LIMIT\ndef run(x):\n    return min(x, LIMIT)\n",
        "lazy.py": "def late(): return 1\n",
    }
    write(folder, files)
    code = "from pack import steps\ndef f(x):\n    import lazy\n    return steps.run(x) + lazy.late()\nargs = (1,)"
    [first] = keys(folder, code)
    write(folder, {"pack/steps.py": "# a comment\n" + files["pack/steps.py"], "unrelated.py": "x = 1"})
    assert keys(folder, code) == [first]
    found = {first}
    for path, text in {
        "pack/deep.py": "LIMIT = 11\n", "pack/__init__.py": "import os\nos.umask(0)\n", "lazy.py": "def late(): return 2\n",
    }.items():  # fmt: skip
        write(folder, {path: text})
        found |= set(keys(folder, code))
    assert len(found) == 4
    site = folder / "site-packages"
    for version in ("1", "2"):
        write(
            site,
            {
                "fakepkg.py": "",
                "fakepkg-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: fakepkg\nVersion: {version}\n",
            },
        )
        found |= set(keys(folder, "def f():\n    import fakepkg", PYTHONPATH=str(site)))
    assert len(found) == 6


def test_where_it_runs_counts(folder: Path) -> None:
    code = "def f(): return open('data.csv').read()"
    (folder / "elsewhere").mkdir(exist_ok=True)
    moved = "import os\nos.chdir('elsewhere')\n"
    changed = "import os\nos.chdir('..')\nos.environ['DATA'] = '/mnt'\n"
    shown = "import os\ndel os.environ['DATA']\nos.environ['MPLBACKEND'] = 'agg'\n"
    first, there, other, same = keys(folder, code, moved + code, changed + code, shown + code)
    assert len({first, there, other}) == 3
    assert same == first


def write(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
