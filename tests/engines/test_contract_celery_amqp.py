"""The contract on Celery over RabbitMQ: with `make torture` only, for its server takes long to start."""

import pytest

from tests.engines.foreign_contract import *  # noqa: F403
from tests.engines.servers import CeleryAmqp

KIND = CeleryAmqp
pytestmark = pytest.mark.torture
