"""What the routes ask: the rooms of `worker` that this process holds."""

from dataclasses import dataclass

from api_stub.installation import Installation
from api_stub.rate_limit import RateLimiter
from worker import clock
from worker.domain.principal import Principal
from worker.errors import KeyInvalid
from worker.events.erase import Eraser
from worker.events.follow import Follower
from worker.process.metrics_access import MetricsAccess
from worker.queue.dispatch import Dispatcher
from worker.runs.known_teams import KnownTeams
from worker.runs.queue_limits import QueueLimits
from worker.settings import Settings
from worker.store import api_keys
from worker.store.engine import Database

KEY_CACHE_S = 2.0  # a revoked key works for so much longer, at most


@dataclass(frozen=True, slots=True)
class Service:
    """The rooms of one API process."""

    settings: Settings
    db: Database
    dispatcher: Dispatcher
    follower: Follower
    eraser: Eraser
    keys: "KeyRing"
    teams: KnownTeams
    queue_limits: QueueLimits
    rate_limiter: RateLimiter
    metrics_access: MetricsAccess
    installation: Installation


class KeyRing:
    """Who a key is, asked of the database at most every two seconds a key."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, tuple[float, Principal]] = {}

    def known(self, key: str) -> Principal | None:
        """Return who *key* is, if that was asked a moment ago."""
        until, principal = self._known.get(key, (0.0, None))
        return principal if until > clock.monotonic() else None

    def principal(self, key: str) -> Principal:
        """Return who *key* is. Raises KeyInvalid."""
        with self._db.read() as tx:
            principal = api_keys.verify(tx, key)
        if principal is None:
            self._known.pop(key, None)
            raise KeyInvalid()
        if len(self._known) > 10_000:
            self._known.clear()
        self._known[key] = (clock.monotonic() + KEY_CACHE_S, principal)
        return principal
