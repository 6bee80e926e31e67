"""`team-sessions up`: everything on one machine, in one terminal."""

import os
import secrets
import signal
import sys
import urllib.error
from collections.abc import Callable, Collection
from pathlib import Path

import click
import team_sessions

from worker import settings as configuration
from worker.cli import broker, data_directory, database, listening
from worker.cli.direct import open_directly
from worker.cli.numbers import MAX_PORT, PORT, PROCESSES, THREADS
from worker.cli.reload import Reload
from worker.cli.supervise import Child, Supervisor
from worker.domain import Scope
from worker.environment import PREFIX
from worker.process import limits
from worker.queue import embedded, flower_login
from worker.queue.app import BACKGROUND, RUNS
from worker.settings import Settings
from worker.store import Database, api_keys, migrate
from worker.team_module import load_teams

START_S = 60.0


@click.command()
@click.option("--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Directory for its files.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the API and of Flower.")
@click.option("--port", type=PORT, default=8000, show_default=True, help="Port of the API.")
@click.option("--flower-port", type=PORT, default=5555, show_default=True, help="Port of Flower.")
@click.option(
    "--workers",
    type=PROCESSES,
    default=2,
    show_default=True,
    help="Workers for runs. One more runs batches and summaries.",
)
@click.option(
    "--concurrency", type=THREADS, default=100, show_default=True, help="Tasks at the same time in each worker."
)
@click.option(
    "--metrics-port",
    type=PORT,
    help="The first worker answers GET /metrics on this port, the others on the following ports.",
)
@click.option("--reload", is_flag=True, help="Restart the workers when the code of the teams changes.")
def up(
    data_dir: Path | None,
    host: str,
    port: int,
    flower_port: int,
    workers: int,
    concurrency: int,
    metrics_port: int | None,
    reload: bool,
) -> None:
    """Start broker, workers, API and Flower, and keep them running until Ctrl-C or SIGTERM.

    Without TEAM_SESSIONS_DATABASE_URL it uses an SQLite file in its data directory (./.team-sessions). Without
    TEAM_SESSIONS_REDIS_URL it starts its own Valkey, and writes the address to DIR/broker-url. At the first start it
    writes a service key to DIR/api-key and Flower's login to DIR/flower-login. A data directory serves one 'up' at a
    time.
    """
    if port == flower_port:
        raise click.UsageError(f"--port and --flower-port are both {port}. They need one port each.")
    settings, directory = _data_directory(data_dir)
    data_directory.lock(directory)
    limits.fitting(1)  # else its workers would end again and again
    teams = load_teams(settings)
    if reload and settings.teams is None:
        raise click.UsageError("--reload watches the module of your teams. Set TEAM_SESSIONS_TEAMS to it.")
    first_metrics_port = metrics_port or settings.metrics_port
    for number, option in ((port, "--port"), (flower_port, "--flower-port")):
        listening.check(host, number, option=option)
    for number in _metrics_ports(first_metrics_port, workers, others=(port, flower_port)):
        listening.check(settings.metrics_host, number, option="--metrics-port")
    if sys.stderr.isatty():
        os.environ.setdefault(PREFIX + "LOG_STYLE", "readable")
    _prepare_database(settings, directory)
    if settings.redis_url is not None:
        broker.require(settings)
    (directory / "broker-url").unlink(missing_ok=True)
    data_directory.write(directory / "api-url", f"{_url(host, port)}\n")
    data_directory.write(directory / "flower-url", f"{_url(host, flower_port)}\n")

    supervisor = Supervisor()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.stop)
    try:
        if settings.redis_url is None:
            _start_broker(supervisor, directory)
        children = _workers(settings, workers, concurrency, first_metrics_port)
        supervisor.start(*children)
        supervisor.start(*_servers(directory, host=host, port=port, flower_port=flower_port))
        url = _url(_reachable(host), port)
        if supervisor.wait_until(lambda: _is_ready(url), timeout_s=START_S):
            _print_ready(settings, directory, teams, url=url, flower_url=_url(_reachable(host), flower_port))
        elif not supervisor.stopping:
            click.echo(f"Not ready after {START_S:g} s; see the lines above. Still trying.", err=True)
        if reload and settings.teams is not None:
            Reload(settings.teams, children, check=[*_program(), "worker", "--check"]).start()
        supervisor.run()
    finally:
        click.echo("Stopping: API and Flower, then workers, then the broker.")
        supervisor.end_all()


def _data_directory(path: Path | None) -> tuple[Settings, Path]:
    """Make the data directory, and return it with the settings; child processes get its absolute path."""
    if path is not None:
        os.environ[PREFIX + "DATA_DIR"] = str(path)
    settings = configuration.load()
    directory = data_directory.make(settings.data_dir)
    os.environ[PREFIX + "DATA_DIR"] = str(directory)
    return settings, directory


