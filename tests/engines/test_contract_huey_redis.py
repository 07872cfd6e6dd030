"""The contract on Huey on Redis."""

from tests.engines.foreign_contract import *  # noqa: F403
from tests.engines.servers import HueyRedis

KIND = HueyRedis
