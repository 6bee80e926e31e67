"""The database: whether it answers, fits this version, has connections left and the right time, and can be written."""

from collections.abc import Iterator

from worker.cli.checks.finding import CLIENT, Finding, Installation, failed, has, ok, warning
from worker.store import Database, database_probe, migrate
from worker.store.database_probe import NO_CONNECTIONS, Server

NAMES = ("TEAM_SESSIONS_DATABASE_URL", "DATABASE_URL")
FEW_CONNECTIONS = 20  # what one worker may open
SKEW_S, WRONG_S = 2.0, 60.0
CLOCK_ADVICE = (
    "Let both use a time server; timedatectl shows whether they do. Leases are not affected: they use the clock of the "
    "database. Times that callers send, ids and logs are."
)


def answers(installation: Installation) -> Iterator[Finding]:
    """Check whether it answers, and what it is."""
    if mistaken := installation.mistaken(*NAMES):
        yield mistaken
        return
    if installation.is_client:
        yield CLIENT
        return
    try:
        if missing := _missing_file(installation):
            yield missing
            return
        with installation.open_database() as db:
            if unsuitable := database_probe.unsuitable(db):
                yield has(unsuitable)
                return
            server = database_probe.server(db)
            yield from list(_problems(db, server)) or [ok(_description(server))]
    except database_probe.FAILURES as error:
        yield has(database_probe.problem(error))


def writes(installation: Installation) -> Iterator[Finding]:
    """Check whether a row can be written and committed."""
    try:
        with installation.open_database() as db:
            database_probe.write_something(db)
            yield ok("A row was written, and removed again.")
    except database_probe.FAILURES as error:
        yield has(database_probe.problem(error))


def _missing_file(installation: Installation) -> Finding | None:
    """Return what to do if there is no SQLite file. Opening it would create it."""
    file = database_probe.file_of(installation.settings.database)
    if file is not None and not file.exists():
        where = "in the data directory" if installation.settings.database_url is None else "at its address"
        advice = "Start 'team-sessions up', or run 'team-sessions db upgrade'; or correct TEAM_SESSIONS_DATABASE_URL."
        return failed("database_missing", f"There is no SQLite file {where}.", advice)
    return None


def _problems(db: Database, server: Server) -> Iterator[Finding]:
    if misfit := migrate.misfit(db):
        problem, _, advice = misfit.partition(". ")
        yield failed("database_schema", f"Its schema does not fit this version: {problem}.", advice)
        if not database_probe.may_migrate(db):
            yield has(database_probe.MAY_NOT_MIGRATE)
    elif forbidden := database_probe.forbidden(db):
        yield has(forbidden)
    if lacking := database_probe.role_settings(db):
        detail = "The role of its pooled connections has settings that Team Sessions cannot set itself."
        advice = "".join(f"ALTER ROLE … SET {setting}; " for setting in lacking)
        yield warning("database_role_settings", detail, advice.strip())
    left = server.connections_left
    if left is not None and left < FEW_CONNECTIONS:
        detail = f"{max(0, left)} of its connections are left; one worker may open {FEW_CONNECTIONS}."
        yield warning("database_few_connections", detail, NO_CONNECTIONS.advice)
    if abs(server.ahead_s) >= SKEW_S:
        direction = "ahead of" if server.ahead_s > 0 else "behind"
        detail = f"Its clock is {abs(server.ahead_s):,.0f} s {direction} the clock of this machine."
        yield (failed if abs(server.ahead_s) >= WRONG_S else warning)("clock_skew", detail, CLOCK_ADVICE)


def _description(server: Server) -> str:
    if server.connections_left is None:
        return f"{server.name} {server.version}, migrated."
    return f"{server.name} {server.version}, migrated, {server.connections_left} connections left, its clock is right."
