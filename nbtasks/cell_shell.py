"""IPython as a slot runs it: one cell, no keyboard, no history, no profile, everything shown goes to `emit`.

This module brings IPython; only `cells.run_cell` imports it.
"""

# mypy: disallow-untyped-calls=False
# (IPython is typed in part only.)

from __future__ import annotations

import contextlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType, new_class
from typing import Any

import IPython
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait
from traitlets import Type, default
from traitlets.config import Config

from nbtasks import cell_looks, tracebacks

Emit = Callable[[str, dict[str, Any]], object]

_MAGIC = re.compile(r"%([^\W\d]\w*)")
_MACHINERY = (os.path.dirname(IPython.__file__) + os.sep,)


class Publisher(DisplayPublisher):
    """``display()`` as events."""

    shell: Any

    def publish(
        self, data: Any, metadata: Any = None, source: Any = None, *, transient: Any = None, update: bool = False,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        """Show something, or show it anew under its display id."""
        event = {"data": data, "metadata": metadata or {}}
        if display_id := (transient or {}).get("display_id"):
            event["display_id"] = display_id
        self.shell.emit("update_display" if update else "display", event)

    def clear_output(self, wait: bool = False) -> None:
        """What was shown so far goes; with `wait` as soon as there is something new."""
        self.shell.emit("clear_output", {"wait": wait})


class Hook(DisplayHook):
    """The value of the last line as an event."""

    shell: Any

    def write_output_prompt(self) -> None:
        """No prompt."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        """Show the value."""
        event = {"output_type": "execute_result", "execution_count": self.prompt_count}
        self.shell.emit("display", event | {"data": format_dict, "metadata": md_dict or {}})

    def log_output(self, format_dict: Any) -> None:
        """No history."""

    def finish_displayhook(self) -> None:
        """Nothing was written, so there is nothing to end."""
        self._is_active = False


class Shell(InteractiveShell):
    """The shell of one cell."""

    display_pub_class = Type(Publisher)
    displayhook_class = Type(Hook)
    emit = AnyTrait()
    extension_manager: Any
    first_line = 1  # of the cell's source, counted in the notebook's cell
    _depth = 0

    # What a notebook has and a slot must not make or wait for.

    def init_ipython_dir(self, ipython_dir: Any) -> None:
        """No ~/.ipython is made."""

    def init_profile_dir(self, profile_dir: Any) -> None:
        """No profile is made."""

    def init_completer(self) -> None:
        """Nobody types."""

    @default("profile_dir")
    def _find_profile(self) -> Any:
        # Only when something asks: %store, which finds here what it kept in the notebook.
        from IPython.core.profiledir import ProfileDir
        from IPython.paths import get_ipython_dir

        return ProfileDir.create_profile_dir_by_name(get_ipython_dir(), "default")

    @contextlib.contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        # IPython keeps a copy of all that is printed in memory; the log has it.
        yield

    def enable_gui(self, gui: Any = None) -> None:
        """There is no window to show."""

    def ask_exit(self) -> None:
        """``exit`` and ``quit`` end the cell."""
        raise SystemExit

    def show_plots(self) -> None:
        """Figures as pictures below the cell, also when the cell's inputs brought matplotlib before this shell was."""
        if os.environ.get("MPLBACKEND") != cell_looks.INLINE:
            return
        if "matplotlib.pyplot" in sys.modules:
            self.enable_matplotlib("inline")
        elif "matplotlib" in sys.modules:
            sys.modules["matplotlib"].rcParams["backend"] = cell_looks.INLINE

    # Running.

    def run_cell(self, *args: Any, **kwargs: Any) -> Any:
        """Run code; cells within cells (``%%time`` is none, ``get_ipython().run_cell`` is) show their own errors."""
        self._depth += 1
        try:
            return super().run_cell(*args, **kwargs)
        finally:
            self._depth -= 1

    def transform_cell(self, raw_cell: str) -> str:
        """Magics as calls, and lines numbered as in the notebook."""
        code = str(super().transform_cell(raw_cell))
        return "\n" * (self.first_line - 1) + code if self._depth == 1 else code

    def system(self, cmd: str) -> None:
        """``!cmd``: writes to the log by itself, in order with what Python prints."""
        import subprocess

        cmd = self.var_expand(cmd, depth=1)
        sys.stdout.flush()
        code = subprocess.call(cmd, shell=True, executable=os.environ.get("SHELL"))
        self.user_ns["_exit_code"] = code
        if code and self.system_raise_on_error:
            raise subprocess.CalledProcessError(code, cmd)

    def extend(self, source: str, names: Sequence[str]) -> None:
        """Load the notebook's extensions if the source has a magic that is not IPython's own."""
        used = {
            word for word in _MAGIC.findall(source) if not (self.find_line_magic(word) or self.find_cell_magic(word))
        }
        for name in names if used else ():
            with contextlib.suppress(Exception):  # one that needs a front end
                self.extension_manager.load_extension(name)

    # Errors. That of the cell itself is the task's, and shown on its card; others are printed as ever.

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Print an error that the cell outlives."""
        # (`exception_only` is IPython's way with SystemExit.)
        own = kwargs.get("running_compiled_code") or kwargs.get("exception_only")
        if not (own and self._depth == 1):
            super().showtraceback(*args, **kwargs)

    def showsyntaxerror(self, filename: Any = None, running_compiled_code: bool = False) -> None:
        """Print a syntax error, unless it is the cell's own."""
        if filename is not None or self._depth != 1:
            super().showsyntaxerror(filename, running_compiled_code)

    def showindentationerror(self) -> None:
        """Likewise."""
        if self._depth != 1:
            super().showindentationerror()

    def _format_exception_for_storage(self, exception: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}  # of a history that nobody reads; it costs a tenth of a second

    def describe(self, error: BaseException) -> str:
        """The traceback in colour, without the frames of the machinery."""
        tracebacks.prune(error, _MACHINERY)
        try:
            return self._describe(error)
        except Exception:  # a broken __str__ or __repr__ of the user's
            return "".join(traceback.format_exception(error))

    def _describe(self, error: BaseException) -> str:
        kind = type(error)
        if isinstance(error, UsageError):
            return f"UsageError: {error}"
        if isinstance(error, BaseExceptionGroup):
            return "".join(traceback.format_exception(error))
        if hasattr(error, "_render_traceback_"):
            lines = error._render_traceback_()
        elif isinstance(error, SyntaxError) and error.__traceback__ is None:
            lines = self.SyntaxTB.structured_traceback(kind, error, None)
        else:
            lines = self.InteractiveTB.structured_traceback(kind, error, error.__traceback__, tb_offset=0)
        return str(self.InteractiveTB.stb2text(lines))

    def where(self, error: BaseException, unnumbered: bool) -> str:
        """Where in the notebook it happened, in words."""
        cells: Mapping[str, int | None] = self.compile._filename_map
        return tracebacks.where(error.__traceback__, dict.fromkeys(cells) if unnumbered else cells, error)


def shell_for(main: ModuleType, emit: Emit, kind: str = "") -> Shell:
    """The shell of this process whose namespace is that of the module `main`.

    `kind` is the name that its class has in the notebook: by that libraries tell what they can show.
    """
    if Shell.initialized():
        shell: Shell = Shell.instance()
        if shell.user_module is main:
            shell.emit = emit
            return shell
        Shell.clear_instance()
    # To SystemExit IPython says more than the traceback does; it is for those who sit in front of it.
    warnings.filterwarnings("ignore", message="To exit: use 'exit'")
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"  # or it would look for a profile
    if kind == "ZMQInteractiveShell":
        config.IPKernelApp = Config()  # or tqdm takes it for a terminal
    cls: Any = new_class(kind, (Shell,)) if kind else Shell
    made: Shell = cls.instance(config=config, user_module=main, user_ns=main.__dict__, emit=emit)
    return made
