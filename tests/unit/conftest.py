"""What tests of single parts share."""

from collections.abc import Iterator

import pytest

from worker.models.background import Background


@pytest.fixture(scope="module")
def background() -> Iterator[Background]:
    """The event loop that model calls run on."""
    running = Background()
    yield running
    running.close()
