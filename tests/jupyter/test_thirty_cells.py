"""Cells of many kinds show the same and give the same names in front and in the background, in one real kernel.

Each is run plain, and then, after the same beginning, as ``%%background --wait``. What the kernel sent for the plain
cell is compared with what the task kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.jupyter.conftest import Env, stop_workers
from tests.jupyter.kernel import Cell, Kernel

Output = dict[str, Any]


class Case(NamedTuple):
    """A cell, what the notebook ran before it, and what is to be said about it."""

    source: str
    before: str = ""
    gives: str = ""  # names that come back
    only_front: str = ""  # names that stay behind: loop variables, imports, figures
    error: str = ""


DATA = """
import numpy as np, pandas as pd
df = pd.DataFrame({"a": [1, 2, 3, 4], "b": list("xyxy")})
limit = 2
"""
FUNCTIONS = """
factor = 10
notes = []
def scaled(v):
    return v * factor
class Box:
    def __init__(self, n): self.n = n
    def __eq__(self, other): return self.n == other.n
    def __repr__(self): return f"Box({self.n})"
box = Box(1)
"""

AT_NIGHT = ("sharp figures, and one as a value", "plotly, shown first")  # others show figures too
CASES: dict[str, Case] = {
    "prints and stderr in order": Case("import sys, os\nprint('one')\nprint('two', file=sys.stderr)\nprint('three', end='')", only_front="sys os"),
    "the value of the last line": Case("{'b': [1, 2], 'a': None}"),
    "a silenced last line": Case("r = 3\nr * 2;", gives="r"),
    "each value that asks to be shown": Case("from IPython.display import display\ndisplay(1, 'two')\n'three'", only_front="display"),
    "html, latex, markdown, json, javascript": Case(
        "from IPython.display import *\ndisplay(HTML('<b>x</b>'), Latex('$x^2$'), Markdown('*x*'), Math('x'), JSON({'a': 1}), Javascript('1'))",
        before="", only_front="*",
    ),
    "an image, a sound and a drawing": Case(
        "from IPython.display import Audio, Image, SVG, display\nimport base64\n"
        "png = base64.b64decode('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==')\n"
        "display(Image(png, width=30), SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\n"
        "Audio(data=b'RIFF', embed=True, rate=8000)",
        gives="png", only_front="Audio Image SVG display base64",
    ),
    "display ids and updates": Case(
        "from IPython.display import HTML, display, update_display\nhandle = display('first', display_id='one')\nprint('between')\n"
        "update_display(HTML('<i>second</i>'), display_id='one')\nother = display(1, display_id=True)\nother.update(2)",
        gives="handle other", only_front="HTML display update_display",
    ),
    "clearing": Case(
        "from IPython.display import clear_output\nprint('gone')\nclear_output()\nprint('kept')\n"
        "for i in range(3):\n    clear_output(wait=True)\n    print('round', i)",
        only_front="clear_output i",
    ),
    "a line written over": Case("import sys\nfor i in range(3):\n    print(f'\\r{i * 50} %', end='')\nprint()\nprint('abcdef\\rxy')\nprint('12\\b3')", only_front="sys i"),
    "pandas with its options": Case("df\n", before=DATA + "pd.set_option('display.max_rows', 2, 'display.precision', 1)"),
    "names in texts": Case("small = df.query('a > @limit')\nname = eval('limit + 1')\nsmall", before=DATA, gives="small name"),
    "numpy with its print options": Case("print(np.arange(3) / 7)\nnp.array([1e-9, 1.5])", before="import numpy as np\nnp.set_printoptions(precision=3, suppress=True)"),
    "random numbers": Case(
        "c = float(rng.normal())\nnp.random.seed(3)\nprint(np.random.rand())",
        before="import numpy as np\nrng = np.random.default_rng(1)", gives="c rng",
    ),
    "a figure as the notebook has it": Case(
        "fig, ax = plt.subplots()\nax.plot([1, 3, 2])\nax.set_title('one')\nplt.show()\nprint('below')\nplt.plot([1, 2]);",
        before="%matplotlib inline\n%config InlineBackend.figure_formats = ['png']\n%config InlineBackend.print_figure_kwargs = {'bbox_inches': 'tight'}\n"
        "import matplotlib.pyplot as plt\nplt.rcParams.update({'figure.figsize': (2, 1), 'lines.linewidth': 5})",
        only_front="fig ax",
    ),
    "sharp figures, and one as a value": Case(
        "plt.plot([1, 2])\nfig = plt.figure(figsize=(1, 1))\nfig",
        before="%matplotlib inline\nimport matplotlib.pyplot as plt\nfrom matplotlib_inline.backend_inline import set_matplotlib_formats\n"
        "set_matplotlib_formats('retina')",
        only_front="fig",
    ),
    "plotly, shown first": Case(
        "fig = go.Figure(data=go.Bar(y=[2, 3, 1]))\nfig.show()", before="import plotly.graph_objects as go", gives="fig",
    ),
    "the shell": Case("!echo hello {limit} $limit $$HOME_NOT\nlines = !printf 'a\\nb\\n'\nprint(lines)\n!exit 3\nprint(_exit_code)", before="limit = 2", gives="lines"),
    # A kernel shows what children print when it comes to it: nothing else is shown behind.
    "children of every kind": Case("import os, subprocess\nos.system('echo one; echo two')\nsubprocess.run(['echo', 'three']);", only_front="os subprocess"),
    "%time": Case("%time r = sum(range(10))\nr", gives="r"),
    "%%time": Case("%%time\nq = 4\nprint(q)\nq + 1", gives="q"),
    "%timeit": Case("t = %timeit -n1 -r1 -o scaled(1)\nt.loops", before=FUNCTIONS, gives="t"),
    "%%bash": Case("%%bash -s 5\necho got $1\necho wrong >&2"),
    "%%capture": Case("%%capture kept\nprint('hidden')\n1 + 1", gives="kept"),
    "%%writefile": Case("%%writefile note.txt\nhello", before="!rm -f note.txt"),
    "paths without __file__": Case("import pathlib\nhere = pathlib.Path().resolve().name\nok = '__file__' in globals()\nprint(__name__)", gives="here ok", only_front="pathlib"),
    "await": Case("import asyncio\nasync def count(n):\n    for i in range(n):\n        await asyncio.sleep(0)\n        yield i\nr = [i async for i in count(3)]\nawait asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))", gives="count r asyncio"),  # `count` needs it
    "classes, dataclasses, enums": Case(
        "from dataclasses import dataclass\nimport enum\n@dataclass\nclass P:\n    x: int = 1\nclass E(enum.Enum):\n    A = 1\np, e = P(2), E.A\nprint(p, e)\nbox.n += 1\nbox",
        before=FUNCTIONS, gives="P E p e box", only_front="dataclass enum",
    ),
    "recursion, closures, decorators, generators": Case(
        "import functools, contextlib\ndef fact(n):\n    return 1 if n < 2 else n * fact(n - 1)\n@functools.cache\ndef fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "def outer():\n    n = 0\n    def inner():\n        nonlocal n\n        n += factor\n        return n\n    return inner\n"
        "@contextlib.contextmanager\ndef manager():\n    print('in')\n    yield 5\n    print('out')\nwith manager() as m:\n    v = [fact(5), fib(10), outer()(), m]\nv",
        before=FUNCTIONS, gives="fact fib outer manager v", only_front="functools contextlib m",
    ),
    "in place, walrus, star, del, global": Case(
        "from math import *\nnotes.append(sqrt(4))\nnotes += [1]\nif (n := len(notes)) > 1:\n    print(n)\ndef change():\n    global factor\n    factor = 5\nchange()\ntmp = 1\ndel tmp\nscaled(2)",
        before=FUNCTIONS, gives="notes n change factor", only_front="*",
    ),
    "warnings as the notebook filters them": Case(
        "import warnings\nwarnings.warn('seen')\nfor i in range(3):\n    warnings.warn('each time once')\nwarnings.warn('old', DeprecationWarning)\nwarnings.warn('quiet', RuntimeWarning)",
        before="import warnings\nwarnings.simplefilter('ignore', RuntimeWarning)", only_front="warnings i",
    ),
    "logging with the notebook's levels and handlers": Case(
        "import logging\nlogging.info('info of root')\nlogging.getLogger('mine').debug('debug of mine')\nlogging.getLogger('other').info('not seen')\nlogging.getLogger('mine').warning('warned')",
        before="import logging, sys\nlogging.basicConfig(level='INFO', format='%(levelname)s|%(name)s|%(message)s', force=True)\n"
        "logging.getLogger('mine').setLevel('DEBUG')\nlogging.getLogger('other').setLevel('ERROR')",
        only_front="logging",
    ),
    "environment, locale and time zone": Case(
        "import os, time, locale\nprint(os.environ['MY_MODE'], time.tzname[0], locale.setlocale(locale.LC_NUMERIC))",
        before="import os, time, locale\nos.environ.update(MY_MODE='fast', TZ='Asia/Tokyo')\ntime.tzset()\nlocale.setlocale(locale.LC_NUMERIC, 'C.UTF-8')",
        only_front="os time locale",
    ),
    "In, Out and _": Case("print(len(In) > 0, _)\n_1 = 3\ntype(In).__name__", before="7"),
    "rich prints": Case(
        "from rich import print as rprint\nfrom rich.table import Table\nrprint('[bold red]hello[/] world')\nt = Table('a')\nt.add_row('1')\nrprint(t)\nrprint({'a': 1})",
        gives="t", only_front="rprint Table",
    ),
    "magics of other extensions": Case("%shout hello\nr = 1", before="%load_ext tests.cell_extension", gives="r"),
    "an exception with its cause": Case(
        "before = 1\nprint('so far')\ntry:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('second') from error\nafter = 1",
        only_front="before", error="ValueError",
    ),
    "an exception in a function of the notebook": Case("def inner(v):\n    return scaled(v) + v\ninner(None)", before=FUNCTIONS, only_front="inner", error="TypeError"),
    "a group of exceptions": Case("raise ExceptionGroup('many', [ValueError('one'), TypeError('two')])", error="ExceptionGroup"),
    "an error of a magic": Case("%%bash\nexit 4", error="CalledProcessError"),
    "an assertion and sys.exit": Case("import sys\nsys.exit('enough')", only_front="sys", error="SystemExit"),
}  # fmt: skip

LOOK = """
def _describe(value):
    if isinstance(value, (int, float, str, list, dict, tuple, bytes, bool)): return repr(value)
    if hasattr(value, 'to_json'): return json.dumps(json.loads(value.to_json()), sort_keys=True)
    if hasattr(value, 'bit_generator'): return repr(value.bit_generator.state)
    if type(value).__name__ == 'Box': return repr(value)
    return getattr(value, '__qualname__', type(value).__name__)
