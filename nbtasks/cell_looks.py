"""The slot looks like the notebook: plot settings, options of pandas and numpy, warnings, logging, locale, sources.

`read` is for the notebook's kernel and gives plain data, only what differs from the defaults. `apply` is for the
slot, and does nothing for a library before the cell imports it.
"""

from __future__ import annotations

import contextlib
import functools
import linecache
import locale
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from nbtasks import cell_logging
from nbtasks.cell_names import codes_of
from nbtasks.imports import when_imported

Looks = dict[str, Any]

INLINE = "module://matplotlib_inline.backend_inline"
_NO_EXTENSIONS = frozenset({"nbtasks", "storemagic", "autoreload", "IPython.extensions.autoreload"})
_CATEGORIES = ("LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_MONETARY", "LC_NUMERIC", "LC_TIME")
_MOST_TEXT = 1 << 20  # characters of sources
_MOST_NAMES = 5000


def read(inputs: Mapping[str, object], namespace: Mapping[str, object]) -> Looks:
    """How this notebook looks, for a cell with these inputs. Never raises: what cannot be read stays at its default."""
    looks: Looks = {"sources": _sources(inputs, namespace), "names": _other_names(inputs, namespace)}
    for name, reader in _READERS.items():
        try:
            if value := reader():
                looks[name] = value
        except Exception:  # another version of that library
            continue
    return looks


def apply(looks: Looks) -> None:
    """Make this process look like the notebook."""
    os.environ.setdefault("MPLBACKEND", looks.get("backend") or INLINE)  # as a notebook's kernel does
    for name, (module, setter) in _SETTERS.items():
        if name in looks:
            when_imported(module, functools.partial(setter, looks[name]))
    if filters := looks.get("warnings"):
        others = [entry for entry in warnings.filters if entry[2].__module__ != "builtins"]
        warnings.resetwarnings()
        warnings.filters[:] = [*filters, *others]  # type: ignore[index]  # a list; typeshed has a sequence
    if "logging" in looks:
        cell_logging.apply(looks["logging"])
    for category, value in looks.get("locale", {}).items():
        with contextlib.suppress(locale.Error):  # one that this host has not
            locale.setlocale(getattr(locale, category), value)
    when_imported("plotly.io._base_renderers", _spare_plotly)
    for filename, (_, text) in looks.get("sources", {}).items():
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)


# ---------------------------------------------------------------------- in the kernel


def _read_rc() -> dict[str, Any]:
    matplotlib: Any = sys.modules["matplotlib"]
    default = matplotlib.rcParamsDefault
    skipped = ("backend", "backend_fallback", "interactive")
    return {
        key: value
        for key, value in dict.items(matplotlib.rcParams)
        if key not in skipped and not key.startswith("_") and value != dict.get(default, key)
    }


def _read_backend() -> str:
    """Only one that draws without a screen; any other becomes pictures, as ever in a notebook."""
    backend = str(dict.get(sys.modules["matplotlib"].rcParams, "backend"))
    return backend if backend.lower() in ("agg", "svg", "pdf", "ps", "cairo", "template") else ""


def _read_inline() -> dict[str, Any]:
    config: Any = sys.modules["matplotlib_inline.config"]
    if not config.InlineBackend.initialized():
        return {}
    backend = config.InlineBackend.instance()
    now = {name: getattr(backend, name) for name in ("figure_formats", "print_figure_kwargs", "close_figures")}
    now["figure_formats"] = _drawn_as() or now["figure_formats"]
    default = config.InlineBackend()
    return {name: value for name, value in now.items() if value != getattr(default, name)}


def _drawn_as() -> set[str]:
    """The formats of figures: `set_matplotlib_formats` tells them to the shell only."""
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    found = set()
    for formatter in _shell().display_formatter.formatters.values():
        draw = formatter.type_printers.get(figure)
        if isinstance(draw, functools.partial):
            found.add("retina" if draw.func.__name__ == "retina_figure" else draw.keywords.get("fmt", "png"))
    return found


def _read_pandas() -> dict[str, Any]:
    registered: Any = sys.modules["pandas._config.config"]
    found: dict[str, Any] = {}
    for key, option in registered._registered_options.items():
        if key.startswith(("display.", "plotting.", "styler.")):
            value = registered.get_option(key)
            if value is not option.defval and value != option.defval:
                found[key] = value
    return found


