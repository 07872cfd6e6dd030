"""Which names a cell needs from the notebook and which it gives back, told before it runs."""

from __future__ import annotations

import threading
from typing import Any

import numpy
import pandas
import pytest

from nbtasks.cell_names import names_assigned, names_read

# What the notebook of these tests has. Functions and classes are the notebook's own.
NOTEBOOK: dict[str, Any] = {"__name__": "__main__"}
exec(
    "def f(v=0): return g() + threshold + v\n"
    "def g(): return k\n"
    "class Model:\n    def fit(self): return k\n"
    "def lonely(): return undefined\n",
    NOTEBOOK,
)
NOTEBOOK |= {
    "x": 1, "y": 2, "t": 3, "k": 4, "i": 5, "threshold": 6, "e": 7, "s": "text", "name": "world", "words": ["a"],
    "data": [1], "df": pandas.DataFrame({"a": [1]}), "big": numpy.zeros(10**6), "np": numpy, "model": NOTEBOOK["Model"](),
    "lock": threading.Lock(), "_private": 8, "In": [], "Out": {}, "_": 9, "get_ipython": None, "suppress": None,
}  # fmt: skip

READ: list[tuple[str, list[str]]] = [
    # plain reading, and what only looks like it
    ("z = x + y", ["x", "y"]),
    ("x = 1\nprint(x)", []),
    ("print(x)\nx = 1", ["x"]),
    ("x = x + 1", ["x"]),
    ("x += 1", ["x"]),
    ("del x", ["x"]),
    ("nothing + print", []),
    ("x, (y, *t) = data\nprint(x, y, t)", ["data"]),
    ("x: int = y", ["y"]),
    ("x: int\nprint(x)", ["x"]),
    ("'a docstring with x'", []),
    ("_private + _", ["_private", "_"]),
    ("Out[3], In[-1], get_ipython()", []),
    # parts of objects
    ("df['z'] = x", ["x", "df"]),
    ("df.z = 1", ["df"]),
    ("df['a'] += y", ["df", "y"]),
    ("del df['a']", ["df"]),
    ("model.fit().x.y", ["model", "k"]),
    ("for data[i] in words: pass", ["words", "data", "i"]),
    # branches, loops, what may not run
    ("if y:\n  x = 1\nprint(x)", ["y", "x"]),
    ("if y:\n  x = 1\nelse:\n  x = 2\nprint(x)", ["y"]),
    ("for i in range(3):\n  x = i\nprint(x, i)", ["x", "i"]),
    ("for i in data:\n  print(i)", ["data"]),
    ("while y:\n  x = 1\nprint(x)", ["y", "x"]),
    ("try:\n  x = 1\nexcept ValueError as e:\n  print(e)\nprint(x)", ["x"]),
    ("try:\n  x = 1\nexcept ValueError as e:\n  x = 2\nprint(x)", []),
    ("try:\n  pass\nexcept ValueError as e:\n  pass\nprint(e)", ["e"]),
    ("try:\n  x = 1\nfinally:\n  print(x)", ["x"]),
    ("with open('f') as s:\n  x = s.read()\nprint(x)", []),
    ("with suppress(E):\n  x = 1\nprint(x)", ["suppress", "x"]),
    ("y and (x := 1)\nx", ["y", "x"]),
    ("if (x := y) > 1: print(x)", ["y"]),
    ("match x:\n  case [i, *data] if i > t: print(data)\n  case {'a': k, **s}: print(k, s)", ["x", "t"]),
    ("z = x if y else t", ["y", "x", "t"]),
    # scopes
    ("[i for i in data if i > t]", ["data", "t"]),
    ("[x for x in x]", ["x"]),
    ("[i for i in data]\nprint(i)", ["data", "i"]),
    ("{k: y for k, y in words}", ["words"]),
    ("[(x := i) for i in data]\nprint(x)", ["data", "x"]),
    ("def h(a=x):\n  i = 3\n  return i + k\nh()", ["x", "k"]),
    ("def h():\n  print(x)\n  x = 1", []),
    ("def h():\n  global x\n  x = 1\nh()\nprint(x)", ["x"]),
    ("def h():\n  global k\n  k += 1\nh()", ["k"]),
    ("def h():\n  x = 1\n  def inner():\n    nonlocal x\n    x += y\n  inner()", ["y"]),
    ("def h():\n  import x\n  return x", []),
    ("def h():\n  try: pass\n  except E as x: return x", []),
    ("def h(x: y) -> t: pass", ["y", "t"]),
    ("x = 1\ndef h(): return x", []),
    ("def x(n): return x(n - 1)\nx(3)", []),
    ("h = lambda x, *t, k=y: x + t + k + i", ["y", "i"]),
    ("class A(Model):\n  x = y\n  z = x\n  def m(self): return x", ["Model", "y", "x", "k"]),
    ("class A:\n  data = [1]\n  z = [i for i in data]", []),
    ("class A:\n  t = x\n  z = [t for _ in range(3)]", ["x", "t"]),
    ("@f\ndef h(): pass", ["f", "g", "threshold", "k"]),
    ("async def h():\n  async for i in x: await y", ["x", "y"]),
    ("await x\nasync with y as t: print(t)", ["x", "y"]),
    ("import numpy as np\nnp.zeros(t)", ["t"]),
    ("from m import x, y as t\nprint(x, y, t)", ["y"]),
    ("np.zeros(3)", ["np"]),
    # what the notebook's functions read
    ("f()", ["f", "g", "threshold", "k"]),
    ("Model()", ["Model", "k"]),
    ("lonely()", ["lonely"]),
    # texts
    ("f'{x} {y!r:>{t}}'", ["x", "y", "t"]),
    ("df.query('a > @t and b < 3')", ["df", "t"]),
    ("sql('select * from df where a = big')", ["df"]),
    ("print('the lock and np and f')", []),
    ("eval('np.sin(x) + f(1)')", ["np", "x", "f", "g", "threshold", "k"]),
    # magics
    ("%time z = x + 1", ["x"]),
    ("%timeit -n 10 -r 3 f(x)", ["x", "f", "g", "threshold", "k"]),
    ("%%time\nz = x\nprint(z)", ["x"]),
    ("%%timeit -n 3 z = t\nz + y", ["t", "y"]),
    ("%%capture x\nprint(y)\n", ["y"]),
    ("%%unknown x\nprint(y)", ["x", "y"]),
    ("%cd {name}", ["name"]),
    ("%config Thing.value = t", ["t"]),
    ("!echo $name {x + 1} $HOME $$t y", ["name", "x"]),
    ("files = !ls $name", ["name"]),
    ("%%bash -s {name}\necho $x $big", ["name", "x"]),
    ("%%writefile out.py\nprint(x)", ["x"]),
    ("?x", ["x"]),
]