def _look(before=()):
    hidden = get_ipython().user_ns_hidden
    return {name: _describe(value) for name, value in globals().items() if not name.startswith('_') and name not in hidden
            and name not in before}
"""


class Notebook:
    """The kernel, and what it is asked here."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def begin(self, code: str) -> None:
        """Nothing is there but what `code` makes."""
        cell = self.kernel.run(
            f"%reset -f\nimport nbtasks, json\nimport logging\nlogging.root.handlers.clear()\n{code}"
        )
        assert cell.status == "ok", cell.error
        cell = self.kernel.run(LOOK + "_before = _look()")
        assert cell.status == "ok", cell.error

    def names(self) -> dict[str, str]:
        """The names that are new or were changed since `begin`, described."""
        cell = self.kernel.run("print('@@' + json.dumps([_before, _look()]))")
        before, now = json.loads(cell.text.rpartition("@@")[2])
        return {name: text for name, text in now.items() if before.get(name) != text}

    def task(self) -> dict[str, Any]:
        """The latest task."""
        cell = self.kernel.run(
            "_t = nbtasks.tasks()[0]\nprint('@@' + json.dumps(dict(outputs=_t.outputs, trace=_t.traceback, status=_t.status)))"
        )
        assert cell.status == "ok", cell.error
        found: dict[str, Any] = json.loads(cell.text.rpartition("@@")[2])
        return found


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory, env: Env) -> Iterator[Notebook]:
    """A kernel with the extension loaded; started in the project, whose tests have an extension to load."""
    folder = tmp_path_factory.mktemp("thirty")
    env = env | {"PYTHONPATH": str(Path(__file__).parents[2])}
    env.pop("PYTEST_CURRENT_TEST", None)  # by which a kernel knows that it need not take what C and children print
    with Kernel(folder, env) as kernel:
        kernel.run("%load_ext nbtasks")
        yield Notebook(kernel)
    stop_workers(folder)


