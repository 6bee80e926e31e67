"""The lease of a run: who holds it, until when, and with which fence.

Writers take the lock of the run's session first (`store/sessions.py`). The keeper does not: it skips locked rows.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Integer,
    and_,
    bindparam,
    case,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from worker.domain import CONTRACT, Claim, LeaseState, Priority, Replay, RunOptions, Status, Usage
from worker.store.columns import TTL, db_time, from_columns
from worker.store.engine import Transaction
from worker.store.hot import Hot
from worker.store.sessions import LockedSession
from worker.store.tables import runs, sessions, teams, tool_starts
from worker.store.usage import NAMES, amounts, booked, usage_of

SUSPECT = 2  # losses in a row after which a run gets a process of its own; after one more loss it fails


NEVER = datetime(9998, 12, 31, tzinfo=UTC)  # the `not_before` of a paused run, the latest time that a caller can name


@dataclass(frozen=True, slots=True)
class Resumed:
    """A run that goes on. `sent_at` None: it is not dispatched, because the process that decided executes it."""

    attempt: int
    priority: Priority
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that a process takes for `ttl_s` seconds at the moment of a run's acceptance."""

    owner: str
    ttl_s: float


def claim(
    tx: Transaction,
    *,
    run_id: str,
    session: LockedSession,
    state: dict[str, Any],
    owner: str,
    ttl_s: float,
    version: str,
    isolated: bool,
    take_over: bool,
) -> Claim | None:
    """Take the lease of a head that is free, raise its fence, mark it running; None: it is not free.

    Free is a queued run whose time has come, a running one whose lease was ended (`end`) and, with *take_over*, one
    whose lease has run out. One that is suspected of ending its processes is free only for a process that executes
    nothing else, *isolated*, or that fails it. One with an option that this version does not know is left to newer
    workers. Its input gets the session's next seq if it has none yet; the caller
    writes it.
    """
    values = {"run": run_id, "owner": owner, "ttl_s": ttl_s, "next_seq": session.last_seq + 1}
    values |= {"version": version, "take_over": take_over}
    row = _claim(isolated=isolated).one_or_none(tx, values)
    if row is None:
        return None
    return from_columns(
        Claim,
        row,
        run_id=run_id,
        session_pk=session.pk,
        session_id=session.session_id,
        user_id=session.user_id,
        team=session.team,
        state=state,
        priority=Priority(row.priority),
        usage=usage_of(row),
        elapsed_s=(row.claimed_at - row.started_at).total_seconds() - row.paused_s,
        cancel_requested=row.cancel_requested_at is not None,
        options=RunOptions.from_json(row.options),
        refused=None,
        replay=replay_of(row),
        log=(),
    )


@cache
def _claim(*, isolated: bool) -> Hot:
    lost = _lost()
    trusted = [] if isolated else [lost != SUSPECT]
    next_seq, owner = bindparam("next_seq", type_=Integer), bindparam("owner", type_=runs.c.lease_owner.type)
    free = _free(owner, bindparam("take_over", type_=Boolean))
    return Hot(
        update(runs)
        .where(runs.c.id == bindparam("run"), free, runs.c.needs <= CONTRACT, *trusted)
        .values(
            status=Status.RUNNING,
            attempt=runs.c.attempt + 1,
            fence=runs.c.fence + 1,
            lease_owner=owner,
            lease_until=db_time(TTL),
            losses=lost,
            not_before=None,
            waits_for=None,
            team_version=bindparam("version"),
            first_seq=func.coalesce(runs.c.first_seq, next_seq),
            last_seq=func.coalesce(runs.c.last_seq, next_seq),
            claimed_seq=func.coalesce(runs.c.last_seq, next_seq),
            started_at=func.coalesce(runs.c.started_at, db_time()),
        )
        .returning(
            *(runs.c[name] for name in ("position", "priority", "input", "fence", "attempt", "retries", "losses")),
            *(runs.c[name] for name in ("first_seq", "last_seq", "created_at", "started_at", "timeout_s")),
            *(
                runs.c[name]
                for name in ("replay_of", "execute_tools", "traceparent", "metadata", "options", "needs", *NAMES)
            ),
            *(runs.c.lease_until, runs.c.paused_s, db_time().label("claimed_at")),
            runs.c.cancel_requested_at,  # SQLite 3.40 answers `IS NOT NULL` wrongly in RETURNING: ask for the value
        )
    )


def is_claimed(tx: Transaction, claim: Claim, *, owner: str) -> bool:
    """Tell whether *claim* is in the row. The time of its lease tells it from a claim of another thread of *owner*."""
    mine = (still_held(claim.fence), runs.c.lease_owner == owner, runs.c.lease_until == claim.lease_until)
    return tx.execute(select(runs.c.id).where(runs.c.id == claim.run_id, *mine)).one_or_none() is not None


