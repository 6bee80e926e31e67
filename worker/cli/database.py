"""Open the database for a command. What is wrong with its address, or with it, is said in the words of `doctor`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from worker.cli import data_directory
from worker.domain import Problem
from worker.errors import DatabaseUnusable, SchemaOutdated
from worker.observe import logs
from worker.settings import Settings
from worker.store import Database, database_probe, migrate

log = logs.get(__name__)


@contextmanager
def opened(settings: Settings, *, migrated: bool = True) -> Iterator[Database]:
    """Yield the database, once it has answered and, with *migrated*, its schema is seen to fit.

    The one in the data directory is opened only if no other user can have written it.

    Raises:
        DatabaseUnusable: it cannot be used now, or failed in the block.
        SchemaOutdated: this version of the code cannot use it.
        DirectoryUntrusted
    """
    try:
        if settings.database_url is None:
            data_directory.check(settings.data_dir)
            if not migrated and settings.data_dir.is_dir():
                data_directory.make_private(settings.data_dir / data_directory.DATABASE)
        database = Database(settings.database)
        with database.read():
            pass  # connects
    except database_probe.FAILURES as error:
        raise unusable(error) from error
    with closing(database):
        try:
            if problem := database_probe.unsuitable(database):
                raise _unusable(problem)
            if migrated:
                _check_tables(database)
            yield database
        except database_probe.REFUSALS as error:
            raise unusable(error, migrating=not migrated) from error


def unusable(error: BaseException, *, migrating: bool = False) -> DatabaseUnusable:
    """Return the error that says which problem *error*, one of `database_probe.FAILURES`, means."""
    return _unusable(database_probe.problem(error, migrating=migrating))


def _unusable(problem: Problem) -> DatabaseUnusable:
    return DatabaseUnusable(problem=problem.sentence, advice=problem.advice, name=problem.code, lasting=problem.lasting)


def _check_tables(database: Database) -> None:
    if misfit := migrate.misfit(database):
        raise SchemaOutdated(misfit=misfit)
    if problem := database_probe.forbidden(database):
        raise _unusable(problem)
    if lacking := database_probe.role_settings(database):
        log.warning("the role of pooled connections needs other settings", missing="; ".join(lacking))
