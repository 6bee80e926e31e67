"""Open the database for a command. What is wrong with its address, or with it, is said in the words of `doctor`."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from worker.errors import DatabaseUnusable, SchemaOutdated
from worker.store import Database, database_probe, migrate


@contextmanager
def opened(url: str, *, migrated: bool = True) -> Iterator[Database]:
    """Yield the database at *url*, once it has answered and, with *migrated*, its schema is seen to fit.

    Raises:
        DatabaseUnusable: it cannot be used now, or failed in the block.
        SchemaOutdated: this version of the code cannot use it.
    """
    try:
        database = Database(url)
        with database.read():
            pass
    except database_probe.FAILURES as error:
        raise unusable(error) from error
    with closing(database):
        try:
            if migrated and (misfit := migrate.misfit(database)):
                raise SchemaOutdated(misfit=misfit)
            yield database
        except database_probe.REFUSALS as error:
            raise unusable(error) from error


def unusable(error: BaseException) -> DatabaseUnusable:
    """Return the error that says which problem *error*, one of `database_probe.FAILURES`, means."""
    problem = database_probe.problem(error)
    return DatabaseUnusable(problem=problem.sentence, advice=problem.advice, name=problem.code)
