"""What the library of Postgres reads in the environment does not change which database is used, or how."""

import os

import pytest
from psycopg.pq import Conninfo
from sqlalchemy import make_url, text

from tests.support.postgres import PostgresServer
from worker.environment import drop_switches
from worker.store import Database, libpq

ODD = {
    "PGPORT": "hunter2",
    "PGCONNECT_TIMEOUT": "-1",
    "PGOPTIONS": "-c nonsense=1",
    "PGHOSTADDR": "10.0.0.5",
    "PGREQUIRESSL": "1",
    # These have no parameter: a command starts without them.
    "PGTZ": "Foo/Bar",
    "PGDATESTYLE": "odd",
    "PGGEQO": "odd",
    "PGSERVICE": "shop",
}


@pytest.mark.parametrize("pooler", ["", "&pooler=transaction"])
def test_nothing_that_the_url_leaves_open_is_taken_from_the_environment(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, pooler: str
) -> None:
    """Neither a host nor a password, an option or a time zone. The variables are named once, without their values."""
    url = postgres.new_database(empty=True)
    names = [option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar]
    monkeypatch.setattr(libpq, "_named", set())
    with monkeypatch.context() as foreign:
        for name, value in (dict.fromkeys(names, "hunter2") | ODD).items():
            foreign.setenv(name, value)
        drop_switches(os.environ)
        db = Database(url + pooler)
        with db.read() as tx:
            used = tx.execute(text("SELECT current_user, current_database(), current_setting('client_encoding')")).one()
        with db.write(), db.read():  # one more connection
            pass
        db.close()
    postgres.drop(url)

    assert tuple(used) == ("postgres", make_url(url).database, "UTF8")
    assert [record.message for record in caplog.records].count(
        "variables of libpq are ignored: name their values in the database's URL"
    ) == 1
    ignored = caplog.records[-1].names.split(", ")
    assert {"PGPASSWORD", "PGSSLMODE"} < set(ignored)
    assert not {"PGUSER", "PGHOST", "PGDATABASE"} & set(ignored)  # the URL has these
    assert "hunter2" not in str(vars(caplog.records[-1]))
