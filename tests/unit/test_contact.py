"""When a process may take over a lease that ran out: not just after a break of its contact with the database."""

import pytest

from worker import clock
from worker.errors import DatabaseUnavailable
from worker.process.contact import Contact

TTL_S = 15.0


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of the process."""
    moved = Time()
    monkeypatch.setattr(clock, "monotonic", moved)
    return moved


def test_a_failure_is_a_break(time: Time) -> None:
    """While the database is away nothing is taken over, nor until the owners had the time to renew."""
    contact = Contact(ttl_s=TTL_S)
    assert contact.is_old()

    with pytest.raises(DatabaseUnavailable), contact.observed():
        raise DatabaseUnavailable(reason="test")
    time.now += 100
    assert not contact.is_old()
    with contact.observed():
        assert not contact.is_old()
    assert not contact.is_old()
    time.now += TTL_S * 2 / 3
    with contact.observed():
        pass
    assert contact.is_old()


def test_a_long_wait_is_a_break(time: Time) -> None:
    """A frozen server, or a held lock: the leases ran out while the transaction waited."""
    contact = Contact(ttl_s=TTL_S)

    with contact.observed():
        assert contact.is_old()
        time.now += 6
        assert not contact.is_old()
    assert not contact.is_old()
    time.now += TTL_S * 2 / 3
    assert contact.is_old()


def test_a_process_that_begins_knows_no_contact(time: Time) -> None:
    """It may begin just after an outage."""
    contact = Contact(ttl_s=TTL_S)

    contact.begin()

    assert not contact.is_old()
    look_on(contact, time)
    assert contact.is_old()


def look_on(contact: Contact, time: Time) -> None:
    """Let two thirds of a lease pass, with a transaction every second."""
    for _ in range(10):
        time.now += TTL_S / 15
        contact.pulse()
        with contact.observed():
            pass


def test_a_pause_of_the_process_is_a_break(time: Time) -> None:
    """It was stopped, maybe with a lock: while it stood still the owners of leases could not renew them."""
    contact = Contact(ttl_s=TTL_S)
    contact.begin()
    look_on(contact, time)

    time.now += 8
    assert not contact.is_old()
    contact.pulse()
    assert not contact.is_old()
    with contact.observed():
        assert not contact.is_old()
    assert not contact.is_old()
    look_on(contact, time)
    assert contact.is_old()
