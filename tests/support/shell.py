"""A shell that stays open between commands: the next command has what one exports."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.system import wait_until

MARK = "\x01"
SERVES = re.compile(r"team-sessions (up|worker|api|flower)\b(?!.*--help)")
READY = {"up": "Ready.", "worker": "worker ready"}  # the others are ready when they listen on their port
START_S = 120.0


class Shell:
    """bash in *directory*. Commands that serve until Ctrl-C run beside the others; a second `up` ends the first."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        (directory / ".venv").symlink_to(sys.prefix)
        prefixes = ("TEAM_SESSIONS_", "OPENAI_", "PYTHON", "VIRTUAL_ENV")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(prefixes)}
        self._directory = directory
        self._serving: dict[str, psutil.Process] = {}
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=directory,
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._code = 0

    def type(self, command: str) -> tuple[str, int]:
        """Return what a command prints, and its exit code; of one that serves, what it printed until it is ready."""
        serves = SERVES.search(command)
        if serves is not None and not command.endswith("&"):
            return self._serve(command, kind=serves[1]), 0
        return self._type(command)

    def _type(self, command: str) -> tuple[str, int]:
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(
            f"(exit {self._code}); eval {shlex.quote(command)} </dev/null\nprintf '{MARK}%d\\n' $?\n"
        )
        self._bash.stdin.flush()
        printed = ""
        while MARK not in printed:
            line = self._bash.stdout.readline()
            assert line, f"the shell has ended: {printed}"
            printed += line
        output, _, code = printed.rpartition(MARK)
        self._code = int(code)
        return output, self._code

    def _serve(self, command: str, *, kind: str) -> str:
        """Start it beside the shell, with its exports, and wait until it is ready."""
        name = kind if kind == "up" else f"{kind}-{len(self._serving)}"
        if name in self._serving:
            self._end(name, signal.SIGINT)  # as Ctrl-C
        out, err = self._directory / f"{name}.out", self._directory / f"{name}.err"
        for file in (out, err):
            file.write_text("")
        pid, _ = self._type(f"{command} >{out} 2>{err} & echo $!")
        process = psutil.Process(int(pid.strip().splitlines()[-1]))
        self._serving[name] = process

        def is_ready() -> bool:
            assert process.is_running(), f"{command} has ended: {err.read_text()[-2000:]}"
            if kind in READY:
                return READY[kind] in out.read_text() + err.read_text()
            port = re.search(r"--port (\d+)", command)
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(port[1]) if port else 0)) == 0

        wait_until(is_ready, description=f"{command} is ready", timeout_s=START_S)
        if kind == "up":
            wait_until(lambda: "login in" in out.read_text(), description="up has said where")
        return out.read_text()

    def _end(self, name: str, by: signal.Signals) -> None:
        process = self._serving.pop(name)
        process.send_signal(by)
        process.wait(timeout=120)

    def close(self) -> None:
        """End everything that was started here, the last first."""
        for name in reversed(list(self._serving)):
            with suppress(psutil.NoSuchProcess):
                self._end(name, signal.SIGTERM)
        for child in psutil.Process(self._bash.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        self._bash.wait(timeout=120)
        self._bash.stdout.close()
