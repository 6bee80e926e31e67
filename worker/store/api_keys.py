"""Rows of API keys. A key is `ts_<id>_<secret>`; only the hash of its secret is kept."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, insert, or_, select, update

from worker.domain import Principal
from worker.errors import KeyNotFound
from worker.store.columns import columns_of, db_time
from worker.store.engine import Transaction
from worker.store.tables import api_keys

_SEALED = ""  # no secret has this hash
_SHAPE = re.compile("ts_([0-9a-f]{16})_")


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. `revoked_at` can be in the future: a rotated key is valid during its grace."""

    id: str
    name: str
    user_id: str | None
    teams: list[str]
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


_KEY = columns_of(Key, api_keys)


def create(
    tx: Transaction,
    *,
    name: str,
    user_id: str | None = None,
    teams: frozenset[str] = frozenset(),
    scopes: frozenset[str] = frozenset(),
) -> str:
    """Write a new key and return it. It cannot be read again."""
    key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    row = {"id": key_id, "secret_hash": _hash(secret), "name": name, "user_id": user_id}
    bounds = {"teams": sorted(teams), "scopes": sorted(scopes)}
    tx.execute(insert(api_keys).values(**row, **bounds, created_at=db_time()))
    return f"ts_{key_id}_{secret}"


def verify(tx: Transaction, key: str) -> Principal | None:
    """Return the principal of *key*; None: it is malformed, unknown or revoked.

    A fast hash is enough: the secret has 256 random bits and cannot be guessed, only compared, in constant time.
    """
    mark, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    if mark != "ts" or not secret or not key.isascii():
        return None
    columns = (api_keys.c.secret_hash, api_keys.c.user_id, api_keys.c.teams, api_keys.c.scopes)
    row = tx.execute(select(*columns).where(api_keys.c.id == key_id, _in_force())).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_hash, _hash(secret)):
        return None
    return Principal(key_id, row.user_id, teams=frozenset(row.teams), scopes=frozenset(row.scopes))


def has_ended(tx: Transaction, key: str) -> bool:
    """Tell whether *key* has ended, and its secret is not removed yet."""
    ended = (api_keys.c.secret_hash == _hash(key.split("_", 2)[-1]), api_keys.c.revoked_at <= db_time())
    found = select(api_keys.c.id).where(api_keys.c.id == public_id(key), *ended)
    return public_id(key) is not None and tx.execute(found).one_or_none() is not None


def in_force_of(tx: Transaction, key_ids: Sequence[str]) -> set[str]:
    """Return those of *key_ids* whose keys are valid."""
    return set(tx.execute(select(api_keys.c.id).where(api_keys.c.id.in_(key_ids), _in_force())).scalars())


def seal_ended(tx: Transaction) -> None:
    """Remove the secrets of all keys that have ended, so that none is valid again if the clock is set back."""
    ended = (api_keys.c.secret_hash != _SEALED, api_keys.c.revoked_at <= db_time())
    tx.execute(update(api_keys).where(*ended).values(secret_hash=_SEALED))


def public_id(key: str) -> str | None:
    """Return the id of a key, for logs; None if the text does not have the shape of a key."""
    match = _SHAPE.match(key)
    return match[1] if match else None


def every(tx: Transaction) -> list[Key]:
    """Return all keys, revoked ones too, in the order of their creation."""
    rows: Any = tx.execute(select(*_KEY).order_by(api_keys.c.created_at, api_keys.c.id))
    return [Key(*row) for row in rows]


def revoke(tx: Transaction, key_id: str, *, after_s: float = 0.0) -> None:
    """End a key in *after_s* seconds, unless it ends sooner.

    Raises:
        KeyNotFound: there is none, or it has ended.
    """
    end = case((api_keys.c.revoked_at < db_time(after_s), api_keys.c.revoked_at), else_=db_time(after_s))
    values = {"revoked_at": end} | ({} if after_s > 0 else {"secret_hash": _SEALED})
    ended = update(api_keys).where(api_keys.c.id == key_id, _in_force()).values(values)
    if tx.execute(ended.returning(api_keys.c.id)).one_or_none() is None:
        raise KeyNotFound(key_id=key_id)


def rotate(tx: Transaction, key_id: str, *, grace_s: float) -> str:
    """Return a new key for the same principal, with an id of its own; the old one ends in *grace_s* seconds.

    Raises:
        KeyNotFound
    """
    revoke(tx, key_id, after_s=grace_s)
    old = Key(*tx.execute(select(*_KEY).where(api_keys.c.id == key_id)).one())
    teams, scopes = frozenset(old.teams), frozenset(old.scopes)
    return create(tx, name=old.name, user_id=old.user_id, teams=teams, scopes=scopes)


def _in_force() -> ColumnElement[bool]:
    in_time = or_(api_keys.c.revoked_at.is_(None), api_keys.c.revoked_at > db_time())
    return (api_keys.c.secret_hash != _SEALED) & in_time


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
