"""A real Valkey for tests, started as `up` starts its own."""

import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from worker.queue import embedded


class ValkeyServer:
    """A server on loopback with a password. It can be killed and started again on the same port.

    *options* are further lines of its configuration.
    """

    def __init__(self, *options: str) -> None:
        self._options = options
        self.directory = Path(tempfile.mkdtemp(prefix="ts-valkey-"))
        self._port = embedded.free_port()
        self.password = secrets.token_hex(16)
        self.url = embedded.url(port=self._port, password=self.password)
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(
            embedded.command(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert self._process.stdin is not None
        configuration = embedded.configuration(port=self._port, password=self.password, directory=self.directory)
        self._process.stdin.write("\n".join((configuration, *self._options, "")).encode())
        self._process.stdin.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with Redis.from_url(self.url, socket_timeout=1) as redis:
                    redis.ping()
                return
            except RedisError:
                time.sleep(0.02)
        raise RuntimeError("Valkey did not start")

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def flush(self) -> None:
        """Remove everything in it."""
        with Redis.from_url(self.url) as redis:
            redis.flushall()

    def kill(self) -> None:
        """Kill the server with everything in it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
