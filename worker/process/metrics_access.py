"""Who may read metrics, at the API and at a worker alike: a key with `runs:read` that is bound to no user and no team.

Metrics are of the whole installation. A key that was valid within the last hour is let in while the database does not
answer: that is when operators need the metrics. It is forgotten once the database answers that it is invalid.
"""

import threading

from worker.domain import Principal, Scope
from worker.errors import DatabaseUnavailable, KeyBound, KeyInvalid
from worker.process.bounded_poll import BoundedPoll
from worker.process.key_cache import FRESH_S, KeyCache

REMEMBERED_S = 3600.0
KEYS_KEPT = 100  # keys with a poll; beyond them no new key is let in while the database is frozen


class MetricsAccess:
    """Checks the keys of scrapers, without waiting long for a database that does not answer."""

    def __init__(self, keys: KeyCache) -> None:
        self._keys = keys
        self._polls: dict[str, BoundedPoll[Principal | KeyInvalid]] = {}
        self._lock = threading.Lock()

    def check(self, key: str) -> Principal:
        """Return the principal of *key*.

        Raises:
            KeyInvalid, ScopeMissing, KeyBound
            DatabaseUnavailable: it does not answer within two seconds, and the key is not remembered.
        """
        with self._lock:
            if key not in self._polls and len(self._polls) >= KEYS_KEPT:
                self._polls = {k: poll for k, poll in self._polls.items() if poll.running}
                if len(self._polls) >= KEYS_KEPT:
                    raise DatabaseUnavailable(reason="no answer")
            poll = self._polls.setdefault(key, BoundedPoll(lambda: self._verify(key), fresh_s=FRESH_S))
        result = poll.result()
        if isinstance(result, KeyInvalid):
            with self._lock:
                self._polls.pop(key, None)  # invalid keys are not kept: anybody can send them
            raise result
        principal = result or self._keys.get(key, max_age_s=REMEMBERED_S)
        if principal is None:
            raise DatabaseUnavailable(reason="no answer")
        principal.check_scope(Scope.RUNS_READ)
        if principal.user_id is not None or principal.teams:
            raise KeyBound()
        return principal

    def _verify(self, key: str) -> Principal | KeyInvalid:
        try:
            return self._keys.verify(key)
        except KeyInvalid as error:
            return error