@pytest.mark.parametrize(("source", "names"), READ)
def test_names_read(source: str, names: list[str]) -> None:
    assert sorted(names_read(source, NOTEBOOK)) == sorted(names)


def test_in_the_order_in_which_the_cell_meets_them() -> None:
    assert names_read("y = t + x\nprint(k, x)", NOTEBOOK) == ["t", "x", "k"]


def test_a_name_in_a_text_is_sent_when_it_is_small_and_can_travel() -> None:
    assert names_read("print('big lock x')", NOTEBOOK) == ["x"]


ASSIGNED: list[tuple[str, list[str]]] = [
    ("a = 1\nb: int = 2\nc += 1\nd, (e, *f) = g", ["a", "b", "c", "d", "e", "f"]),
    ("def f(): inner = 1\nclass C: member = 1", ["f", "C"]),
    ("import os, a.b\nfrom m import n as o", []),
    ("for i in range(3):\n  total = i", ["total"]),
    ("for i in range(3): pass\ni = 5", ["i"]),
    ("with open('f') as file: text = file.read()", ["text"]),
    ("_hidden = 1\n__dunder__ = 2", []),
    ("tmp = 1\ndel tmp\nkept = 1", ["kept"]),
    ("x: int", []),
    ("if c:\n  a = 1\nelse:\n  b = 1", ["a", "b"]),
    ("try:\n  a = 1\nexcept E as e:\n  b = 1", ["a", "b"]),
    ("[(last := i) for i in data]", ["last"]),
    ("df['z'] = 1\ndf.y = 2", []),
    ("match v:\n  case {'a': x, **rest}: pass", ["x", "rest"]),
    ("def f():\n  global made\n  made = 1\nf()", ["f", "made"]),
    ("%time r = f()", ["r"]),
    ("%%time\nr = f()", ["r"]),
    ("%%timeit\nr = f()", []),
    ("lines = !ls", ["lines"]),
    ("%%capture out\nr = 1", ["out", "r"]),
    ("%%bash\nr=1", []),
    ("lambda: (x := 1)", []),
]


@pytest.mark.parametrize(("source", "names"), ASSIGNED)
def test_names_assigned(source: str, names: list[str]) -> None:
    assert sorted(names_assigned(source)) == sorted(names)


@pytest.mark.parametrize("call", [lambda source: names_read(source, {}), names_assigned])
def test_no_python(call: Any) -> None:
    with pytest.raises(SyntaxError):
        call("x = = 1")
