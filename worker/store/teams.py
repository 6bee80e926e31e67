"""Rows of the teams that workers serve, one per worker and team."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, delete, exists, func, select

from worker.domain import CONTRACT, Retention
from worker.domain.retention import from_json, to_json
from worker.store.columns import db_time, upsert
from worker.store.engine import Transaction
from worker.store.tables import teams

SILENT_S = 15.0  # a worker that was not seen for this long counts as gone


@dataclass(frozen=True, slots=True)
class Served:
    """A team as live workers serve it. More than one version: a deploy is under way, or an old worker still runs."""

    id: str
    versions: list[str]
    workers: int
    queues: list[str]


def announce(
    tx: Transaction,
    *,
    worker: str,
    versions: Mapping[str, str],
    queues: Sequence[str],
    retention: Mapping[str, Retention] = MappingProxyType({}),
) -> None:
    """Record that *worker* lives, which teams (id → version) and queues it serves, and the retention of the teams."""
    rows = [
        {"team_id": team, "worker": worker, "version": version, "queues": list(queues)}
        | {"retention": to_json(retention.get(team, Retention())), "contract": CONTRACT}
        for team, version in sorted(versions.items())
    ]
    statement = upsert(tx.dialect.name, teams).values(seen_at=db_time())
    updated = ("version", "queues", "retention", "contract")
    new = {**{name: statement.excluded[name] for name in updated}, "seen_at": db_time()}
    tx.execute(statement.on_conflict_do_update(index_elements=[teams.c.team_id, teams.c.worker], set_=new), rows)


def forget_silent(tx: Transaction, *, after_s: float) -> None:
    """Delete the rows of workers that were not seen for *after_s* seconds, except the newest row of each team.

    That row keeps the team known: a run for it is accepted, and waits.
    """
    newer = teams.alias("newer")
    same = and_(newer.c.team_id == teams.c.team_id, newer.c.seen_at > teams.c.seen_at)
    silent = teams.c.seen_at < db_time(-after_s)
    tx.execute(delete(teams).where(silent, exists(select(newer.c.worker).where(same))))


def leave(tx: Transaction, *, worker: str) -> None:
    """Record that *worker* has stopped: from now on it consumes no queue, so it is not live. `seen_at` stays true."""
    tx.execute(teams.update().where(teams.c.worker == worker).values(seen_at=db_time(), queues=[]))


def is_known(tx: Transaction, team: str) -> bool:
    """Tell whether any worker has ever announced *team*."""
    return tx.execute(select(teams.c.worker).where(teams.c.team_id == team).limit(1)).one_or_none() is not None


def is_live() -> ColumnElement[bool]:
    """Return the condition that limits `teams` to rows of live workers: seen in the last SILENT_S seconds, not left."""
    return and_(teams.c.seen_at > db_time(-SILENT_S), not_left())


def not_left() -> ColumnElement[bool]:
    """Return the condition that excludes the rows of workers that have signed off: see `leave`."""
    return teams.c.queues.cast(Text) != "[]"


def is_served(tx: Transaction, team: str, *, queue: str) -> bool:
    """Tell whether a live worker that consumes *queue* serves *team*."""
    rows = tx.execute(select(teams.c.queues).where(teams.c.team_id == team, is_live()))
    return any(queue in row.queues for row in rows)


def contract(tx: Transaction, team: str) -> int | None:
    """Return the least contract of the live workers of *team*; None: none is live."""
    least: int | None = tx.execute(
        select(func.min(teams.c.contract)).where(teams.c.team_id == team, is_live())
    ).scalar_one()
    return least


def has_live_worker(tx: Transaction, *, host: str) -> bool:
    """Tell whether a live worker runs on *host*."""
    of_host = teams.c.worker.startswith(f"{host[:64]}:", autoescape=True)
    return tx.execute(select(teams.c.worker).where(of_host, is_live()).limit(1)).one_or_none() is not None


def live_workers(tx: Transaction) -> dict[str, int]:
    """Return how many live workers consume each queue."""
    rows = tx.execute(select(teams.c.worker, teams.c.queues).where(is_live()))
    return dict(Counter(queue for queues in {row.worker: row.queues for row in rows}.values() for queue in queues))


def live(tx: Transaction) -> list[Served]:
    """Return the teams that live workers serve, by id."""
    columns = (teams.c.team_id, teams.c.version, teams.c.queues)
    by_team: dict[str, list[Any]] = {}
    for row in tx.execute(select(*columns).where(is_live()).order_by(teams.c.team_id)):
        by_team.setdefault(row.team_id, []).append(row)
    return [
        Served(
            team,
            versions=sorted({row.version for row in rows}),
            workers=len(rows),
            queues=sorted({queue for row in rows for queue in row.queues}),
        )
        for team, rows in by_team.items()
    ]


def retentions(tx: Transaction) -> dict[str, list[Retention]]:
    """Return the retentions that the live workers of each team announced; without a live worker the last one.

    The newest row of a team is never deleted, so its retention applies while no worker serves it.
    """
    columns = (teams.c.team_id, teams.c.retention, is_live())
    by_team: dict[str, list[tuple[Retention, bool]]] = {}
    for team, retention, live in tx.execute(select(*columns).order_by(teams.c.seen_at)):
        by_team.setdefault(team, []).append((from_json(retention or {}), live))
    return {team: [kept for kept, live in rows if live] or [rows[-1][0]] for team, rows in by_team.items()}


def stream_s(tx: Transaction, team: str) -> int:
    """Return the longest stream lifetime that a worker announced for *team*; 0: none did."""
    rows = tx.execute(select(teams.c.retention).where(teams.c.team_id == team, teams.c.retention.is_not(None)))
    return max((from_json(retention).stream_seconds or 0 for retention in rows.scalars()), default=0)
