"""How commands talk to the API: the client finds it, and what the client meets is told in a sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from api_stub.client import Client, NotConfigured, RequestFailed, Retries, Unreachable

RETRIES = Retries(count=4)  # three seconds at most: whoever sits before it wants to know


@contextmanager
def connect() -> Iterator[Client]:
    """Give a client of the API for the block.

    Raises:
        click.ClickException: it is not known where the API is or with which key to ask, it refused, it is away.
    """
    with errors_told(), Client(retries=RETRIES) as client:
        yield client


@contextmanager
def errors_told() -> Iterator[None]:
    """Turn what the client meets into what the command line tells."""
    try:
        yield
    except (NotConfigured, RequestFailed) as error:
        raise click.ClickException(str(error)) from error
    except Unreachable as error:
        raise click.ClickException(f"{error} Is 'team-sessions up' running?") from error
