"""Sessions that already hold many finished runs, without executing them: copies of one that was really executed.
Or many runs that wait: copies of one that was really accepted.

A copy differs from the original in its ids, its position and seqs, and its texts, which are new and equally long. Every
other column is copied unchanged; `differences` compares copies with real runs.
"""

import random
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from worker.domain import new_id
from worker.store import Database
from worker.store.columns import db_now
from worker.store.tables import messages, metadata, runs, sessions

BATCH = 500
_WORDS = [word for word in (__doc__ or "").split() if word.isalpha()]
_random = random.Random(8)  # the same texts in every bench
_SHIFTED = {"seq", "first_seq", "last_seq", "claimed_seq"}


def text(length: int = 2_000) -> str:
    """Return words in a random order; Postgres compresses them about as it does a real text."""
    return " ".join(_random.choices(_WORDS, k=length))[:length]


def fill(db: Database, *, like: str, session_id: str, count: int) -> int:
    """Make a session that holds *count* copies of the run *like*, the only one of its session; return its pk."""
    with db.write() as tx:
        original, original_messages, new = _original(tx, like)
        new |= {"session_id": session_id, "run_count": count, "last_seq": count * len(original_messages)}
        pk: int = tx.execute(insert(sessions).values(new).returning(sessions.c.pk)).scalar_one()
    for first in range(1, count + 1, BATCH):
        copies, copied = [], []
        for position in range(first, min(first + BATCH, count + 1)):
            run, its_messages = _copies(original, original_messages, pk=pk, position=position)
            copies.append(run)
            copied += its_messages
        with db.write() as tx:
            tx.execute(insert(runs), copies)
            tx.execute(insert(messages), copied)
    return pk


def fill_sessions(db: Database, *, like: str, prefix: str, count: int) -> dict[int, str]:
    """Make *count* sessions that hold one copy of the run *like* each; return pk → session id."""
    made: dict[int, str] = {}
    with db.read() as tx:
        original, original_messages, new = _original(tx, like)
    for first in range(0, count, BATCH):
        names = [f"{prefix}-{n}" for n in range(first, min(first + BATCH, count))]
        with db.write() as tx:
            statement = insert(sessions).returning(sessions.c.pk, sort_by_parameter_order=True)
            pks = list(tx.execute(statement, [{**new, "session_id": name} for name in names]).scalars())
            pairs = [_copies(original, original_messages, pk=pk, position=1) for pk in pks]
            tx.execute(insert(runs), [run for run, _ in pairs])
            tx.execute(insert(messages), [message for _, copied_messages in pairs for message in copied_messages])
        made |= dict(zip(pks, names, strict=True))
    return made


def fill_waiting(db: Database, *, like: str, prefix: str, count: int) -> list[tuple[str, datetime]]:
    """Make *count* sessions whose only run waits, as the run *like* does; return id and dispatch time of each.

    They were dispatched a millisecond apart, the first one first, up to now.
    """
    with db.read() as tx:
        original, _, session = _original(tx, like)
        last = db_now(tx)
    made = [(new_id("run"), last - timedelta(milliseconds=count - n)) for n in range(count)]
    for first in range(0, count, BATCH):
        ids = made[first : first + BATCH]
        names = [f"{prefix}-{first + n}" for n in range(len(ids))]
        rows = [{**session, "session_id": s, "head_run_id": r} for s, (r, _) in zip(names, ids, strict=True)]
        with db.write() as tx:
            statement = insert(sessions).returning(sessions.c.pk, sort_by_parameter_order=True)
            pks = tx.execute(statement, rows).scalars().all()
            waiting = [
                {**original, "id": r, "session_pk": pk, "dispatched_at": at}
                for (r, at), pk in zip(ids, pks, strict=True)
            ]
            tx.execute(insert(runs), waiting)
    return made


