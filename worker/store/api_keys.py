"""Rows of API keys. A key is `ts_<id>_<secret>`; only the hash of its secret is kept."""

import hashlib
import hmac
import secrets

from sqlalchemy import insert, select

from worker.domain.principal import Principal
from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.tables import api_keys


def create(tx: Transaction, *, name: str, user_id: str | None = None, teams: frozenset[str] = frozenset()) -> str:
    """Write a new key and return it: it is shown this once and cannot be read again."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    row = {"id": key_id, "secret_hash": _hash(secret), "name": name, "user_id": user_id, "teams": sorted(teams)}
    tx.execute(insert(api_keys).values(**row, created_at=db_time()))
    return f"ts_{key_id}_{secret}"


def verify(tx: Transaction, key: str) -> Principal | None:
    """Return who *key* is; None: it is malformed, unknown or revoked.

    A fast hash is enough: the secret has 256 random bits and cannot be guessed, only compared, in constant time.
    """
    mark, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    if mark != "ts" or not secret or not key.isascii():
        return None
    columns = (api_keys.c.secret_hash, api_keys.c.user_id, api_keys.c.teams)
    row = tx.execute(select(*columns).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(secret)):
        return None
    return Principal(key_id=key_id, user_id=row.user_id, teams=frozenset(row.teams))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
