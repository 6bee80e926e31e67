"""The one way to a terminal: what a command prints gets there without control characters.

Text of models, tools, users and providers may hold any character. So `guard` puts a filter into `sys.stdout` and
`sys.stderr`, where `print`, click, its errors and prompts, and tracebacks write. Only `echo` and `control` pass it,
with styles and line erasure of our own. Into a pipe or a file stdout goes unchanged, since programs read it; stderr is
for people everywhere.
"""

import sys
from collections.abc import Iterable
from typing import Any, TextIO, cast

import click

from worker.controls import visible

ERASE_LINE = "\r\x1b[K"


class Guarded:
    """A text stream that replaces control characters in what is written to it. `unguarded` is the stream behind it."""

    def __init__(self, unguarded: TextIO) -> None:
        self.unguarded = unguarded

    def write(self, text: str) -> int:
        """Write *text* without control characters."""
        self.unguarded.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name in ("buffer", "reconfigure"):  # ways around it
            raise AttributeError(name)
        return getattr(self.unguarded, name)


def guard() -> None:
    """Guard stderr, and stdout if it is a terminal. What its encoding lacks, a stream writes as '?'."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if sys.stdout is not None and sys.stdout.isatty():
        sys.stdout = cast(TextIO, Guarded(sys.stdout))
    if sys.stderr is not None:
        sys.stderr = cast(TextIO, Guarded(sys.stderr))


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream behind a guarded one, for controls and styles of our own."""
    return stream.unguarded if isinstance(stream, Guarded) else stream


def echo(text: str, *, err: bool = False, nl: bool = True, dim: bool = False, colour: str | None = None) -> None:
    """Print *text*: on a terminal without control characters, and in this style."""
    stream = sys.stderr if err else sys.stdout
    if (dim or colour) and stream.isatty():
        styled = click.style(visible(text), dim=dim or None, fg=colour)
        control(styled + ("\n" if nl else ""), err=err)
    else:
        stream.write(text + ("\n" if nl else ""))
        stream.flush()


def control(text: str, *, err: bool) -> None:
    """Write controls of our own, such as ERASE_LINE."""
    stream = unguarded(sys.stderr if err else sys.stdout)
    stream.write(text)
    stream.flush()
