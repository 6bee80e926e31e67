"""What a person types, pastes or pipes into a command."""

import importlib
import io
import select
import sys
from collections.abc import Iterator
from types import ModuleType

from worker.cli.terminal import echo

PASTED_S = 0.05  # a terminal delivers the next line of a pasted text within this time


def read_all() -> str:
    """Return standard input as text, without its last line end. Invalid UTF-8 is replaced."""
    _replace_invalid()
    return sys.stdin.read().removesuffix("\n")


def piped_lines() -> Iterator[str]:
    """Yield the lines of standard input that are not blank. Invalid UTF-8 is replaced."""
    _replace_invalid()
    for line in sys.stdin:
        if line.strip():
            yield line.rstrip("\n")


def messages() -> Iterator[str]:
    """Ask for a message after the other on the terminal, until Ctrl-D. A text of several lines is pasted as one.

    A terminal that marks pasted text keeps its lines together: it is sent with Enter. In another one, lines that come
    at once are one message.
    """
    _replace_invalid()
    _prepare_readline()
    while True:
        lines: list[str] = []
        ended = False
        try:
            lines.append(input("> "))
            while select.select([sys.stdin], [], [], PASTED_S)[0]:
                lines.append(input())
        except KeyboardInterrupt:
            echo("")
            echo("[Ctrl-D ends the conversation]", dim=True, err=True)
            continue
        except EOFError:
            ended = True
        if (text := "\n".join(lines)).strip():
            yield text.strip("\n")
        if ended:
            echo("")
            return


def _prepare_readline() -> None:
    """Give `input` line editing, history and pasting, if Python has readline. By default Python turns pasting off."""
    try:
        readline: ModuleType = importlib.import_module("readline")
    except ImportError:
        return
    readline.parse_and_bind("set enable-bracketed-paste on")


def _replace_invalid() -> None:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
