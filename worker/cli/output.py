"""What commands print: text and tables for people or, with `--json`, the JSON that the API returned.

A command declares `--json` with `JSON` or `JSON_LINES`. These functions read it from click's context, so a command does
not pass it on. Progress bars are on stderr, and hidden if stderr is not a terminal.
"""

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import IO, Any, TypeVar, cast

import click

from worker.cli import terminal
from worker.cli.numbers import COUNT
from worker.cli.table import print_pages
from worker.controls import escaped

F = TypeVar("F", bound=Callable[..., object])
T = TypeVar("T")
M = TypeVar("M", bound=Mapping[str, Any])
_REQUESTED = f"{__name__}.json"


def json_option(help: str) -> Callable[[F], F]:
    """Return the option `--json`, which `json_requested` reads."""

    def remember(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
        ctx.meta[_REQUESTED] = value

    return click.option("--json", is_flag=True, expose_value=False, callback=remember, help=help)


JSON = json_option("Print JSON.")
JSON_LINES = json_option("Print JSON, one object a line.")
_LIMIT = click.option("--limit", type=COUNT, default=20, show_default=True, help="At most this many.")
_ALL = click.option("--all", "every", is_flag=True, help="No limit: print all, page by page.")


def list_options(command: F) -> F:
    """Give a command the options of a long list: `limit`, `every`, and `--json`."""
    return _LIMIT(_ALL(JSON_LINES(command)))


def json_requested() -> bool:
    """Tell whether the current command was given `--json`."""
    return bool(click.get_current_context().meta.get(_REQUESTED))


def print_object(value: T, as_text: Callable[[T], str]) -> None:
    """Print one object."""
    terminal.echo(_json(value, indent=2) if json_requested() else as_text(value))


def print_lines(items: Iterable[T], as_text: Callable[[T], str], *, label: str) -> None:
    """Print each item as a line of JSON or as text. Into a file, a bar on the terminal counts them."""
    line = json_line if json_requested() else as_text
    with counted(items, label=label, to=sys.stdout) as counting:
        for item in counting:
            terminal.echo(line(item))


def print_list(
    items: Iterable[M],
    row: Callable[[M], Sequence[str]],
    *,
    label: str,
    head: Sequence[str],
    omit: Collection[str],
    whole: Collection[int],
) -> None:
    """Print items as a table, or as lines of JSON without the fields *omit*.

    The columns *whole* are never cut.
    """
    with counted(items, label=label, to=sys.stdout) as counting:
        if json_requested():
            for item in counting:
                terminal.echo(json_line({name: value for name, value in item.items() if name not in omit}))
        else:
            print_pages(head, map(row, counting), whole=whole)


def note(text: str, *, dim: bool = False) -> None:
    """Print a remark for people to stderr; nothing with `--json`."""
    if not json_requested():
        terminal.echo(text, dim=dim, err=True)


def json_line(value: object) -> str:
    """Return *value* as one line of JSON."""
    return _json(value)


def _json(value: object, *, indent: int | None = None) -> str:
    """Return JSON that is readable in any language, with the characters escaped that a terminal must not get."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return escaped(text)


@contextmanager
def counted(items: Iterable[T], *, label: str, to: IO[Any] | None, length: int | None = None) -> Iterator[Iterable[T]]:
    """Yield *items*, and count them in a bar as they are taken; *length*, if known, is the total.

    *to* is where the caller prints a line for each item. If that is a terminal, no bar is shown: the lines suffice.
    """
    if to is not None and to.isatty():
        yield items
        return
    stream, hidden = terminal.unguarded(sys.stderr), not sys.stderr.isatty()
    with click.progressbar(
        items, length=length, label=label, file=stream, show_pos=True, show_eta=False, hidden=hidden
    ) as bar:
        yield bar


@contextmanager
def steps(label: str) -> Iterator[Callable[[str], None]]:
    """Yield a function to call after each step with the step's name; the number of steps is not known."""
    stream, hidden = terminal.unguarded(sys.stderr), not sys.stderr.isatty()
    with click.progressbar(
        count(), label=label, file=stream, show_pos=True, item_show_func=_shown, hidden=hidden
    ) as bar:
        yield lambda name: bar.update(1, name)  # type: ignore[arg-type]  # click takes it for an item of *count*


def _shown(name: Any) -> str | None:
    return cast(str | None, name)
