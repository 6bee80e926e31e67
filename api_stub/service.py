"""The parts of `worker` that the routes of one API process use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api_stub.installation_metrics import InstallationMetrics
from api_stub.rate_limit import RateLimiter
from worker.events.erase import Eraser
from worker.events.follow import Follower
from worker.process.key_cache import KeyCache
from worker.process.metrics_access import MetricsAccess
from worker.queue.app import make_app as make_celery
from worker.queue.dispatch import Dispatcher
from worker.runs.known_teams import KnownTeams
from worker.runs.queue_limits import QueueLimits
from worker.settings import Settings
from worker.store.engine import Database


@dataclass(frozen=True, slots=True)
class Service:
    """Connections and caches, shared by all requests."""

    settings: Settings
    db: Database
    dispatcher: Dispatcher
    follower: Follower
    eraser: Eraser
    keys: KeyCache
    teams: KnownTeams
    queue_limits: QueueLimits
    rate_limiter: RateLimiter
    metrics_access: MetricsAccess
    installation_metrics: InstallationMetrics


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Open the connections of one process, and close them at the end."""
    db = Database(settings.database, pool_size=20)
    dispatcher = Dispatcher(make_celery(settings), settings)
    keys = KeyCache(db)
    service = Service(
        settings=settings,
        db=db,
        dispatcher=dispatcher,
        follower=Follower(settings.broker, prefix=settings.queue_prefix),
        eraser=Eraser(settings.broker, prefix=settings.queue_prefix, ttl_s=settings.stream_seconds),
        keys=keys,
        teams=KnownTeams(db),
        queue_limits=QueueLimits(db, settings),
        rate_limiter=RateLimiter(settings.requests_per_minute),
        metrics_access=MetricsAccess(keys),
        installation_metrics=InstallationMetrics(db, dispatcher),
    )
    yield service
    await service.follower.close()
    service.eraser.close()
    db.close()
