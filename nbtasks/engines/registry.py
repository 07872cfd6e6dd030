"""Which file knows which foreign engine. Its library is loaded when it is asked for, and not before."""

from __future__ import annotations

import importlib

from nbtasks.engines.foreign import Engine
from nbtasks.engines.urls import EngineUrl
from nbtasks.errors import EngineError

# kind: module, and what makes its engine. The module has the name of its extra.
ENGINES = {
    "celery": ("nbtasks.engines.celery", "open_bridge"),
    "dask": ("nbtasks.engines.dask", "Dask"),
    "huey": ("nbtasks.engines.huey", "open_engine"),
    "rq": ("nbtasks.engines.rq", "Rq"),
}


def open_engine(url: EngineUrl) -> Engine:
    """The engine of that URL; nothing has been sent to it yet. Raises EngineError when its library is not installed."""
    if url.kind not in ENGINES:
        raise EngineError(f"{url.shown}: this nbtasks has no engine {url.kind!r} yet")
    module, name = ENGINES[url.kind]
    try:
        made: Engine = getattr(importlib.import_module(module), name)(url)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("nbtasks"):
            raise
        raise EngineError(
            f"{url.shown} needs the module {error.name!r}, which is not installed: pip install 'nbtasks[{url.kind}]'"
        ) from None
    return made
