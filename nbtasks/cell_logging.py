"""Logging in a slot as the notebook has set it up: levels, and the handlers that print or write to a file."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import Any, NamedTuple

from nbtasks import payload
from nbtasks.errors import PayloadError

# Loggers of the kernel itself: what they say is of no task.
_OWN = frozenset({"IPKernelApp", "asyncio", "comm", "ipykernel", "jupyter_client", "nbtasks", "tornado", "traitlets"})
_STYLES = {logging.PercentStyle: "%", logging.StrFormatStyle: "{", logging.StringTemplateStyle: "$"}


class Handler(NamedTuple):
    """A handler as plain data."""

    kind: str  # "stdout" | "stderr" | "file" | "rich"
    level: int
    formatter: Any = None  # (format, date format, style), or a formatter of the user's own
    path: str = ""


class Logger(NamedTuple):
    """A logger on which something was set."""

    level: int
    propagate: bool
    disabled: bool
    handlers: tuple[Handler, ...]


class Logging(NamedTuple):
    """All that was set, by the names of loggers ("" is the root)."""

    loggers: dict[str, Logger]
    disabled: int = 0  # logging.disable(…)
    warnings: bool = False  # logging.captureWarnings(True)


def read() -> Logging | None:
    """How logging is set up here; None when nothing was changed."""
    found: dict[str, Logger] = {}
    for name, logger in [("", logging.root), *list(logging.root.manager.loggerDict.items())]:
        if not isinstance(logger, logging.Logger) or name.partition(".")[0] in _OWN:
            continue
        described = tuple(one for handler in logger.handlers if (one := _describe(handler)))
        is_set = logger.level != (0 if name else logging.WARNING) or not logger.propagate or logger.disabled
        if is_set or described:
            found[name] = Logger(logger.level, logger.propagate, logger.disabled, described)
    captures = getattr(logging, "_warnings_showwarning", None) is not None
    disabled = logging.root.manager.disable
    return Logging(found, disabled, captures) if found or disabled or captures else None


def _describe(handler: logging.Handler) -> Handler | None:
    """None for a handler that sends somewhere else: it stays the notebook's."""
    formatter = _formatter(handler.formatter)
    if type(handler) is logging.FileHandler:
        return Handler("file", handler.level, formatter, os.path.abspath(handler.baseFilename))
    if type(handler).__name__ == "RichHandler" and type(handler).__module__ == "rich.logging":
        return Handler("rich", handler.level, formatter)
    stream = getattr(handler, "stream", None)
    if stream is None or not isinstance(handler, logging.StreamHandler):
        return None
    if stream in (sys.stdout, sys.__stdout__):
        return Handler("stdout", handler.level, formatter)
    return Handler("stderr", handler.level, formatter) if stream in (sys.stderr, sys.__stderr__) else None


def _formatter(formatter: logging.Formatter | None) -> Any:
    if formatter is None:
        return None
    if type(formatter) is logging.Formatter and type(formatter._style) in _STYLES:
        return formatter._fmt, formatter.datefmt, _STYLES[type(formatter._style)]
    try:
        payload.dump("formatter", formatter)
    except (PayloadError, RecursionError):
        return None
    return formatter


def apply(setup: Logging) -> None:
    """Set logging up in this process, which has none so far."""
    for name, about in setup.loggers.items():
        logger = logging.getLogger(name or None)
        logger.setLevel(about.level)
        logger.propagate, logger.disabled = about.propagate, about.disabled
        for one in about.handlers:
            with contextlib.suppress(OSError, ImportError):  # a folder that is gone; rich, that is not here
                logger.addHandler(_make(one))
    logging.disable(setup.disabled)
    if setup.warnings:
        logging.captureWarnings(True)


def _make(about: Handler) -> logging.Handler:
    handler: logging.Handler
    if about.kind == "file":
        handler = logging.FileHandler(about.path, delay=True)
    elif about.kind == "rich":
        from rich.logging import RichHandler  # the notebook has it loaded

        handler = RichHandler()
    else:
        handler = logging.StreamHandler(sys.stdout if about.kind == "stdout" else sys.stderr)
    handler.setLevel(about.level)
    if isinstance(about.formatter, tuple):
        format, dates, style = about.formatter
        handler.setFormatter(logging.Formatter(format, dates, style))
    elif about.formatter is not None:
        handler.setFormatter(about.formatter)
    return handler
