"""The contract on Celery over Redis."""

from tests.engines.foreign_contract import *  # noqa: F403
from tests.engines.servers import Celery

KIND = Celery
