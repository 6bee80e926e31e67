"""Keys that have ended stay so."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from worker.errors import KeyInvalid, KeyNotFound
from worker.process.key_cache import KeyCache
from worker.store import Database, api_keys, tables

HOUR = timedelta(hours=1)


def end_at(db: Database, key_id: str, time: datetime) -> None:
    """Move the end of a key, which is what a change of the clock does to it."""
    with db.write() as tx:
        tx.execute(update(tables.api_keys).where(tables.api_keys.c.id == key_id).values(revoked_at=time))


@pytest.mark.parametrize("grace_s", [0, 3600])
def test_a_clock_that_is_set_back_revives_no_key(db: Database, grace_s: float) -> None:
    """It was revoked, or its grace was over, when it was last refused; then the clock goes back an hour."""
    with db.write() as tx:
        old = api_keys.create(tx, name="old")
        other = api_keys.create(tx, name="other")
        key_id = old.split("_")[1]
        new = api_keys.rotate(tx, key_id, grace_s=grace_s)
    keys, now = KeyCache(db), datetime.now(UTC)
    if grace_s:
        assert keys.verify(old).key_id == key_id
        end_at(db, key_id, now - HOUR)
    with pytest.raises(KeyInvalid):
        keys.verify(old)

    end_at(db, key_id, now + HOUR)

    with pytest.raises(KeyInvalid):
        keys.verify(old)
    with db.write() as tx, pytest.raises(KeyNotFound):
        api_keys.revoke(tx, key_id)
    assert [keys.verify(key).key_id for key in (new, other)] == [key.split("_")[1] for key in (new, other)]
