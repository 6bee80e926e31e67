"""Everything that can happen to runs, once, without a broker or a model: for tests of the statements."""

from worker.domain import (
    SERVICE,
    Claim,
    Draft,
    Role,
    RunError,
    RunOrder,
    Status,
    SummaryDraft,
    ToolCall,
    Usage,
    Viewpoint,
)
from worker.queue.dispatch import NoDispatcher
from worker.runs.cancel import cancel
from worker.runs.claim import claim_head
from worker.runs.enqueue import Accepted, KnownTeams, enqueue
from worker.runs.finish import Ending, Head, end_head
from worker.runs.queue_limits import QueueLimits
from worker.runs.replay import replay_in
from worker.runs.why import why
from worker.settings import Settings
from worker.store import (
    Database,
    Lease,
    api_keys,
    dispatchable,
    leases,
    messages,
    runs,
    sessions,
    summaries,
    summary_jobs,
    teams,
)
from worker.store.columns import db_now
from worker.summaries import due
from worker.team import Team


def accept(
    db: Database, text: str = "hello", *, key: str | None = None, session: str = "s", lease: Lease | None = None
) -> Accepted:
    """Enqueue a run of team 't' for user 'u'."""
    return enqueue(
        db, RunOrder("t", text, session_id=session, user_id="u"), settings=Settings(), idempotency_key=key, lease=lease
    )


def take(db: Database, run_id: str, *, owner: str = "me", ttl_s: float = 60, team: str = "t") -> Claim:
    """Claim a run that is free."""
    claim = claim_head(db, run_id, owner=owner, ttl_s=ttl_s, definition=Team(id=team).definition)
    assert isinstance(claim, Claim), claim
    return claim


def end(db: Database, claim: Claim, ending: Ending) -> None:
    """End a claimed run."""
    head = Head(
        claim.run_id, claim.session_pk, claim.session_id, claim.team, claim.position, claim.fence, Status.RUNNING
    )
    with db.write() as tx:
        end_head(tx, head, ending)


def live_through(db: Database) -> None:
    """Accept, claim, write, requeue, finish, cancel, sweep, announce, read."""
    answer = Draft(Role.ASSISTANT, "t", "hi", usage=Usage(1, 2, 0, 3))
    first, second, third, fourth = (accept(db, str(n), key=str(n)).run.id for n in range(4))
    accept(db, "0", key="0")
    with db.write() as tx:
        teams.announce(tx, worker="me", versions={"t": "1"}, queues=["runs"])
    claim = take(db, first)
    with db.write() as tx:
        last_seq = sessions.advance(tx, claim.session_pk, messages=1)
        assert last_seq is not None
        leases.hold(tx, claim, last_seq=last_seq, usage=Usage(1, 2, 1, 3), ttl_s=60)
        called = Draft(Role.ASSISTANT, "t", "", (ToolCall("c", "n", "{}"),))
        messages.append(tx, [called], session_pk=claim.session_pk, run_id=first, last_seq=last_seq)
        leases.record_start(tx, run_id=first, idempotency_key="k")
    with db.write() as tx:
        leases.renew(tx, [first], owner="me", ttl_s=60)
        leases.renew_waiting(tx, [second], owner="me", ttl_s=60)
        leases.watch(tx, [first])
        leases.requeue(tx, claim, wait_s=0, waits_for="x", retried=True)
        leases.put_back(tx, first, team="t", wait_s=0)
        dispatchable.take_due(tx, limit=10)
        dispatchable.take_background(tx, limit=10)
        for resumed in (True, False):
            dispatchable.take_lost(tx, resumed=resumed, before=db_now(tx), limit=10)
        dispatchable.take_lost_expired(tx, ended_only=False, before=db_now(tx), limit=10)
    cancel(db, second)
    again = take(db, first, ttl_s=-1)
    with db.write() as tx:
        dispatchable.take_expired(tx, ended_only=False, limit=10)
    cancel(db, first)
    end(db, take(db, third), Ending(Status.COMPLETED, [answer], output="hi", usage=answer.usage))
    end(db, take(db, fourth), Ending(Status.FAILED, error=RunError("x", "y")))
    with db.write() as tx:
        teams.announce(tx, worker="me", versions={"t": "1"}, queues=["runs"])
        teams.forget_silent(tx, after_s=10)
        key = api_keys.create(tx, name="n")
    with db.write() as tx:
        repeated = replay_in(tx, third, execute_tools=False, settings=Settings()).run.id
    with db.read() as tx:
        seen_from = runs.viewpoint(tx, repeated)
        assert seen_from is not None
        summaries.as_of(tx, seen_from)
    KnownTeams(db).check("t")
    QueueLimits(db, Settings()).check("u")
    why(db, NoDispatcher(), Settings(), fourth)
    condense(db, again.session_pk)
    with db.read() as tx:
        messages.of_run(tx, session_pk=again.session_pk, first_seq=1, last_seq=5)
        messages.of_run_by_id(tx, first)
        bounds = messages.Bounds(100, text=100, result=100, least_of_result=10)
        seen = Viewpoint(again.session_pk, 4, 9)
        for count in (None, 3):
            messages.newest_of_last(
                tx, session_pk=again.session_pk, seen_from=seen, run_count=3, count=count, bounds=bounds
            )
        summary = summaries.current(tx, again.session_pk)
        messages.first_of_last(tx, session_pk=again.session_pk, summary=summary, run_count=2)
        messages.newest_that_fit(tx, session_pk=again.session_pk, since_seq=1, before_seq=9, bounds=bounds)
        messages.page(tx, session_pk=again.session_pk, after_seq=0, limit=10)
        sessions.find(tx, session_id="s", principal=SERVICE, user_id="u")
        runs.get(tx, first, principal=SERVICE, user_id="u")
        teams.live_workers(tx)
        api_keys.verify(tx, key)


