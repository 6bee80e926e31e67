"""Everything of one user: written out, and erased so that no row, stream or summary of it is left."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from worker.clock import rfc3339
from worker.domain.principal import Principal
from worker.events.erase import Eraser
from worker.settings import Settings
from worker.store import batch_items, sessions, users
from worker.store.engine import Database
from worker.store.tables import messages, runs, summaries
from worker.store.users import Erased

PAGE = 200
# What a row has for our own use: nothing of it is the user's.
_OURS = {"session_pk", "fence", "lease_owner", "lease_until", "losses", "retries", "dispatched_at", "claimed_seq"}

_EXPORTED_AS = {"covers_through_seq": "summary_seq"}  # keys of an export that do not have the name of their field
_KINDS = (("run", runs, "position"), ("message", messages, "seq"), ("summary", summaries, "version"))


def export(db: Database, user_id: str, *, principal: Principal) -> Iterator[dict[str, Any]]:
    """Yield all that there is of a user: each session, then its runs, messages and summaries; then what batches hold.

    Objects for JSON, with their `type`: 'session', 'run', 'message', 'summary' or 'batch_item'. Read page by page: what
    is written meanwhile may be in it or not.

    Raises:
        UserForbidden: at the first step.
    """
    for pk in _session_pks(db, user_id, principal=principal):
        with db.read() as tx:
            row = sessions.get(tx, pk)
        if row is None:
            continue
        yield _line("session", {_EXPORTED_AS.get(name, name): getattr(row, name) for name in row.__dataclass_fields__})
        about = {"session_id": row.session_id}
        for kind, table, place in _KINDS:
            after = 0
            while True:
                with db.read() as tx:
                    found = users.rows(tx, table, pk, after=after, limit=PAGE)
                yield from (_line(kind, about | one) for one in found)
                if len(found) < PAGE:
                    break
                after = found[-1][place]
    if not principal.teams:  # an item has no team before it is a run
        yield from _of_batches(db, user_id)


def _of_batches(db: Database, user_id: str) -> Iterator[dict[str, Any]]:
    last: tuple[str, int] = ("", 0)
    while True:
        with db.read() as tx:
            found = batch_items.of_user(tx, user_id, after=last, limit=PAGE)
        yield from (_line("batch_item", one) for one in found)
        if len(found) < PAGE:
            return
        last = (found[-1]["batch_id"], found[-1]["number"])


def erase(db: Database, eraser: Eraser, settings: Settings, user_id: str, *, principal: Principal) -> dict[str, int]:
    """Erase all that there is of a user, and say how many rows of what. A run of theirs ends at its next write.

    One transaction a session: where it is broken off, what is erased stays erased, and asking again goes on.

    Raises:
        UserForbidden
    """
    total = Erased()
    for pk in _session_pks(db, user_id, principal=principal):
        with db.write() as tx:
            erased = users.erase(tx, pk, streams_s=settings.stream_seconds)
        eraser.erase(erased.streaming)
        total += erased
    keys = 0
    if not principal.teams:
        with db.write() as tx:
            keys = users.erase_rest(tx, user_id)
    counts = {"sessions": total.sessions, "runs": total.runs, "messages": total.messages, "summaries": total.summaries}
    return {**counts, "streams": len(total.streaming), "api_keys": keys}


def _session_pks(db: Database, user_id: str, *, principal: Principal) -> Iterator[int]:
    after = 0
    while True:
        with db.read() as tx:
            found = users.session_pks(tx, principal=principal, user_id=user_id, after=after, limit=PAGE)
        yield from found
        if len(found) < PAGE:
            return
        after = found[-1]


def _line(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if name not in _OURS}
    return {"type": kind} | {n: rfc3339(v) if isinstance(v, datetime) else v for n, v in kept.items()}
