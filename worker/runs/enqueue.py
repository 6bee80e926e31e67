"""Accept a run: one transaction, and only then anybody is told "accepted"."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from worker.clock import rfc3339
from worker.domain.dispatch import Dispatch, of_run
from worker.domain.identity import new_id
from worker.domain.message import Draft, Role
from worker.domain.principal import SERVICE
from worker.domain.run import OnBusy, Priority, Replay, Run, RunError, Status
from worker.domain.text import check_id, check_input, check_json
from worker.errors import (
    IdempotencyConflict,
    InvalidTime,
    QueueFull,
    RunGone,
    SessionBusy,
    SessionOfOtherTeam,
    UnknownTeam,
)
from worker.observe import metrics, tracing
from worker.runs.cancel import end_or_ask
from worker.runs.finish import Ending, Head, end_head
from worker.settings import Settings
from worker.store import idempotency, runs, sessions, teams
from worker.store.engine import Database, Transaction
from worker.store.leases import Lease

LONGEST_S = 86_400.0  # the longest timeout
# What every calendar, offset and database can spell: a time near either end of them cannot be moved into another zone.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks for. `session_id` None opens a new session; `user_id` '' is nobody in particular.

    `not_before` is the earliest time of its first claim, `timeout_s` how long it may take from there.
    """

    team: str
    input: str
    session_id: str | None = None
    user_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    on_busy: OnBusy = OnBusy.ENQUEUE
    priority: Priority = Priority.INTERACTIVE
    not_before: datetime | None = None
    timeout_s: float | None = None
    retry_of: str | None = None
    replay: Replay | None = None

    def fingerprint(self) -> str:
        """Return a hash by which the same order is known again."""
        said = {**asdict(self), "not_before": self.not_before and rfc3339(self.not_before)}
        del said["replay"]  # it follows from what is retried
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that is committed. `dispatches` are sent after the commit; `repeated`: its key had been used before."""

    run: Run
    dispatches: tuple[Dispatch, ...]
    repeated: bool = False


def check(order: Order, *, max_input_bytes: int) -> None:
    """Check an order before anything is written.

    Raises:
        EmptyInput, InputTooLarge, InvalidText, InvalidIdentifier, InvalidTime
    """
    check_id(order.team, field="team")
    if order.session_id is not None:
        check_id(order.session_id, field="session_id")
    if order.user_id:
        check_id(order.user_id, field="user_id")
    check_json(order.metadata, field="metadata")
    check_input(order.input, limit=max_input_bytes)
    if order.not_before is not None:
        check_time(order.not_before, field="not_before")
    if order.timeout_s is not None and not 0 < order.timeout_s <= LONGEST_S:
        raise InvalidTime(field="timeout", found=f"{order.timeout_s:g}", expected=f"more than 0, at most {LONGEST_S:g}")


def check_time(at: datetime, *, field: str) -> None:
    """Check a time that a caller sends. Raises InvalidTime."""
    if at.tzinfo is None:
        raise InvalidTime(field=field, found="a time without an offset", expected="one with 'Z' or '+01:00'")
    if not EARLIEST <= at < LATEST:
        raise InvalidTime(field=field, found="out of range", expected="a time in the years 1970 to 9998, in UTC")


def enqueue(
    db: Database,
    order: Order,
    *,
    settings: Settings,
    idempotency_key: str | None = None,
    lease: Lease | None = None,
) -> Accepted:
    """Commit the session, the run and the user's input; send its `dispatches` afterwards.

    The same key with the same order returns the run that it made the first time, whatever became of it; one that has
    gone at the end of its lifetime is not made again. With a *lease* there are no dispatches: the process that holds it
    executes the run.

    Raises:
        SessionOfOtherTeam, IdempotencyConflict, RunGone, SessionBusy, QueueFull: nothing is written.
    """
    with db.write() as tx:
        accepted = enqueue_in(tx, order, settings=settings, idempotency_key=idempotency_key, lease=lease)
    count(accepted)
    return accepted


def count(accepted: Accepted) -> None:
    """Count what was committed."""
    if not accepted.repeated:
        metrics.RUNS_ACCEPTED.labels(accepted.run.priority).inc()


def enqueue_in(
    tx: Transaction,
    order: Order,
    *,
    settings: Settings,
    idempotency_key: str | None = None,
    lease: Lease | None = None,
) -> Accepted:
    """Write the session, the run and the user's input in a transaction that somebody else commits; see `enqueue`."""
    run_id = new_id("run" if order.replay is None else "replay")  # by which lists tell them apart
    session_id = order.session_id or new_id("ses")
    if idempotency_key is not None:
        fingerprint = order.fingerprint()
        earlier = idempotency.take(
            tx, user_id=order.user_id, key=idempotency_key, run_id=run_id, request_hash=fingerprint
        )
        if earlier is not None:
            if earlier.request_hash != fingerprint:
                raise IdempotencyConflict(key=idempotency_key, run_id=earlier.run_id)
            return Accepted(_existing(tx, earlier.run_id), (), repeated=True)
    if order.on_busy is OnBusy.COALESCE and (joined := _join(tx, order, settings)) is not None:
        if idempotency_key is not None:
            idempotency.point_to(tx, user_id=order.user_id, key=idempotency_key, run_id=joined.id)
        return Accepted(joined, ())
    place = sessions.append_run(tx, user_id=order.user_id, session_id=session_id, team=order.team, run_id=run_id)
    if place.team != order.team:
        raise SessionOfOtherTeam(session_id=session_id, found=place.team, wanted=order.team)
    is_head = place.head_run_id == run_id
    if not is_head:
        _check_room(tx, order, place, session_id, settings)
    added = runs.add(
        tx,
        run_id=run_id,
        place=place,
        user_id=order.user_id,
        input=order.input,
        metadata=order.metadata,
        lease=lease,
        priority=order.priority,
        not_before=order.not_before,
        timeout_s=order.timeout_s,
        retry_of=order.retry_of,
        replay=order.replay,
        traceparent=tracing.enqueued(run_id=run_id, session_id=session_id),
    )
    run = Run(
        id=run_id,
        team=order.team,
        session_id=session_id,
        user_id=order.user_id,
        position=place.position,
        input=order.input,
        metadata=order.metadata,
        created_at=added.created_at,
        priority=order.priority,
        timeout_s=order.timeout_s,
        retry_of=order.retry_of,
        replay=order.replay,
    )
    if not is_head:
        return Accepted(run, _make_way(tx, order, place))
    if added.sent_at is None:
        return Accepted(run, ())
    place_of = {"session_id": session_id, "team": order.team}
    return Accepted(run, (of_run(run_id, **place_of, attempt=0, sent_at=added.sent_at, priority=order.priority),))