def _prepare_database(settings: Settings, directory: Path) -> None:
    """Upgrade the schema, and make the service key and Flower's login if they are missing."""
    with database.opened(settings, migrated=False) as db:
        migrate.upgrade(db)
        _keep_secret(directory / "api-key", valid=lambda key: _is_key(db, key), make=lambda: _service_key(db))
    _keep_secret(directory / "flower-login", valid=bool, make=lambda: f"flower:{secrets.token_urlsafe(18)}")
    flower_login.parse(data_directory.read(directory / "flower-login"), file=str(directory / "flower-login"))


def _metrics_ports(first: int | None, workers: int, *, others: Collection[int]) -> range:
    """Return the port of each worker, of the one for background work too.

    Raises:
        click.UsageError: there are not enough, or another server has one of them.
    """
    if first is None:
        return range(0)
    ports = range(first, first + workers + 1)
    if ports[-1] > MAX_PORT or any(port in ports for port in others):
        detail = f"The metrics of {workers + 1} workers take the ports {ports[0]} to {ports[-1]}"
        raise click.UsageError(f"{detail}. These have to be free, and at most {MAX_PORT}. Change --metrics-port.")
    return ports


def _start_broker(supervisor: Supervisor, directory: Path) -> None:
    port, password = embedded.free_port(), secrets.token_hex(16)
    os.environ[PREFIX + "REDIS_URL"] = embedded.url(port=port, password=password)
    _keep_secret(directory / "broker-url", valid=bool, make=lambda: os.environ[PREFIX + "REDIS_URL"])
    configured = embedded.configuration(port=port, password=password, directory=directory)
    broker = Child("broker", embedded.command(), {}, grace_s=5, standard_input=configured, hidden=embedded.IRRELEVANT)
    supervisor.start(broker)


def _workers(settings: Settings, workers: int, concurrency: int, metrics_port: int | None) -> list[Child]:
    names = {f"worker-{n}": RUNS for n in range(1, workers + 1)} | {"background": BACKGROUND}
    children = []
    for n, (name, queues) in enumerate(names.items()):
        command = [*_program(), "worker", "--queues", ",".join(queues), "--concurrency", str(concurrency)]
        if metrics_port is not None:
            command += ["--metrics-port", str(metrics_port + n)]
        children.append(Child(name, command, os.environ, grace_s=settings.handover_seconds + 10))
    return children


def _servers(directory: Path, *, host: str, port: int, flower_port: int) -> list[Child]:
    login = ["--login-file", str(directory / "flower-login")]
    return [
        Child("api", [*_program(), "api", "--host", host, "--port", str(port)], os.environ, grace_s=8),
        Child("flower", [*_program(), "flower", "--host", host, "--port", str(flower_port), *login], os.environ, 5),
    ]


def _program() -> list[str]:
    """Return the command that starts this program with this interpreter; the script may be anywhere, or of another one.

    By its path, and with -P, so that no directory is searched for it: neither PYTHONPATH nor the working directory.
    """
    return [sys.executable, "-P", str(Path(team_sessions.__file__).with_name("__main__.py"))]


def _service_key(db: Database) -> str:
    with db.write() as tx:
        return api_keys.create(tx, name="up", scopes=frozenset({Scope.ADMIN}))


def _is_key(db: Database, key: str) -> bool:
    with db.read() as tx:
        return api_keys.verify(tx, key) is not None


def _keep_secret(path: Path, *, valid: Callable[[str], bool], make: Callable[[], str]) -> None:
    """Keep the secret in the file *path* if it is valid, else write a new one that only the owner can read."""
    if valid(data_directory.read(path).decode(errors="replace").strip()):
        return
    data_directory.write(path, make() + "\n")


def _reachable(host: str) -> str:
    """Return the address of this machine for one that means all its addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_ready(url: str) -> bool:
    try:
        with open_directly(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _print_ready(settings: Settings, directory: Path, teams: Collection[str], *, url: str, flower_url: str) -> None:
    hint = " This is the default team; set TEAM_SESSIONS_TEAMS to a module with your own."
    click.echo(f"Ready. Teams: {', '.join(sorted(teams))}.{hint if settings.teams is None else ''}")
    if settings.openai_api_key is None:
        click.echo("OPENAI_API_KEY is not set: runs of a team whose model has no key of its own will fail.")
    click.echo(f"  API     {url}   key in {directory / 'api-key'}")
    click.echo(f"  Flower  {flower_url}   login in {directory / 'flower-login'}")
