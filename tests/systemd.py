"""What systemd says of a unit, for the tests of docs/deploy/ and of `nbtasks service`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def verify(unit: Path) -> str:
    """What systemd has to say against a unit of a user; "" when nothing."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: make systemd")
    # It also reads the units that are installed on this machine. Their sockets lie in this folder, and the system takes
    # 107 characters for the path of one: the folder of a test can be too long for that.
    with tempfile.TemporaryDirectory(prefix="nbtasks-", dir="/tmp") as runtime:
        done = subprocess.run(
            ["systemd-analyze", "verify", "--user", str(unit)], capture_output=True, text=True, timeout=60,
            env=os.environ | {"XDG_RUNTIME_DIR": runtime},
        )  # fmt: skip
    return done.stderr.strip() or ("" if done.returncode == 0 else f"exit code {done.returncode}")