def fill_behind(db: Database, *, like: str, count: int) -> list[str]:
    """Add *count* runs that wait after the head *like* in its session; return their ids in order."""
    with db.write() as tx:
        original, _, _ = _original(tx, like)
        in_session = sessions.c.pk == original["session_pk"]
        tx.execute(update(sessions).where(in_session).values(run_count=original["position"] + count))
    waiting = {**original, "dispatched_at": None}
    made = [new_id("run") for _ in range(count)]
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        with db.write() as tx:
            tx.execute(
                insert(runs), [{**waiting, "id": made[n], "position": original["position"] + 1 + n} for n in numbers]
            )
    return made


def trim(db: Database, *, pk: int, keep: int) -> None:
    """Remove the oldest runs of a session but the newest *keep*, each with its messages."""
    with db.write() as tx:
        newest = select(runs.c.position).where(runs.c.session_pk == pk).order_by(runs.c.position.desc()).limit(1)
        old = (runs.c.session_pk == pk) & (runs.c.position <= tx.execute(newest).scalar_one() - keep)
        for run_id in tx.execute(delete(runs).where(old).returning(runs.c.id, runs.c.last_seq)).all():
            tx.execute(delete(messages).where(messages.c.session_pk == pk, messages.c.seq <= run_id.last_seq))


def differences(db: Database, *, pk: int, real: str) -> list[str]:
    """Compare the newest copied run of a session with *real*, executed right after it; return what differs in shape.

    Shape: the type of each column's value, the length of a text, the keys of an object. And nothing else of a run may
    stand in any other table.
    """
    with db.read() as tx:
        executed = _rows(tx, runs, runs.c.id == real)[0]
        copied = _rows(tx, runs, (runs.c.session_pk == pk) & (runs.c.position == executed["position"] - 1))[0]
        pairs = [("runs", copied, executed)]
        both = [_rows(tx, messages, messages.c.run_id == row["id"]) for row in (copied, executed)]
        pairs += [("messages", a, b) for a, b in zip(*both, strict=True)]
        problems = [
            f"{name}.{column}: {_shape(a[column])}, really {_shape(b[column])}"
            for name, a, b in pairs
            for column in a
            if _shape(a[column]) != _shape(b[column])
        ]
        if executed["first_seq"] != copied["last_seq"] + 1:
            problems.append(f"runs.first_seq: really {executed['first_seq']} after {copied['last_seq']}")
        for table in metadata.sorted_tables:
            if "run_id" in table.c and table is not messages and _rows(tx, table, table.c.run_id == real):
                problems.append(f"{table.name}: a real run leaves a row here")
    return problems


def _rows(tx: Connection, table: Table, condition: Any) -> list[dict[str, Any]]:
    order = messages.c.seq if table is messages else table.primary_key.columns.values()[0]
    found = tx.execute(select(table).where(condition).order_by(order))
    return [dict(zip(table.c.keys(), row, strict=True)) for row in found]  # a column's key can differ from its name


def _original(tx: Connection, like: str) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """Return the rows of the run, of its messages, and of its session without a key."""
    original = _rows(tx, runs, runs.c.id == like)[0]
    new = _rows(tx, sessions, sessions.c.pk == original["session_pk"])[0]
    del new["pk"]
    return original, _rows(tx, messages, messages.c.run_id == like), new


def _copies(
    original: dict[str, Any], original_messages: list[dict[str, Any]], *, pk: int, position: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    swap = {original["id"]: new_id("run"), original["session_pk"]: pk}
    swap |= {message["content"]: text(len(message["content"])) for message in original_messages}
    shift = (position - 1) * len(original_messages)
    run = {**_copied(original, swap, shift), "position": position}
    return run, [_copied(message, swap, shift) for message in original_messages]


def _copied(row: dict[str, Any], swap: dict[Any, Any], shift: int) -> dict[str, Any]:
    return {
        column: value + shift if column in _SHIFTED else swap.get(value, value) if column in _SWAPPED else value
        for column, value in row.items()
    }


_SWAPPED = {"id", "run_id", "session_pk", "input", "output", "content"}


def _shape(value: Any) -> str:
    if isinstance(value, str):
        return f"text of {len(value)}"
    return f"object of {sorted(value)}" if isinstance(value, dict) else type(value).__name__
