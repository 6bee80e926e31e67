"""Remove what has reached the end of its lifetime: whole sessions, and runs with their messages, oldest first.

Each background worker does this for a moment with each sweep, in short transactions. Several at once skip what another
has locked. A round goes through all teams, then rests. The next round continues what was interrupted. Rules:
`ops/handbook/retention.md`.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from worker import clock
from worker.domain import Lifetimes, Retention
from worker.domain.retention import lifetimes, longest
from worker.errors import DatabaseUnavailable
from worker.observe import logs
from worker.settings import Settings
from worker.store import Database, Transaction, retention, teams
from worker.store.columns import db_now
from worker.store.erasure import Erased
from worker.store.retention import ExpiredSession

STEP_S = 0.25  # a step ends then, so that the sweep can do its other duties
REST_S = 60.0  # between two rounds
LOOK = 500  # rows of an index that are read together
TOGETHER = 50  # sessions that one transaction removes, at most
RUNS_OF = 20  # sessions from which one transaction removes runs: each takes a few statements
SIZE = 2_000  # messages that one transaction removes, about; a session or run with more has one of its own

log = logs.get(__name__)
EraseStreams = Callable[[Iterable[str]], object]


class Removal:
    """The removal that one process does. *erase* removes the streams of runs."""

    def __init__(self, db: Database, settings: Settings, *, erase: EraseStreams) -> None:
        self._db = db
        self._settings = settings
        self._erase = erase
        self._round: Iterator[Erased] | None = None
        self._rest_until = float("-inf")

    def step(self) -> Erased:
        """Continue the round for a moment, or rest; return what was removed."""
        if clock.monotonic() < self._rest_until:
            return Erased()
        until, removed = clock.monotonic() + STEP_S, Erased()
        pieces, self._round = self._round or self.round(), None  # a round that fails starts again
        try:
            for piece in pieces:
                removed += piece
                if clock.monotonic() > until:
                    self._round = pieces
                    break
            else:
                self._rest_until = clock.monotonic() + REST_S
        finally:
            _log(removed)
        return removed

    def round(self) -> Iterator[Erased]:
        """Go through everything once; yield what each transaction removed."""
        for team, kept in kept_by_teams(self._db, self._settings):
            with self._db.read() as tx:
                now, streams_s = db_now(tx), max(kept.stream_s, teams.stream_s(tx, team))
            if kept.sessions_s is not None:
                yield from self._sessions(team, now - timedelta(seconds=kept.sessions_s), streams_s)
            if kept.runs_s is not None:
                yield from self._runs(team, now - timedelta(seconds=kept.runs_s), streams_s)

    def _sessions(self, team: str, before: datetime, streams_s: float) -> Iterator[Erased]:
        read = partial(retention.idle_sessions, team=team, before=before)
        for expired in self._db.pages(read, key=lambda session: session, after=None, limit=LOOK):
            for pks in _pieces(expired):
                remove = partial(retention.remove_sessions, pks=pks, before=before, streams_s=streams_s)
                yield self._removed(remove)[0]

    def _runs(self, team: str, before: datetime, streams_s: float) -> Iterator[Erased]:
        read = partial(retention.ended_runs, team=team, before=before)
        for expired in self._db.pages(read, key=lambda run: run, after=None, limit=LOOK):
            pks = list(dict.fromkeys(run.session_pk for run in expired if run.free))
            while pks:
                remove = partial(retention.remove_runs, before=before, size=SIZE, streams_s=streams_s)
                removed, unfinished = self._removed(partial(remove, pks=pks[:RUNS_OF]))
                pks = unfinished + pks[RUNS_OF:]
                yield removed
            yield Erased()

    def _removed(self, remove: Callable[[Transaction], tuple[Erased, list[int]]]) -> tuple[Erased, list[int]]:
        """Remove, then erase the streams; return what was removed and the sessions that need another pass."""
        try:
            with self._db.write() as tx:
                removed, unfinished = remove(tx)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a fault of the code: the next round tries again
            log.error("what has reached the end of its lifetime could not be removed", error=error)
            return Erased(), []
        if removed.streaming:
            self._erase(removed.streaming)
        return removed, unfinished


def kept_by_teams(db: Database, settings: Settings) -> Iterator[tuple[str, Lifetimes]]:
    """Yield each team that does not keep everything, with its lifetimes.

    They are what the team's workers announced last. Without an announcement, the settings apply.
    """
    default = lifetimes(Retention(), settings)
    with db.read() as tx:
        announced = teams.retentions(tx)
    for team in sorted(announced) if default.keeps_all else _all_teams(db):
        kept = longest([lifetimes(retention, settings) for retention in announced.get(team, [Retention()])])
        if not kept.keeps_all:
            yield team, kept


def due(db: Database, settings: Settings) -> Iterator[tuple[str, Lifetimes, int, int]]:
    """Yield teams with their lifetimes, and the number of their sessions and runs past them."""
    for team, kept in kept_by_teams(db, settings):
        with db.read() as tx:
            now = db_now(tx)
            counts = retention.count_due(tx, team, kept, now=lambda seconds, now=now: now - timedelta(seconds=seconds))
        yield team, kept, *counts


def _all_teams(db: Database) -> Iterator[str]:
    team: str | None = None
    while True:
        with db.read() as tx:
            team = retention.next_team(tx, after=team)
        if team is None:
            return
        yield team


def _pieces(expired: list[ExpiredSession]) -> Iterator[list[int]]:
    """Yield the pks of sessions that one transaction removes."""
    piece: list[int] = []
    size = 0
    for session in expired:
        if piece and (len(piece) == TOGETHER or size + session.size > SIZE):
            yield piece
            piece, size = [], 0
        piece.append(session.pk)
        size += session.size
    if piece:
        yield piece


def _log(removed: Erased) -> None:
    """Log what a step has removed."""
    if removed:
        log.info(
            "removed at the end of its lifetime",
            sessions=removed.sessions,
            runs=removed.runs,
            messages=removed.messages,
        )
