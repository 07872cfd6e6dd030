"""Cells as people write them: (name, what the notebook ran before, the cell, the names that it gives)."""

from __future__ import annotations

DATA = """
import numpy as np
import pandas as pd
x, y, words = 3, 4.5, ["a", "b"]
data = np.arange(12.0).reshape(3, 4)
df = pd.DataFrame({"a": [1, 2, 3, 4], "b": list("xyxy")})
scores = []
limit = 2
name = "world"
"""

FUNCTIONS = """
import math
factor = 10
log = []
def scaled(v):
    return v * factor
def record(v):
    log.append(v)
    return len(log)
class Point:
    unit = "m"
    def __init__(self, x, y=0):
        self.x, self.y = x, y
    def __eq__(self, other):
        return (self.x, self.y) == (other.x, other.y)
    def norm(self):
        return math.hypot(self.x, self.y) * factor
p = Point(3, 4)
calls = 0
def count():
    global calls
    calls += 1
    return calls
def outer(n):
    def inner(k):
        return k + factor if k > n else n
    return inner
"""

CELLS: list[tuple[str, str, str, set[str]]] = [
    ("assign", DATA, "z = x + y", {"z"}),
    ("several", DATA, "a = 1\nb = a + x\nc, (d, *e) = 1, (2, 3, 4)", {"a", "b", "c", "d", "e"}),
    ("augmented", DATA, "x += 1\nwords += ['c']", {"x", "words"}),
    ("last value", DATA, "x * 2", set()),
    ("last value, silent", DATA, "x * 2;", set()),
    ("list in place", DATA, "scores.append(x)\nscores.extend([1, 2])", {"scores"}),
    ("frame in place", DATA, "df['z'] = df['a'] * 2", {"df"}),
    ("frame, item", DATA, "df.loc[0, 'a'] = 99", {"df"}),
    ("frame, read only", DATA, "m = df['a'].mean()\ndf.describe()\nprint(df.head(2).to_string())", {"m"}),
    ("array in place", DATA, "data[0] = 7\ndata *= 2", {"data"}),
    ("array, read only", DATA, "total = data.sum()\ndata.T @ data;", {"total"}),
    ("attribute", FUNCTIONS, "p.x = 10", {"p"}),
    ("method", FUNCTIONS, "print(p.norm())\nq = Point(1)", {"q"}),
    ("new class", FUNCTIONS, "class P3(Point):\n    z = 1\np3 = P3(1, 2)\nprint(p3.norm(), P3.unit)", {"P3", "p3"}),
    ("function", FUNCTIONS, "r = scaled(4)\nprint(r)", {"r"}),
    ("function changes a global", FUNCTIONS, "n = record(5)", {"n", "log"}),
    ("function rebinds a global", FUNCTIONS, "count(); count()", {"calls"}),
    ("closure", FUNCTIONS, "f = outer(2)\nvalues = [f(1), f(5)]", {"f", "values"}),
    ("lambda", FUNCTIONS, "g = lambda v, k=factor: v * k + len(log)\nvalue = g(2)", {"g", "value"}),
    ("new function", DATA, "def twice(v):\n    return v * 2 + x\nt = twice(5)", {"twice", "t"}),
    ("recursion", DATA, "def fact(n):\n    return 1 if n < 2 else n * fact(n - 1)\nf5 = fact(5)", {"fact", "f5"}),
    ("comprehension", DATA, "s = [i * x for i in range(3) if i < limit]\nd = {w: len(w) for w in words}", {"s", "d"}),
    ("comprehension in a class", DATA, "class C:\n    n = x\n    items = [x for _ in range(n)]\nprint(C.items)", {"C"}),
    ("walrus", DATA, "if (n := len(words)) > 1:\n    print(n)\nany((last := w) == 'b' for w in words)", {"n", "last"}),
    ("loop", DATA, "total = 0\nfor i in range(4):\n    total += i * x", {"total"}),
    ("while", DATA, "while x > 0:\n    x -= 1", {"x"}),
    ("branch", DATA, "if x > 100:\n    limit = 0\nprint(limit)", set()),
    ("try", DATA, "try:\n    limit = 1 / 0\nexcept ZeroDivisionError as e:\n    print(e)\nprint(limit)", set()),
    ("with", DATA, "import io\nwith io.StringIO('a b') as file:\n    text = file.read()", {"text"}),
    ("match", DATA, "match words:\n    case [first, *others]:\n        print(first)", {"first", "others"}),
    ("del", DATA, "tmp = x\ndel tmp\nkept = 1", {"kept"}),
    ("private", DATA, "_tmp = x\nshown = _tmp", {"shown"}),
    ("f-string", DATA, "text = f'hello {name!r:>10} {x:{limit}d} {y + 1:.2f}'", {"text"}),
    ("text with names", DATA, "sub = df.query('a > @limit and a < @x + 1')\nv = eval('x * y')", {"sub", "v"}),
    ("imports", DATA, "import json\nfrom math import pi as PI, sqrt\ns = json.dumps({'r': sqrt(4), 'p': PI})", {"s"}),
    ("star import", DATA, "from math import *\ns = sin(0) + x", {"s"}),
    ("module used before", DATA, "v = np.float64(pd.Series([1, 2]).sum())", {"v"}),
    ("timed line", FUNCTIONS, "%time r = scaled(2)", {"r"}),
    ("timed cell", FUNCTIONS, "%%time\nr = scaled(3)\nq = r + factor", {"r", "q"}),
    ("timeit", FUNCTIONS, "t = %timeit -n 1 -r 1 -q -o scaled(3)\nok = t.loops", {"t", "ok"}),
    ("shell", DATA, "!echo hello $name {x + 1} $$HOME_NOT\nprint('after')", set()),
    ("shell into a name", DATA, "lines = !printf 'a\\n{name}\\n'\nn = len(lines)", {"lines", "n"}),
    ("bash cell", DATA, "%%bash -s {name}\necho got $1", set()),
    ("captured", DATA, "%%capture out\nprint('hidden', x)", {"out"}),
    ("error", DATA, "before = x\nraise ValueError(f'bad {x}')\nafter = 1", {"before"}),
    ("error in a function", FUNCTIONS, "r = 1\nscaled(None + 1)", {"r"}),
    ("await", DATA, "import asyncio\nawait asyncio.sleep(0)\nr = await asyncio.sleep(0, x)", {"r"}),
    ("await in a comprehension", DATA, "import asyncio\nr = [await asyncio.sleep(0, i) for i in range(x)]", {"r"}),
    ("generator", DATA, "def gen():\n    for i in range(x):\n        yield i * limit\nlst = list(gen())", {"gen", "lst"}),
    ("decorator", FUNCTIONS, "import functools\n@functools.lru_cache\ndef f(v):\n    return scaled(v)\nr = f(2) + f(2)", {"f", "r"}),
    ("dataclass", DATA, "from dataclasses import dataclass\n@dataclass\nclass D:\n    a: int = x\nd = D()", {"D", "d"}),
    ("enum", DATA, "import enum\nclass E(enum.Enum):\n    A = 1\ne = E.A\nsame = e is E.A", {"E", "e", "same"}),
    ("global in a function", DATA, "def setit():\n    global made\n    made = x\nsetit()", {"setit", "made"}),
    ("nonlocal", DATA, "def f():\n    n = x\n    def g():\n        nonlocal n\n        n += 1\n        return n\n    return g()\nr = f()", {"f", "r"}),
    ("exec", DATA, "exec('made = x + 1')", {"made"}),
    ("globals()", DATA, "globals()['made'] = x", {"made"}),
    ("same object twice", DATA, "a = b = [1]\na.append(2)\nsame = a is b", {"a", "b", "same"}),
    ("pickled by name", FUNCTIONS, "import pickle\nq = pickle.loads(pickle.dumps(p))\nok = q == p", {"q", "ok"}),
    ("main", DATA, "where = __name__\nimport sys\nok = sys.modules['__main__'].__dict__ is globals()", {"where", "ok"}),
    ("get_ipython", DATA, "ok = get_ipython() is not None\nr = get_ipython().run_cell('inner = x').success", {"ok", "r", "inner"}),
    ("stderr and stdout", DATA, "import sys\nprint('out')\nprint('err', file=sys.stderr)\nprint('out 2')", set()),
    ("os.system", DATA, "import os\nprint('first')\nos.system('echo second')\nprint('third')", set()),
    ("print without newline", DATA, "print('a', end='')\nprint('b', end='')", set()),
    ("estimator", DATA + "from sklearn.linear_model import LinearRegression\nmodel = LinearRegression()\n",
     "model.fit(data[:, :2], data[:, 2])\ns = model.score(data[:, :2], data[:, 2])", {"model", "s"}),
    ("estimator, read only", DATA + "from sklearn.linear_model import LinearRegression\n"
     "model = LinearRegression().fit(data[:, :2], data[:, 2])\n", "pred = model.predict(data[:, :2])", {"pred"}),
    ("random", DATA + "rng = np.random.default_rng(1)\n", "draws = rng.normal(size=3)", {"rng", "draws"}),
    ("pool", FUNCTIONS, "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(1) as pool:\n"
     "    r = pool.map(scaled, [1, 2])", {"r"}),
    ("dictionary of frames", DATA + "d = {'one': df}\n", "d['one'].loc[0, 'a'] = 5\nv = int(df.loc[0, 'a'])", {"d", "df", "v"}),
    ("last is an assignment to a slot", DATA, "data[0, 0] = -1\ndata.min()", {"data"}),
    ("comment only", DATA, "# nothing", set()),
    ("empty", DATA, "", set()),
]  # fmt: skip

