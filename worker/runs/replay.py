"""Replay a run: its input again, with the team as it is now, beside its session and not in it.

The new run is in a fork: a session of its own, which no list shows and which goes with the session of the earlier run.
History is append-only, so nothing is copied: the replay sees the past from the place of the earlier run
(`runs.past`), and what it writes stands in the fork. Unless its tools are to be executed, they are served the results
that they returned then (`loop.recorded`); a call that has none fails the replay with `replay_diverged`.
"""

from dataclasses import dataclass
from typing import Literal

from worker.domain.identity import new_id
from worker.domain.principal import SERVICE
from worker.domain.run import Priority, Replay, Run, Status
from worker.errors import ReplayDiverged, RunNotFound, RunNotRetryable
from worker.runs.enqueue import Accepted, Order, enqueue_in
from worker.settings import Settings
from worker.store import runs, sessions
from worker.store.engine import Transaction

Outcome = Literal["same", "changed", "diverged", "failed"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a replay answered, and the run that it repeats. `status` None: it has not ended.

    A replay that was cancelled counts as 'failed'.
    """

    status: Outcome | None
    old_output: str | None
    new_output: str | None


def replay_in(tx: Transaction, source_run_id: str, *, execute_tools: bool, settings: Settings) -> Accepted:
    """Accept the input of a run that has ended again, in a new fork, in a transaction that somebody else commits.

    With its metadata and timeout, in the background. Takes the lock of its session, which is not written to. The fork
    begins with the session's state as it is now: what it was then is not recorded, nor what tools changed in it, which
    a replay that does not execute them leaves out.

    Raises:
        RunNotFound
        RunNotRetryable: it has not ended; or it was cancelled while it was queued, and stands behind one that has not.
    """
    session = sessions.lock_of_run(tx, source_run_id)
    source = runs.get(tx, source_run_id, principal=SERVICE)
    if session is None or source is None:
        raise RunNotFound(run_id=source_run_id)
    if not source.status.terminal or runs.viewpoint(tx, source_run_id) is None:
        which = "run that has ended, and all before it,"
        raise RunNotRetryable(run_id=source_run_id, status=source.status, which=which)
    fork_id = new_id("fork")
    sessions.fork(tx, session.pk, session_id=fork_id)
    order = Order(
        source.team,
        source.input,
        fork_id,
        source.user_id,
        source.metadata,
        priority=Priority.BACKGROUND,
        timeout_s=source.timeout_s,
        replay=Replay(source_run_id, execute_tools),
    )
    return enqueue_in(tx, order, settings=settings)


def compared(tx: Transaction, run_id: str) -> Comparison:
    """Compare what a replay answered to what the run answered that it repeats.

    Raises:
        RunNotFound: there is no such replay.
    """
    new = runs.get(tx, run_id, principal=SERVICE)
    old = runs.get(tx, new.replay.of, principal=SERVICE) if new is not None and new.replay is not None else None
    if new is None or old is None:
        raise RunNotFound(run_id=run_id)
    return Comparison(_outcome(old, new), old.output, new.output)


def _outcome(old: Run, new: Run) -> Outcome | None:
    if not new.status.terminal:
        return None
    if new.error is not None and new.error.code == ReplayDiverged.code:
        return "diverged"
    if new.status is not Status.COMPLETED:
        return "failed"
    return "same" if new.output == old.output else "changed"