def condense(db: Database, session_pk: int) -> None:
    """Request a summary, take the job, fail, renew, write two versions."""
    with db.write() as tx:
        due.request(tx, session_pk, session_id="s", team="t")
        summary_jobs.request_if_due(tx, session_pk, covers_through_seq=0, through_seq=3, step=1)
        assert summary_jobs.take_ready(tx, teams=["t"], limit=3) == []  # it was just sent
        job = summary_jobs.claim(tx, session_pk, team="t", owner="me", ttl_s=60)
        assert job is not None
        summary_jobs.requested(tx, job)
        summary_jobs.renew(tx, [session_pk], owner="me", ttl_s=60)
        summary_jobs.watch(tx, [session_pk])
        base = summaries.base(tx, session_pk)
        assert base is not None
        place = {"after_seq": base.covers_through_seq, "through_seq": base.finished_seq}
        read = messages.to_condense(tx, session_pk=session_pk, **place, limit=10, cut=10)
        ends = {"covers_through_seq": base.finished_seq, "covers_position": base.finished_position}
        new = SummaryDraft("model", "hash", 0, "text", ["topic"], **ends, size=1, pieces=1, usage=Usage(1, 2, 0, 3))
        assert read
        assert summaries.cover(tx, session_pk, base, new)
        summaries.add(tx, session_pk, 1, new, keep=1)
        due.request(tx, session_pk, session_id="s", team="t", rebuild=True)
        assert summary_jobs.save_draft(tx, job, SummaryDraft("model", "hash", 0), ttl_s=60)
        assert summary_jobs.finish(tx, job, through_seq=99, due_seq=0, ttl_s=60) is False
        summary_jobs.finish(tx, job, through_seq=0, due_seq=0, ttl_s=60, rebuilt=True)
        summary_jobs.fail(tx, job, code="x", wait_s=0)
        summary_jobs.give_back(tx, job)
        summary_jobs.put_back(tx, session_pk, team="t", wait_s=0)
        summary_jobs.state(tx, session_pk)
        assert summary_jobs.finish(tx, job, through_seq=99, due_seq=0, ttl_s=60)
        assert summaries.get(tx, session_pk, version=1) == summaries.get(tx, session_pk)