def _read_numpy() -> dict[str, Any]:
    numpy: Any = sys.modules["numpy"]
    default = {"precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False, "sign": "-"}
    default |= {"nanstr": "nan", "infstr": "inf", "floatmode": "maxprec"}
    now = numpy.get_printoptions()
    return {key: now[key] for key, value in default.items() if now.get(key, value) != value}


def _read_warnings() -> list[Any]:
    # Those of other categories would make the slot import the library that defines them.
    return [entry for entry in warnings.filters if entry[2].__module__ == "builtins"]


def _read_locale() -> dict[str, str]:
    # "C" is what a process begins with, but for the characters.
    names = [name for name in _CATEGORIES if hasattr(locale, name)]
    now = {name: locale.setlocale(getattr(locale, name)) for name in names}
    return {name: value for name, value in now.items() if value != "C" and name != "LC_CTYPE"}


def _read_plotly() -> tuple[str, Any]:
    plotly: Any = sys.modules["plotly.io"]
    return plotly.renderers.default, plotly.templates.default


def _read_kind() -> str:
    """By the name of their shell, libraries tell a notebook from a terminal, and choose what they show."""
    return type(_shell()).__name__


def _shell() -> Any:
    return sys.modules["IPython"].get_ipython()


def _read_extensions() -> list[str]:
    return sorted(set(_shell().extension_manager.loaded) - _NO_EXTENSIONS)


_READERS: dict[str, Callable[[], Any]] = {
    "rc": _read_rc, "backend": _read_backend, "inline": _read_inline, "pandas": _read_pandas, "numpy": _read_numpy,
    "warnings": _read_warnings, "logging": cell_logging.read, "extensions": _read_extensions,
    "locale": _read_locale, "plotly": _read_plotly, "kind": _read_kind,
}  # fmt: skip


def _sources(inputs: Mapping[str, object], namespace: Mapping[str, object]) -> dict[str, tuple[int | None, str]]:
    """The cells in which the notebook's functions were defined, by file name: (number, text)."""
    try:
        numbers: dict[str, int] = _shell().compile._filename_map
    except (KeyError, AttributeError):
        numbers = {}
    found: dict[str, tuple[int | None, str]] = {}
    room = _MOST_TEXT
    for value in inputs.values():
        for code in codes_of(value, namespace):
            name = code.co_filename
            if name in found or os.path.exists(name):
                continue
            text = "".join(linecache.getlines(name))
            room -= len(text)
            if text and room > 0:
                found[name] = (numbers.get(name), text)
    return found


def _other_names(inputs: Mapping[str, object], namespace: Mapping[str, object]) -> list[str]:
    """What the notebook has and the cell does not get: for the sentence under a NameError."""
    names = (name for name in namespace if name not in inputs and not name.startswith("_"))
    return [name for name, _ in zip(names, range(_MOST_NAMES), strict=False)]


# ---------------------------------------------------------------------- in the slot


def _set_rc(rc: dict[str, Any], module: Any) -> None:
    for key, value in rc.items():
        try:
            module.rcParams[key] = value
        except (KeyError, ValueError):  # another version
            continue


def _set_inline(values: dict[str, Any], module: Any) -> None:
    backend = module.InlineBackend.instance()
    for name, value in values.items():
        setattr(backend, name, value)


def _set_pandas(values: dict[str, Any], module: Any) -> None:
    for key, value in values.items():
        try:
            module.set_option(key, value)
        except (KeyError, ValueError):  # another version
            continue


def _set_numpy(values: dict[str, Any], module: Any) -> None:
    module.set_printoptions(**values)


def _set_plotly(values: tuple[str, Any], module: Any) -> None:
    renderer, template = values
    if renderer and module.renderers.default != renderer:
        module.renderers.default = renderer
    if isinstance(template, str) and module.templates.default != template:
        module.templates.default = template


def _spare_plotly(module: Any) -> None:
    """No 4.8 MB of plotly.js at the first figure of each task: a page that shows such figures has it."""
    module.HtmlRenderer.activate = lambda self: None


_SETTERS: dict[str, tuple[str, Callable[[Any, ModuleType], None]]] = {
    "rc": ("matplotlib", _set_rc), "inline": ("matplotlib_inline.config", _set_inline),
    "pandas": ("pandas", _set_pandas), "numpy": ("numpy", _set_numpy), "plotly": ("plotly.io", _set_plotly),
}  # fmt: skip
