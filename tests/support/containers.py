"""The services of `docker-compose.yml`, started as an engine would start them, without one.

Each has namespaces of its own for mounts, processes and its host name; a root file system that is read-only and holds
the system, this environment and nothing else; its `tmpfs`, its secrets, its user without any privilege, what it has in
its environment, and its command as PID 1. All share one network, with nothing in it but them. It takes Linux and root.

What the image puts at /opt/team-sessions is taken from this environment, and Valkey from its wheel.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.system import ROOT
from worker.queue import embedded

IMAGE = "/opt/team-sessions"
USER = 10001
SYSTEM = ("usr", "lib", "lib64", "bin", "sbin", "etc")
NETWORK = """
import fcntl, socket, struct, sys, threading
with socket.socket() as asked:  # the loopback device of a new network is down
    fcntl.ioctl(asked, 0x8914, struct.pack("16sH14x", b"lo", 0x1))
listener = socket.create_server(("127.0.0.1", 5432), backlog=100)
print("up", flush=True)
def carry(source, target):
    while said := source.recv(65536):
        target.sendall(said)
    target.shutdown(socket.SHUT_WR)
while True:
    client, _ = listener.accept()
    server = socket.socket(socket.AF_UNIX)
    server.connect(sys.argv[1])
    for pair in ((client, server), (server, client)):
        threading.Thread(target=carry, args=pair, daemon=True).start()
"""


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return `docker-compose.yml` with what *environment* says in place of its `${…}`."""

    def value(match: re.Match[str]) -> str:
        return environment.get(match["name"], "") or match["default"] or ""

    def filled(part: Any) -> Any:
        match part:
            case dict():
                return {name: filled(inner) for name, inner in part.items()}
            case list():
                return [filled(inner) for inner in part]
            case str():
                return re.sub(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}", value, part)
        return part

    services: dict[str, Any] = filled(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))
    return services


