"""Accept a run: one transaction, and only then anybody is told "accepted"."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from worker.domain.dispatch import Dispatch, of_run
from worker.domain.identity import new_id
from worker.domain.principal import Principal
from worker.domain.run import Run
from worker.domain.text import check_id, check_input, check_json
from worker.errors import IdempotencyConflict, RunNotFound, SessionOfOtherTeam, UnknownTeam
from worker.store import idempotency, runs, sessions, teams
from worker.store.engine import Database, Transaction
from worker.store.leases import Lease

SERVICE = Principal(key_id="")


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks for. `session_id` None opens a new session; `user_id` '' is nobody in particular."""

    team: str
    input: str
    session_id: str | None = None
    user_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """Return a hash by which the same order is known again."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run that is committed. `ready` holds its dispatch if it is head; `repeated`: its key had been used before."""

    run: Run
    ready: tuple[Dispatch, ...]
    repeated: bool = False


def check(order: Order, *, max_input_bytes: int) -> None:
    """Check an order before anything is written.

    Raises:
        EmptyInput, InputTooLarge, InvalidText, InvalidIdentifier
    """
    check_id(order.team, field="team")
    if order.session_id is not None:
        check_id(order.session_id, field="session_id")
    if order.user_id:
        check_id(order.user_id, field="user_id")
    check_json(order.metadata, field="metadata")
    check_input(order.input, limit=max_input_bytes)


def enqueue(db: Database, order: Order, *, idempotency_key: str | None = None, lease: Lease | None = None) -> Accepted:
    """Commit the session, the run and the user's input; send what is `ready` afterwards.

    The same key with the same order returns the run that it made the first time, whatever became of it. With a *lease*
    nothing is ready: the process that holds it executes the run.

    Raises:
        SessionOfOtherTeam, IdempotencyConflict: nothing is written.
    """
    with db.write() as tx:
        return enqueue_in(tx, order, idempotency_key=idempotency_key, lease=lease)


def enqueue_in(
    tx: Transaction, order: Order, *, idempotency_key: str | None = None, lease: Lease | None = None
) -> Accepted:
    """Write the session, the run and the user's input in a transaction that somebody else commits; see `enqueue`."""
    run_id = new_id("run")
    session_id = order.session_id or new_id("ses")
    if idempotency_key is not None:
        fingerprint = order.fingerprint()
        earlier = idempotency.take(
            tx, user_id=order.user_id, key=idempotency_key, run_id=run_id, request_hash=fingerprint
        )
        if earlier is not None:
            if earlier.request_hash != fingerprint:
                raise IdempotencyConflict(key=idempotency_key, run_id=earlier.run_id)
            return Accepted(_existing(tx, earlier.run_id), (), repeated=True)
    place = sessions.append_run(tx, user_id=order.user_id, session_id=session_id, team=order.team, run_id=run_id)
    if place.team != order.team:
        raise SessionOfOtherTeam(session_id=session_id, found=place.team, wanted=order.team)
    created_at = runs.add(tx, run_id=run_id, place=place, input=order.input, metadata=order.metadata, lease=lease)
    run = Run(
        id=run_id,
        team=order.team,
        session_id=session_id,
        user_id=order.user_id,
        position=place.position,
        input=order.input,
        metadata=order.metadata,
        created_at=created_at,
    )
    is_head = place.head_run_id == run_id
    dispatch = of_run(run_id, session_id=session_id, team=order.team, attempt=0, sent_at=created_at)
    return Accepted(run, (dispatch,) if is_head and lease is None else ())


class KnownTeams:
    """Which teams some worker has announced. A team that is known stays so: it is asked for once a process."""

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


def _existing(tx: Transaction, run_id: str) -> Run:
    run = runs.get(tx, run_id, principal=SERVICE)
    if run is None:
        raise RunNotFound(run_id=run_id)
    return run