def is_suspect(tx: Transaction, run_id: str, *, owner: str, take_over: bool) -> bool:
    """Tell whether a run waits for a process that executes nothing else."""
    free = _free(literal(owner), literal(take_over))
    suspect = select(runs.c.id).where(runs.c.id == run_id, free, _lost() == SUSPECT)
    return tx.execute(suspect).one_or_none() is not None


def _free(owner: ColumnElement[str], take_over: ColumnElement[bool]) -> ColumnElement[bool]:
    due = or_(runs.c.not_before.is_(None), runs.c.not_before <= db_time(), runs.c.lease_owner == owner)
    over = and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time())
    return or_(and_(runs.c.status == Status.QUEUED, due), and_(over, or_(runs.c.lease_owner.is_(None), take_over)))


def _lost() -> ColumnElement[int]:
    """Return how many claims in a row ended with the loss of their process and no new message, counted at a new claim.

    A process that was seen after its lease ran out was not lost: it could not reach the database.
    """
    progressed = runs.c.last_seq > runs.c.claimed_seq
    own = (teams.c.team_id == runs.c.team_id, teams.c.worker == runs.c.lease_owner)
    lives = exists().where(*own, teams.c.seen_at > runs.c.lease_until)
    return case(
        (runs.c.status != Status.RUNNING, runs.c.losses),
        (progressed, 0),
        (lives, runs.c.losses),
        else_=runs.c.losses + 1,
    )


def still_held(
    fence: int | ColumnElement[int], status: str | ColumnElement[str] = Status.RUNNING
) -> ColumnElement[bool]:
    """Return the fence check: true until another process claims the run or it ends."""
    return and_(runs.c.fence == fence, runs.c.status == status)


def hold(tx: Transaction, claim: Claim, *, last_seq: int, usage: Usage, ttl_s: float) -> bool:
    """Check the fence, renew the lease and book usage and messages; False: the run is not held any more."""
    values = {"seq": last_seq, "ttl_s": ttl_s, **amounts(usage)}
    return _hold().one_or_none(tx, {"run": claim.run_id, "held": claim.fence, **values}) is not None


@cache
def _hold() -> Hot:
    return Hot(
        update(runs)
        .where(runs.c.id == bindparam("run"), still_held(bindparam("held")))
        .values(last_seq=bindparam("seq"), retries=0, lease_until=db_time(TTL), **booked())
        .returning(runs.c.id)
    )


def record_start(tx: Transaction, *, run_id: str, idempotency_key: str) -> bool:
    """Record that an unsafe tool call starts; False: its start was recorded before. The caller holds the run."""
    if is_start_recorded(tx, idempotency_key):
        return False
    tx.execute(insert(tool_starts).values(idempotency_key=idempotency_key, run_id=run_id, started_at=db_time()))
    return True


def is_start_recorded(tx: Transaction, idempotency_key: str) -> bool:
    """Tell whether the start of an unsafe tool call is recorded."""
    recorded = select(tool_starts.c.run_id).where(tool_starts.c.idempotency_key == idempotency_key)
    return tx.execute(recorded).one_or_none() is not None


def requeue(
    tx: Transaction, claim: Claim, *, wait_s: float | None, waits_for: str | None, retried: bool
) -> datetime | None:
    """Give a held run back to the queue for *wait_s* seconds, or for an immediate claim (None). It stays head.

    Returns when it can be claimed again; None: it is not held any more.
    """
    cancelled = runs.c.cancel_requested_at.is_not(None)  # then it is claimed at once, and ended
    return tx.execute(
        update(runs)
        .where(runs.c.id == claim.run_id, still_held(claim.fence))
        .values(
            status=Status.QUEUED,
            lease_owner=None,
            lease_until=None,
            retries=runs.c.retries + int(retried),
            not_before=None if wait_s is None else case((cancelled, db_time()), else_=db_time(wait_s)),
            waits_for=waits_for,
            dispatched_at=db_time() if wait_s is None else None,
        )
        .returning(func.coalesce(runs.c.not_before, db_time()))
    ).scalar_one_or_none()


def pause(tx: Transaction, claim: Claim) -> bool:
    """Give a held run up until its calls are decided; False: it is not held any more.

    Its fence rises, as at an end: the event of the pause follows all events of this claim.
    """
    paused = {"status": Status.QUEUED, "fence": runs.c.fence + 1, "lease_owner": None, "lease_until": None}
    paused |= {"dispatched_at": None, "not_before": NEVER, "paused_at": db_time()}
    own = update(runs).where(runs.c.id == claim.run_id, still_held(claim.fence))
    return tx.execute(own.values(**paused).returning(runs.c.id)).one_or_none() is not None


