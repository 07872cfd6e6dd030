"""What a cell waits for: the names that it reads when it runs; and what a background cell probably changes in place."""

from __future__ import annotations

import ast

import numpy as np
import pandas as pd
import pytest

from nbtasks.jupyter.reading import names_awaited
from nbtasks.jupyter.touched import probably_changed


def evaluate() -> object:
    """A function of the notebook, defined earlier."""
    return model  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("x = model.score()", ["model"]),
        ("f'{model}'", ["model"]),
        ("model.x = 1", ["model"]),
        ("evaluate()", ["model"]),
        ("model = 1\nprint(model)", []),
        ("print('the model')", []),
        ("def f():\n    return model", []),
        ("def f():\n    return model\nf()", ["model"]),
        ("def f():\n    return model\ndef g():\n    return f()", []),
        ("def f(x=model):\n    pass", ["model"]),
        ("@register\ndef f():\n    return model", ["model"]),
        ("class A:\n    def f(self):\n        return model", []),
        ("class A:\n    x = model", ["model"]),
        ("df.query('a > @limit')", ["limit"]),
        ("sql('select * from model join limit')", ["model", "limit"]),
        ("print('from model')", []),
        ("get_ipython().run_cell_magic('background', '', 'model')", []),
        ("get_ipython().run_line_magic('task', 'k7q2 save model')", []),
        ("get_ipython().run_line_magic('time', 'model.fit(x)')", ["model"]),
        ("get_ipython().system('echo $model')", ["model"]),
    ],
)
def test_what_a_cell_waits_for(cell: str, names: list[str]) -> None:
    evaluate.__module__ = "__main__"
    assert names_awaited(ast.parse(cell), {"evaluate": evaluate}, {"model", "limit"}) == names


class Model:
    """Something with a state of its own."""


VALUES = {
    "model": Model(), "X": np.zeros(3), "df": pd.DataFrame({"a": [1]}), "scores": [1], "cfg": {}, "n": 3, "name": "x",
    "logger": __import__("logging").getLogger(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "changed"),
    [
        ("model.fit(X, df)", {"model"}),
        ("history = model.fit(X)", {"model"}),
        ("train(model, X, n)\nx = 1", {"model"}),
        ("r = train(model, X)", {"model"}),
        ("%%time\nmodel.fit(X)", {"model"}),
        ("%time model.fit(X)", {"model"}),
        ("for i in range(n):\n    model.step(X)", {"model"}),
        ("model.w = 3", {"model"}),
        ("model.layers[0].w = 3", {"model"}),
        ("await model.fit(X)", {"model"}),
        ("p = model.predict(X)", set()),
        ("model.score(X)", set()),
        ("print(model)\nx = 1", set()),
        ("df['z'] = 1", {"df"}),
        ("del cfg['a']", {"cfg"}),
        ("df.drop('a', inplace=True)", {"df"}),
        ("df.head()", set()),
        ("y = df.sum() + X.mean()", set()),
        ("scores.append(1)", {"scores"}),
        ("collect(scores)", set()),
        ("cfg.update(a=1)", {"cfg"}),
        ("logger.info(name)\nx = 1", set()),
        ("x = (", set()),
    ],
)
def test_what_a_cell_probably_changes(cell: str, changed: set[str]) -> None:
    assert probably_changed(cell, VALUES) == changed