def refuse(tx: Transaction, order: Order, error: RunError, *, settings: Settings, idempotency_key: str) -> None:
    """Record an order that was refused as a failed run, in a session of its own, under its key."""
    accepted = enqueue_in(tx, order, settings=settings, idempotency_key=idempotency_key)
    if accepted.repeated:
        return
    session = sessions.lock_of_run(tx, accepted.run.id)
    assert session is not None
    head = Head(accepted.run.id, session.pk, session.session_id, order.team, 1, 0, Status.QUEUED)
    asked = Draft(Role.USER, order.user_id, order.input)
    end_head(tx, head, Ending(Status.FAILED, [asked], error=error))


def _join(tx: Transaction, order: Order, settings: Settings) -> Run | None:
    """Join the input to a queued run of the session that was never claimed; None: there is none that has room."""
    if order.session_id is None:
        return None
    session = sessions.lock_by_id(tx, user_id=order.user_id, session_id=order.session_id)
    if session is None or session.team != order.team:
        return None
    joined = runs.join_input(tx, session_pk=session.pk, text=order.input, limit=settings.max_input_bytes)
    return None if joined is None else _existing(tx, joined)


def _check_room(tx: Transaction, order: Order, place: sessions.Place, session_id: str, settings: Settings) -> None:
    if order.on_busy is OnBusy.REJECT:
        raise SessionBusy(session_id=session_id, run_id=place.head_run_id)
    if place.position - runs.position(tx, place.head_run_id) > settings.max_queued_per_session:
        setting = "TEAM_SESSIONS_MAX_QUEUED_PER_SESSION"
        raise QueueFull(whose=f"Session {session_id!r}", limit=settings.max_queued_per_session, setting=setting)


def _make_way(tx: Transaction, order: Order, place: sessions.Place) -> tuple[Dispatch, ...]:
    """Do to the head of the session what the order says."""
    if order.on_busy not in (OnBusy.INTERRUPT, OnBusy.ROLLBACK):
        return ()
    return end_or_ask(tx, place.head_run_id, rolled_back=order.on_busy is OnBusy.ROLLBACK)


class KnownTeams:
    """Which teams some worker has announced. A team that is known stays so: it is asked for once a process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: set[str] = set()

    def check(self, team: str) -> None:
        """Raise UnknownTeam unless some worker has announced *team*."""
        if team in self._known:
            return
        with self._db.read() as tx:
            if not teams.is_known(tx, team):
                raise UnknownTeam(team=team)
        self._known.add(team)


def _existing(tx: Transaction, run_id: str) -> Run:
    run = runs.get(tx, run_id, principal=SERVICE)
    if run is None:
        raise RunGone(run_id=run_id)
    return run