def shown(cell: Cell) -> list[Output]:
    """The outputs of a cell as a front end would keep them."""
    outputs: list[Output] = []
    ids: dict[str, list[Output]] = {}
    clearing = False
    for message in cell.messages:
        kind, content = message["msg_type"], message["content"]
        if kind == "clear_output":
            clearing = True
            if not content["wait"]:
                outputs.clear()
                clearing = False
            continue
        if kind == "update_display_data":
            for output in ids.get(content["transient"]["display_id"], []):
                output |= {"data": content["data"], "metadata": content["metadata"]}
        if kind not in ("stream", "display_data", "execute_result"):
            continue
        if clearing:
            outputs.clear()
            clearing = False
        if kind == "stream":
            if outputs and outputs[-1].get("name") == content["name"]:
                outputs[-1]["text"] += content["text"]
            else:
                outputs.append({"output_type": "stream", "name": content["name"], "text": content["text"]})
            continue
        output = {"output_type": kind, "data": content["data"], "metadata": content["metadata"]}
        outputs.append(output)
        if id := content.get("transient", {}).get("display_id"):
            ids.setdefault(id, []).append(output)
    return outputs


_TIME = re.compile(r"[\d.]+(?:e[+-]\d+)? ?(ns|[µμ]s|ms|s)\b")
_CELL = re.compile(r"[^\s\"]*/ipykernel_\d+/\d+\.py|<ipython-input-[\w-]+>")
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def plain(text: str) -> str:
    """A text without what differs from run to run."""
    text = _CELL.sub("CELL", _TIME.sub("TIME", text))
    return re.sub(r"0x[0-9a-f]{6,}|[0-9a-f]{8}-[0-9a-f-]{27}", "ADDRESS", text)


