"""The database of a script's sessions: `SqliteDb`, `PostgresDb`, `InMemoryDb`, or the memory of the process.

Workers ignore the `db` of a team and use the database of the settings.
"""

import atexit
import os
import threading
import weakref
from functools import cache

from worker import agno_names
from worker import settings as configuration
from worker.addresses.database import sqlite_url
from worker.errors import ArgumentInvalid, SchemaOutdated
from worker.process import runtime
from worker.process.runtime import Runtime
from worker.queue.app import make_app
from worker.queue.dispatch import Dispatcher
from worker.store import Database, migrate

_all: "weakref.WeakSet[Db]" = weakref.WeakSet()
_of_parents: list[Runtime] = []


def _forget_all() -> None:
    for db in list(_all):
        db.forget()


os.register_at_fork(after_in_child=_forget_all)


class Db:
    """A database by its address. It is opened, and its schema upgraded, at its first use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = threading.Lock()
        self._runtime: Runtime | None = None
        _all.add(self)

    @property
    def runtime(self) -> Runtime:
        """The runtime that executes runs on this database in this process; closed when the process ends.

        Raises:
            SettingsInvalid, DatabaseUnavailable, SchemaOutdated
        """
        with self._lock:
            if self._runtime is None:
                settings = configuration.load()
                database = Database(self._url)
                migrate.upgrade(database, removing=False)  # processes of an older version may use it at the same time
                if misfit := migrate.misfit(database):
                    database.close()
                    raise SchemaOutdated(misfit=misfit)
                dispatcher = Dispatcher(make_app(settings)) if settings.redis_url else None
                self._runtime = runtime.start_in_process(settings, database, dispatcher)
                atexit.register(self._runtime.close)
            return self._runtime

    def forget(self) -> None:
        """In a child of a fork: leave the parent's connections to the parent. The next use opens the database again."""
        self._lock = threading.Lock()  # a thread that is not here can hold the other one
        if (parents := self._runtime) is not None:
            atexit.unregister(parents.close)
            parents.db.leave_to_parent()
            _of_parents.append(parents)  # never freed, which would end its connections
            self._runtime = None

    def close(self) -> None:
        """Close the database. The next use opens it again."""
        with self._lock:
            if self._runtime is not None:
                atexit.unregister(self._runtime.close)
                self._runtime.close()
                self._runtime = None


class SqliteDb(Db):
    """Sessions in an SQLite file: `SqliteDb(db_file="sessions.db")`. The file is created if it is missing.

    `~` is the home directory, and ":memory:" the memory of this object. *db_url* is an address in place of a file.
    Other options that Agno has change nothing: the tables have their own names.
    """

    def __init__(
        self, db_file: str | os.PathLike[str] | None = None, *, db_url: str | None = None, **others: object
    ) -> None:
        agno_names.check("db", others, known=("db_file", "db_url"))
        if (db_file is None) == (db_url is None):
            raise ArgumentInvalid(problem="SqliteDb takes a db_file or a db_url, such as db_file='sessions.db'")
        if db_file is not None:
            file = os.path.expanduser(os.fspath(db_file))
            if os.path.isdir(file):
                raise ArgumentInvalid(problem=f"the db_file {file!r} is a directory; name a file in it")
            db_url = sqlite_url(file)
        assert db_url is not None
        super().__init__(db_url)


class PostgresDb(Db):
    """Sessions in a Postgres database: `PostgresDb(db_url="postgresql://user:password@host/name")`.

    Other options that Agno has change nothing: the tables have their own names and schema.
    """

    def __init__(self, db_url: str, **others: object) -> None:
        agno_names.check("db", others, known=("db_url",))
        super().__init__(db_url)


class InMemoryDb(Db):
    """Sessions in the memory of this object, for tests and examples: they end with the process."""

    def __init__(self) -> None:
        super().__init__("sqlite://")


IN_MEMORY = Db("sqlite://")  # for teams without a db: sessions live as long as this process


@cache
def service_db() -> Db:
    """Return the database of the settings, which the workers use."""
    return Db(configuration.load().database)
