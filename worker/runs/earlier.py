"""What an attempt reads from the rows of earlier ones: decisions about its calls; for a replay, recorded results."""

from worker.domain import Claim, PendingCall, Replay
from worker.domain.pending import key_of
from worker.domain.run_options import PAUSES
from worker.loop.recorded import Recorded
from worker.store import Database, messages, pending_calls


def decisions(db: Database, claim: Claim) -> dict[str, PendingCall]:
    """Return the calls of the run that asked for a decision, by idempotency key. Other runs cost no statement."""
    if claim.attempt == 1 or claim.needs < PAUSES:
        return {}
    with db.read() as tx:
        return {key_of(call.id): call for call in pending_calls.of_run(tx, claim.run_id)}


def decided_then(db: Database, replay: Replay | None) -> tuple[PendingCall, ...] | None:
    """Return what was decided in the run that a replay repeats with its tools; None: it is no such replay."""
    if replay is None or not replay.execute_tools:
        return None
    with db.read() as tx:
        return tuple(pending_calls.of_run(tx, replay.of))


def results(db: Database, replay: Replay | None) -> Recorded | None:
    """Return the recorded tool results for a replay. None: the run is no replay, or it executes its tools."""
    if replay is None or replay.execute_tools:
        return None
    with db.read() as tx:
        return Recorded(messages.of_run_by_id(tx, replay.of))
