"""The contract on RQ."""

from tests.engines.foreign_contract import *  # noqa: F403
from tests.engines.servers import Rq

KIND = Rq
