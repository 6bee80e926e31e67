"""Keep several processes running in one terminal, and stop them in the right order.

Each child runs in its own process session, so Ctrl-C reaches only the supervisor. It ends one group of children after
the other with SIGTERM to each child's main process. A child that dies is started again. If the supervisor itself is
killed, the kernel sends its children SIGTERM (Linux).
"""

import ctypes
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import click

PR_SET_PDEATHSIG = 1
TICK_S = 0.1
QUICK_S = 5.0  # a child that ends sooner is started again only after PAUSE_S
PAUSE_S = 1.0


@dataclass(slots=True)
class Child:
    """One process: how it is started, and how long it may take to end after SIGTERM."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    grace_s: float
    standard_input: str | None = None
    hidden: str | None = None  # lines of its output that hold this text are not printed
    process: "subprocess.Popen[str] | None" = field(default=None, repr=False)
    started_at: float = 0.0
    start_after: float = 0.0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; its output is printed line by line, with its name."""
        self.process = subprocess.Popen(  # noqa: S603 - commands of this package
            list(self.command),
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        self.started_at = time.monotonic()
        assert self.process.stdin is not None
        if self.standard_input is not None:
            self.process.stdin.write(self.standard_input)
        self.process.stdin.close()
        threading.Thread(target=_print_lines, args=(self, self.process), daemon=True).start()

    def end(self) -> None:
        """Ask the process to end."""
        if self.process is not None and self.alive:
            self.process.send_signal(signal.SIGTERM)

    def wait_for_end(self) -> None:
        """Wait until it has ended; kill it after its grace period."""
        if self.process is None:
            return
        try:
            self.process.wait(timeout=self.grace_s)
        except subprocess.TimeoutExpired:
            click.echo(f"{self.name} did not end within {self.grace_s:g} s; killing it.", err=True)
            self.process.kill()
            self.process.wait()


class Supervisor:
    """Groups of children. They start in order, and stop in the reverse order."""

    def __init__(self) -> None:
        self._groups: list[list[Child]] = []
        self.stopping = False

    def start(self, *children: Child) -> None:
        """Start one more group."""
        self._groups.append(list(children))
        for child in children:
            child.start()

    def stop(self, *_: object) -> None:
        """End `run`. It can be a signal handler."""
        self.stopping = True

    def wait_until(self, condition: Callable[[], bool], *, timeout_s: float) -> bool:
        """Restart children until *condition* holds. Return False on timeout, or when `stop` was called."""
        deadline = time.monotonic() + timeout_s
        while not self.stopping and time.monotonic() < deadline:
            self._restart_ended()
            if condition():
                return True
            time.sleep(TICK_S)
        return False

    def run(self) -> None:
        """Restart children until `stop` is called."""
        while not self.stopping:
            self._restart_ended()
            time.sleep(TICK_S)

    def end_all(self) -> None:
        """Stop everything, the last group first."""
        for group in reversed(self._groups):
            for child in group:
                child.end()
            for child in group:
                child.wait_for_end()

    def _restart_ended(self) -> None:
        now = time.monotonic()
        for child in (child for group in self._groups for child in group):
            if child.alive or child.process is None:
                continue
            if not child.start_after:
                quick = now - child.started_at < QUICK_S
                child.start_after = now + (PAUSE_S if quick else 0)
                click.echo(f"{child.name} ended with code {child.process.returncode}; starting it again.", err=True)
            if now >= child.start_after:
                try:
                    child.start()
                    child.start_after = 0.0
                except OSError as error:
                    child.start_after = now + PAUSE_S
                    click.echo(f"{child.name} could not be started: {error.strerror}. Trying again.", err=True)


def _print_lines(child: Child, process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            if child.hidden is not None and child.hidden in line:
                continue
            # The reader of our own output may be gone; a child whose pipe is not emptied would block.
            with suppress(OSError):
                click.echo(label(line.rstrip(), child.name), err=True)


def label(line: str, name: str) -> str:
    """Return a line with the name of its process: in front of it, or as the field `process` of a JSON object."""
    try:
        fields = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        fields = None
    if isinstance(fields, dict) and fields:
        return f'{{"process": {json.dumps(name)}, {line[1:]}'
    return f"{name:<10}| {line}"


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
