"""Accept a run in one transaction. Its caller gets an answer only after the commit."""

from dataclasses import dataclass, replace

from worker.domain import NO_ORIGIN, SERVICE, Dispatch, OnBusy, Origin, Run, RunOrder, new_id, run_dispatch
from worker.errors import IdempotencyConflict, RunGone, SessionOfOtherTeam, UnknownTeam, WorkersTooOld
from worker.observe import metrics, tracing
from worker.runs import busy
from worker.settings import Settings
from worker.store import Database, Lease, Transaction, idempotency, runs, sessions, teams


class KnownTeams:
    """The teams that some worker has announced, and no others can be named. Each is read once: it stays known."""

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


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that is committed, and the dispatches to send after the commit. `repeated`: its key was used before."""

    run: Run
    dispatches: tuple[Dispatch, ...]
    repeated: bool = False


def enqueue(
    db: Database, order: RunOrder, *, settings: Settings, idempotency_key: str | None = None, lease: Lease | None = None
) -> Accepted:
    """Commit the session, the run and the user's input. The caller sends the `dispatches` afterwards.

    The same key with the same order returns the run of the first call, in its current status. It accepts no second run
    after retention has removed that one. With a *lease* there is no dispatch: its process executes the run.

    Raises:
        SessionOfOtherTeam, IdempotencyConflict, RunGone, SessionBusy, SessionPaused, QueueFull, WorkersTooOld: nothing
            is written.
    """
    with db.write() as tx:
        accepted = enqueue_in(tx, order, settings=settings, idempotency_key=idempotency_key, lease=lease)
    count(accepted)
    return accepted


def count(accepted: Accepted) -> None:
    """Count a run whose acceptance is committed."""
    if not accepted.repeated:
        metrics.RUNS_ACCEPTED.labels(accepted.run.priority).inc()


def enqueue_in(
    tx: Transaction,
    order: RunOrder,
    *,
    settings: Settings,
    idempotency_key: str | None = None,
    lease: Lease | None = None,
    origin: Origin = NO_ORIGIN,
) -> Accepted:
    """Write the session, the run and the user's input in the caller's transaction; see `enqueue`."""
    run_id = new_id("run" if origin.replay is None else "replay")  # lists tell them apart by the prefix
    session_id, user_id = order.session_id or new_id("ses"), order.user_id or ""
    if idempotency_key is not None:
        fingerprint = order.fingerprint(retry_of=origin.retry_of)
        earlier = idempotency.take(tx, user_id=user_id, key=idempotency_key, run_id=run_id, request_hash=fingerprint)
        if earlier is not None:
            if earlier.request_hash != fingerprint:
                raise IdempotencyConflict(key=idempotency_key)
            return Accepted(_existing(tx, earlier.run_id), (), repeated=True)
    if order.on_busy is OnBusy.COALESCE and (joined := busy.join(tx, order, origin=origin, settings=settings)):
        if idempotency_key is not None:
            idempotency.point_to(tx, user_id=user_id, key=idempotency_key, run_id=joined)
        return Accepted(_existing(tx, joined), ())
    if lease is None:
        check_workers(tx, order)
    order = replace(order, session_id=session_id, user_id=user_id)
    appended = sessions.append_run(tx, user_id=user_id, session_id=session_id, team=order.team, run_id=run_id)
    if appended.team != order.team:
        raise SessionOfOtherTeam(session_id=session_id, team=order.team)
    is_head = appended.head_run_id == run_id
    ahead = None if is_head else busy.check(tx, order, appended, settings=settings, here=lease is not None)
    traceparent = tracing.mark_accepted(run_id=run_id, session_id=session_id)
    added = runs.add(tx, order, appended, run_id=run_id, origin=origin, lease=lease, traceparent=traceparent)
    if ahead is not None:
        return Accepted(*busy.wait_behind(tx, order, appended, ahead, added.run))
    if added.sent_at is None:
        return Accepted(added.run, ())
    dispatch = run_dispatch(
        run_id, session_id=session_id, team=order.team, attempt=0, sent_at=added.sent_at, priority=order.priority
    )
    return Accepted(added.run, (dispatch,))


def check_workers(tx: Transaction, order: RunOrder) -> None:
    """Check that every live worker of the team knows the options of the order. Raises WorkersTooOld."""
    needs = order.options.needs
    if needs and needs > (known if (known := teams.contract(tx, order.team)) is not None else needs):
        raise WorkersTooOld(team=order.team)


def _existing(tx: Transaction, run_id: str) -> Run:
    run = runs.get(tx, run_id, principal=SERVICE)
    if run is None:
        raise RunGone(run_id=run_id)
    return run
