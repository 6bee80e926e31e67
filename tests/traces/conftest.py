"""A product of real processes that sends its traces to a collector of the test, every few milliseconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.collector import Collector, collector
from tests.support.system import System, system
from tests.support.valkey import ValkeyServer

LEASE_S = 3.0


@pytest.fixture
def traced() -> Iterator[Collector]:
    """A collector."""
    with collector() as listening:
        yield listening


@pytest.fixture
def running(tmp_path: Path, database_url: str, valkey: ValkeyServer, traced: Collector) -> Iterator[System]:
    """Model server and settings; each test starts the workers and the API that it needs."""
    settings = {
        "TEAM_SESSIONS_OTLP_ENDPOINT": traced.url,
        "TEAM_SESSIONS_LEASE_SECONDS": str(LEASE_S),
        "TEAM_SESSIONS_LOG_LEVEL": "DEBUG",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    with system(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings) as started:
        yield started
