"""A product of real processes that may be broken: short leases, so that a test does not wait for fifteen seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.system import System
from tests.support.valkey import ValkeyServer

LEASE_S = 3.0


@pytest.fixture
def running(tmp_path: Path, database_url: str, valkey: ValkeyServer) -> Iterator[System]:
    """Model server and settings; each test starts the workers and the API that it needs."""
    settings = {"TEAM_SESSIONS_LEASE_SECONDS": str(LEASE_S), "TEAM_SESSIONS_HANDOVER_SECONDS": "1"}
    system = System(tmp_path, database_url=database_url, redis_url=valkey.url, settings=settings)
    yield system
    system.close()
