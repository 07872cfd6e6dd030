"""The page about engines says what the contract suite proves."""

from __future__ import annotations

from nbtasks.engines.registry import ENGINES
from tests.engines import table
from tests.engines.servers import PLACES


def test_the_page_has_the_table_of_the_suite() -> None:
    assert table.parts()[1] == table.make(), "python -m tests.engines.table writes it anew"


def test_every_engine_has_a_place_in_the_suite() -> None:
    assert set(ENGINES) <= {place.name.partition("-")[0] for place in PLACES}
