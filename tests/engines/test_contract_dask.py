"""The contract on Dask."""

from tests.engines.foreign_contract import *  # noqa: F403
from tests.engines.servers import Dask

KIND = Dask
