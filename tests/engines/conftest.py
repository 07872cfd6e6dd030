"""Workers by hand: see tests/worker/fixtures.py. A test that fails shows what the servers and the worker have said."""

from collections.abc import Generator

import pytest

from tests.worker.fixtures import gate, notes, start

pytest.register_assert_rewrite("tests.engines.foreign_contract")

__all__ = ["gate", "notes", "start"]
_MOST = 20_000  # characters of each


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    from tests.engines.servers import Desk, Place

    report = yield
    if report.failed:
        for name, found in getattr(item, "funcargs", {}).items():
            if isinstance(found, Place):
                report.sections.append((f"servers of {name}", found.logs()[-_MOST:]))
            elif isinstance(found, Desk) and found.worker is not None:
                report.sections.append((f"worker of {name}", found.worker.log[-_MOST:]))
    return report
