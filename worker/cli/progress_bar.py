"""A bar on a terminal for what takes long. It stands on stderr, and not where lines appear on the same terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import IO, Any, TypeVar

import click

T = TypeVar("T")


@contextmanager
def counted(items: Iterable[T], *, label: str, to: IO[Any] | None, length: int | None = None) -> Iterator[Iterable[T]]:
    """Yield *items* again, and show how many there were; of how many, where *length* is known.

    *to* is where a line goes for each. Into a terminal, these lines are the progress.
    """
    if to is not None and to.isatty():
        yield items
        return
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        items, length=length, label=label, file=sys.stderr, show_pos=True, show_eta=False, hidden=hidden
    ) as bar:
        yield bar


@contextmanager
def pieces(label: str) -> Iterator[Callable[[str], None]]:
    """Yield a function to be called behind each piece of something, whose number nobody knows, with its name."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        count(), label=label, file=sys.stderr, show_pos=True, item_show_func=lambda name: name, hidden=hidden
    ) as bar:
        yield lambda name: bar.update(1, name)  # type: ignore[arg-type]  # an item of *count*, for click
