"""The parts of `worker` that the routes of one API process use."""

from api_stub.installation_metrics import InstallationMetrics
from api_stub.limits import Limits
from api_stub.rate_limit import RateLimiter
from api_stub.streams import OpenStreams
from api_stub.threads import Threads
from api_stub.turns import Turns
from worker.events import broker_probe, erase, follow
from worker.process import key_cache, metrics_access
from worker.queue import app, dispatch
from worker.runs import enqueue, queue_limits, unfinished
from worker.settings import Settings
from worker.store.engine import Database


class Service:
    """Connections and caches of one process, shared by all requests."""

    def __init__(self, settings: Settings, limits: Limits) -> None:
        self.settings = settings
        self.db = Database(settings.database, pool_size=20)
        self.dispatcher = dispatch.Dispatcher(app.make_app(settings))
        self.broker = broker_probe.Prober(settings.broker, prefix=settings.queue_prefix)
        self.follower = follow.Follower(settings.broker, prefix=settings.queue_prefix)
        self.unfinished = unfinished.UnfinishedRuns(self.db)
        self.eraser = erase.Eraser(settings.broker, prefix=settings.queue_prefix, ttl_s=settings.stream_seconds)
        self.keys = key_cache.KeyCache(self.db)
        self.teams = enqueue.KnownTeams(self.db)
        self.queue_limits = queue_limits.QueueLimits(self.db, settings)
        self.streams = OpenStreams(self.db, limit=limits.streams, limit_of_key=limits.streams_of_key)
        self.turns = Turns()
        self.threads = Threads()
        self.rate_limiter = RateLimiter(settings.requests_per_minute)
        self.metrics_access = metrics_access.MetricsAccess(self.keys)
        self.installation_metrics = InstallationMetrics(self.db, self.dispatcher)

    async def close(self) -> None:
        """Close the connections."""
        await self.streams.close()
        await self.follower.close()
        self.eraser.close()
        self.db.close()
