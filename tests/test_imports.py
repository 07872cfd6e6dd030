"""Something is done when a module is imported, whenever that is, and nothing of the module is changed by waiting."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nbtasks.imports import when_imported


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `waited` with a module `part`."""
    folder = tmp_path / "waited"
    folder.mkdir()
    (folder / "__init__.py").write_text("value = 1\n")
    (folder / "part.py").write_text("from waited import value\ndone = True\n")
    (folder / "data.txt").write_text("data")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "waited"]:
        del sys.modules[name]


def test_right_after_the_import(package: Path) -> None:
    seen: list[object] = []
    when_imported("waited.part", lambda module: seen.append(module.done))
    importlib.import_module("waited")
    assert seen == []
    importlib.import_module("waited.part")
    assert seen == [True]


def test_at_once_when_it_is_there(package: Path) -> None:
    importlib.import_module("waited")
    seen: list[ModuleType] = []
    when_imported("waited", seen.append)
    assert seen == [sys.modules["waited"]]


def test_all_who_wait_are_told_in_order_and_an_error_is_dropped(package: Path) -> None:
    seen: list[int] = []
    when_imported("waited", lambda module: seen.append(1))
    when_imported("waited", lambda module: 1 / 0)
    when_imported("waited", lambda module: seen.append(2))
    importlib.import_module("waited")
    assert seen == [1, 2]


def test_a_module_that_does_not_exist_is_still_missing() -> None:
    when_imported("waited_for_ever", lambda module: None)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("waited_for_ever")


def test_the_module_is_as_without_waiting(package: Path) -> None:
    import importlib.resources
    import inspect

    when_imported("waited", lambda module: None)
    module = importlib.import_module("waited")
    assert importlib.resources.files("waited").joinpath("data.txt").read_text() == "data"
    assert inspect.getsource(module) == "value = 1\n"
    (package / "__init__.py").write_text("value = 22\n")
    assert importlib.reload(module).value == 22


def test_an_error_of_the_module_passes_through(package: Path) -> None:
    (package / "part.py").write_text("raise RuntimeError('own')\n")
    seen: list[ModuleType] = []
    when_imported("waited.part", seen.append)
    with pytest.raises(RuntimeError, match="own"):
        importlib.import_module("waited.part")
    assert seen == []