def resume(tx: Transaction, run_id: str, *, lease: Lease | None = None) -> Resumed | None:
    """Queue a paused run again; None: it is not paused. With a *lease* only its process executes it.

    The caller holds the session's lock.
    """
    own = (runs.c.id == run_id, runs.c.paused_at.is_not(None))
    paused = tx.execute(select(runs.c.paused_at, db_time()).where(*own).with_for_update()).one_or_none()
    if paused is None:
        return None
    queued = {"paused_at": None, "paused_s": runs.c.paused_s + (paused[1] - paused[0]).total_seconds()}
    queued |= {"dispatched_at": db_time(), "not_before": None}
    if lease is not None:
        queued |= {"dispatched_at": None, "lease_owner": lease.owner, "not_before": db_time(lease.ttl_s)}
    columns = (runs.c.attempt, runs.c.priority, runs.c.dispatched_at)
    row = tx.execute(update(runs).where(*own).values(**queued).returning(*columns)).one()
    return Resumed(row.attempt, Priority(row.priority), row.dispatched_at)


def put_back(tx: Transaction, run_id: str, *, team: str, wait_s: float) -> None:
    """Let the sweep send a run of *team* again in *wait_s* seconds, unless it is claimed first."""
    of_team = select(sessions.c.team_id).where(sessions.c.pk == runs.c.session_pk).scalar_subquery() == team
    due = {"not_before": db_time(wait_s), "waits_for": "not_served" if wait_s else None, "dispatched_at": None}
    sent = runs.c.dispatched_at.is_not(None)  # a run that waits already keeps its own time
    tx.execute(update(runs).where(runs.c.id == run_id, of_team, runs.c.status == Status.QUEUED, sent).values(**due))
    expired = and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time())
    later = {"lease_until": db_time(wait_s), "dispatched_at": None}
    tx.execute(update(runs).where(runs.c.id == run_id, of_team, expired).values(**later))


def renew(tx: Transaction, run_ids: Sequence[str], *, owner: str, ttl_s: float) -> list[str]:
    """Keep the leases of these runs of *owner* for *ttl_s* seconds more, and return their ids.

    Only of these: the lease of a run that the process gave up has to run out.

    Locked rows are skipped: waiting for a lock would let the other leases run out, and a journal that holds the lock
    renews the lease itself.
    """
    own = (runs.c.id.in_(run_ids), runs.c.lease_owner == owner, runs.c.status == Status.RUNNING)
    unlocked = select(runs.c.id).where(*own).with_for_update(skip_locked=True)
    renewed = update(runs).where(runs.c.id.in_(unlocked)).values(lease_until=db_time(ttl_s)).returning(runs.c.id)
    return list(tx.execute(renewed).scalars())


def renew_held(tx: Transaction, claim: Claim, *, ttl_s: float) -> datetime | None:
    """Keep the lease of a held run for *ttl_s* seconds more; return its end, or None: it is not held any more."""
    held = (runs.c.id == claim.run_id, still_held(claim.fence))
    renewed = update(runs).where(*held).values(lease_until=db_time(ttl_s)).returning(runs.c.lease_until)
    return tx.execute(renewed).scalar_one_or_none()


def renew_waiting(tx: Transaction, run_ids: Sequence[str], *, owner: str, ttl_s: float) -> None:
    """Renew the leases of queued runs that *owner* took at their acceptance."""
    own = (runs.c.id.in_(run_ids), runs.c.lease_owner == owner, runs.c.status == Status.QUEUED)
    tx.execute(update(runs).where(*own).values(not_before=db_time(ttl_s)))


def end(tx: Transaction, lost: Collection[str]) -> list[str]:
    """End the leases of processes that are *lost*, and return the ids of their runs: they can be claimed at once.

    Locked rows are skipped: somebody writes there who has passed the fence.
    """
    theirs = (runs.c.lease_owner.in_(sorted(lost)), runs.c.status == Status.RUNNING)
    unlocked = select(runs.c.id).where(*theirs).with_for_update(skip_locked=True)
    ended = update(runs).where(runs.c.id.in_(unlocked)).values(lease_owner=None, lease_until=db_time())
    return list(tx.execute(ended.returning(runs.c.id)).scalars())


def watch(tx: Transaction, run_ids: Sequence[str]) -> list[LeaseState]:
    """Return the lease states of these runs. Reads without locks."""
    columns = (runs.c.id, runs.c.fence, runs.c.status == Status.RUNNING, runs.c.cancel_requested_at.is_not(None))
    return [LeaseState(*row) for row in tx.execute(select(*columns).where(runs.c.id.in_(run_ids)))]


def replay_of(row: Any) -> Replay | None:
    """Return what a row of runs repeats; None: it is no replay."""
    return None if row.replay_of is None else Replay(row.replay_of, row.execute_tools)
