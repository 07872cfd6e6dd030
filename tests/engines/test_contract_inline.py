"""The contract on a worker that runs tasks inline."""

from tests.engines.servers import Inline
from tests.engines.test_contract import *  # noqa: F403

KIND = Inline
