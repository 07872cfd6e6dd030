"""The contract on Huey on SQLite."""

from tests.engines.foreign_contract import *  # noqa: F403
from tests.engines.servers import HueySqlite

KIND = HueySqlite
