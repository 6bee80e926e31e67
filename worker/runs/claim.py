"""Take the right to execute a run, or say why it cannot be had.

Only the head of a session may execute, so one delivery is one attempt, the order of a session costs no lock and no
waiting worker, and a delivery that comes twice, late, or for a run that somebody else executes does nothing.
"""

from dataclasses import dataclass

from worker.domain.message import Draft, Role
from worker.domain.run import Claim
from worker.store import leases, messages, sessions
from worker.store.engine import Database


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such run any more."""

    run_id: str


@dataclass(frozen=True, slots=True)
class NotHead:
    """The run has ended, or an earlier run of its session has not."""

    run_id: str
    head_run_id: str | None


@dataclass(frozen=True, slots=True)
class NotFree:
    """Another process holds the run's lease, or the run waits for its time."""

    run_id: str


def claim_head(
    db: Database, run_id: str, *, owner: str, ttl_s: float, version: str
) -> Claim | Gone | NotHead | NotFree:
    """Take the lease for *ttl_s* seconds, raise the fence, mark the run running; its input becomes a message.

    One transaction under the session's lock. Of any number of processes that try at once, one gets the claim.
    """
    with db.write() as tx:
        session = sessions.lock_of_run(tx, run_id)
        if session is None:
            return Gone(run_id)
        if not is_head(session, run_id):
            return NotHead(run_id, session.head_run_id)
        claim = leases.claim(tx, run_id=run_id, session=session, owner=owner, ttl_s=ttl_s, version=version)
        if claim is None:
            return NotFree(run_id)
        if claim.first_seq > session.last_seq:
            sessions.advance(tx, session.pk, messages=1)
            draft = Draft(Role.USER, session.user_id, claim.input)
            messages.append(tx, [draft], session_pk=session.pk, run_id=run_id, last_seq=claim.first_seq)
        return claim


def is_head(session: sessions.Locked, run_id: str) -> bool:
    """The order check: tell whether *run_id* is the oldest unfinished run of its session."""
    return session.head_run_id == run_id
