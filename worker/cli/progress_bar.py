"""Progress bars on stderr, hidden where stderr is no terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import IO, Any, TypeVar

import click

T = TypeVar("T")


@contextmanager
def counted(items: Iterable[T], *, label: str, to: IO[Any] | None, length: int | None = None) -> Iterator[Iterable[T]]:
    """Yield *items*, and count them in a bar as they are taken; *length*, if known, is the total.

    *to* is where the caller prints a line for each item. If that is a terminal, no bar is shown: the lines suffice.
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
def steps(label: str) -> Iterator[Callable[[str], None]]:
    """Yield a function to call after each step with the step's name; the number of steps is not known."""
    hidden = not sys.stderr.isatty()
    with click.progressbar(
        count(), label=label, file=sys.stderr, show_pos=True, item_show_func=lambda name: name, hidden=hidden
    ) as bar:
        yield lambda name: bar.update(1, name)  # type: ignore[arg-type]  # click takes it for an item of *count*
