"""The health checks of containers: the exit code is 0 if what runs in this one answers, else 1.

    probe.py worker             the worker of this host said within 15 s that it serves; one that could take no task any
                                more has signed off (decision 12)
    probe.py http URL [LOGIN]   URL answers 200; LOGIN is a file that holds user:password

`worker` asks the database, so it is for seeing and for waiting: a worker that is restarted because the database is away
is no better off. What keeps workers alive is their own watchdog.
"""

import base64
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

TIMEOUT_S = 4.0


def worker_serves(host: str) -> bool:
    """Tell whether a worker of *host* was heard of just now."""
    from worker import settings as configuration  # noqa: PLC0415 - the other probe needs none of it
    from worker.errors import DatabaseUnavailable  # noqa: PLC0415
    from worker.store import teams  # noqa: PLC0415
    from worker.store.engine import Database  # noqa: PLC0415

    database = Database(configuration.load().database, pool_size=1)
    try:
        with database.read() as tx:
            return teams.has_live_worker(tx, host=host)
    except DatabaseUnavailable:
        return False
    finally:
        database.close()


def answers(url: str, login: str | None) -> bool:
    """Tell whether *url* answers 200, asked with the user and password that stand in the file *login*."""
    request = urllib.request.Request(url)
    if login is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(Path(login).read_bytes().strip()).decode())
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
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
