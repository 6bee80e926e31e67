"""Decide about calls that wait. The run goes on at once with what is decided; what is not keeps waiting.

A decision, a pause, a cancel and the end of a run take the lock of the session, so each sees those before it.
"""

import json
from collections.abc import Sequence

from worker.clock import rfc3339
from worker.domain import (
    SERVICE,
    Decision,
    Dispatch,
    PendingCall,
    Principal,
    Run,
    Scope,
    Verdict,
    run_dispatch,
    schemas,
)
from worker.domain.pending import VERDICTS, DecidedBy, PendingKind
from worker.domain.run_options import PAUSES
from worker.domain.text import ID_LIMIT, check_id, check_json, check_text
from worker.errors import (
    AlreadyDecided,
    ApproverNeeded,
    DecisionInvalid,
    InvalidJson,
    InvalidText,
    PendingNotFound,
    RunNotFound,
    RunNotPaused,
    WorkersTooOld,
)
from worker.observe import logs, metrics
from worker.store import Database, Lease, Transaction, leases, pending_calls, runs, sessions, teams

log = logs.get(__name__)

TOO_LATE = "no decision came in time"
ANSWER_BYTES = 1024 * 1024
NOTE_LENGTH = 10_000
EXPIRED_AT_ONCE = 100


def decide(
    db: Database,
    run_id: str,
    decisions: Sequence[Decision],
    *,
    principal: Principal = SERVICE,
    user_id: str | None = None,
    approver: str | None = None,
    lease: Lease | None = None,
) -> tuple[Run, tuple[Dispatch, ...]]:
    """Decide about calls of a run: all of *decisions* count, or none. Return the run, and the dispatches to send then.

    The same decision again changes nothing. *approver* is a person whom the deciding program names. With a *lease*
    there is no dispatch: its process executes the run.

    Raises:
        RunNotFound, UserForbidden, PendingNotFound, ApproverNeeded, DecisionInvalid, AlreadyDecided, RunNotPaused,
        WorkersTooOld, InvalidText, InvalidIdentifier: nothing is written.
    """
    if approver is not None:
        check_id(approver, field="approver")
    new: dict[str, Decision] = {}
    with db.write() as tx:
        visible = runs.get(tx, run_id, principal=principal, user_id=user_id, texts=False)
        session = None if visible is None else sessions.lock_of_run(tx, run_id)
        run = runs.get(tx, run_id, principal=principal, user_id=user_id)
        if session is None or run is None:
            raise RunNotFound(run_id=run_id)
        calls = {call.id: call for call in pending_calls.of_run(tx, run_id)}
        for decision in decisions:
            call = calls.get(decision.id)
            if call is None:
                raise PendingNotFound(run_id=run_id, pending_id=decision.id[:ID_LIMIT])
            if call.id in new:
                raise DecisionInvalid(pending_id=call.id, problem="it is decided twice in one request")
            _check_may_decide(call, principal)
            answer = _answer(call, decision)
            if not _is_new(call, decision, answer, run):
                continue
            pending_calls.decide(
                tx,
                call.id,
                Verdict(decision.action),
                answer=answer,
                note=decision.note,
                key_id=principal.key_id or None,
                approver=approver,
            )
            new[call.id] = decision
        dispatches = _go_on(tx, session, run_id, lease=lease) if new else ()
        after = runs.get(tx, run_id, principal=principal, user_id=user_id) or run
        after = pending_calls.attached(tx, [after])[0]
    for id, decision in new.items():
        _observe(calls[id], Verdict(decision.action), key_id=principal.key_id)
    return after, dispatches


def expire(db: Database) -> tuple[Dispatch, ...]:
    """End the wait of calls whose time is over, some at once; return the dispatches to send after that."""
    with db.read() as tx:
        due = pending_calls.expired(tx, limit=EXPIRED_AT_ONCE)
    dispatches: tuple[Dispatch, ...] = ()
    for run_id in dict.fromkeys(one.run_id for one in due):
        with db.write() as tx:
            session = sessions.lock_of_run(tx, run_id)
            ids = {one.id for one in due if one.run_id == run_id}
            over = [call for call in pending_calls.of_run(tx, run_id) if call.id in ids and call.is_open]
            if session is None or not over:
                continue
            for call in over:
                pending_calls.decide(tx, call.id, Verdict.EXPIRED)
            dispatches += _go_on(tx, session, run_id)
        for call in over:
            _observe(call, Verdict.EXPIRED)
    return dispatches


