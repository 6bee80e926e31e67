"""Everything of one user: exported, or erased so that no row, stream or summary of the user is left."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Annotated, Any

from worker.clock import rfc3339
from worker.domain import Principal
from worker.domain.fields import field
from worker.events.erase import Eraser
from worker.settings import Settings
from worker.store import Database, batch_items, erasure, sessions, users
from worker.store.tables import api_keys, batches, idempotency, messages, pending_calls, runs, summaries

PAGE = 200
KEYS = 1_000  # of requests, erased in one transaction
# Columns for the product's own use, which hold nothing of the user; hashes, of secrets and of requests, are among them.
_INTERNAL = {"session_pk", "fence", "lease_owner", "lease_until", "losses", "retries", "dispatched_at", "claimed_seq"}
_INTERNAL |= {"needs"}
_INTERNAL |= {"secret_hash", "request_hash", "request_key", "planned_key", "minute", "minute_at", "pace", "paced_at"}
_EXPORTED_AS = {"covers_through_seq": "summary_seq"}  # field of a session: its key in an export
_OUTSIDE = {"idempotency_key": idempotency.c.key, "batch": batches.c.id, "api_key": api_keys.c.id}
_KINDS = {  # in which order, and what is before the first
    "run": (runs.c.position, 0),
    "message": (messages.c.seq, 0),
    "pending_call": (pending_calls.c.idempotency_key, ""),
    "summary": (summaries.c.version, 0),
}


@dataclass(frozen=True, slots=True)
class Erased:
    """How much was erased."""

    sessions: Annotated[int, field("Sessions.", 3)]
    runs: Annotated[int, field("Runs.", 12)]
    messages: Annotated[int, field("Messages.", 40)]
    summaries: Annotated[int, field("Versions of summaries.", 2)]
    streams: Annotated[int, field("Streams of runs; an upper bound.", 1)]
    api_keys: Annotated[int, field("API keys that were bound to the user.", 1)]


def export(db: Database, user_id: str, *, principal: Principal) -> Iterator[dict[str, Any]]:
    """Yield everything of a user: each session, then what is in it; at the end what is in none.

    Objects for JSON, with their `type`: 'session', 'run', 'message', 'pending_call', 'summary', 'batch_item',
    'idempotency_key', 'batch' or 'api_key', without secrets. Read page by page: what is written in between may be
    included or not.

    Raises:
        UserForbidden: at the first step.
    """
    for pk in _session_pks(db, user_id, principal=principal):
        with db.read() as tx:
            session = sessions.get(tx, pk)
        if session is None:
            continue
        names = (column.name for column in fields(session))
        yield _line("session", {_EXPORTED_AS.get(name, name): getattr(session, name) for name in names})
        for kind, (order, before) in _KINDS.items():
            read = partial(users.rows, order=order, pk=pk)
            for rows in db.pages(read, key=itemgetter(order.name), after=before, limit=PAGE):
                yield from (_line(kind, {"session_id": session.session_id, **row}) for row in rows)
    if not principal.teams:  # an item has no team until it has a run
        read, position = partial(batch_items.with_requests, user_id=user_id), itemgetter("batch_id", "number")
        for rows in db.pages(read, key=position, after=("", 0), limit=PAGE):
            yield from (_line("batch_item", row) for row in rows)
        for kind, order in _OUTSIDE.items():
            own = partial(users.own_rows, order=order, user_id=user_id)
            for rows in db.pages(own, key=itemgetter(order.name), after="", limit=PAGE):
                yield from (_line(kind, row) for row in rows)


def erase(db: Database, eraser: Eraser, settings: Settings, user_id: str, *, principal: Principal) -> Erased:
    """Erase everything of a user, and return the number of rows of each kind. Running runs end at their next write.

    First what could bring a session back: keys, and the items of batches. Then one transaction per session. What is
    erased stays erased if this is interrupted; call it again to erase the rest.

    Raises:
        UserForbidden
    """
    principal.acting_for(user_id)  # raises before anything is erased
    total, streams = erasure.Erased(), 0
    keys = _erase_rest(db, user_id, principal=principal)
    for pk in _session_pks(db, user_id, principal=principal):
        with db.write() as tx:
            erased = erasure.erase_session(tx, pk, streams_s=settings.stream_seconds, counted=True)
        eraser.erase(erased.streaming)
        streams += len(erased.streaming)
        total += replace(erased, streaming=())  # of many sessions, even their ids are many
    keys += _erase_rest(db, user_id, principal=principal)  # what was written meanwhile
    return Erased(total.sessions + total.forks, total.runs, total.messages, total.summaries, streams, keys)


def _erase_rest(db: Database, user_id: str, *, principal: Principal) -> int:
    """Erase what is in no session, which has no team: nothing for a key that is bound to teams."""
    if principal.teams:
        return 0
    while True:
        with db.write() as tx:
            more = users.erase_some_keys(tx, user_id, limit=KEYS)
        if not more:
            break
    with db.write() as tx:
        return users.erase_rest(tx, user_id)


def _session_pks(db: Database, user_id: str, *, principal: Principal) -> Iterator[int]:
    read = partial(users.session_pks, principal=principal, user_id=user_id)
    return chain.from_iterable(db.pages(read, key=int, after=0, limit=PAGE))


def _line(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    exported = {name: value for name, value in row.items() if name not in _INTERNAL}
    return {"type": kind} | {n: rfc3339(v) if isinstance(v, datetime) else v for n, v in exported.items()}
