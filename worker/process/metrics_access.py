"""Who may read metrics, at the API and at a worker alike: a key with `runs:read` that is bound to no user and no team.

Figures are of the whole installation. A key that was in force within the last hour is let in while the database does
not answer: that is when somebody looks at them. It is forgotten once the database says that it is no key any more.
"""

import threading

from worker import clock
from worker.domain.principal import Principal, Scope
from worker.errors import DatabaseUnavailable, KeyBound, KeyInvalid
from worker.process.bounded_poll import BoundedPoll
from worker.store import api_keys
from worker.store.engine import Database

REMEMBERED_S = 3600.0
FRESH_S = 2.0  # a revoked key works for so much longer, at most
KEYS_KEPT = 100  # keys that are asked about or known; beyond them nobody new is let in while the database is frozen


class MetricsAccess:
    """The keys that one process was asked with."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._polls: dict[str, BoundedPoll[Principal | KeyInvalid]] = {}
        self._verified: dict[str, tuple[float, Principal]] = {}
        self._lock = threading.Lock()

    def check(self, key: str) -> Principal:
        """Return who *key* is.

        Raises:
            KeyInvalid, ScopeMissing, KeyBound
            DatabaseUnavailable: it does not answer within two seconds, and the key is not remembered.
        """
        with self._lock:
            if key not in self._polls and len(self._polls) >= KEYS_KEPT:
                self._polls = {k: poll for k, poll in self._polls.items() if poll.running}
                if len(self._polls) >= KEYS_KEPT:
                    raise DatabaseUnavailable(reason="no answer")
            poll = self._polls.setdefault(key, BoundedPoll(lambda: self._ask(key), fresh_s=FRESH_S))
        result = poll.result()
        with self._lock:
            if isinstance(result, Principal):
                self._verified[key] = (clock.monotonic() + REMEMBERED_S, result)
            elif result is not None:
                self._verified.pop(key, None)
                self._polls.pop(key, None)  # what anybody can send is not kept
                raise result
            until, principal = self._verified.get(key, (0.0, None))
        if principal is None or until < clock.monotonic():
            raise DatabaseUnavailable(reason="no answer")
        principal.check_scope(Scope.RUNS_READ)
        if principal.user_id is not None or principal.teams:
            raise KeyBound()
        return principal

    def _ask(self, key: str) -> Principal | KeyInvalid:
        with self._db.read() as tx:
            return api_keys.verify(tx, key) or KeyInvalid()
