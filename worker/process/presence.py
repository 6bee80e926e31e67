"""Announce every few seconds what a worker serves, so that others know which teams exist and have live workers.

It is the one transaction of each worker that always writes, so its failure is a break of the contact with the database:
on a full disk, a sweep that finds nothing to change succeeds (`process.contact`).
"""

from collections.abc import Collection, Sequence

from worker import clock
from worker.errors import DatabaseUnavailable
from worker.loop.definition import Definition
from worker.observe import logs
from worker.process.contact import Contact
from worker.store import Database, teams

EVERY_S = 5.0  # or a third of a lease, if that is less
FORGET_S = 86_400.0

log = logs.get(__name__)


class Presence:
    """The row of one worker, with the teams and queues that it serves.

    It is written every third of a lease of *ttl_s* seconds, as leases are renewed, or more often.
    """

    def __init__(
        self,
        db: Database,
        contact: Contact,
        *,
        worker: str,
        definitions: Collection[Definition],
        queues: Sequence[str],
        ttl_s: float,
    ) -> None:
        self._db = db
        self._contact = contact
        self._every_s = min(EVERY_S, ttl_s / 3)
        self._worker = worker
        self._versions = {definition.id: definition.version for definition in definitions}
        self._retention = {definition.id: definition.retention for definition in definitions}
        self._queues = queues
        self._announced_at = float("-inf")

    def announce(self) -> None:
        """Write the row, unless that was done a moment ago."""
        if clock.monotonic() - self._announced_at < self._every_s:
            return
        with self._contact.observed(), self._db.write() as tx:
            teams.announce(
                tx, worker=self._worker, versions=self._versions, queues=self._queues, retention=self._retention
            )
            teams.forget_silent(tx, after_s=FORGET_S)
        self._announced_at = clock.monotonic()

    def leave(self) -> None:
        """Remove the row, if there is one."""
        if self._announced_at == float("-inf"):
            return
        try:
            with self._db.write() as tx:
                teams.leave(tx, worker=self._worker)
        except DatabaseUnavailable as error:
            log.warning("the worker could not sign off; it counts as gone soon", error=error)
