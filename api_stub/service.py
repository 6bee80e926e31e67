"""The parts of `worker` that the routes of one API process use."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from api_stub.installation_metrics import InstallationMetrics
from api_stub.rate_limit import RateLimiter
from worker.events import erase, follow
from worker.process import key_cache, metrics_access
from worker.queue import app, dispatch
from worker.runs import enqueue, queue_limits
from worker.settings import Settings
from worker.store import Database


@dataclass(frozen=True, slots=True)
class Service:
    """Connections and caches, shared by all requests."""

    settings: Settings
    db: Database
    dispatcher: dispatch.Dispatcher
    follower: follow.Follower
    eraser: erase.Eraser
    keys: key_cache.KeyCache
    teams: enqueue.KnownTeams
    queue_limits: queue_limits.QueueLimits
    rate_limiter: RateLimiter
    metrics_access: metrics_access.MetricsAccess
    installation_metrics: InstallationMetrics


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    """Open the connections of one process, and close them at the end."""
    db = Database(settings.database, pool_size=20)
    dispatcher = dispatch.Dispatcher(app.make_app(settings), settings)
    keys = key_cache.KeyCache(db)
    service = Service(
        settings=settings,
        db=db,
        dispatcher=dispatcher,
        follower=follow.Follower(settings.broker, prefix=settings.queue_prefix),
        eraser=erase.Eraser(settings.broker, prefix=settings.queue_prefix, ttl_s=settings.stream_seconds),
        keys=keys,
        teams=enqueue.KnownTeams(db),
        queue_limits=queue_limits.QueueLimits(db, settings),
        rate_limiter=RateLimiter(settings.requests_per_minute),
        metrics_access=metrics_access.MetricsAccess(keys),
        installation_metrics=InstallationMetrics(db, dispatcher),
    )
    yield service
    await service.follower.close()
    service.eraser.close()
    db.close()
