"""What ``%load_ext nbtasks`` does to a shell, and what ``%unload_ext nbtasks`` takes back."""

from __future__ import annotations

from typing import Any

from nbtasks.hooks import binding_hooks, tellers
from nbtasks.jupyter import dashboard, revive
from nbtasks.jupyter.magics import TaskMagics


def load_ipython_extension(shell: Any) -> None:
    """Register the magics, and bind what tasks bring back between two cells. Loading twice is loading once."""
    if getattr(shell, "_nbtasks", None) is not None:
        return
    magics = TaskMagics(shell)
    shell._nbtasks = magics
    shell.register_magics(magics)
    shell.events.register("pre_run_cell", magics.begin_cell)
    shell.events.register("post_run_cell", magics.end_cell)
    magics.load()
    binding_hooks.append(magics.catch_up)
    tellers.append(magics.binder.said)
    magics.live.use_widgets(shell)
    if magics.live.can_revive:
        parent = getattr(shell.display_pub, "parent_header", None)
        revive.start(magics.live, revive.notebook_path(shell.user_ns), parent)
        dashboard.revive(magics.live, revive.notebook_path(shell.user_ns))


def unload_ipython_extension(shell: Any) -> None:
    """Stop binding and updating; the tasks go on, and the magics stay until the kernel ends."""
    magics = getattr(shell, "_nbtasks", None)
    if magics is None:
        return
    shell._nbtasks = None
    shell.events.unregister("pre_run_cell", magics.begin_cell)
    shell.events.unregister("post_run_cell", magics.end_cell)
    magics.unload()
    binding_hooks.remove(magics.catch_up)
    tellers.remove(magics.binder.said)
    dashboard.close_all(magics.live)
    magics.live.close()
