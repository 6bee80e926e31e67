"""Migrations of databases that are in use."""

from typing import Any

from sqlalchemy import insert, text

from worker.domain.principal import Principal
from worker.store import api_keys, migrate, run_pages, tables
from worker.store.columns import db_time
from worker.store.engine import Database
from worker.store.run_pages import RunFilters


def test_runs_and_keys_of_before_are_found_after(db: Database) -> None:
    """Lists hold the runs that were accepted before there were lists, and keys without scopes go on."""
    _go_back(db, to="0002")
    zeros = ("attempt", "fence", "losses", "retries", "model_calls", "input_tokens", "cached_input_tokens")
    rest: dict[str, Any] = dict.fromkeys((*zeros, "output_tokens"), 0) | {"excluded": False, "metadata": {}}
    with db.write() as tx:
        for n, (user, team) in enumerate([("ada", "t"), ("ada", "u"), ("", "t")], 1):
            session = {"pk": n, "user_id": user, "session_id": f"s{n}", "team_id": team, "run_count": 1, "last_seq": 0}
            jsons = {"tags": [], "metadata": {}, "state": {}, "created_at": db_time(), "updated_at": db_time()}
            tx.execute(insert(tables.sessions).values(session | jsons))
            run = {"id": f"run_{n}", "session_pk": n, "position": 1, "status": "queued", "input": "x"}
            tx.execute(insert(tables.runs).values(run | rest | {"created_at": db_time()}))
        key = {"id": "0" * 16, "secret_hash": "", "name": "old", "teams": [], "created_at": db_time()}
        tx.execute(insert(tables.api_keys).values(key))

    migrate.upgrade(db)

    with db.read() as tx:
        asked = [
            RunFilters(),
            RunFilters(user_id="ada"),
            RunFilters(user_id=""),
            RunFilters(team="t"),
            RunFilters(user_id="ada", team="u"),
        ]
        pages = [run_pages.page(tx, wanted, principal=Principal("k"), before=None, limit=9) for wanted in asked]
        scopes = [key.scopes for key in api_keys.every(tx)]
    found = [[run.id.removeprefix("run_") for run in page] for page in pages]
    assert found == [["3", "2", "1"], ["2", "1"], ["3"], ["3", "1"], ["2"]]
    assert scopes == [[]]


def _go_back(db: Database, *, to: str) -> None:
    """Leave the database as an earlier version made it, empty."""
    with db.write() as tx:
        if not db.is_sqlite:
            tx.execute(text(f"DROP SCHEMA {tables.SCHEMA} CASCADE"))
        else:
            tx.execute(text("DROP TABLE schema_version"))
            for table in reversed(tables.metadata.sorted_tables):
                table.drop(tx)
    migrate.upgrade(db, to=to)
