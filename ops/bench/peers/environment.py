"""Environments for peers: one each, made once from its own lock, so that nothing of them is among our dependencies.

Its lock is made by ops/lock from the file beside it, and holds all that is needed; pip installs it into .peers/, from
whichever index that is set to. A peer's scripts run there, as processes, and import nothing of this repository.
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ops.bench.report import progress

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parents[2] / ".peers"
QUIET = {"AGNO_TELEMETRY": "false"}  # no telemetry of a peer

Process = subprocess.Popen[bytes]
AT_MOST_S, START_S = 300.0, 60.0


def version(peer: str) -> str:
    """Return the version of a peer that its lock pins."""
    return pinned(peer, peer)


def pinned(peer: str, package: str) -> str:
    """Return the version of a package in the environment of a peer."""
    match = re.search(rf"^{package}==(\S+)", (HERE / f"{peer}.lock").read_text(), flags=re.MULTILINE)
    assert match is not None
    return match[1]


def python(peer: str) -> Path:
    """Return the Python of a peer's environment; the first time, and after its lock has changed, it is made."""
    lock, home = HERE / f"{peer}.lock", ENVIRONMENTS / peer
    stamp, installed = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest(), home / "installed"
    program = home / "bin" / "python"
    if not installed.is_file() or installed.read_text() != stamp:
        progress(f"making the environment of {peer} {version(peer)} (about half a minute)")
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        pip = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(lock)], check=True)
        installed.write_text(stamp)
    return program


def run(program: Path, script: str, *, environment: Mapping[str, str]) -> Any:
    """Run a script of this directory with a Python, and return what it says in its last line, JSON.

    Raises:
        RuntimeError: it failed, with the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="ts-peer-") as directory:
        clean = _clean(directory, environment)
        command = [program, HERE / script]
        done = subprocess.run(
            command, cwd=directory, env=clean, capture_output=True, text=True, timeout=AT_MOST_S, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{script} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def serving(program: Path, script: str, *, environment: Mapping[str, str], port: int, log: Path) -> Iterator[Process]:
    """Run a script of this directory that serves on *port*, while the block lasts; what it says goes to *log*.

    Raises:
        RuntimeError: it did not listen in time, with the end of what it said.
    """
    with started(
        [program, HERE / script], environment=environment, log=log, is_ready=partial(_listens, port)
    ) as process:
        yield process


@contextmanager
def started(
    command: Sequence[str | Path], *, environment: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
) -> Iterator[Process]:
    """Run a command that is at work once *ready* says so, while the block lasts; what it says goes to *log*.

    Raises:
        RuntimeError: it was not ready in time, with the end of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="ts-peer-") as directory, log.open("wb") as out:
        clean = _clean(directory, environment)
        process = subprocess.Popen(command, cwd=directory, env=clean, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + START_S
            while not is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    output = log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"{' '.join(Path(part).name for part in command)} is not at work:\n{output}")
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait()


def _clean(home: str, environment: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": home, **QUIET, **environment}


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
