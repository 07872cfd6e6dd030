"""``nbtasks enable``: every kernel of this person loads the extension when it starts."""

from __future__ import annotations

import os

from nbtasks.errors import OptionError

_NAME = "50-nbtasks.py"
_MARK = "# Written by `nbtasks enable`; `nbtasks enable --off` removes it.\n"
# It runs among the person's own names, in every environment that has IPython: it leaves none, and where nbtasks is
# not installed, or broken, the kernel starts all the same.
_STARTUP = f"""{_MARK}\
def _load_nbtasks():
    from importlib.util import find_spec

    if find_spec("nbtasks") is None:
        return
    try:
        get_ipython().extension_manager.load_extension("nbtasks")
    except Exception as error:
        print(f"nbtasks was not loaded ({{type(error).__name__}}: {{error}}); to stop trying: nbtasks enable --off")


try:
    _load_nbtasks()
finally:
    del _load_nbtasks
"""


def startup_file(profile: str = "default") -> str:
    """Where the file lies that kernels run when they start; it need not be there."""
    from IPython.paths import get_ipython_dir

    return os.path.join(get_ipython_dir(), f"profile_{profile}", "startup", _NAME)


def enable(profile: str = "default") -> str:
    """Load the extension in every kernel (and IPython) of this profile that starts from now on; the file's path.

    Raises OptionError when somebody else's file is in the way.
    """
    path = startup_file(profile)
    _check(path)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(_STARTUP)
    return path


def disable(profile: str = "default") -> bool:
    """Take `enable` back. False when it was not enabled. Raises OptionError when the file is not ours."""
    path = startup_file(profile)
    if not os.path.exists(path):
        return False
    _check(path)
    os.remove(path)
    return True


def _check(path: str) -> None:
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        if not file.read().startswith(_MARK):
            raise OptionError(f"{path} was not written by `nbtasks enable`, or was changed since: it is left as it is")
