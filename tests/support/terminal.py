"""A program in its own terminal, which a test types into and reads."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

CTRL_C, CTRL_D = "\x03", "\x04"
# The child makes the terminal its controlling one, so that Ctrl-C sends it SIGINT.
IN_IT = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
ERASED = re.compile(r"[^\n]*\r\x1b\[K")  # a line, up to where the program erases it
COUNTING = re.compile(r"\[waiting for the answer[^\n]*\Z")  # the program erases it before it writes on
PASTED = "\x1b[200~{}\x1b[201~"  # what a terminal that marks pasted text sends
CONTROLS = re.compile(r"\x1b\[\?2004l\r?|\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """Runs *command* in a new terminal."""

    def __init__(self, command: list[str], *, environment: Mapping[str, str], directory: Path) -> None:
        self._master, slave = pty.openpty()
        self._written = b""
        self._read_to = 0
        command = [sys.executable, "-c", IN_IT, *command]
        terminal_environment = {**environment, "TERM": "xterm"}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=terminal_environment,
            cwd=directory,
            start_new_session=True,
        )
        os.close(slave)

    @property
    def raw(self) -> str:
        """Everything that was written, unchanged."""
        return self._written.decode(errors="replace")

    @property
    def screen(self) -> str:
        """Everything on the screen so far."""
        return CONTROLS.sub("", ERASED.sub("", self.raw)).replace("\r\n", "\n")

    def type(self, text: str) -> None:
        """Press these keys; `until` looks only at what appears after them, and after a line that is erased later."""
        self._read_to = len(COUNTING.sub("", self.screen))
        os.write(self._master, text.encode())

    def until(self, text: str, *, timeout_s: float = 120.0) -> str:
        """Wait until *text* appears after the last input; return all text after that input."""
        return self._until(lambda: text in self.screen[self._read_to :], f"{text!r} appears", timeout_s)

    def wait_for_raw(self, text: str) -> None:
        """Wait until *text* was written, even if it was erased since."""
        self._until(lambda: text in self.raw, f"{text!r} was written", 120.0)

    def interrupt_until(self, text: str) -> str:
        """Press Ctrl-C until *text* appears; return all text after the first one.

        Python sees a signal that comes just before readline waits for a key only with the next key.
        """
        self.type(CTRL_C)
        for _ in range(10):
            with suppress(AssertionError):
                return self.until(text, timeout_s=3.0)
            os.write(self._master, CTRL_C.encode())
        return self.until(text)

    def prompt(self, *, timeout_s: float = 120.0) -> str:
        """Wait for the prompt; return all text after the last input."""
        return self._until(lambda: self.screen[self._read_to :].endswith("\n> "), "it asks for a line", timeout_s)

    def end(self) -> int:
        """Wait for the end of the program and return its code."""
        self._until(lambda: self.process.poll() is not None, "it ends", 120.0)
        self._read(0.1)
        return int(self.process.returncode)

    def close(self) -> None:
        """End the program, if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def _until(self, condition: Callable[[], bool], description: str, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {description}; screen:\n{self.screen}"
            self._read(0.05)
        return self.screen[self._read_to :]

    def _read(self, wait_s: float) -> None:
        if select.select([self._master], [], [], wait_s)[0]:
            try:
                self._written += os.read(self._master, 65536)
            except OSError:  # Linux says so when the last program of a terminal has ended
                time.sleep(0.01)
