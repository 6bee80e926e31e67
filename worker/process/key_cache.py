"""The principals of API keys, so that the database is asked at most every two seconds for a key that is in use."""

from worker import clock
from worker.domain import Principal
from worker.errors import KeyInvalid
from worker.store import Database, api_keys

FRESH_S = 2.0  # a revoked key works for at most this much longer
KEYS_KEPT = 10_000


class KeyCache:
    """The valid keys that one process has verified. Invalid keys are not kept: anybody can send them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._verified: dict[str, tuple[float, Principal]] = {}
        self._renewing: dict[str, float] = {}  # since when somebody verifies a key that is about to be too old

    def get(self, key: str, *, max_age_s: float = FRESH_S) -> Principal | None:
        """Return the principal of *key* if it was verified in the last *max_age_s* seconds."""
        verified_at, principal = self._verified.get(key, (float("-inf"), None))
        return principal if clock.monotonic() - verified_at < max_age_s else None

    def get_or_renew(self, key: str) -> Principal | None:
        """Return the principal of *key*; None: the caller has to verify it.

        After half of its time one caller has to, while the others still use it: a busy process asks once, and not with
        all its threads at the same moment.
        """
        principal = self.get(key)
        if principal is None or self.get(key, max_age_s=FRESH_S / 2) is not None:
            return principal
        now = clock.monotonic()
        if now - self._renewing.get(key, float("-inf")) < FRESH_S / 2:
            return principal
        self._renewing[key] = now
        return None

    def verify(self, key: str) -> Principal:
        """Return the principal of *key*, as the database has it now.

        Raises:
            KeyInvalid, DatabaseUnavailable
        """
        with self._db.read() as tx:
            principal = api_keys.verify(tx, key)
            ended = principal is None and api_keys.has_ended(tx, key)
        if ended:
            with self._db.write() as tx:
                api_keys.seal_ended(tx)
        if principal is None:
            self._verified.pop(key, None)
            raise KeyInvalid()
        if len(self._verified) >= KEYS_KEPT:
            self._verified.clear()
            self._renewing.clear()
        self._verified[key] = (clock.monotonic(), principal)
        return principal
