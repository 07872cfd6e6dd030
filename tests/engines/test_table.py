"""The page about engines says what the contract suite proves."""

from __future__ import annotations

import importlib

import pytest

from nbtasks.engines.registry import ENGINES
from nbtasks.engines.urls import LOCAL
from tests.engines import table
from tests.engines.servers import PLACES, Place


def test_the_page_has_the_table_of_the_suite() -> None:
    assert table.parts()[1] == table.make(), "python -m tests.engines.table writes it anew"


def test_every_engine_has_a_place_in_the_suite() -> None:
    assert {*ENGINES, *LOCAL} == {place.name.partition("-")[0] for place in PLACES}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_every_place_has_a_file_that_runs_the_whole_suite(place: type[Place]) -> None:
    end = "" if place.name == "processes" else f"_{place.name.replace('-', '_')}"
    module = importlib.import_module(f"tests.engines.test_contract{end}")
    assert module.KIND is place
    for file, of_foreign in table.SUITES:
        if place.is_foreign or not of_foreign:
            suite = importlib.import_module(f"tests.engines.{file.removesuffix('.py')}")
            assert all(getattr(module, name) is getattr(suite, name) for name in table.tests_of(file))
    assert set(place.lacks) <= set(vars(module)), "what it lacks is a test"
