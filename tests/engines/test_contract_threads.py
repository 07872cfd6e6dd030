"""The contract on threads."""

from tests.engines.servers import Threads
from tests.engines.test_contract import *  # noqa: F403

KIND = Threads
