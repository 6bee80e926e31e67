"""The lease of a run: who holds it, until when, and with which fence.

Writers hold the lock of the run's session first (`store/sessions.py`), the keeper aside, which touches only rows that
nobody holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Float,
    Integer,
    Update,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from worker.domain.lease import LeaseState
from worker.domain.run import Claim, Priority, Replay, Status
from worker.domain.usage import Usage
from worker.store.columns import db_time
from worker.store.engine import Transaction
from worker.store.sessions import LockedSession
from worker.store.tables import runs, tool_starts

SUSPECT = 2  # losses in a row after which a run is executed in a process of its own, and behind which it is failed
TTL = bindparam("ttl_s", type_=Float())  # seconds of a lease, as statements name them that are built once
USAGE = (runs.c.model_calls, runs.c.input_tokens, runs.c.cached_input_tokens, runs.c.output_tokens)


@dataclass(frozen=True, slots=True)
class Lease:
    """The wish of a process to hold a run for *ttl_s* seconds from the moment of its acceptance."""

    owner: str
    ttl_s: float


def claim(
    tx: Transaction, *, run_id: str, session: LockedSession, owner: str, ttl_s: float, version: str, isolated: bool
) -> Claim | None:
    """Take the lease of a head that is free, raise its fence, mark it running; None: it is not free.

    Free is a queued run whose time has come, or a running one whose lease has run out. One that is suspected of ending
    its processes is free only for a process that executes nothing else, *isolated*, or that fails it. Its input gets
    the session's next seq if it has none yet; the caller writes it.
    """
    place = {"run": run_id, "owner": owner, "ttl_s": ttl_s, "next_seq": session.last_seq + 1}
    row = tx.execute(_claim(isolated=isolated), {**place, "version": version}).one_or_none()
    if row is None:
        return None
    return Claim(
        run_id=run_id,
        session_pk=session.pk,
        session_id=session.session_id,
        user_id=session.user_id,
        team=session.team,
        position=row.position,
        priority=Priority(row.priority),
        input=row.input,
        fence=row.fence,
        attempt=row.attempt,
        retries=row.retries,
        losses=row.losses,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
        usage=usage_of(row),
        created_at=row.created_at,
        claimed_at=row.now,
        elapsed_s=(row.now - row.started_at).total_seconds(),
        timeout_s=row.timeout_s,
        cancel_requested=row.cancel_requested_at is not None,
        state=session.state,
        replay=replay_of(row),
        traceparent=row.traceparent,
    )


@cache
def _claim(*, isolated: bool) -> Update:
    lost = _lost()
    trusted = [] if isolated else [lost != SUSPECT]
    next_seq, owner = bindparam("next_seq", type_=Integer), bindparam("owner", type_=runs.c.lease_owner.type)
    return (
        update(runs)
        .where(runs.c.id == bindparam("run"), _free(owner), *trusted)
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
            runs.c.first_seq,
            runs.c.last_seq,
            *USAGE,
            runs.c.created_at,
            runs.c.started_at,
            runs.c.timeout_s,
            runs.c.replay_of,
            runs.c.execute_tools,
            runs.c.traceparent,
            db_time().label("now"),
            runs.c.cancel_requested_at,  # SQLite 3.40 answers `IS NOT NULL` wrongly in RETURNING: ask for the value
        )
    )


def is_suspect(tx: Transaction, run_id: str, *, owner: str) -> bool:
    """Tell whether a run waits for a process that executes nothing else."""
    found = select(runs.c.id).where(runs.c.id == run_id, _free(literal(owner)), _lost() == SUSPECT)
    return tx.execute(found).one_or_none() is not None


def _free(owner: BindParameter[str]) -> ColumnElement[bool]:
    come = or_(runs.c.not_before.is_(None), runs.c.not_before <= db_time(), runs.c.lease_owner == owner)
    expired = and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time())
    return or_(and_(runs.c.status == Status.QUEUED, come), expired)


def _lost() -> ColumnElement[int]:
    """How many claims in a row ended with an expired lease and no new message, once this one is made."""
    progressed = runs.c.last_seq > runs.c.claimed_seq
    return case((runs.c.status != Status.RUNNING, runs.c.losses), (progressed, 0), else_=runs.c.losses + 1)


def still_held(
    fence: int | BindParameter[int], status: str | BindParameter[str] = Status.RUNNING
) -> ColumnElement[bool]:
    """The fence check: true while nobody else has claimed the run and it has not ended."""
    return and_(runs.c.fence == fence, runs.c.status == status)


def hold(tx: Transaction, claim: Claim, *, last_seq: int, usage: Usage, ttl_s: float) -> bool:
    """Check the fence, renew the lease, and book what the write adds; False: the run is not held any more."""
    values = {"seq": last_seq, "ttl_s": ttl_s, **more(usage)}
    return tx.execute(_hold(), {"run": claim.run_id, "held": claim.fence, **values}).one_or_none() is not None


@cache
def _hold() -> Update:
    return (
        update(runs)
        .where(runs.c.id == bindparam("run"), still_held(bindparam("held")))
        .values(last_seq=bindparam("seq"), retries=0, lease_until=db_time(TTL), **added())
        .returning(runs.c.id)
    )


def record_start(tx: Transaction, *, run_id: str, idempotency_key: str) -> bool:
    """Record that an unsafe tool call starts; False: its start was recorded before. The caller holds the run."""
    known = tx.execute(select(tool_starts.c.run_id).where(tool_starts.c.idempotency_key == idempotency_key))
    if known.one_or_none() is not None:
        return False
    tx.execute(insert(tool_starts).values(idempotency_key=idempotency_key, run_id=run_id, started_at=db_time()))
    return True


def requeue(
    tx: Transaction, claim: Claim, *, wait_s: float | None, waits_for: str | None, retried: bool
) -> datetime | None:
    """Give a held run back to the queue: at once (None), or not before so many seconds. It stays head.

    Returns when it may be claimed again;
    None: it is not held any more.
    """
    asked_to_stop = runs.c.cancel_requested_at.is_not(None)  # then somebody claims it at once, and ends it
    row = tx.execute(
        update(runs)
        .where(runs.c.id == claim.run_id, still_held(claim.fence))
        .values(
            status=Status.QUEUED,
            lease_owner=None,
            lease_until=None,
            retries=runs.c.retries + int(retried),
            not_before=None if wait_s is None else case((asked_to_stop, db_time()), else_=db_time(wait_s)),
            waits_for=waits_for,
            dispatched_at=db_time() if wait_s is None else None,
        )
        .returning(runs.c.not_before, func.coalesce(runs.c.not_before, db_time()).label("at"))
    ).one_or_none()
    return None if row is None else row.at


def put_back(tx: Transaction, run_id: str, *, wait_s: float) -> None:
    """Have the sweep send a run again in *wait_s* seconds, unless somebody has claimed it meanwhile."""
    due = {"not_before": db_time(wait_s), "waits_for": "not_served" if wait_s else None, "dispatched_at": None}
    sent = runs.c.dispatched_at.is_not(None)  # one that waits already goes on waiting for its own time
    tx.execute(update(runs).where(runs.c.id == run_id, runs.c.status == Status.QUEUED, sent).values(**due))
    expired = and_(runs.c.status == Status.RUNNING, runs.c.lease_until < db_time())
    later = {"lease_until": db_time(wait_s), "dispatched_at": None}
    tx.execute(update(runs).where(runs.c.id == run_id, expired).values(**later))


def renew(tx: Transaction, run_ids: Sequence[str], *, owner: str, ttl_s: float) -> None:
    """Keep the leases of these runs of *owner* for *ttl_s* seconds more.

    Of these, not of all that the rows ascribe to it: a run that the process gave up is to run out of its lease.

    Rows that somebody holds are skipped: whoever waits for a lock here would let the other leases run out, and a
    journal that holds one renews it itself.
    """
    running = (runs.c.id.in_(run_ids), runs.c.lease_owner == owner, runs.c.status == Status.RUNNING)
    mine = select(runs.c.id).where(*running)
    free = mine.with_for_update(skip_locked=True)
    tx.execute(update(runs).where(runs.c.id.in_(free)).values(lease_until=db_time(ttl_s)))


def renew_waiting(tx: Transaction, run_ids: Sequence[str], *, owner: str, ttl_s: float) -> None:
    """Keep queued runs that *owner* has leased from their acceptance on away from everybody else."""
    mine = (runs.c.id.in_(run_ids), runs.c.lease_owner == owner, runs.c.status == Status.QUEUED)
    tx.execute(update(runs).where(*mine).values(not_before=db_time(ttl_s)))


def watch(tx: Transaction, run_ids: Sequence[str]) -> list[LeaseState[str]]:
    """Return how these runs stand. Reads; waits for nobody."""
    columns = (runs.c.id, runs.c.fence, runs.c.status == Status.RUNNING, runs.c.cancel_requested_at.is_not(None))
    return [
        LeaseState(row[0], row[1], row[2], row[3]) for row in tx.execute(select(*columns).where(runs.c.id.in_(run_ids)))
    ]


def added() -> dict[str, Any]:
    """Return the values of an UPDATE that books a usage; `more` returns its parameters."""
    return {column.name: column + bindparam(f"more_{column.name}", type_=Integer) for column in USAGE}


def more(usage: Usage) -> dict[str, int]:
    """Return the parameters of `added`."""
    amounts = (usage.model_calls, usage.input_tokens, usage.cached_input_tokens, usage.output_tokens)
    return {f"more_{column.name}": n for column, n in zip(USAGE, amounts, strict=True)}


def replay_of(row: Any) -> Replay | None:
    """Return which run a row of runs repeats."""
    return None if row.replay_of is None else Replay(row.replay_of, row.execute_tools)


def usage_of(row: Any) -> Usage:
    """Return what a row of runs has booked."""
    return Usage(row.model_calls, row.input_tokens, row.cached_input_tokens, row.output_tokens)
