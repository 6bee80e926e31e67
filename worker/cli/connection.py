"""How commands talk to the API: find it, and turn the client's errors into one sentence."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from api_stub.client import Client, NotConfigured, RequestFailed, Retries, Unreachable
from worker.cli.output import JSON

F = TypeVar("F", bound=Callable[..., object])
FOR_USER = click.option("--user", "user_id", help="The user that a service key acts for.")
RETRIES = Retries(count=4)  # at most three seconds: a person is waiting


def object_options(parameter: str, *, json: Callable[[Any], Any] = JSON) -> Callable[[F], F]:
    """Return a decorator that gives a command the argument `ID` and the options `--user` and `--json`."""
    return lambda command: click.argument(parameter, metavar="ID")(FOR_USER(json(command)))


@contextmanager
def connect() -> Iterator[Client]:
    """Yield a client of the API.

    Raises:
        click.ClickException: the API's address or key is not known, it refused the request, or it cannot be reached.
    """
    with client_errors_shown(), Client(retries=RETRIES) as client:
        yield client


@contextmanager
def client_errors_shown() -> Iterator[None]:
    """Turn errors of the client into errors that click prints."""
    try:
        yield
    except (NotConfigured, RequestFailed) as error:
        raise click.ClickException(str(error)) from error
    except Unreachable as error:
        raise click.ClickException(f"{error} Is 'team-sessions up' running?") from error
