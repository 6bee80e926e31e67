"""Postgres through a pooler that hands a connection on after each transaction."""

from sqlalchemy import text

from tests.support.postgres import PostgresServer
from worker.store import Database


def test_behind_a_pooler_nothing_is_left_in_a_connection(postgres: PostgresServer) -> None:
    """No prepared statement, which the next client would see, and no option, which a pooler refuses."""
    url = postgres.new_database()
    found = {}
    for kind, query in {"alone": "", "pooled": "&pooler=transaction"}.items():
        db = Database(url + query)
        for _ in range(10):
            with db.write() as tx:
                tx.execute(text("SELECT count(*) FROM team_sessions.runs WHERE id = :id"), {"id": "run_0"})
        with db.read() as tx:
            prepared = tx.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one()
            found[kind] = (prepared > 0, tx.execute(text("SHOW lock_timeout")).scalar_one())
        db.close()
    postgres.drop(url)

    assert found == {"alone": (True, "5s"), "pooled": (False, "0")}
