"""Take the right to execute a run, or say why that is not possible.

Only the head of a session may execute, so one delivery is one attempt, and no worker waits for another run of the
session. A delivery that comes twice, late, or for a run that another process executes does nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from worker import clock
from worker.domain import Claim, Draft, Due, End, Role, StateChange, size_of
from worker.errors import ValueTooLarge
from worker.loop.definition import Definition
from worker.process.patience import Patience, at_once
from worker.store import Database, Transaction, leases, messages, sessions

# Who held the session's lock for so long can be the owner, in a write that waits for another lock.
WAITED_S = 1.0


@dataclass(frozen=True, slots=True)
class NotClaimed:
    """Why a run cannot be claimed now.

    GONE: it was removed. OTHER_TEAM: it is none of the team that would execute it. NOT_HEAD: it has ended, or an
    earlier run of its session, `head_run_id`, has not. NOT_FREE: another process holds its lease, or it waits for its
    time.
    """

    end: End
    run_id: str
    head_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A run that was lost twice in a row without a new message: maybe it kills its process."""

    run_id: str
    session_id: str


def claim_head(
    db: Database,
    run_id: str,
    *,
    owner: str,
    ttl_s: float,
    definition: Definition,
    due: Due | None = None,
    isolated: bool = False,
    may_take_over: Callable[[], bool] = lambda: True,
    give_up: Callable[[float], bool] = at_once,
) -> Claim | NotClaimed | Suspect:
    """Take the lease for *ttl_s* seconds, raise the fence, mark the run running; its input becomes a message.

    The first claim in a session gives it the team's initial state; a fork has a state already. The first claim of a run
    sets what its caller gave as `session_state`. *due* says when the
    team's summaries are due; those of a fork never are. *isolated*: this process executes nothing else.
    *may_take_over* says whether a run is free whose lease has run out; it is not after a long wait for the lock.

    One transaction under the session's lock. If several processes try at once, one gets the claim. While the database
    is unavailable, it is tried again until *give_up* returns true, see `Patience`.

    Raises:
        DatabaseUnavailable: this gave up.
    """

    def take(tx: Transaction) -> Claim | NotClaimed | Suspect:
        asked_at = clock.monotonic()
        locked = sessions.lock_with_state(tx, run_id)
        waited_s = clock.monotonic() - asked_at
        if locked is None:
            return NotClaimed(End.GONE, run_id)
        session, state = locked
        if session.team != definition.id:  # a message named that team; only the row says whose run it is
            return NotClaimed(End.OTHER_TEAM, run_id)
        if not is_head(session, run_id):
            return NotClaimed(End.NOT_HEAD, run_id, session.head_run_id)
        take_over = may_take_over() and waited_s < WAITED_S
        claim = leases.claim(
            tx,
            run_id=run_id,
            session=session,
            state=state,
            owner=owner,
            ttl_s=ttl_s,
            version=definition.version,
            isolated=isolated,
            take_over=take_over,
        )
        if claim is None:
            suspected = not isolated and leases.is_suspect(tx, run_id, owner=owner, take_over=take_over)
            return Suspect(run_id, session.session_id) if suspected else NotClaimed(End.NOT_FREE, run_id)
        if claim.first_seq > session.last_seq:
            draft = Draft(Role.USER, session.user_id, claim.input)
            sessions.begin_run(tx, session.pk, size=size_of([draft]), due=due if claim.replay is None else None)
            log = messages.append(tx, [draft], run_id=run_id, session_pk=session.pk, last_seq=claim.last_seq)
        else:
            log = messages.of_run(tx, session_pk=session.pk, first_seq=claim.first_seq, last_seq=claim.last_seq)
        values = _first_values(claim, definition, state)
        if values:
            try:
                state = sessions.change_state(tx, session.pk, StateChange(values))
            except ValueTooLarge as error:  # nothing is written; the run fails with it
                claim = replace(claim, refused=error)
        if clock.monotonic() - asked_at > ttl_s / 3:  # it waited for a lock after it had taken the lease
            claim = replace(claim, lease_until=leases.renew_held(tx, claim, ttl_s=ttl_s) or claim.lease_until)
        return replace(claim, log=tuple(log), state=state)

    def committed(tx: Transaction, result: Claim | NotClaimed | Suspect) -> bool:
        if not isinstance(result, Claim) or sessions.lock_of_run(tx, run_id) is None:
            return False
        return leases.is_claimed(tx, result, owner=owner)

    return Patience(db, give_up).write(take, committed=committed)


def _first_values(claim: Claim, definition: Definition, state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the first claim of a run sets in the session's state: the team's values, and its caller's."""
    if claim.attempt > 1:
        return {}
    begins = claim.position == 1 and claim.replay is None
    initial = {k: v for k, v in definition.session_state.items() if k not in state} if begins else {}
    return {**initial, **claim.options.session_state}


def is_head(session: sessions.LockedSession, run_id: str) -> bool:
    """The order check: tell whether *run_id* is the oldest unfinished run of its session."""
    return session.head_run_id == run_id