# Cells that show something of their own: name: (what ran before, the cell, further fields of the Cell).
SPECIAL: dict[str, tuple[str, str, dict[str, object]]] = {
    "plot": (
        "import matplotlib.pyplot as plt",
        "print('before')\nfig, ax = plt.subplots()\nax.plot([1, 2])\nplt.show()\nprint('after')\nplt.plot([3, 1]);\nn = 1", {},
    ),
    "plot, asked for inline": ("", "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])", {}),
    "displays": (
        "", "from IPython.display import HTML, clear_output, display\nprint('gone')\nclear_output()\n"
        "handle = display(HTML('<b>one</b>'), display_id=True)\nprint('between')\nhandle.update(HTML('<b>two</b>'))\n"
        "import os, sys\nos.write(1, b'raw\\n')\nprint('err', file=sys.stderr)\n{'a': 1}", {},
    ),
    "left out": (
        "", "import threading\nlock = threading.Lock()\ngen = (i for i in range(3))\nx = 1\n{'inner': lock}", {},
    ),
    "asked for": ("x = [1]", "a = 1\nb = 2\nx.append(2)\nfor i in range(3): pass", {"outputs": ["b", "i", "nothing"]}),
    "in place, error": ("x = [1]", "x.append(2)\ny = 1\n1 / 0", {}),
    "changed to what cannot travel": ("class Box: pass\nbox = Box()", "import threading\nbox.lock = threading.Lock()\nn = 1", {}),
    "input": ("", "n = 1\ninput('how many? ')", {}),
    "getpass": ("", "import getpass\ngetpass.getpass()", {}),
    "breakpoint": ("", "breakpoint()", {}),
    "pdb": ("", "import pdb\npdb.set_trace()\nx = 1", {}),
    "debug": ("", "%debug", {}),
    "stdin": ("", "import sys\nfor line in sys.stdin: print(line)", {}),
    "child without keyboard": ("", "!cat; echo read nothing", {}),
    "interrupted": ("", "import signal\nn = 1\nsignal.raise_signal(signal.SIGINT)\nm = 2", {}),
    "interrupt caught": (
        "", "import signal\nn = 1\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    n = 2\nn", {},
    ),
    "exit": ("", "import sys\nsys.exit(3)", {}),
    "quit": ("", "quit()", {}),
    "syntax": ("", "x = 1\ny = = 2", {"shell": {}, "inputs": {}}),
    "unknown magic": ("", "%nosuchmagic", {}),
    "below a line": ("", "x = 1\n1 / 0", {"first_line": 2}),
    "without a number": ("", "x = 1\n1 / 0", {"number": None}),
    "chained": ("", "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise ValueError('second') from e", {}),
    "group": ("", "raise ExceptionGroup('many', [ValueError('one'), TypeError('two')])", {}),
    "broken exception": ("", "class Bad(Exception):\n    def __str__(self): raise RuntimeError\nraise Bad()", {}),
    "magic that fails": ("def f(): 1 / 0", "%time f()", {}),
    "name not sent": ("hidden = 1", "print(globals()['hid' + 'den'] if False else eval('hid' + 'den'))", {}),
    "looks": (
        "import numpy as np, pandas as pd, matplotlib as mpl, warnings, logging\n"
        "pd.set_option('display.max_rows', 7)\nmpl.rcParams['figure.dpi'] = 50\nmpl.rcParams['lines.linewidth'] = 9\n"
        "np.set_printoptions(precision=2)\nlogging.getLogger().setLevel('INFO')\nwarnings.simplefilter('ignore')",
        "import matplotlib, pandas, numpy, logging, warnings\nwarnings.warn('quiet')\n"
        "r = (pandas.get_option('display.max_rows'), matplotlib.rcParams['figure.dpi'], matplotlib.rcParams['lines.linewidth'],\n"
        "     str(numpy.array([0.123456])), logging.getLogger().level)", {},
    ),
    "user's extension": ("%load_ext tests.cell_extension", "%shout hello", {}),
    "bars": (
        "", "from nbtasks.bars import progress\nfrom tqdm.auto import tqdm\nfrom tqdm.notebook import trange\n"
        "for i in progress(range(3), desc='own'): pass\nfor i in tqdm(range(4), desc='auto'): pass\n"
        "for i in trange(5, desc='notebook'): pass", {},
    ),
}  # fmt: skip
