"""The health checks of containers: the exit code is 0 if the service of this container answers, else 1.

    probe.py worker             the worker of this host has announced itself within 15 s; one that can take no more
                                tasks has signed off (decision 12)
    probe.py http URL [LOGIN]   URL answers 200; LOGIN is a file that holds user:password

`worker` reads the database. Use it to display and to wait, not to restart: a restart does not help while the
database is down. The workers' own watchdog restarts them.
"""

import base64
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_S = 4.0
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy must not get the login


def worker_serves(host: str) -> bool:
    """Return whether a worker of *host* has announced itself recently."""
    from worker import settings as configuration  # noqa: PLC0415 - the other probe needs none of it
    from worker.errors import DatabaseUnavailable  # noqa: PLC0415
    from worker.store import Database, teams  # noqa: PLC0415

    database = Database(configuration.load().database, pool_size=1)
    try:
        with database.read() as tx:
            return teams.has_live_worker(tx, host=host)
    except DatabaseUnavailable:
        return False
    finally:
        database.close()


def answers(url: str, login: str | None) -> bool:
    """Return whether *url* answers 200, with the user and password in the file *login*, if given."""
    request = urllib.request.Request(url)
    if login is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(Path(login).read_bytes().strip()).decode())
    try:
        with DIRECTLY.open(request, timeout=TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["worker"]:
            sys.exit(0 if worker_serves(socket.gethostname()) else 1)
        case ["http", url, *rest]:
            sys.exit(0 if answers(url, rest[0] if rest else None) else 1)
        case _:
            sys.exit(__doc__)
