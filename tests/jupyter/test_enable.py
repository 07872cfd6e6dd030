"""`nbtasks enable`: kernels load the extension by themselves, and can do without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nbtasks import cli
from nbtasks.jupyter import enable
from tests.jupyter.kernel import Kernel


@pytest.fixture(autouse=True)
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An IPython folder of its own."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path / "ipython"


# IPython from a path that begins with argv[1]; argv[2] "without" takes nbtasks off that path.
_IPYTHON = """
import os, sys
folder, how = sys.argv[1:3]
if how == "without":
    sys.path[:] = [path for path in sys.path if not os.path.exists(os.path.join(path or ".", "nbtasks"))]
sys.path.insert(0, folder)
from IPython import start_ipython
start_ipython(["-c", "print([name for name in dir() if 'nbtasks' in name], get_ipython().find_cell_magic('background'))"])
"""


def ipython(folder: Path, how: str = "") -> str:
    """What a new IPython says about names that it has, and about the magic."""
    command = [sys.executable, "-c", _IPYTHON, str(folder), how]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_kernel_has_the_magics_when_it_starts(folder: Path, env: dict[str, str], profiles: Path) -> None:
    assert cli.run(["enable"]) == 0
    with Kernel(folder, env | {"IPYTHONDIR": str(profiles)}) as kernel:
        cell = kernel.run("%%background --as fit --wait\ntotal = 6 * 7")
        assert cell.status == "ok", cell.error
        assert kernel.ask("total") == "42"
        assert kernel.ask("[name for name in dir() if 'nbtasks' in name]") == "[]", "it leaves no name behind"


def test_it_can_be_taken_back(tmp_path: Path, profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["enable"]) == 0
    path = profiles / "profile_default" / "startup" / "50-nbtasks.py"
    assert str(path) in capsys.readouterr().out
    assert cli.run(["enable"]) == 0, "twice is once"
    assert "TaskMagics" in ipython(tmp_path)
    assert cli.run(["enable", "--off"]) == 0
    assert not path.exists()
    assert ipython(tmp_path).strip() == "[] None"
    assert cli.run(["enable", "--off"]) == 0
    assert f"there is no {path}" in capsys.readouterr().out


def test_another_profile(profiles: Path) -> None:
    assert cli.run(["enable", "--profile", "lab"]) == 0
    assert os.listdir(profiles) == ["profile_lab"]


def test_a_kernel_without_nbtasks_starts_as_ever(tmp_path: Path) -> None:
    enable.enable()
    assert ipython(tmp_path, "without").strip() == "[] None"


def test_a_broken_nbtasks_is_a_sentence(tmp_path: Path) -> None:
    enable.enable()
    (tmp_path / "nbtasks").mkdir()
    (tmp_path / "nbtasks" / "__init__.py").write_text("raise ImportError('no module named msgspec')")
    said = ipython(tmp_path)
    assert "nbtasks was not loaded (ImportError: no module named msgspec)" in said
    assert "nbtasks enable --off" in said
    assert "Traceback" not in said


def test_a_file_of_somebody_else_is_left(profiles: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(enable.enable())
    path.write_text("print('mine')\n")
    assert cli.run(["enable"]) == 2
    assert cli.run(["enable", "--off"]) == 2
    assert "is left as it is" in capsys.readouterr().err
    assert path.read_text() == "print('mine')\n"