def possible() -> bool:
    """Tell whether this machine lets us: namespaces, and mounts in them."""
    test = ["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "mount", "-t", "tmpfs", "none", "/mnt"]
    there = os.getuid() == 0 and all(shutil.which(program) for program in ("unshare", "nsenter", "setpriv"))
    return there and subprocess.run(test, check=False, capture_output=True).returncode == 0


@dataclass
class Container:
    """A started service: its process outside, and PID 1 inside."""

    name: str
    service: Mapping[str, Any]
    process: "subprocess.Popen[bytes]"
    log_file: Path

    @property
    def log(self) -> str:
        """What it has printed."""
        return self.log_file.read_text(errors="replace")

    @property
    def init(self) -> int:
        """The pid, seen from here, of its PID 1; waits for it, since `unshare` forks it a moment after its own start.

        Raises:
            RuntimeError: it has ended; what it printed says why.
        """
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while self.process.poll() is None:
            if children_pids := children.read_text().split():
                return int(children_pids[0])
            time.sleep(0.01)
        raise RuntimeError(f"{self.name} has ended: {self.log}")

    def wait(self, timeout_s: float) -> int:
        """Wait for its end, and return its exit code."""
        return self.process.wait(timeout=timeout_s)

    def stop(self) -> tuple[int, float]:
        """Stop it as an engine does; return the exit code (137: it had to be killed), and how long that took."""
        grace_s = _seconds(self.service.get("stop_grace_period", "10s"))
        began = time.monotonic()
        os.kill(self.init, signal.SIGTERM)
        try:
            code = self.process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            code = 137
        return code, time.monotonic() - began

    def kill(self) -> None:
        """Kill it, if it still runs: its PID 1, with which everything in it ends."""
        if self.process.poll() is None:
            os.kill(self.init, signal.SIGKILL)
            self.process.wait()


class Machine:
    """One network with a Postgres at `postgres:5432`, and the containers that are started in it."""

    def __init__(self, directory: Path, *, socket: Path, secrets: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._secrets = secrets
        self.services: dict[str, dict[str, Any]] = compose(environment)["services"]
        (directory / "hosts").write_text("127.0.0.1 localhost postgres redis\n")
        (directory / "root").mkdir()
        programs = directory / "programs"
        programs.mkdir()
        (programs / "valkey-server").symlink_to(embedded.command()[0])
        command = ["unshare", "--net", sys.executable, "-c", NETWORK, str(socket)]
        self._network = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._started: list[Container] = []
        self._others: list[subprocess.Popen[bytes]] = [self._network]
        assert self._network.stdout is not None
        assert self._network.stdout.readline() == b"up\n"

    def start(self, name: str) -> Container:
        """Start the service *name*."""
        service = self.services[name]
        log_file = self._directory / f"{name}.log"
        isolated = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork"]
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [*self._inside(), *isolated, "sh", "-euc", self._script(name, service)], stdout=log, stderr=log
            )
        started = Container(name, service, process, log_file)
        self._started.append(started)
        return started

    def beside(self, command: Sequence[str], **environment: str) -> "subprocess.Popen[bytes]":
        """Start a process in the network, outside of any container."""
        others = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        process = subprocess.Popen([*self._inside(), *command], cwd=ROOT, env=others, stdout=subprocess.PIPE)
        self._others.append(process)
        return process

    def is_healthy(self, container: Container) -> bool:
        """Ask the service's own health check, inside of the container."""
        kind, *command = container.service["healthcheck"]["test"]
        assert kind == "CMD", command
        command = [part.replace(f"{IMAGE}/probe.py", str(ROOT / "ops/docker/probe.py")) for part in command]
        timeout_s = _seconds(container.service["healthcheck"]["timeout"])
        try:
            return self.inside(container, command, timeout_s).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def inside(
        self, container: Container, command: Sequence[str], timeout_s: float = 10
    ) -> "subprocess.CompletedProcess[bytes]":
        """Execute a command in a container that runs, as its user."""
        entered = ["nsenter", "--target", str(container.init), "--all", "--root", "--wd"]
        command = [*entered, *_unprivileged(container.service), *self._environment(container.service), *command]
        return subprocess.run(command, check=False, timeout=timeout_s, capture_output=True)

    def close(self) -> None:
        """End everything that was started here."""
        for container in self._started:
            container.kill()
        for process in self._others:
            with process:  # closes its pipe, and waits
                process.kill()

    def _inside(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._network.pid}/ns/net"]

    def _script(self, name: str, service: Mapping[str, Any]) -> str:
        root = self._directory / "root"  # every container mounts its own upon it, and sees no other's
        lines = [
            f"hostname {name}-1",
            "mount --make-rprivate /",
            f"mount -t tmpfs -o mode=755 root {root}",
            f"cd {root}",
        ]
        for system in SYSTEM:
            link = Path("/", system)
            if link.is_symlink():
                lines.append(f"ln -s {os.readlink(link)} {system}")
            elif link.is_dir():
                lines.append(f"mkdir {system}; mount --bind /{system} {system}; mount -o remount,ro,bind {system}")
        lines += ["mkdir proc dev app", "mount -t proc proc proc", "mount --rbind /dev dev"]
        for mounted in service["tmpfs"]:
            target, _, options = mounted.partition(":")
            lines.append(f"mkdir -p .{target}; mount -t tmpfs -o {options} none .{target}")
        directories = {ROOT, self._directory / "programs", Path(sys.base_prefix), Path(sys.prefix)}
        mounts = {str(path): path for path in directories if not path.is_relative_to("/usr")}
        mounts |= {"/etc/hosts": self._directory / "hosts"}
        mounts |= {f"/run/secrets/{secret}": self._secrets / secret for secret in service.get("secrets", [])}
        for target, source in sorted(mounts.items()):
            make = "mkdir -p" if source.is_dir() else f"mkdir -p .{Path(target).parent}; [ -e .{target} ] || touch"
            lines.append(f"{make} .{target}; mount --bind {source} .{target}; mount -o remount,ro,bind .{target}")
        assert service["read_only"]
        lines.append(f"mount -o remount,ro {root}")
        command = [*_unprivileged(service), *self._environment(service), *self._command(service)]
        lines.append(f"exec chroot {root} {shlex.join(command)}")
        return "\n".join(lines)

    def _command(self, service: Mapping[str, Any]) -> list[str]:
        command = [str(part) for part in service["command"]]
        if service["image"].startswith("valkey/"):
            return [str(ROOT / "ops/docker/redis.conf") if part == "/etc/redis.conf" else part for part in command]
        return ["team-sessions", *command]

    def _environment(self, service: Mapping[str, Any]) -> list[str]:
        directory = "/data" if service["image"].startswith("valkey/") else "/app"
        path = f"{Path(sys.prefix) / 'bin'}:{self._directory / 'programs'}:/usr/local/bin:/usr/bin:/bin"
        stated = {
            "PATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            **service.get("environment", {}),
        }
        return ["env", "--ignore-environment", f"--chdir={directory}", *(f"{k}={v}" for k, v in stated.items())]


def _unprivileged(service: Mapping[str, Any]) -> list[str]:
    user, _, group = service["user"].partition(":")
    assert "0" not in (user, group)
    assert service["cap_drop"] == ["ALL"]
    dropped = ["--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
    return ["setpriv", f"--reuid={user}", f"--regid={group}", *dropped]


def _seconds(duration: str) -> float:
    match = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert match is not None, duration
    return 60.0 * int(match[1] or 0) + float(match[2] or 0)
