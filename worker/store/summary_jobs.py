"""Rows of requested refreshes of summaries: one per session, so that several triggers make one refresh.

`send_at` says when a job is sent to its queue: a while after it was last sent, when its lease runs out, or when its
wait is over. So a delivery that was lost, or that found no free slot, is repeated without any other check.

A job can request a rebuild: one new version, made from the beginning of the history. Its draft is in the row, so that
another process can continue it, and no context reads it before it covers enough.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, false, func, or_, select, true, update

from worker.domain import Dispatch, LeaseState, Refresh, SummaryDraft, Usage, summary_dispatch
from worker.store.columns import db_time, upsert
from worker.store.engine import Transaction
from worker.store.tables import sessions, summary_jobs

RESEND_S = 2.0  # a job that was sent and not taken is sent again
_NO_REBUILD = {"rebuild": False, "draft": None}
_GIVEN_BACK = {"lease_owner": None, "held_until": None, "send_at": db_time()}
_free = or_(summary_jobs.c.held_until.is_(None), summary_jobs.c.held_until <= db_time())


@dataclass(frozen=True, slots=True)
class Job:
    """A refresh that this process has taken.

    A finished job is deleted, and the fence of the next one starts again: `requested_at` distinguishes them.
    """

    session_pk: int
    fence: int
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """What a job requests: a summary that covers at least `through_seq`, made from the beginning if `rebuild`."""

    through_seq: int
    rebuild: bool
    draft: SummaryDraft | None


def request_if_due(tx: Transaction, session_pk: int, *, covers_through_seq: int, through_seq: int, step: int) -> bool:
    """Request a refresh unless one is requested already; return whether it has to be sent.

    A failed refresh is requested again after *step* more messages, or after as many as it failed on if their size made
    it due earlier. A failed rebuild becomes an ordinary refresh, so that it does not block one that is due. The caller
    holds the session's lock.
    """
    new = _new(tx, session_pk, through_seq=through_seq)
    failed_on = summary_jobs.c.through_seq - covers_through_seq
    new_messages = through_seq - summary_jobs.c.through_seq
    enough = or_(summary_jobs.c.rebuild, new_messages >= step, new_messages >= failed_on)
    failed = and_(summary_jobs.c.send_at.is_(None), enough)
    again = {"through_seq": through_seq, "send_at": db_time(RESEND_S), "held_until": None, "failures": 0, **_NO_REBUILD}
    statement = new.on_conflict_do_update(index_elements=[summary_jobs.c.session_pk], set_=again, where=failed)
    return tx.execute(statement.returning(summary_jobs.c.session_pk)).one_or_none() is not None


def request_now(tx: Transaction, session_pk: int, *, through_seq: int, rebuild: bool = False) -> None:
    """Request a refresh that covers at least *through_seq*; one that waits after a failure stops waiting.

    With *rebuild* it becomes a rebuild. A job that is one already stays one, and continues its draft.
    """
    leased = and_(summary_jobs.c.lease_owner.is_not(None), summary_jobs.c.held_until > db_time())
    further = case((summary_jobs.c.through_seq < through_seq, through_seq), else_=summary_jobs.c.through_seq)
    values = {
        "through_seq": further,
        "failures": 0,
        "send_at": case((leased, summary_jobs.c.send_at), else_=db_time(RESEND_S)),
        "held_until": case((leased, summary_jobs.c.held_until), else_=None),
        **({"rebuild": True} if rebuild else {}),
    }
    new = _new(tx, session_pk, through_seq=through_seq, rebuild=rebuild)
    tx.execute(new.on_conflict_do_update(index_elements=[summary_jobs.c.session_pk], set_=values))


def take_ready(tx: Transaction, *, teams: Iterable[str], limit: int) -> list[Dispatch]:
    """Mark as sent, and return, the jobs of *teams* that have waited longest for their time."""
    waiting = (
        select(summary_jobs.c.session_pk)
        .join(sessions, sessions.c.pk == summary_jobs.c.session_pk)
        .where(summary_jobs.c.send_at <= db_time(), sessions.c.team_id.in_(sorted(teams)))
        .order_by(summary_jobs.c.send_at)
        .limit(limit)
        .with_for_update(of=summary_jobs, skip_locked=True)
        .cte("waiting")
    )
    columns = (sessions.c.session_id, sessions.c.team_id, sessions.c.summary_version)
    of_session = (select(c).where(sessions.c.pk == summary_jobs.c.session_pk).scalar_subquery() for c in columns)
    sent = update(summary_jobs).where(summary_jobs.c.session_pk.in_(select(waiting.c.session_pk)))
    rows = tx.execute(sent.values(send_at=db_time(RESEND_S)).returning(summary_jobs.c.session_pk, *of_session))
    return [summary_dispatch(row[0], session_id=row[1], team=row[2], version=row[3]) for row in rows]


def claim(
    tx: Transaction, session_pk: int, *, team: str, owner: str, ttl_s: float, take_over: bool = True
) -> Job | None:
    """Take a job of *team* that is free, for *ttl_s* seconds; None: it is done, taken, or waits.

    With *take_over* one is free, too, whose process let its lease run out.
    """
    free = _free if take_over else and_(_free, summary_jobs.c.lease_owner.is_(None))
    row = tx.execute(
        update(summary_jobs)
        .where(summary_jobs.c.session_pk == session_pk, _of(team), free, summary_jobs.c.send_at.is_not(None))
        .values(fence=summary_jobs.c.fence + 1, lease_owner=owner, **_until(ttl_s))
        .returning(summary_jobs.c.fence, summary_jobs.c.requested_at)
    ).one_or_none()
    return None if row is None else Job(session_pk, row.fence, row.requested_at)


def requested(tx: Transaction, job: Job) -> RefreshRequest | None:
    """Return what a job requests now, which can be more than when it was taken; None: another process has it."""
    columns = (summary_jobs.c.through_seq, summary_jobs.c.rebuild, summary_jobs.c.draft)
    row = tx.execute(select(*columns).where(_mine(job))).one_or_none()
    if row is None:
        return None
    return RefreshRequest(row.through_seq, row.rebuild, None if row.draft is None else _draft_from_json(row.draft))


def save_draft(tx: Transaction, job: Job, draft: SummaryDraft, *, ttl_s: float) -> bool:
    """Save the draft of a rebuild and renew the lease; False: another process has the job, and nothing is saved."""
    values = {"draft": _draft_to_json(draft), "failures": 0, "error_code": None, **_until(ttl_s)}
    return _changed(tx, update(summary_jobs).where(_mine(job)).values(**values))


def finish(
    tx: Transaction, job: Job, *, through_seq: int, due_seq: int, ttl_s: float, rebuilt: bool = False
) -> bool | None:
    """Record that the summary covers *through_seq*, and that it is due up to *due_seq* now.

    True: the job is done and deleted. False: more is requested, and the lease is renewed. None: another process has the
    job. A rebuild stays requested until the summary was *rebuilt*, whatever it covers.
    """
    reached = and_(summary_jobs.c.through_seq <= through_seq, true() if rebuilt else summary_jobs.c.rebuild.is_(False))
    if due_seq <= through_seq and _changed(tx, delete(summary_jobs).where(_mine(job), reached)):
        return True
    further = case((summary_jobs.c.through_seq < due_seq, due_seq), else_=summary_jobs.c.through_seq)
    values = {"through_seq": further, "failures": 0, "error_code": None, **_until(ttl_s)}
    values |= _NO_REBUILD if rebuilt else {}
    return False if _changed(tx, update(summary_jobs).where(_mine(job)).values(**values)) else None


def fail(tx: Transaction, job: Job, *, code: str, wait_s: float | None, counted: bool = True) -> None:
    """Give the job back after a failure: it waits *wait_s* seconds; None: it is marked as failed."""
    until = {"held_until": None, "send_at": None} if wait_s is None else _until(wait_s)
    values = {"lease_owner": None, "failures": summary_jobs.c.failures + int(counted), "error_code": code, **until}
    tx.execute(update(summary_jobs).where(_mine(job)).values(**values))


def is_given_back(tx: Transaction, job: Job) -> bool:
    """Lock the job, and tell whether `fail` or `give_back` has given it back, and no process has taken it since."""
    returned = (_mine(job), summary_jobs.c.lease_owner.is_(None))
    row = tx.execute(select(summary_jobs.c.session_pk).where(*returned).with_for_update()).one_or_none()
    return row is not None


def give_back(tx: Transaction, job: Job) -> None:
    """Give the job back for another process, at once."""
    tx.execute(update(summary_jobs).where(_mine(job)).values(**_GIVEN_BACK))


def put_back(tx: Transaction, session_pk: int, *, team: str, wait_s: float) -> None:
    """Let a job of *team* that no process has taken wait *wait_s* seconds."""
    waits = (summary_jobs.c.session_pk == session_pk, _of(team), _free, summary_jobs.c.send_at.is_not(None))
    tx.execute(update(summary_jobs).where(*waits).values(**_until(wait_s)))


def renew(tx: Transaction, keys: Sequence[int], *, owner: str, ttl_s: float) -> list[int]:
    """Keep these jobs of *owner* for *ttl_s* seconds more, and return their keys; locked rows are skipped."""
    pk = summary_jobs.c.session_pk
    free = select(pk).where(pk.in_(keys), summary_jobs.c.lease_owner == owner).with_for_update(skip_locked=True)
    renewed = update(summary_jobs).where(pk.in_(free)).values(**_until(ttl_s)).returning(pk)
    return list(tx.execute(renewed).scalars())


def end(tx: Transaction, lost: Collection[str]) -> list[int]:
    """Give back the jobs of processes that are *lost*, for others, at once; return their keys. Skips locked rows."""
    pk = summary_jobs.c.session_pk
    unlocked = select(pk).where(summary_jobs.c.lease_owner.in_(sorted(lost))).with_for_update(skip_locked=True)
    return list(tx.execute(update(summary_jobs).where(pk.in_(unlocked)).values(**_GIVEN_BACK).returning(pk)).scalars())


def watch(tx: Transaction, keys: Sequence[int]) -> list[LeaseState]:
    """Return the lease states of these jobs; see `process.keeper`."""
    columns = (summary_jobs.c.session_pk, summary_jobs.c.fence, summary_jobs.c.lease_owner.is_not(None), false())
    rows = tx.execute(select(*columns).where(summary_jobs.c.session_pk.in_(keys)))
    return [LeaseState(*row) for row in rows]


def state(tx: Transaction, session_pk: int) -> Refresh | None:
    """Return the refresh that a session waits for; None: none is requested."""
    running = func.coalesce(and_(summary_jobs.c.lease_owner.is_not(None), summary_jobs.c.held_until > db_time()), False)
    columns = (running, summary_jobs.c.send_at, summary_jobs.c.held_until)
    facts = (summary_jobs.c.failures, summary_jobs.c.error_code)
    row = tx.execute(select(*columns, *facts).where(summary_jobs.c.session_pk == session_pk)).one_or_none()
    if row is None:
        return None
    if row[0]:
        return Refresh("running", row.failures, row.error_code, None)
    return Refresh("waiting" if row.send_at else "failed", row.failures, row.error_code, row.held_until)


def _new(tx: Transaction, session_pk: int, *, through_seq: int, rebuild: bool = False):  # type: ignore[no-untyped-def]
    row = {"session_pk": session_pk, "through_seq": through_seq, "fence": 0, "failures": 0, "rebuild": rebuild}
    return upsert(tx.dialect.name, summary_jobs).values(**row, send_at=db_time(RESEND_S), requested_at=db_time())


def _draft_to_json(draft: SummaryDraft) -> dict[str, Any]:
    """Return a draft as the column holds it: processes of other releases read it, with the name `covers_seq`."""
    values = asdict(draft)
    values["covers_seq"] = values.pop("covers_through_seq")
    return values


def _draft_from_json(values: dict[str, Any]) -> SummaryDraft:
    own = {name: value for name, value in values.items() if name != "covers_seq"}
    return SummaryDraft(**{**own, "covers_through_seq": values["covers_seq"], "usage": Usage(**values["usage"])})


def _mine(job: Job) -> ColumnElement[bool]:
    of_session = summary_jobs.c.session_pk == job.session_pk
    return and_(of_session, summary_jobs.c.requested_at == job.requested_at, summary_jobs.c.fence == job.fence)


def _of(team: str) -> ColumnElement[bool]:
    """Only the row of a session says whose it is: a message can name any team."""
    return select(sessions.c.team_id).where(sessions.c.pk == summary_jobs.c.session_pk).scalar_subquery() == team


def _until(wait_s: float) -> dict[str, object]:
    return {"held_until": db_time(wait_s), "send_at": db_time(wait_s)}


def _changed(tx: Transaction, statement) -> bool:  # type: ignore[no-untyped-def]
    return tx.execute(statement.returning(summary_jobs.c.session_pk)).one_or_none() is not None