def tidy(outputs: list[Output]) -> list[Any]:
    """Outputs without what differs from run to run; of neighbouring streams, the order is the task's alone."""
    found: list[Any] = []
    streams: dict[str, str] = {}

    def flush() -> None:
        found.extend((name, on_screen(plain(text))) for name, text in sorted(streams.items()) if text.strip())
        streams.clear()

    for output in outputs:
        if output["output_type"] == "stream":
            streams[output["name"]] = streams.get(output["name"], "") + output["text"]
            continue
        flush()
        data = {kind: plain(value) if isinstance(value, str) else value for kind, value in output["data"].items()}
        found.append((output["output_type"], data, output["metadata"]))
    flush()
    return found


def on_screen(text: str) -> str:
    """Carriage returns and backspaces as a terminal shows them."""
    rows = []
    for line in text.split("\n"):
        row: list[str] = []
        at = 0
        for char in line:
            if char in "\r\b":
                at = 0 if char == "\r" else max(0, at - 1)
            else:
                row[at : at + 1] = char
                at += 1
        rows.append("".join(row))
    return "\n".join(rows)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.torture if name in AT_NIGHT else ()) for name in CASES]
)
def test_the_same_in_the_background(notebook: Notebook, name: str) -> None:
    case = CASES[name]
    first = "" if case.source.startswith("%%") else "# in front\n"
    notebook.begin(case.before)
    front = notebook.kernel.run(first + case.source)
    assert ("error" if case.error else "ok") == front.status, front.error
    names = notebook.names()
    notebook.begin(case.before)
    back = notebook.kernel.run(f"%%background --wait\n{case.source}")
    assert back.status == front.status, back.error
    task = notebook.task()
    assert task["status"] == ("failed" if case.error else "succeeded")
    came, left = notebook.names(), set(case.only_front.split())
    assert set(came) == set(case.gives.split())
    assert "*" in left or {name: text for name, text in names.items() if name not in left} == came
    seen = shown(front)
    if case.error:
        expected = [*marked(front.error), *marked(printed(seen, "stderr"))]
        assert expected
        assert marked(task["trace"])[-min(2, len(expected)) :] == expected[-2:]
        # Of a group IPython prints the traceback, and for `exit` it has an advice.
        seen = [output for output in seen if output.get("name") != "stderr"]
    assert tidy(task["outputs"]) == tidy(seen)


def printed(outputs: list[Output], name: str) -> str:
    return "".join(output["text"] for output in outputs if output.get("name") == name)


def marked(trace: str) -> list[str]:
    """Of a traceback the lines at which it happened, and the exceptions."""
    text = plain(_COLOUR.sub("", trace))
    lines = [re.sub(r"^-+> \d+ +", "> ", line).strip() for line in text.split("\n")]
    return [line for line in lines if re.match(r"> |[| ]*\w+(Error|Group|Exit): ", line)]