def _check_may_decide(call: PendingCall, principal: Principal) -> None:
    is_operator = principal is SERVICE or principal.has_scope(Scope.APPROVALS)
    if call.decided_by is DecidedBy.OPERATOR and not is_operator:
        raise ApproverNeeded(pending_id=call.id)


def _is_new(call: PendingCall, decision: Decision, answer: str | None, run: Run) -> bool:
    """Tell whether a decision is to be written; False: it was made before. Raises AlreadyDecided, RunNotPaused."""
    if call.is_open and not run.status.terminal:
        return True
    if call.is_open or call.decision is Verdict.CANCELLED:
        raise RunNotPaused(run_id=run.id, status=run.status.value)
    if (str(call.decision), call.answer, call.note) == (decision.action, answer, decision.note):
        return False
    at = "" if call.decided_at is None else rfc3339(call.decided_at)
    raise AlreadyDecided(pending_id=call.id, at=at, decision=call.decision)


def _answer(call: PendingCall, decision: Decision) -> str | None:
    """Return what a decision brings: arguments as JSON text, or a result. Raises DecisionInvalid."""

    def check(is_fine: bool, problem: str) -> None:
        if not is_fine:
            raise DecisionInvalid(pending_id=call.id, problem=problem)

    fitting = [str(verdict) for verdict in VERDICTS[call.kind]]
    check(decision.action in fitting, f"a call of kind {str(call.kind)!r} takes {' or '.join(map(repr, fitting))}")
    brings_result = call.kind is PendingKind.EXTERNAL and decision.action == "answer"
    check((decision.result is not None) == brings_result, "a result belongs to an 'answer' of kind 'external', only")
    takes_arguments = call.kind is not PendingKind.EXTERNAL and decision.action != "reject"
    check(decision.arguments is None or takes_arguments, "arguments belong to 'approve', or to an 'answer' of 'input'")
    check(decision.arguments is not None or decision.action != "answer" or brings_result, "its arguments are missing")
    try:
        check_text(decision.note or "", field="note")
        check_text(decision.result or "", field="result")
        check_json(decision.arguments, field="arguments")
    except (InvalidText, InvalidJson) as error:
        raise DecisionInvalid(pending_id=call.id, problem=error.message.removesuffix(".")) from None
    check(len(decision.note or "") <= NOTE_LENGTH, f"its note has more than {NOTE_LENGTH:,} characters")
    arguments = decision.arguments
    answer = decision.result if arguments is None else json.dumps(arguments, ensure_ascii=False, sort_keys=True)
    check(len((answer or "").encode()) <= ANSWER_BYTES, f"it has more than {ANSWER_BYTES:,} bytes")
    if arguments is not None:
        wrong = schemas.paths(call.schema, arguments)
        check(not wrong, f"its arguments do not fit the schema at {', '.join(wrong)}")
    return answer


def _go_on(
    tx: Transaction, session: sessions.LockedSession, run_id: str, *, lease: Lease | None = None
) -> tuple[Dispatch, ...]:
    """Queue the run again if it is paused. One that is executed sees the decision when it would pause."""
    resumed = leases.resume(tx, run_id, lease=lease)
    if resumed is None or resumed.sent_at is None:
        return ()
    known = teams.contract(tx, session.team)
    if known is not None and known < PAUSES:  # it would make the call without the decision
        raise WorkersTooOld(team=session.team)
    return (
        run_dispatch(
            run_id,
            session_id=session.session_id,
            team=session.team,
            attempt=resumed.attempt,
            sent_at=resumed.sent_at,
            priority=resumed.priority,
        ),
    )


def _observe(call: PendingCall, verdict: Verdict, *, key_id: str = "") -> None:
    metrics.DECISIONS.labels(call.kind, verdict).inc()
    log.info("call decided", run_id=call.run_id, pending_id=call.id, decision=str(verdict), key_id=key_id or None)
