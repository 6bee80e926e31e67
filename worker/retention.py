"""Remove what has reached the end of its lifetime: sessions whole, runs with their messages, the oldest first.

Each background worker does, for a moment with each sweep, in short transactions; several at once pass by what another
holds. It goes through all teams, so one round finds each session and run once, and rests between two rounds. What is
broken off at any point is gone on with by the next round. `ops/handbook/retention.md` has the rules.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from functools import partial

from worker import clock
from worker.domain.retention import Lifetimes, Retention, lifetimes, longest
from worker.errors import DatabaseUnavailable
from worker.observe import logs
from worker.settings import Settings
from worker.store import retention, teams
from worker.store.columns import db_now
from worker.store.engine import Database, Transaction
from worker.store.retention import FoundRun, FoundSession, Removed

STEP_S = 0.25  # a step ends then, so that the sweep comes to its other duties
REST_S = 60.0  # between two rounds
LOOK = 500  # rows of an index that are read together
TOGETHER = 50  # sessions that go in one transaction, at most
RUNS_OF = 20  # sessions of which runs go in one: each is a few statements
SIZE = 2_000  # messages that go in one, about; a session or run that has more goes alone

log = logs.get(__name__)
Erase = Callable[[Iterable[str]], object]


class Removal:
    """What one process removes. *erase* removes the streams of runs."""

    def __init__(self, db: Database, settings: Settings, *, erase: Erase) -> None:
        self._db = db
        self._settings = settings
        self._erase = erase
        self._round: Iterator[Removed] | None = None
        self._rest_until = float("-inf")

    def step(self) -> Removed:
        """Go on with the round for a moment, or rest; say what was removed."""
        if clock.monotonic() < self._rest_until:
            return Removed()
        until, removed = clock.monotonic() + STEP_S, Removed()
        going, self._round = self._round or self.round(), None  # a round that fails is begun anew
        try:
            for piece in going:
                removed += piece
                if clock.monotonic() > until:
                    self._round = going
                    break
            else:
                self._rest_until = clock.monotonic() + REST_S
        finally:
            _count(removed)
        return removed

    def round(self) -> Iterator[Removed]:
        """Go through everything once; what comes is what was removed with the transaction before."""
        for team, kept in kept_by_teams(self._db, self._settings):
            with self._db.read() as tx:
                now, streams_s = db_now(tx), max(kept.stream_s, teams.stream_s(tx, team))
            if kept.sessions_s is not None:
                yield from self._sessions(team, now - timedelta(seconds=kept.sessions_s), streams_s)
            if kept.runs_s is not None:
                yield from self._runs(team, now - timedelta(seconds=kept.runs_s), streams_s)

    def _sessions(self, team: str, before: datetime, streams_s: float) -> Iterator[Removed]:
        after: FoundSession | None = None
        while True:
            with self._db.read() as tx:
                found = retention.idle_sessions(tx, team, before=before, after=after, limit=LOOK)
            for together in _pieces(found):
                remove = partial(retention.remove_sessions, pks=together)
                yield self._removed(partial(remove, before=before, streams_s=streams_s))[0]
            if len(found) < LOOK:
                return
            after = found[-1]

    def _runs(self, team: str, before: datetime, streams_s: float) -> Iterator[Removed]:
        after: FoundRun | None = None
        while True:
            with self._db.read() as tx:
                found = retention.ended_runs(tx, team, before=before, after=after, limit=LOOK)
            pks = list(dict.fromkeys(run.session_pk for run in found if run.free))
            while pks:
                remove = partial(retention.remove_runs, pks=pks[:RUNS_OF], size=SIZE)
                removed, unfinished = self._removed(partial(remove, before=before, streams_s=streams_s))
                pks = unfinished + pks[RUNS_OF:]
                yield removed
            yield Removed()
            if len(found) < LOOK:
                return
            after = found[-1]

    def _removed(self, remove: Callable[[Transaction], tuple[Removed, list[int]]]) -> tuple[Removed, list[int]]:
        """Return what was removed, once that is committed and its streams are erased; and with what to go on."""
        try:
            with self._db.write() as tx:
                removed, unfinished = remove(tx)
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - a fault in us: the others go, and the next round tries again
            log.error("what has reached the end of its lifetime could not be removed", error=error)
            return Removed(), []
        if removed.streaming:
            self._erase(removed.streaming)
        return removed, unfinished


def kept_by_teams(db: Database, settings: Settings) -> Iterator[tuple[str, Lifetimes]]:
    """Yield each team of which anything may go, with its lifetimes.

    They are what its workers say, or have said last; what they leave open, and teams that none ever announced, are as
    the settings say.
    """
    default = lifetimes(Retention(), settings)
    with db.read() as tx:
        said = teams.retentions(tx)
    for team in sorted(said) if default.for_ever else _all_teams(db):
        kept = longest([lifetimes(one, settings) for one in said.get(team, [Retention()])])
        if not kept.for_ever:
            yield team, kept


def due(db: Database, settings: Settings) -> Iterator[tuple[str, Lifetimes, int, int]]:
    """Yield teams with their lifetimes, and how many sessions and runs of theirs are past them."""
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


def _pieces(found: list[FoundSession]) -> Iterator[list[int]]:
    """Yield the sessions that go together."""
    piece: list[int] = []
    size = 0
    for one in found:
        if piece and (len(piece) == TOGETHER or size + one.size > SIZE):
            yield piece
            piece, size = [], 0
        piece.append(one.pk)
        size += one.size
    if piece:
        yield piece


def _count(removed: Removed) -> None:
    """Tell what a step has removed: the one place where it is counted."""
    if removed:
        log.info(
            "removed at the end of its lifetime",
            sessions=removed.sessions,
            runs=removed.runs,
            messages=removed.messages,
        )
