"""What tests of single parts share."""

from collections.abc import Iterator

import pytest

from worker.models.event_loop import EventLoop


@pytest.fixture(scope="module")
def event_loop() -> Iterator[EventLoop]:
    """The event loop that model calls run on."""
    running = EventLoop()
    yield running
    running.close()
