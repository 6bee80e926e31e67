"""When a process counts as cut off from its database, and takes no deliveries."""

import pytest

from tests.unit.test_contact import Time, time
from worker.errors import DatabaseUnavailable
from worker.process.reach import SILENT_S, Reach

__all__ = ["time"]


def test_a_failure_and_a_long_silence_cut_a_process_off(time: Time) -> None:
    """Until the database answers; a short silence does not."""
    reach = Reach()
    time.now += SILENT_S / 2
    assert not reach.is_lost()

    with pytest.raises(DatabaseUnavailable), reach.observed():
        raise DatabaseUnavailable(reason="test")
    assert reach.is_lost()

    with reach.observed():
        assert reach.is_lost()
    assert not reach.is_lost()

    time.now += SILENT_S + 1  # it hangs, as when the network swallows what is sent
    assert reach.is_lost()
