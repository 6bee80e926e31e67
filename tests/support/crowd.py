"""Many sessions and runs at once, written as rows: for tests of lists and of their plans."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, text

from worker.store import Database
from worker.store.tables import idempotency, runs, sessions

STATUSES = (*["completed"] * 27, "failed", "cancelled", "queued", "running")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Crowd:
    """What was written, oldest first: rows of sessions and of runs. Each run was accepted under a key."""

    sessions: list[dict[str, Any]]
    runs: list[dict[str, Any]]

    def session(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return the session of a run."""
        index: int = run["session_pk"] - 1
        return self.sessions[index]

    def key(self, run: dict[str, Any]) -> str:
        """Return the idempotency key of a run, such as 's1/3': other users have runs under the same one."""
        return f"{self.session(run)['session_id']}/{run['position']}"


def crowd(db: Database, *, users: int = 12, each: int = 4, runs_each: int = 10) -> Crowd:
    """Write *users* × *each* sessions of *runs_each* runs, the runs of all sessions in turns.

    All users have sessions of the same ids, s0, s1, …; one session in 48 is of team t1, the others of t0.
    """
    zeros = ("attempt", "fence", "losses", "retries", "model_calls", "input_tokens", "cached_input_tokens")
    rest = dict.fromkeys((*zeros, "output_tokens"), 0) | {"excluded": False, "metadata": {}, "input": "hello"}
    made: list[dict[str, Any]] = []
    for n in range(users * each):
        times = {"created_at": BEGIN, "updated_at": BEGIN + timedelta(seconds=n * 7 % 31)}  # some are the same
        ids = {
            "pk": n + 1,
            "user_id": f"u{n % users}",
            "session_id": f"s{n // users}",
            "team_id": f"t{int(n % 48 == 15)}",
        }
        names = {"name": f"n{n % 3}", "tags": [f"tag {n % 5}", "ä\"'%"]}
        made.append(
            ids
            | names
            | {"description": None, "metadata": {}}
            | times
            | {"state": {}, "run_count": runs_each, "last_seq": 0}
        )
    queued: list[dict[str, Any]] = []
    for position in range(1, runs_each + 1):
        for session in made:
            ids = {"id": f"run_{len(queued):032x}", "session_pk": session["pk"], "position": position}
            owner = {name: session[name] for name in ("user_id", "team_id")}
            status = STATUSES[len(queued) % len(STATUSES)]
            queued.append(ids | owner | rest | {"status": status, "created_at": BEGIN})
    rows = Crowd(made, queued)
    keys = [
        {"user_id": run["user_id"], "key": rows.key(run), "run_id": run["id"], "request_hash": "", "created_at": BEGIN}
        for run in queued
    ]
    with db.write() as tx:
        for table, written in ((sessions, made), (runs, queued), (idempotency, keys)):
            tx.execute(insert(table), written)
        tx.execute(text("ANALYZE"))
    return rows
