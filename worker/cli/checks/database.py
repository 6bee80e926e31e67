"""The database: whether it answers, fits this version, has connections left, tells the time, and can be written."""

from collections.abc import Iterator
from contextlib import contextmanager

from worker.cli.checks.finding import Finding, Installation, failed, ok, warning
from worker.store import database_probe, migrate
from worker.store.database_probe import Server, Trouble
from worker.store.engine import Database

NAMES = ("TEAM_SESSIONS_DATABASE_URL", "DATABASE_URL")
FEW_CONNECTIONS = 20  # what one worker may open
SKEW_S, WRONG_S = 2.0, 60.0

# What each trouble is called, and what to do about it.
TROUBLES = {
    Trouble.REFUSED: (
        "Nobody listens at its address.",
        "Start the server, or correct host and port of TEAM_SESSIONS_DATABASE_URL.",
    ),
    Trouble.UNKNOWN_HOST: (
        "The host of its address is not known here.",
        "Correct the host of TEAM_SESSIONS_DATABASE_URL, or mend the name resolution of this machine.",
    ),
    Trouble.PASSWORD: (
        "It refuses our user or password.",
        "Correct user and password of TEAM_SESSIONS_DATABASE_URL (special characters as %XX), or its pg_hba.conf.",
    ),
    Trouble.NO_DATABASE: (
        "The server has no such database or user.",
        "Make it (createdb, createuser), or correct TEAM_SESSIONS_DATABASE_URL.",
    ),
    Trouble.NO_CONNECTIONS: (
        "All connections that it allows are taken.",
        "Raise max_connections or the limit of our user, put a pooler before it, or run fewer processes.",
    ),
    Trouble.READ_ONLY: (
        "It takes no writes: it is a replica, or its file or its disk is read-only.",
        "Name the primary in TEAM_SESSIONS_DATABASE_URL, or make the file writable.",
    ),
    Trouble.FORBIDDEN: (
        "Our user may not read or write its tables.",
        "Migrate with the user that the workers have, or grant it everything in the schema team_sessions.",
    ),
    Trouble.TIMEOUT: (
        "It does not answer: it is frozen or overloaded, or something on the way drops packets.",
        "See whether its process runs, and whether this machine reaches it.",
    ),
    Trouble.TLS: (
        "No encrypted connection came about.",
        "Compare sslmode and sslrootcert of TEAM_SESSIONS_DATABASE_URL with what the server offers.",
    ),
    Trouble.NO_SPACE: ("Its disk is full, or fails.", "Make room there. Nothing is accepted until then."),
    Trouble.LOCKED: (
        "Another process holds its lock and does not give it back.",
        "Look for a process that stands still in a write (fuser shows who has the file open), and end it.",
    ),
    Trouble.NO_FILE: (
        "Its file cannot be opened.",
        "Correct the path of TEAM_SESSIONS_DATABASE_URL, or give the file and its directory to our user.",
    ),
    Trouble.DAMAGED: ("Its file is no SQLite database, or is damaged.", "Restore it: runbooks/backup-and-restore.md."),
    Trouble.ADDRESS: (
        "Its address names a driver or an option that there is none of.",
        "Write TEAM_SESSIONS_DATABASE_URL as postgresql://USER:PASSWORD@HOST/NAME or sqlite:///FILE.",
    ),
    Trouble.OTHER: ("It does not answer, for a reason that has no name here.", "See the log of the server."),
}


def answers(installation: Installation) -> Iterator[Finding]:
    """Whether it answers, and what it is."""
    if mistaken := installation.mistaken(*NAMES):
        yield mistaken
        return
    try:
        if missing := _missing_file(installation):
            yield missing
            return
        with _opened(installation) as db:
            server = database_probe.server(db)
            troubles = [*_version(server), *_schema(db), *_connections(server), *_clock(server)]
            yield from troubles or [ok(_described(server))]
    except database_probe.FAILURES as error:
        yield _told(error)


def writes(installation: Installation) -> Iterator[Finding]:
    """Whether a row can be written, and is kept."""
    try:
        with _opened(installation) as db:
            database_probe.write_something(db)
            yield ok("A row was written, and removed again.")
    except database_probe.FAILURES as error:
        yield _told(error)


@contextmanager
def _opened(installation: Installation) -> Iterator[Database]:
    db = Database(installation.settings.database, pool_size=1)
    try:
        yield db
    finally:
        db.close()


def _missing_file(installation: Installation) -> Finding | None:
    """Return what to do where there is no SQLite file: to open it would make it."""
    url = installation.settings.database
    file = database_probe.file_of(url)
    if file is not None and not file.exists():
        where = "in the data directory" if installation.settings.database_url is None else "where its address says"
        advice = "Start 'team-sessions up', or run 'team-sessions db upgrade'; or correct TEAM_SESSIONS_DATABASE_URL."
        return failed("database_missing", f"There is no SQLite file {where}.", advice)
    if file is None and url.startswith("sqlite"):
        detail = "It is an SQLite database in the memory of each process: nothing is kept, and nothing shared."
        return failed("database_in_memory", detail, "Name a file in TEAM_SESSIONS_DATABASE_URL: sqlite:///FILE.")
    return None


def _told(error: BaseException) -> Finding:
    trouble = database_probe.trouble(error)
    return failed(f"database_{trouble}", *TROUBLES[trouble])


def _version(server: Server) -> Iterator[Finding]:
    if server.oldest is not None:
        detail = f"It is {server.name} {server.version}; the oldest that will do is {server.oldest}."
        yield failed("database_too_old", detail, "Upgrade it.")


def _schema(db: Database) -> Iterator[Finding]:
    if misfit := migrate.misfit(db):
        found, _, advice = misfit.partition(". ")
        yield failed("database_schema", f"Its schema does not fit this version: {found}.", advice)


def _connections(server: Server) -> Iterator[Finding]:
    if server.connections_left is not None and server.connections_left < FEW_CONNECTIONS:
        detail = (
            f"{max(0, server.connections_left)} of its connections are left; one worker may open {FEW_CONNECTIONS}."
        )
        yield warning("database_few_connections", detail, *TROUBLES[Trouble.NO_CONNECTIONS][1:])


def _clock(server: Server) -> Iterator[Finding]:
    if abs(server.ahead_s) < SKEW_S:
        return
    how = "ahead of" if server.ahead_s > 0 else "behind"
    detail = f"Its clock is {abs(server.ahead_s):,.0f} s {how} that of this machine."
    advice = (
        "Let both follow a time server; timedatectl shows whether they do. Leases hold, being on its clock; "
        "times that callers name, ids and logs are off by so much."
    )
    finding = failed if abs(server.ahead_s) >= WRONG_S else warning
    yield finding("clock_skew", detail, advice)


def _described(server: Server) -> str:
    left = "" if server.connections_left is None else f", {server.connections_left} connections left"
    time = "" if server.connections_left is None else ", its clock agrees with this machine's"
    return f"{server.name} {server.version}, migrated{left}{time}."
